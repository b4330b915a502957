"""A dispatcher in a process of its own, to be killed: makes one delivery from the Redis at argv[1]."""

import sys
from ipaddress import ip_network

from prometheus_client import CollectorRegistry

from service.jobs.connection import connect
from service.jobs.store import VideoStore
from service.metrics import GatewayMetrics
from service.webhooks.deliveries import Deliveries
from service.webhooks.dispatch import Dispatch
from service.webhooks.messenger import Messenger
from service.webhooks.outbound import Outbound
from service.webhooks.receiver import ReceiverRules


def main(redis_url: str) -> None:
    rules = ReceiverRules(networks=[ip_network("127.0.0.0/8")], ports=[range(1024, 65536)])
    with connect(redis_url) as redis:
        Dispatch(
            Deliveries(redis),
            VideoStore(redis),
            Messenger(Outbound(rules, timeout_seconds=60)),
            show=lambda record: {"id": record.id},
            metrics=GatewayMetrics(CollectorRegistry()),
            claim_seconds=2.0,
        ).deliver_next()


if __name__ == "__main__":
    main(sys.argv[1])
