"""Takes back the jobs of dead workers while no worker lives that would."""

from service.errors import Unavailable
from service.jobs.link import Link
from service.jobs.queue import JobQueue
from service.jobs.store import VideoStore
from service.logs import get_logger

log = get_logger(__name__)


class Rescue:
    """Without it a fleet that scales from zero would not see that there is work. Asked again and again."""

    def __init__(self, queue: JobQueue, store: VideoStore, link: Link) -> None:
        self._queue = queue
        self._store = store
        self._link = link

    def look(self) -> None:
        """Raises QueueUnavailable."""
        try:
            workers = self._store.live_workers()
        except Unavailable:
            self._link.failed()
            raise
        self._link.answered()
        if workers or not self._link.may_reclaim:
            return
        for job in self._queue.reclaim():
            log.warning("job_reclaimed", job_id=job.job_id, worker_lost=job.worker, action=job.action)
