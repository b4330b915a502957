"""Takes objects that no record names out of storage. Any number may sweep at once, any number of times."""

from service.jobs.garbage import Garbage
from service.storage import Storage


class Sweeper:
    """Whoever opened redis and storage closes them."""

    def __init__(self, garbage: Garbage, storage: Storage) -> None:
        self._garbage = garbage
        self._storage = storage

    def sweep(self) -> int:
        """Remove all garbage that is due; how many objects. Raises QueueUnavailable and StorageUnavailable.

        What was removed and not yet forgotten is removed again next time.
        """
        num_objects = 0
        while keys := self._garbage.due():
            self._storage.delete(keys)
            self._garbage.forget(keys)
            num_objects += len(keys)
        return num_objects
