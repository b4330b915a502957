"""Records of a newer version are refused, and said, and hide no others; those without a version are read."""

import json
from collections.abc import Callable

import pytest
from redis import Redis

from service.errors import RecordTooNew, RecordUnreadable
from service.jobs.fleet import NO_FLEET, Fleet
from service.jobs.reviews import Reviews
from service.jobs.submission import Submission
from service.keys import Keys
from service.settings import Settings
from service.stored import record_from, text_of
from service.tenants import Tenant, Tenants
from service.webhooks.endpoints import Endpoints
from tests.service.claims import MakeSubmission

TOO_NEW = "was written by another version of wanserve (schema 2, this one reads 1): upgrade this process"


@pytest.fixture
def tenants(redis: Redis) -> Tenants:
    tenants = Tenants(redis)
    tenants.create(Tenant(name="ads", weight=2))
    return tenants


def rewrite(redis: Redis, key: str, field: str, **changes: object) -> None:
    """One JSON record of a hash of them."""
    stored = json.loads(redis.hget(key, field))  # type: ignore[arg-type]
    redis.hset(key, field, json.dumps({name: value for name, value in (stored | changes).items() if value is not None}))


def test_records_say_their_version_and_callers_do_not_see_it(redis: Redis, tenants: Tenants) -> None:
    assert json.loads(redis.hget("wanserve:tenants", "ads"))["schema_version"] == 1  # type: ignore[arg-type]
    assert "schema_version" not in tenants.get("ads").model_dump()


def test_a_tenant_of_a_newer_version_is_refused(redis: Redis, tenants: Tenants) -> None:
    rewrite(redis, "wanserve:tenants", "ads", schema_version=2)

    with pytest.raises(RecordTooNew) as refused:
        tenants.get("ads")
    assert refused.value.message.startswith(f"The record of the tenant ads {TOO_NEW}")


def test_a_record_without_a_version_is_of_the_first(redis: Redis, tenants: Tenants) -> None:
    rewrite(redis, "wanserve:tenants", "ads", schema_version=None)
    assert tenants.get("ads").weight == 2


def test_a_damaged_record_is_told_from_a_newer_one() -> None:
    for text in ("{", '"ads"', '{"name": "ads", "weight": "heavy"}'):
        with pytest.raises(RecordUnreadable, match="it was damaged"):
            record_from(Tenant, text, name="the tenant ads")
    assert record_from(Tenant, text_of(Tenant(name="ads")), name="").name == "ads"


def test_a_key_of_a_newer_version_opens_nothing_and_says_why(
    redis: Redis, tenants: Tenants, settings: Settings
) -> None:
    keys = Keys(redis, pepper=settings.pepper())
    text = keys.create("ads")
    rewrite(redis, "wanserve:keys", text.split("_")[1], schema_version=2)

    with pytest.raises(RecordTooNew):
        keys.check(text)


def test_an_endpoint_of_a_newer_version_hides_no_other(redis: Redis) -> None:
    endpoints = Endpoints(redis)
    first, second = (
        endpoints.create(tenant="ads", url="https://example.com", name=name, event_types=("video.completed",))
        for name in ("a", "b")
    )
    redis.hset(f"wanserve:endpoint:{first.id}", "schema_version", 2)

    assert [endpoint.id for endpoint in endpoints.list(tenant="ads")] == [second.id]
    with pytest.raises(RecordTooNew):
        endpoints.get(first.id, tenant="ads")


def test_a_review_of_a_newer_version_is_refused(
    redis: Redis, settings: Settings, queue: object, submission: MakeSubmission
) -> None:
    asked: Submission = submission().model_copy(update={"review": "hate"})
    queue.submit(asked)  # type: ignore[attr-defined]
    redis.hset(f"wanserve:review:{asked.job_id}", "schema_version", 2)

    with pytest.raises(RecordTooNew):
        Reviews(redis, settings).get(asked.job_id)


def test_a_newer_worker_leaves_the_others_in_sight(worker_info: Callable[[], str]) -> None:
    newer = json.dumps(json.loads(worker_info()) | {"schema_version": 2})

    fleet = Fleet.of([], [newer, worker_info()], digest=NO_FLEET)

    assert [worker.name for worker in fleet.workers] == ["w1"]


@pytest.fixture
def worker_info() -> Callable[[], str]:
    from service.jobs.record import WorkerInfo

    return WorkerInfo(name="w1", model="m", device="cpu", started_at=0, host="h", pid=1).model_dump_json
