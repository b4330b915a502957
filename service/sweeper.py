"""Takes objects that no record names out of storage. Any number may sweep at once, any number of times."""

from collections.abc import Callable, Sequence

from service.jobs.garbage import Garbage
from service.jobs.record import asset_id_in
from service.storage import Storage


class Sweeper:
    """Whoever opened redis and storage closes them."""

    def __init__(
        self, garbage: Garbage, storage: Storage, *, on_gone: Callable[[Sequence[str]], object] = lambda asset_ids: None
    ) -> None:
        """on_gone: told the ids of assets whose objects were removed."""
        self._garbage = garbage
        self._on_gone = on_gone
        self._storage = storage

    def sweep(self) -> int:
        """Remove all garbage that is due; how many objects. Raises QueueUnavailable and StorageUnavailable.

        What was removed and not yet forgotten is removed again next time.
        """
        num_objects = 0
        while keys := self._garbage.due():
            self._storage.delete(keys)
            self._on_gone(sorted({asset_id for key in keys if (asset_id := asset_id_in(key)) is not None}))
            self._garbage.forget(keys)
            num_objects += len(keys)
        return num_objects
