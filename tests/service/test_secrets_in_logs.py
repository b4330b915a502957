"""No secret is in anything that a gateway writes, at the most talkative level, whatever is asked of it."""

import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest
from redis import Redis

from service.jobs.card import ModelCard
from service.jobs.store import VideoStore
from service.keys import Keys
from service.settings import Settings
from service.tenants import Tenant, Tenants

SECRETS = {
    "link_secret": "link-secret-0123456789",
    "key_pepper": "pepper-0123456789abcdef",
    "provenance_secret": "provenance-0123456789",
    "watermark_secret": "watermark-0123456789ab",
}
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PROMPT = "a red ball that nobody must read about"


@pytest.fixture
def talkative(settings: Settings, free_port: Callable[[], int]) -> Settings:
    return settings.with_changes(
        port=free_port(), require_keys=True, log_level="debug", log_format="json", audit_file="/dev/null", **SECRETS
    )


def test_gateway_says_no_secret(
    talkative: Settings,
    redis: Redis,
    store: VideoStore,
    card: ModelCard,
    wait_until: Callable[..., None],
) -> None:
    store.register_card(card)
    Tenants(redis).create(Tenant(name="acme"))
    key = Keys(redis, pepper=talkative.pepper()).create("acme")
    command = [sys.executable, "-m", "service.cli", "gateway"]
    gateway = subprocess.Popen(
        command, env=talkative.child_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{talkative.port}", trust_env=False, timeout=30) as client:
            wait_until(lambda: _is_alive(client))
            client.headers["Authorization"] = f"Bearer {key}"
            webhook = {"url": "https://example.com/hook", "secret": WEBHOOK_SECRET}
            made = client.post("/v1/videos", json={"prompt": PROMPT, "webhook": webhook})
            refused = client.post("/v1/videos", json={"prompt": PROMPT, "webhook": {**webhook, "url": "ftp://x"}})
            stranger = client.get("/v1/videos", headers={"Authorization": f"Bearer {key[:-1]}"})
            client.get(f"/v1/videos/{made.json()['id']}/content?expires=1&signature=not-a-signature")
    finally:
        gateway.terminate()
        said, _ = gateway.communicate(timeout=60)

    assert (made.status_code, refused.status_code, stranger.status_code) == (200, 400, 401), said
    assert "video_submitted" in said
    s3_secret = talkative.s3_secret_key
    assert s3_secret is not None
    secrets = {**SECRETS, "key": key, "webhook": WEBHOOK_SECRET, "s3": s3_secret.get_secret_value(), "prompt": PROMPT}
    assert {name for name, secret in secrets.items() if secret in said} == set()


def _is_alive(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False
