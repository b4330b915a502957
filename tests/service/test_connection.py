"""Whatever Redis raises becomes one of ours."""

from collections.abc import Iterator

import pytest
from redis import Redis
from redis import exceptions as redis_exceptions

from service.errors import QueueRefused, QueueUnavailable
from service.jobs.connection import connect, redis_errors
from service.jobs.queue import JobQueue
from service.settings import Settings


@pytest.fixture
def unprivileged(redis: Redis, settings: Settings) -> Iterator[Redis]:
    """A client that may do nothing but connect."""
    redis.execute_command("ACL", "SETUSER", "nobody", "on", ">nobody", "+ping", "+client", "+hello")
    assert settings.redis_url is not None
    host = settings.redis_url.rpartition("@")[2]
    with connect(f"redis://nobody:nobody@{host}") as client:
        yield client
    redis.execute_command("ACL", "DELUSER", "nobody")


def test_a_missing_permission_is_an_outage_that_names_it(unprivileged: Redis, settings: Settings) -> None:
    with pytest.raises(QueueRefused, match="has no permissions") as error:
        JobQueue(unprivileged, settings).depth()

    assert (error.value.code, error.value.retryable) == ("queue_unavailable", True)


def test_a_full_disk_of_redis_is_a_refusal_with_its_reason() -> None:
    said = "MISCONF Errors writing to the AOF file: No space left on device"

    with pytest.raises(QueueRefused, match="No space left on device"), redis_errors():
        raise redis_exceptions.ResponseError(said)


@pytest.mark.parametrize(
    "error",
    [
        redis_exceptions.ResponseError("ERR something new"),
        redis_exceptions.ResponseError("MISCONF no space script: 5ca1ab1e, on @user_script:12."),
        redis_exceptions.InvalidResponse("Protocol Error"),
    ],
)
def test_an_error_that_may_have_left_something_done_is_no_refusal(error: Exception) -> None:
    with pytest.raises(QueueUnavailable) as raised, redis_errors():
        raise error

    assert not isinstance(raised.value, QueueRefused)
