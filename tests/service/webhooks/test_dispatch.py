"""From a video's end to a receiver's answer: real Redis, real sockets."""

from collections.abc import Callable

import openai
import pytest
from redis import Redis
from standardwebhooks import Webhook as StandardWebhook

from service.errors import Conflict, DeliveryNotFound
from service.jobs.queue import JobQueue
from service.jobs.record import DEFAULT_TENANT
from service.jobs.store import VideoStore
from service.webhooks.deliveries import HAND_ON_LIMIT, Deliveries, DeliveryState
from service.webhooks.dispatch import Dispatch
from service.webhooks.endpoints import Endpoints
from service.webhooks.schedule import DELAYS_SECONDS
from service.webhooks.secret import new_secret
from tests.service.claims import MakeSubmission
from tests.service.webhooks.conftest import EndVideo
from tests.service.webhooks.receiver import HookReceiver, answer, endless_body, garbage, hang
from tests.service.webhooks.steps import PassTime, create, deliver_all, only_delivery


def test_what_arrives_verifies_and_is_the_whole_event(
    dispatch: Dispatch, end_video: EndVideo, deliveries: Deliveries, receiver: HookReceiver
) -> None:
    secret = new_secret()
    video_id = end_video(url=receiver.url, secret=secret)

    assert deliver_all(dispatch) == 1

    [received] = receiver.received
    event = StandardWebhook(secret).verify(received.body, received.headers)
    openai.OpenAI(api_key="none").webhooks.verify_signature(received.body, received.headers, secret=secret)
    assert event == {
        "id": received.headers["webhook-id"],
        "object": "event",
        "created_at": event["created_at"],
        "type": "video.completed",
        "data": {"id": video_id, "status": "completed"},
    }
    assert event["id"].startswith("evt_")
    assert received.headers["content-type"] == "application/json"
    delivery = only_delivery(deliveries, video_id)
    assert (delivery.state, delivery.num_attempts, delivery.next_attempt_at) == (DeliveryState.DELIVERED, 1, None)
    assert [(attempt.status, attempt.error) for attempt in delivery.attempts] == [(204, None)]


def test_one_event_goes_to_the_videos_own_webhook_and_to_every_endpoint_that_wants_it(
    dispatch: Dispatch, end_video: EndVideo, endpoints: Endpoints, receiver: HookReceiver
) -> None:
    create(endpoints, receiver.url + "/all")
    create(endpoints, receiver.url + "/failed", event_types=("video.failed",))
    endpoints.change(create(endpoints, receiver.url + "/off").id, tenant=DEFAULT_TENANT, is_enabled=False)
    endpoints.create(tenant="other", url=receiver.url + "/other", name="", event_types=("video.completed",))
    end_video(url=receiver.url)

    deliver_all(dispatch)

    assert {received.line.split()[1] for received in receiver.received} == {"/hook", "/hook/all"}
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1


def test_a_webhook_hears_only_of_the_events_it_asked_for(
    dispatch: Dispatch, end_video: EndVideo, receiver: HookReceiver
) -> None:
    end_video("one", url=receiver.url, events=("video.failed",))
    failed = end_video("two", url=receiver.url, events=("video.failed",), error="out_of_memory")

    deliver_all(dispatch)

    assert [(received.event["type"], received.event["data"]["id"]) for received in receiver.received] == [
        ("video.failed", failed)
    ]


def test_an_endpoint_hears_nothing_of_what_happened_before_it(
    dispatch: Dispatch, end_video: EndVideo, endpoints: Endpoints, deliveries: Deliveries, receiver: HookReceiver
) -> None:
    end_video("before", is_handed_on=False)
    create(endpoints, receiver.url)
    after = end_video("after")

    deliver_all(dispatch)

    assert [received.event["data"]["id"] for received in receiver.received] == [after]


def test_a_failing_receiver_is_tried_ten_times_by_the_schedule_with_one_webhook_id(
    dispatch: Dispatch,
    end_video: EndVideo,
    deliveries: Deliveries,
    receiver: HookReceiver,
    redis: Redis,
    pass_time: PassTime,
) -> None:
    receiver.behaviour = answer(500)
    video_id = end_video(url=receiver.url)
    waits = []
    while deliver_all(dispatch):
        delivery = only_delivery(deliveries, video_id)
        if delivery.next_attempt_at is not None:
            waits.append(delivery.next_attempt_at - redis.time()[0])
        pass_time()

    assert waits == pytest.approx(list(DELAYS_SECONDS), abs=2)
    assert len(receiver.received) == 10
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
    assert (delivery.state, delivery.reason) == (DeliveryState.DEAD, "Given up after 10 attempts.")
    assert {attempt.error for attempt in delivery.attempts} == {"The receiver answered 500."}


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 429, 500, 503])
def test_only_2xx_is_success(
    dispatch: Dispatch, end_video: EndVideo, deliveries: Deliveries, receiver: HookReceiver, status: int
) -> None:
    receiver.behaviour = answer(status, Location=receiver.url + "/elsewhere")
    video_id = end_video(url=receiver.url)

    deliver_all(dispatch)

    assert only_delivery(deliveries, video_id).state is DeliveryState.PENDING
    assert len(receiver.received) == 1


