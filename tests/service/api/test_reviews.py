"""The review desk by HTTP: what is held uses no GPU; approved, rejected, timed out and withdrawn."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from service.jobs.execution import Finding
from service.jobs.operations import Operations
from service.jobs.queue import JobQueue
from service.jobs.reviews import TIME_OUT, Reviews
from service.jobs.store import VideoStore
from service.keys import Keys
from service.settings import Settings
from service.tenants import Tenant, Tenants
from tests.service.api.conftest import FakeWorker
from tests.service.claims import MakeSubmission, events

OpenAs = Callable[..., httpx.Client]


@pytest.fixture
def open_as(client: httpx.Client, gateway_settings: Settings, store: VideoStore, redis: Redis) -> Iterator[OpenAs]:
    """open_as("acme", scopes=["review"]) is a client with a new key of that tenant, which has everything reviewed."""
    opened: list[httpx.Client] = []

    def open_client(name: str, *, scopes: list[Any] | None = None) -> httpx.Client:
        if name not in [tenant.name for tenant in Tenants(redis).list()]:
            Tenants(redis).create(Tenant.model_validate({"name": name, "moderation": {"review": "everything"}}))
        key = Keys(redis, pepper=gateway_settings.pepper()).create(name, scopes=scopes or ["create", "read", "review"])
        headers = {"Authorization": f"Bearer {key}"}
        opened.append(httpx.Client(base_url=client.base_url, timeout=30, trust_env=False, headers=headers))
        return opened[-1]

    yield open_client
    for each in opened:
        each.close()


@pytest.fixture
def acme(open_as: OpenAs) -> httpx.Client:
    return open_as("acme")


def submit(client: httpx.Client, prompt: str = "a museum piece", **more: Any) -> str:
    reply = client.post("/v1/videos", json={"prompt": prompt, **more})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


def pending(client: httpx.Client) -> list[dict[str, Any]]:
    return list(client.get("/v1/reviews").json()["data"])


def test_a_held_video_waits_for_a_reviewer_and_no_worker_gets_it(acme: httpx.Client, worker: FakeWorker) -> None:
    video_id = submit(acme)

    video = acme.get(f"/v1/videos/{video_id}").json()
    assert (video["status"], video["review"]) == ("queued", {"state": "pending"})
    assert (video["queue_position"], video["eta_seconds"]) == (None, None)
    assert worker.claim_if_any() is None
    [review] = pending(acme)
    assert (review["prompt"], review["category"], review["video_ids"]) == ("a museum piece", "everything", [video_id])
    assert acme.get(f"/v1/reviews/{review['id']}").json() == review


def test_an_approved_video_is_made(acme: httpx.Client, worker: FakeWorker) -> None:
    video_id = submit(acme)
    [review] = pending(acme)

    approved = acme.post(f"/v1/reviews/{review['id']}/approve", json={"reason": "fine"}).json()

    assert (approved["state"], approved["decisions"][0]["decision"]) == ("approved", "approved")
    assert approved["decisions"][0]["reason"] == "fine"
    worker.finish()
    video = acme.get(f"/v1/videos/{video_id}").json()
    assert (video["status"], video["review"]) == ("completed", {"state": "approved"})
    assert pending(acme) == []
    [decided] = acme.get("/v1/reviews", params={"state": "decided"}).json()["data"]
    assert decided["id"] == review["id"]


def test_a_rejected_video_fails_with_the_reason_and_one_event(
    acme: httpx.Client, worker: FakeWorker, redis: Redis
) -> None:
    video_id = submit(acme)
    [review] = pending(acme)

    acme.post(f"/v1/reviews/{review['id']}/reject", json={"reason": "It shows a real person."})

    video = acme.get(f"/v1/videos/{video_id}").json()
    assert (video["status"], video["error"]["code"]) == ("failed", "rejected_by_review")
    assert "It shows a real person." in video["error"]["message"]
    assert video["review"] == {"state": "rejected"}
    assert worker.claim_if_any() is None
    assert events(redis) == [(video_id, "failed")]


def test_twins_follow_one_review(acme: httpx.Client, worker: FakeWorker) -> None:
    twins = sorted(submit(acme) for _ in range(3))
    [review] = pending(acme)
    assert review["video_ids"] == twins

    acme.post(f"/v1/reviews/{review['id']}/approve")
    worker.finish()

    assert {acme.get(f"/v1/videos/{twin}").json()["status"] for twin in twins} == {"completed"}
    # What was approved need not be looked at again.
    assert acme.get(f"/v1/videos/{submit(acme)}").json()["cached"] is True


def test_what_nobody_looked_at_answers_no_request_that_is_reviewed(
    open_as: OpenAs, redis: Redis, worker: FakeWorker
) -> None:
    Tenants(redis).create(Tenant(name="late"))
    before = open_as("late")
    made = submit(before)
    worker.finish()
    assert before.get(f"/v1/videos/{made}").json()["status"] == "completed"
    running = submit(before, "another piece")
    worker.claim()

    Tenants(redis).update(Tenant.model_validate({"name": "late", "moderation": {"review": "everything"}}))
    # The gateway remembers a key's tenant for seconds, and has not seen this one.
    after = open_as("late")
    held = [submit(after), submit(after, "another piece")]

    assert [after.get(f"/v1/videos/{video}").json()["review"] for video in held] == [{"state": "pending"}] * 2
    assert running not in held
    assert worker.claim_if_any() is None


def test_tenants_that_share_a_cache_do_not_share_reviews(
    redis: Redis, gateway_settings: Settings, submission: MakeSubmission
) -> None:
    queue = JobQueue(redis, gateway_settings.with_changes(cache_scope="global"))
    for tenant in "ab":
        queue.submit(submission("ball").model_copy(update={"tenant": tenant, "review": "everything"}))
    reviews = Reviews(redis, gateway_settings)

    assert [review.tenant for review in reviews.list()[0]] == ["a", "b"]
    assert [len(review.video_ids) for review in reviews.list()[0]] == [1, 1]


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_a_held_video_that_nobody_wants_leaves_the_desk(acme: httpx.Client, redis: Redis, how: str) -> None:
    video_id = submit(acme)
    [review] = pending(acme)

    if how == "cancel":
        acme.post(f"/v1/videos/{video_id}/cancel")
    else:
        acme.delete(f"/v1/videos/{video_id}")

    assert pending(acme) == []
    assert acme.get(f"/v1/reviews/{review['id']}").json()["state"] == "withdrawn"
    late = acme.post(f"/v1/reviews/{review['id']}/approve")
    assert (late.status_code, "withdrawn" in late.json()["error"]["message"]) == (409, True)
    assert redis.keys("wanserve:tenant:*") == []


def test_a_decision_is_made_once(acme: httpx.Client) -> None:
    submit(acme)
    [review] = pending(acme)
    acme.post(f"/v1/reviews/{review['id']}/approve")

    again = acme.post(f"/v1/reviews/{review['id']}/reject", json={"reason": "no"})

    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    assert "approved" in again.json()["error"]["message"]


def test_a_rejection_needs_a_reason(acme: httpx.Client) -> None:
    submit(acme)
    [review] = pending(acme)

    for body in ({}, {"reason": ""}, {"reason": "x" * 501}, {"reason": 3}, {"why": "no"}):
        reply = acme.post(f"/v1/reviews/{review['id']}/reject", json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request"), body
    assert [each["state"] for each in pending(acme)] == ["pending"]


def test_reviewers_see_their_own_tenants_videos_and_administrators_all(acme: httpx.Client, open_as: OpenAs) -> None:
    submit(acme)
    [review] = pending(acme)
    other, admin = open_as("other"), open_as("ops", scopes=["review", "admin"])

    assert pending(other) == []
    for method, path in (("GET", ""), ("POST", "/approve"), ("POST", "/reject")):
        body = {"reason": "no"} if path == "/reject" else None
        reply = other.request(method, f"/v1/reviews/{review['id']}{path}", json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "review_not_found")
    assert [each["id"] for each in pending(admin)] == [review["id"]]
    assert admin.post(f"/v1/reviews/{review['id']}/approve").json()["state"] == "approved"


def test_a_key_without_the_scope_may_not_look(open_as: OpenAs) -> None:
    reply = open_as("acme", scopes=["create", "read"]).get("/v1/reviews")
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "insufficient_scope")


def test_pages_go_through_all_reviews(acme: httpx.Client) -> None:
    for i in range(5):
        submit(acme, f"piece {i}")

    first = acme.get("/v1/reviews", params={"limit": 3}).json()
    second = acme.get("/v1/reviews", params={"limit": 3, "after": first["last_id"]}).json()

    assert ([each["prompt"] for each in first["data"]], first["has_more"]) == (["piece 0", "piece 1", "piece 2"], True)
    assert ([each["prompt"] for each in second["data"]], second["has_more"]) == (["piece 3", "piece 4"], False)


def test_where_two_must_approve_one_person_is_not_enough(
    acme: httpx.Client, redis: Redis, gateway_settings: Settings, worker: FakeWorker
) -> None:
    submit(acme)
    [review] = pending(acme)
    strict = Reviews(redis, gateway_settings.with_changes(review_approvals=2))

    assert strict.approve(review["id"], by="ann").state == "pending"
    with pytest.raises(Exception, match="somebody else must"):
        strict.approve(review["id"], by="ann")
    assert worker.claim_if_any() is None
    assert strict.approve(review["id"], by="bob").state == "approved"
    assert worker.claim_if_any() is not None


@pytest.mark.parametrize(("rule", "state"), [("reject", "rejected"), ("approve", "approved")])
def test_what_nobody_looks_at_in_time_is_decided_by_the_settings(
    acme: httpx.Client, redis: Redis, gateway_settings: Settings, rule: str, state: str
) -> None:
    submit(acme)
    [review] = pending(acme)
    changes: dict[str, Any] = {"review_timeout": rule, "review_seconds": 60.0}
    now = [review["created_at"] + 50.0]
    reviews = Reviews(redis, gateway_settings.with_changes(**changes), clock=lambda: now[0])

    assert reviews.end_overdue() == 0
    assert reviews.backlog().num_pending == 1
    now[0] += 20
    assert reviews.end_overdue() == 1

    decided = reviews.get(review["id"])
    assert (decided.state, decided.decisions[0].by) == (state, TIME_OUT)
    assert reviews.backlog().num_pending == 0


def test_a_prompt_between_the_thresholds_is_held_with_its_category(open_as: OpenAs, redis: Redis) -> None:
    low = {"review": 0.01, "block": 1.0}
    tenant = {"name": "wary", "moderation": {"thresholds": {"violence/graphic": low}}}
    Tenants(redis).create(Tenant.model_validate(tenant))
    wary = open_as("wary")

    submit(wary, "a knight falls wounded in the battle")

    assert [review["category"] for review in pending(wary)] == ["violence/graphic"]


def test_an_operator_can_end_a_held_job(acme: httpx.Client, redis: Redis) -> None:
    video_id = submit(acme)
    [review] = pending(acme)

    Operations(redis).fail(review["id"], reason="Closed for the night.")

    assert acme.get(f"/v1/videos/{video_id}").json()["error"]["code"] == "failed_by_operator"
    assert pending(acme) == []


def hold(worker: FakeWorker) -> str:
    """The next job's video, as finished by a worker whose frame check found something; the review's id."""
    claim = worker.claim()
    worker.complete(claim, finding=Finding(category="sexual", score=0.91))
    return f"{claim.lease.job_id}-frames"


def test_what_the_frame_check_held_is_shown_to_reviewers_alone(
    open_as: OpenAs, redis: Redis, worker: FakeWorker
) -> None:
    Tenants(redis).create(Tenant(name="plain"))
    owner, reviewer = open_as("plain", scopes=["create", "read"]), open_as("plain", scopes=["review"])
    video_id = submit(owner)
    review_id = hold(worker)

    video = owner.get(f"/v1/videos/{video_id}").json()
    assert (video["status"], video["review"], video["output"]) == ("in_progress", {"state": "pending"}, None)
    for variant in ("video", "thumbnail", "spritesheet"):
        reply = owner.get(f"/v1/videos/{video_id}/content", params={"variant": variant})
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "video_not_ready")
        assert "a person must look at it first" in reply.json()["error"]["message"]
    assert owner.get(f"/v1/reviews/{review_id}/content").status_code == 403
    [review] = reviewer.get("/v1/reviews", params={"stage": "frames"}).json()["data"]
    assert (review["id"], review["category"], review["score"]) == (review_id, "sexual", 0.91)
    assert review["files"] == ["video", "thumbnail"]
    assert reviewer.get("/v1/reviews", params={"stage": "prompt"}).json()["data"] == []
    part = reviewer.get(f"/v1/reviews/{review_id}/content", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    picture = reviewer.get(f"/v1/reviews/{review_id}/content", params={"variant": "thumbnail"})
    assert (picture.content, picture.headers["Content-Type"]) == (b"picture", "image/webp")
    assert reviewer.get(f"/v1/reviews/{review_id}/content", params={"variant": "spritesheet"}).status_code == 404
    assert open_as("other").get(f"/v1/reviews/{review_id}/content").status_code == 404


def test_an_approved_file_is_its_owners_and_no_longer_the_desks(
    open_as: OpenAs, redis: Redis, worker: FakeWorker
) -> None:
    Tenants(redis).create(Tenant(name="plain"))
    plain = open_as("plain")
    video_id = submit(plain)
    review_id = hold(worker)

    assert plain.post(f"/v1/reviews/{review_id}/approve").json()["state"] == "approved"

    assert plain.get(f"/v1/videos/{video_id}/content").content == b"0123456789"
    late = plain.get(f"/v1/reviews/{review_id}/content")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "video_not_ready")
    assert events(redis) == [(video_id, "completed")]


def test_verdicts_decisions_and_what_waits_are_counted(acme: httpx.Client, client: httpx.Client) -> None:
    before = samples(client)
    submit(acme)
    assert acme.post("/v1/videos", json={"prompt": "a naked woman"}).status_code == 400
    waiting = samples(client)
    acme.post(f"/v1/reviews/{pending(acme)[0]['id']}/approve")
    after = samples(client)

    def grown(name: str, **labels: str) -> float:
        key = (name, *sorted(labels.items()))
        return after.get(key, 0) - before.get(key, 0)

    assert grown("wanserve_moderation_verdicts_total", category="everything", outcome="review") == 1
    assert grown("wanserve_moderation_verdicts_total", category="sexual", outcome="block") == 1
    assert grown("wanserve_review_decisions_total", decision="approved") == 1
    assert waiting["wanserve_reviews_pending",] == 1
    assert waiting["wanserve_reviews_oldest_age_seconds",] > 0
    assert after["wanserve_reviews_pending",] == 0


def samples(client: httpx.Client) -> dict[tuple[Any, ...], float]:
    """Of /metrics, by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }
