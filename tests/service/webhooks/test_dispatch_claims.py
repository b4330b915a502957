"""Whoever dispatches: several at once, and one that dies."""

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from service.errors import QueueUnavailable
from service.jobs.connection import connect
from service.webhooks.deliveries import Deliveries, DeliveryState, Settlement
from service.webhooks.dispatch import Dispatch
from tests.service.webhooks.conftest import EndVideo
from tests.service.webhooks.receiver import HookReceiver, answer, hang
from tests.service.webhooks.steps import MakeDispatch, deliver_all, only_delivery


class TestClaims:
    """Whoever dies, and however many there are."""

    def test_two_dispatchers_at_once_deliver_each_event_once(
        self, make_dispatch: MakeDispatch, end_video: EndVideo, deliveries: Deliveries, receiver: HookReceiver
    ) -> None:
        videos = {end_video(f"ball {number}", url=receiver.url, is_handed_on=False) for number in range(20)}

        def run() -> None:
            deliveries.hand_on()
            deliver_all(make_dispatch())

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while deliver_all(make_dispatch()):
            pass

        assert sorted(received.event["data"]["id"] for received in receiver.received) == sorted(videos)

    def test_a_dispatcher_that_dies_between_claim_and_result_is_followed_by_another(
        self,
        dispatch: Dispatch,
        end_video: EndVideo,
        deliveries: Deliveries,
        receiver: HookReceiver,
        wait_until: Callable[..., None],
    ) -> None:
        end_video(url=receiver.url)
        dead = deliveries.take(token="of the dead", seconds=0.3)
        assert dead is not None
        assert not dispatch.deliver_next()

        wait_until(dispatch.deliver_next, seconds=10)

        assert len(receiver.received) == 1
        assert not deliveries.settle(dead, Settlement(DeliveryState.DEAD, reason="late"))
        assert only_delivery(deliveries, dead.delivery.owner).state is DeliveryState.DELIVERED

    def test_a_dispatcher_that_is_killed_while_the_receiver_thinks_is_followed_by_another(
        self,
        dispatch: Dispatch,
        end_video: EndVideo,
        deliveries: Deliveries,
        receiver: HookReceiver,
        redis_url: str,
        wait_until: Callable[..., None],
    ) -> None:
        video_id = end_video(url=receiver.url)
        receiver.behaviour = hang
        child = subprocess.Popen([sys.executable, "-m", "tests.service.webhooks.dispatcher_child", redis_url])
        wait_until(lambda: receiver.received)
        child.kill()
        child.wait()
        receiver.behaviour = answer(200)

        wait_until(dispatch.deliver_next)

        assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
        assert len(receiver.received) == 2
        assert only_delivery(deliveries, video_id).state is DeliveryState.DELIVERED

    def test_calls_that_are_repeated_because_a_reply_was_lost_change_nothing(
        self, end_video: EndVideo, deliveries: Deliveries, receiver: HookReceiver
    ) -> None:
        end_video("one", url=receiver.url)
        end_video("two", url=receiver.url)
        claimed = deliveries.take(token="t", seconds=60)
        assert claimed is not None
        assert deliveries.take(token="t", seconds=60) == claimed
        settlement = Settlement(DeliveryState.DELIVERED)

        assert deliveries.settle(claimed, settlement)
        assert deliveries.settle(claimed, settlement)
        other = deliveries.take(token="u", seconds=60)

        assert other is not None
        assert other.delivery.id != claimed.delivery.id

    def test_events_are_handed_on_and_settled_at_maxmemory(
        self,
        dispatch: Dispatch,
        end_video: EndVideo,
        deliveries: Deliveries,
        receiver: HookReceiver,
        limit_memory: Callable[[int], None],
    ) -> None:
        video_id = end_video(url=receiver.url, is_handed_on=False)
        limit_memory(1)

        assert deliveries.hand_on().num_events == 1
        assert deliver_all(dispatch) == 1
        assert only_delivery(deliveries, video_id).state is DeliveryState.DELIVERED

    def test_without_redis_nothing_is_lost_and_the_error_is_clear(self) -> None:
        with connect("redis://127.0.0.1:1/0") as nobody, pytest.raises(QueueUnavailable):
            Deliveries(nobody).take(token="t", seconds=60)
