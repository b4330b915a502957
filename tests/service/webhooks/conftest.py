"""A receiver on loopback, rules that permit it, videos that end, and a dispatch that is driven by hand."""

from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis

from service.embedded import EmbeddedServers
from service.jobs.connection import connect
from service.jobs.execution import Outcome
from service.jobs.queue import JobQueue
from service.jobs.record import EVENT_TYPES, EventType, Webhook
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from service.metrics import GatewayMetrics
from service.webhooks.deliveries import Deliveries
from service.webhooks.dispatch import Dispatch
from service.webhooks.endpoints import Endpoints
from service.webhooks.messenger import Messenger
from service.webhooks.outbound import Outbound
from service.webhooks.receiver import ReceiverRules
from service.webhooks.secret import new_secret
from tests.service.claims import claim, completed
from tests.service.webhooks.receiver import HookReceiver

MakeSubmission = Callable[..., Submission]
EndVideo = Callable[..., str]
TIMEOUT_SECONDS = 1.0


@pytest.fixture(scope="session")
def redis_url(servers: EmbeddedServers) -> str:
    """A database of its own: the session's gateway, where one runs, delivers from the other."""
    assert servers.settings.redis_url is not None
    place, _, _ = servers.settings.redis_url.rpartition("/")
    return f"{place}/1"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def receiver() -> Iterator[HookReceiver]:
    with HookReceiver() as opened:
        yield opened


@pytest.fixture
def loopback_rules() -> ReceiverRules:
    return ReceiverRules(networks=[ip_network("127.0.0.0/8")], ports=[range(1024, 65536)])


@pytest.fixture
def endpoints(redis: Redis) -> Endpoints:
    return Endpoints(redis)


@pytest.fixture
def deliveries(redis: Redis) -> Deliveries:
    return Deliveries(redis)


@pytest.fixture
def make_dispatch(deliveries: Deliveries, store: VideoStore, loopback_rules: ReceiverRules) -> Callable[..., Dispatch]:
    """make_dispatch(claim_seconds=…, clock=…, show=…) is one gateway's part."""

    def make(**changes: object) -> Dispatch:
        parts: dict[str, object] = {
            "show": lambda record: {"id": record.id, "status": record.status},
            "metrics": GatewayMetrics(CollectorRegistry()),
            "claim_seconds": 60.0,
            "draw": lambda: 0.5,
        }
        messenger = Messenger(Outbound(loopback_rules, timeout_seconds=TIMEOUT_SECONDS))
        return Dispatch(deliveries, store, messenger, **{**parts, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def dispatch(make_dispatch: Callable[..., Dispatch]) -> Dispatch:
    return make_dispatch()


@pytest.fixture
def end_video(queue: JobQueue, submission: MakeSubmission, deliveries: Deliveries) -> EndVideo:
    """end_video("a prompt", url=…) submits a video with a webhook, ends it and hands its event on; its id."""

    def end(
        prompt: str = "a red ball",
        *,
        url: str | None = None,
        events: tuple[EventType, ...] = EVENT_TYPES,
        secret: str | None = None,
        error: str | None = None,
        is_handed_on: bool = True,
    ) -> str:
        webhook = None if url is None else Webhook(url=url, events=events, secret=secret or new_secret())
        video_id = queue.submit(submission(prompt).model_copy(update={"webhook": webhook})).record.id
        claimed = claim(queue)
        queue.finish(claimed.lease, completed(claimed) if error is None else Outcome.failed(error, "It failed."))
        if is_handed_on:
            deliveries.hand_on()
        return video_id

    return end


@pytest.fixture
def pass_time(redis: Redis) -> Callable[[], None]:
    """pass_time() is the moment at which whatever waits, rests or is claimed by a dead gateway is due."""

    def pass_() -> None:
        for target in redis.zrange("wanserve:webhooks:targets", 0, -1):
            due = f"wanserve:webhooks:due:{target}"
            redis.zadd(due, dict.fromkeys(redis.zrange(due, 0, -1), 1.0))
            redis.delete(f"wanserve:webhooks:flying:{target}")
            if redis.hexists(f"wanserve:webhooks:breaker:{target}", "rests_until"):
                redis.hset(f"wanserve:webhooks:breaker:{target}", "rests_until", 1)
            redis.zadd("wanserve:webhooks:targets", {target: 1.0})

    return pass_