@pytest.mark.parametrize(("behaviour", "error"), [(hang, "No reply within 1 s."), (garbage, "No valid reply")])
def test_a_receiver_that_misbehaves_is_tried_again(
    dispatch: Dispatch,
    end_video: EndVideo,
    deliveries: Deliveries,
    receiver: HookReceiver,
    behaviour: Callable[..., None],
    error: str,
) -> None:
    receiver.behaviour = behaviour
    video_id = end_video(url=receiver.url)

    deliver_all(dispatch)

    delivery = only_delivery(deliveries, video_id)
    assert delivery.state is DeliveryState.PENDING
    assert delivery.attempts[0].status is None
    assert error in (delivery.attempts[0].error or "")


def test_an_endless_body_after_200_is_a_success(
    dispatch: Dispatch, end_video: EndVideo, deliveries: Deliveries, receiver: HookReceiver
) -> None:
    receiver.behaviour = endless_body
    video_id = end_video(url=receiver.url)

    deliver_all(dispatch)

    assert only_delivery(deliveries, video_id).state is DeliveryState.DELIVERED


def test_retry_after_is_honoured(
    dispatch: Dispatch, end_video: EndVideo, deliveries: Deliveries, receiver: HookReceiver, redis: Redis
) -> None:
    receiver.behaviour = answer(503, Retry_After="3600")
    video_id = end_video(url=receiver.url)

    deliver_all(dispatch)

    due_at = only_delivery(deliveries, video_id).next_attempt_at
    assert due_at is not None
    assert due_at - redis.time()[0] == pytest.approx(3600, abs=2)


def test_410_disables_an_endpoint_and_what_waits_for_it_can_be_replayed(
    dispatch: Dispatch, end_video: EndVideo, endpoints: Endpoints, deliveries: Deliveries, receiver: HookReceiver
) -> None:
    endpoint = create(endpoints, receiver.url)
    receiver.behaviour = answer(410)
    for prompt in ("one", "two"):
        end_video(prompt)
    deliver_all(dispatch)

    assert len(receiver.received) == 1
    disabled = endpoints.get(endpoint.id, tenant=DEFAULT_TENANT)
    assert (disabled.status, disabled.disabled_reason) == ("disabled", "The receiver answered 410: it wants no more.")
    dead = deliveries.list(endpoint.id, tenant=DEFAULT_TENANT, state=DeliveryState.DEAD).deliveries
    assert len(dead) == 2
    with pytest.raises(Conflict, match="disabled"):
        deliveries.replay(dead[0].id, owner=endpoint.id, tenant=DEFAULT_TENANT)

    receiver.behaviour = answer(200)
    assert endpoints.change(endpoint.id, tenant=DEFAULT_TENANT, is_enabled=True).disabled_reason is None
    for delivery in dead:
        deliveries.replay(delivery.id, owner=endpoint.id, tenant=DEFAULT_TENANT)
    assert deliver_all(dispatch) == 2
    assert deliveries.list(endpoint.id, tenant=DEFAULT_TENANT, state=DeliveryState.DEAD).deliveries == ()


def test_410_ends_a_videos_own_webhook(
    dispatch: Dispatch, end_video: EndVideo, deliveries: Deliveries, receiver: HookReceiver
) -> None:
    receiver.behaviour = answer(410)
    video_id = end_video(url=receiver.url)

    deliver_all(dispatch)

    assert only_delivery(deliveries, video_id).state is DeliveryState.DEAD


