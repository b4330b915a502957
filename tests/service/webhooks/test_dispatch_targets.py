"""A slow or dead receiver delays nobody else's events."""

import pytest
from redis import Redis

from service.jobs.record import DEFAULT_TENANT
from service.webhooks.deliveries import Deliveries, DeliveryState, Settlement
from service.webhooks.dispatch import Dispatch
from service.webhooks.endpoints import Endpoints
from tests.service.webhooks.conftest import EndVideo
from tests.service.webhooks.receiver import HookReceiver, answer
from tests.service.webhooks.steps import MakeDispatch, PassTime, create, deliver_all, only_delivery


class TestTargets:
    """A slow or dead receiver delays nobody else's events."""

    def test_five_failures_in_a_row_open_the_breaker_and_one_success_closes_it(
        self,
        dispatch: Dispatch,
        end_video: EndVideo,
        deliveries: Deliveries,
        endpoints: Endpoints,
        receiver: HookReceiver,
        redis: Redis,
        pass_time: PassTime,
    ) -> None:
        endpoint = create(endpoints, receiver.url)
        receiver.behaviour = answer(500)
        for number in range(8):
            end_video(f"ball {number}")

        assert deliver_all(dispatch) == 5
        untried = [d for d in deliveries.list(endpoint.id, tenant=DEFAULT_TENANT).deliveries if not d.num_attempts]
        assert len(untried) == 3
        rests_until = float(redis.hget(f"wanserve:webhooks:breaker:{endpoint.id}", "rests_until"))
        assert rests_until - redis.time()[0] == pytest.approx(30, abs=2)

        pass_time()
        assert deliver_all(dispatch) == 1
        receiver.behaviour = answer(200)
        pass_time()
        assert deliver_all(dispatch) == 8

    def test_while_the_breaker_is_open_one_attempt_at_a_time_tries_the_receiver(
        self,
        dispatch: Dispatch,
        end_video: EndVideo,
        deliveries: Deliveries,
        receiver: HookReceiver,
        pass_time: PassTime,
    ) -> None:
        receiver.behaviour = answer(500)
        for number in range(8):
            end_video(f"ball {number}", url=receiver.url)
        deliver_all(dispatch)
        pass_time()

        assert deliveries.take(token="first", seconds=60) is not None
        assert deliveries.take(token="second", seconds=60) is None

    def test_a_dead_receiver_with_a_long_queue_delays_no_other(
        self, dispatch: Dispatch, end_video: EndVideo, receiver: HookReceiver
    ) -> None:
        with HookReceiver() as dead:
            dead.behaviour = answer(500)
            for number in range(30):
                end_video(f"ball {number}", url=dead.url)
            end_video("another", url=receiver.url)

            for _ in range(2):
                dispatch.deliver_next()

        assert len(receiver.received) == 1

    def test_a_slow_receiver_takes_four_threads_at_most(
        self, end_video: EndVideo, deliveries: Deliveries, receiver: HookReceiver
    ) -> None:
        for number in range(9):
            end_video(f"ball {number}", url=receiver.url)

        claims = [deliveries.take(token=f"t{number}", seconds=60) for number in range(9)]

        assert sum(claim is not None for claim in claims) == 4
        assert claims[0] is not None
        deliveries.settle(claims[0], Settlement(DeliveryState.DELIVERED))
        assert deliveries.take(token="next", seconds=60) is not None

    def test_what_a_breaker_held_back_for_four_days_is_given_up(
        self,
        make_dispatch: MakeDispatch,
        end_video: EndVideo,
        deliveries: Deliveries,
        receiver: HookReceiver,
        redis: Redis,
    ) -> None:
        video_id = end_video(url=receiver.url)

        deliver_all(make_dispatch(clock=lambda: redis.time()[0] + 4 * 86400 + 60))

        assert receiver.received == []
        assert only_delivery(deliveries, video_id).reason == "Given up after 4 days."
