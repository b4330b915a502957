"""How many event streams one gateway keeps open: in all, and for one tenant. Used on the event loop alone."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import TooManyStreams

RETRY_AFTER_SECONDS = 5


class StreamPlaces:
    def __init__(self, *, max_streams: int, max_streams_by_tenant: int) -> None:
        self._max_streams = max_streams
        self._max_streams_by_tenant = max_streams_by_tenant
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, tenant: str) -> Iterator[None]:
        """A place until the block ends. Raises TooManyStreams."""
        self._check(tenant)
        self._taken[tenant] += 1
        try:
            yield
        finally:
            self._taken[tenant] -= 1
            if not self._taken[tenant]:
                del self._taken[tenant]

    @property
    def num_open(self) -> int:
        return self._taken.total()

    def _check(self, tenant: str) -> None:
        if self._taken[tenant] >= self._max_streams_by_tenant:
            whose = f"{self._max_streams_by_tenant} event streams of yours are"
        elif self._taken.total() >= self._max_streams:
            whose = f"{self._max_streams} event streams are"
        else:
            return
        raise TooManyStreams(
            f"{whose} open on this gateway already: close one, or poll the video instead.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
