"""The connection to Redis, and the one place where its exceptions become ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from redis import exceptions as redis_exceptions
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry

from service.errors import QueueFull, QueueUnavailable

SOCKET_TIMEOUT_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 3.0
BRIEF_TIMEOUT_SECONDS = 2.0
NUM_RETRIES = 2
"""Every script is idempotent by ids that its caller drew, so that a repeated command is harmless."""


def connect(redis_url: str) -> Redis:
    """A client that answers with str, for JobQueue and VideoStore. The caller closes it."""
    return Redis.from_url(redis_url, decode_responses=True, **_options())


def connect_bytes(redis_url: str) -> Redis:
    """A client that answers with bytes, as RQ's own classes need it."""
    return Redis.from_url(redis_url, decode_responses=False, **_options())


def connect_briefly(redis_url: str) -> Redis:
    """As connect(), for probes: one try, which gives up after BRIEF_TIMEOUT_SECONDS."""
    impatience = {
        "socket_timeout": BRIEF_TIMEOUT_SECONDS,
        "socket_connect_timeout": BRIEF_TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    return Redis.from_url(redis_url, decode_responses=True, **{**_options(), **impatience})


@contextmanager
def redis_errors() -> Iterator[None]:
    """Translate what Redis raises. Usable as a decorator too."""
    try:
        yield
    except redis_exceptions.OutOfMemoryError as e:
        raise QueueFull("The queue's memory is full. Try again later.", retry_after_seconds=30) from e
    except (redis_exceptions.ConnectionError, redis_exceptions.TimeoutError, OSError) as e:
        raise QueueUnavailable("The queue (Redis) does not answer. Try again shortly.") from e
    except redis_exceptions.ReadOnlyError as e:
        raise QueueUnavailable("The queue (Redis) takes no writes now. Try again shortly.") from e


def _options() -> dict[str, object]:
    return {
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "retry": Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), NUM_RETRIES),
    }
