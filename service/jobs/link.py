"""How long Redis has answered without a break. Pure but for its clock."""

import time
from collections.abc import Callable


class Link:
    """When one may reclaim other workers' jobs.

    After an outage, or a pause of this process, every lease looks dead; only a link that has been healthy for
    a whole lease has given each live worker the time to renew.
    """

    def __init__(self, *, lease_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._healthy_since = self._last_answer = clock()
        self._is_broken = False

    def answered(self) -> bool:
        """Note an answer. True: it is the first one after a break."""
        now = self._clock()
        was_broken = self._is_broken or now - self._last_answer > self._lease_seconds
        if was_broken:
            self._healthy_since = now
        self._last_answer, self._is_broken = now, False
        return was_broken

    def failed(self) -> bool:
        """Note a failure. True: it is the first one of this break."""
        was_broken, self._is_broken = self._is_broken, True
        return not was_broken

    @property
    def may_reclaim(self) -> bool:
        return not self._is_broken and self._clock() - self._healthy_since > self._lease_seconds
