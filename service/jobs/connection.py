"""The connection to Redis, and the one place where its exceptions become ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis, asyncio
from redis import exceptions as redis_exceptions
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry

from service.errors import QueueFull, QueueRefused, QueueUnavailable

SOCKET_TIMEOUT_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 3.0
BRIEF_TIMEOUT_SECONDS = 2.0
MAX_CONNECTIONS = 32
"""Of one event loop. Redis works through one command at a time: more would only wait there."""

NUM_RETRIES = 2
"""Every script is idempotent by ids that its caller drew, so that a repeated command is harmless."""

REFUSALS = ("MISCONF", "NOREPLICAS", "NOAUTH", "MASTERDOWN", "CLUSTERDOWN")
"""Redis says these before a command or script begins; redis-py has no class of its own for them."""

REASON_CHARACTERS = 200


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


def connect_async(redis_url: str) -> asyncio.Redis:
    """As connect(), for one event loop. The caller closes it with aclose()."""
    pool = asyncio.BlockingConnectionPool.from_url(
        redis_url,
        decode_responses=True,
        max_connections=MAX_CONNECTIONS,
        timeout=SOCKET_TIMEOUT_SECONDS,
        **{**_options(), "retry": AsyncRetry(_backoff(), NUM_RETRIES)},
    )
    return asyncio.Redis.from_pool(pool)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Translate what Redis raises; all of it may pass. Usable as a decorator too.

    A DataError stays: only a bug of ours sends what Redis can't take.
    """
    try:
        yield
    except redis_exceptions.DataError:
        raise
    except redis_exceptions.OutOfMemoryError as e:
        raise QueueFull("The queue's memory is full. Try again later.", retry_after_seconds=30) from e
    except redis_exceptions.AuthenticationError as e:
        raise QueueRefused(f"The queue (Redis) refuses our password: check REDIS_URL. ({_reason(e)})") from e
    except (redis_exceptions.ConnectionError, redis_exceptions.TimeoutError, OSError) as e:
        raise QueueUnavailable("The queue (Redis) does not answer. Try again shortly.") from e
    except redis_exceptions.ReadOnlyError as e:
        raise QueueRefused("The queue (Redis) takes no writes now. Try again shortly.") from e
    except redis_exceptions.RedisError as e:
        kind = QueueRefused if _is_refusal(e) else QueueUnavailable
        raise kind(f"The queue (Redis) fails: {_reason(e)}. Try again shortly.") from e


def _is_refusal(error: redis_exceptions.RedisError) -> bool:
    """Not so for an error in the middle of a script: what came before it is done."""
    is_early = isinstance(error, redis_exceptions.NoPermissionError) or str(error).startswith(REFUSALS)
    return is_early and "script:" not in str(error)


def _reason(error: redis_exceptions.RedisError) -> str:
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    return first_line[:REASON_CHARACTERS].rstrip(". ")


def _options() -> dict[str, object]:
    return {
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "retry": Retry(_backoff(), NUM_RETRIES),
    }


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(cap=0.5, base=0.05)
