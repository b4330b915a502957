"""Lets the time of everything be over, then reads what still lies in the bucket and in Redis."""

from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config

from service.jobs.queue import JobQueue
from service.settings import Settings
from tests.chaos.cluster import Cluster, wait_until
from tests.chaos.evidence import Remains

GARBAGE, CACHE_EXPIRING, UNRECORDED = "wanserve:garbage", "wanserve:cache-expiring", "wanserve:unrecorded"


def remains_of(cluster: Cluster) -> Remains:
    """Every video must have been deleted, and a worker must live: it sweeps."""
    _end_time_of(cluster, CACHE_EXPIRING)
    queue = JobQueue(cluster.redis, cluster.settings)
    wait_until(lambda: queue.expire() == 0)
    # Uploads of dead workers, which would become garbage in an hour.
    _end_time_of(cluster, GARBAGE)
    wait_until(lambda: not cluster.redis.exists(GARBAGE, UNRECORDED))
    ttls = {key: cluster.redis.ttl(key) for key in cluster.redis.scan_iter("*", count=1000)}
    return Remains(
        objects=frozenset(_objects(cluster.settings)),
        keys={key: None if ttl == -1 else ttl for key, ttl in ttls.items() if ttl != -2},
        cached_bytes=int(cluster.redis.get("wanserve:cache-bytes") or 0),
    )


def _end_time_of(cluster: Cluster, key: str) -> None:
    """All of its members are due now."""
    members = cluster.redis.zrange(key, 0, -1)
    if members:
        cluster.redis.zadd(key, dict.fromkeys(members, 1), xx=True)


def _objects(settings: Settings) -> Iterator[str]:
    secret = settings.s3_secret_key
    assert secret is not None
    client: Any = boto3.session.Session().client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=secret.get_secret_value(),
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=settings.bucket):
            yield from (entry["Key"] for entry in page.get("Contents", ()))
    finally:
        client.close()