def test_a_replay_is_the_same_event_and_keeps_the_log(
    dispatch: Dispatch, end_video: EndVideo, deliveries: Deliveries, receiver: HookReceiver
) -> None:
    video_id = end_video(url=receiver.url)
    deliver_all(dispatch)
    delivered = only_delivery(deliveries, video_id)

    replayed = deliveries.replay(delivered.id, owner=video_id, tenant=DEFAULT_TENANT)
    with pytest.raises(Conflict, match="on its way"):
        deliveries.replay(delivered.id, owner=video_id, tenant=DEFAULT_TENANT)
    deliver_all(dispatch)

    assert (replayed.state, replayed.num_attempts) == (DeliveryState.PENDING, 0)
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
    assert len(only_delivery(deliveries, video_id).attempts) == 2
    for owner, tenant in ((video_id, "other"), ("video_x", DEFAULT_TENANT)):
        with pytest.raises(DeliveryNotFound):
            deliveries.replay(delivered.id, owner=owner, tenant=tenant)


def test_the_event_of_a_video_that_was_deleted_before_its_delivery_is_dropped_with_a_reason(
    dispatch: Dispatch,
    end_video: EndVideo,
    store: VideoStore,
    deliveries: Deliveries,
    receiver: HookReceiver,
    pass_time: PassTime,
) -> None:
    """A deletion must mean that nothing about the video leaves any more."""
    receiver.behaviour = answer(500)
    video_id = end_video(url=receiver.url)
    deliver_all(dispatch)

    store.delete(video_id)
    pass_time()
    deliver_all(dispatch)

    assert len(receiver.received) == 1
    delivery = only_delivery(deliveries, video_id)
    assert (delivery.state, delivery.reason) == (DeliveryState.DROPPED, "The video was deleted or has expired.")


def test_a_video_that_was_deleted_before_its_event_was_handed_on_is_named(
    end_video: EndVideo, store: VideoStore, deliveries: Deliveries, receiver: HookReceiver, endpoints: Endpoints
) -> None:
    endpoint = create(endpoints, receiver.url)
    gone = end_video("one", url=receiver.url, is_handed_on=False)
    store.delete(gone)
    there = end_video("two", is_handed_on=False)

    handed_on = deliveries.hand_on()

    assert (handed_on.num_events, handed_on.untold) == (2, (gone,))
    assert only_delivery(deliveries, endpoint.id).video_id == there


def test_more_events_than_one_look_takes_are_handed_on_by_the_next(
    end_video: EndVideo, endpoints: Endpoints, deliveries: Deliveries
) -> None:
    endpoint = create(endpoints, "https://example.com/")
    for number in range(HAND_ON_LIMIT + 1):
        end_video(f"ball {number}", is_handed_on=False)

    assert [deliveries.hand_on().num_events for _ in range(3)] == [HAND_ON_LIMIT, 1, 0]

    first = deliveries.list(endpoint.id, tenant=DEFAULT_TENANT, limit=100)
    second = deliveries.list(endpoint.id, tenant=DEFAULT_TENANT, after=first.deliveries[-1].id, limit=100)
    assert (len(first.deliveries), len(second.deliveries)) == (100, 1)


def test_a_record_that_cannot_be_read_stops_neither_the_outbox_nor_the_dispatch(
    dispatch: Dispatch, end_video: EndVideo, deliveries: Deliveries, receiver: HookReceiver, redis: Redis
) -> None:
    corrupt = end_video("one", url=receiver.url, is_handed_on=False)
    redis.hset(f"wanserve:video:{corrupt}", "details", '{"webhook": 5')
    redis.xadd("wanserve:outbox", {"who": "a stranger"})
    unreadable = end_video("two", url=receiver.url)
    broken = end_video("three", url=receiver.url)
    [delivery_id] = redis.zrange(f"wanserve:deliveries:{unreadable}:all", 0, -1)
    redis.hset(f"wanserve:delivery:{delivery_id}", "num_attempts", "many")
    redis.hset(f"wanserve:video:{broken}", "outcome", "{")
    fine = end_video("four", url=receiver.url)

    for _ in range(4):
        dispatch.deliver_next()

    assert [received.event["data"]["id"] for received in receiver.received] == [fine]
    delivery = only_delivery(deliveries, broken)
    assert (delivery.state, delivery.num_attempts) == (DeliveryState.PENDING, 1)
    assert delivery.attempts[0].error == "The gateway failed; its log says why."


def test_a_job_that_many_follow_tells_each_of_them(
    dispatch: Dispatch,
    queue: JobQueue,
    submission: MakeSubmission,
    end_video: EndVideo,
    receiver: HookReceiver,
    deliveries: Deliveries,
    endpoints: Endpoints,
) -> None:
    create(endpoints, receiver.url)
    follower = queue.submit(submission("a red ball")).record.id
    leader = end_video("a red ball")
    cached = queue.submit(submission("a red ball")).record.id
    deliveries.hand_on()

    deliver_all(dispatch)

    assert sorted(received.event["data"]["id"] for received in receiver.received) == sorted([follower, leader, cached])
