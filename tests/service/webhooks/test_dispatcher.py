"""The threads of a gateway: an event leaves at once, and an outage of Redis delays it."""

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import structlog
from prometheus_client import CollectorRegistry

from service.jobs.connection import connect
from service.jobs.store import VideoStore
from service.metrics import GatewayMetrics
from service.webhooks.deliveries import Deliveries
from service.webhooks.dispatch import Dispatch
from service.webhooks.dispatcher import Dispatcher
from service.webhooks.messenger import Messenger
from service.webhooks.outbound import Outbound
from service.webhooks.receiver import ReceiverRules
from tests.service.webhooks.conftest import EndVideo
from tests.service.webhooks.receiver import HookReceiver
from tests.worker.proxy import CuttableProxy


@pytest.fixture
def metrics() -> GatewayMetrics:
    return GatewayMetrics(CollectorRegistry())


def test_an_outage_of_redis_is_logged_once_and_delays_what_ended_meanwhile(
    redis_url: str,
    end_video: EndVideo,
    receiver: HookReceiver,
    loopback_rules: ReceiverRules,
    metrics: GatewayMetrics,
    wait_until: Callable[..., None],
) -> None:
    place = urlsplit(redis_url)
    with CuttableProxy(redis_url) as proxy:
        proxied = place._replace(netloc=f":{place.password}@127.0.0.1:{proxy.port}").geturl()
        with connect(proxied) as redis, structlog.testing.capture_logs() as logs:
            deliveries = Deliveries(redis)
            dispatch = Dispatch(
                deliveries,
                VideoStore(redis),
                Messenger(Outbound(loopback_rules, timeout_seconds=5)),
                show=lambda record: {"id": record.id},
                metrics=metrics,
                claim_seconds=60,
            )
            dispatcher = Dispatcher(deliveries, dispatch)
            dispatcher.start()
            try:
                first = end_video("one", url=receiver.url, is_handed_on=False)
                # Counted once its outcome is written: cut between the two, it would rightly be sent again.
                wait_until(lambda: metrics.webhook_deliveries.labels("delivered")._value.get() == 1)
                proxy.cut()
                wait_until(lambda: "webhooks_unavailable" in [log["event"] for log in logs])
                second = end_video("two", url=receiver.url, is_handed_on=False)
                proxy.mend()
                wait_until(lambda: metrics.webhook_deliveries.labels("delivered")._value.get() == 2)
            finally:
                dispatcher.stop()

    assert [received.event["data"]["id"] for received in receiver.received] == [first, second]
    events = [log["event"] for log in logs]
    assert (events.count("webhooks_unavailable"), events.count("webhooks_back")) == (1, 1)
