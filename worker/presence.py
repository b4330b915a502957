"""What others see of this worker: RQ's registration (`rq info`), the list of live workers, the model card."""

import contextlib
from collections.abc import Sequence

from redis import Redis
from rq import SimpleWorker
from rq import worker_registration as rq_workers
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import WorkerStatus

from service.jobs.card import ModelCard
from service.jobs.connection import redis_errors
from service.jobs.lua import write_anyway
from service.jobs.record import WorkerInfo
from service.jobs.store import VideoStore


class Presence:
    """show() once the model is warm and regularly from then on, leave() at the end; both raise QueueUnavailable.

    redis: a client from connection.connect_bytes(), which the caller closes.
    """

    def __init__(
        self,
        store: VideoStore,
        redis: Redis,
        *,
        worker: WorkerInfo,
        card: ModelCard,
        queues: Sequence[str],
        ttl_seconds: float,
    ) -> None:
        self._store = store
        self._worker = worker
        self._card = card
        self._ttl_seconds = ttl_seconds
        with redis_errors():
            self._rq = _Registration(queues, name=worker.name, connection=redis, ttl_seconds=ttl_seconds)

    def show(self, *, is_busy: bool) -> None:
        """Be visible for another ttl_seconds. Everything is said anew, so that nothing an outage lost stays lost."""
        self._store.register_card(self._card)
        with redis_errors():
            self._rq.show(is_busy=is_busy)
        self._store.report_alive(self._worker, ttl_seconds=self._ttl_seconds)

    def leave(self) -> None:
        """No longer counted among the live ones; the card stays."""
        self._store.report_gone(self._worker.name)
        with redis_errors():
            self._rq.register_death()


class _Registration(SimpleWorker):
    """RQ's worker hash and sets, nothing of its work loop: that one can lose jobs and commit twice."""

    def __init__(self, queues: Sequence[str], *, name: str, connection: Redis, ttl_seconds: float) -> None:
        super().__init__(
            list(queues), name=name, connection=connection, worker_ttl=int(ttl_seconds), serializer=JSONSerializer
        )
        self.birth_date = self.last_heartbeat = now()

    def show(self, *, is_busy: bool) -> None:
        state = WorkerStatus.BUSY if is_busy else WorkerStatus.IDLE
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self.key, mapping={**self.serialize(), "state": state.value})
            rq_workers.register(self, pipeline)
            self.heartbeat(pipeline=pipeline)
            write_anyway(self.connection, *(words for words, _ in pipeline.command_stack))

    def _set_connection(self, connection: Redis) -> Redis:
        # RQ would raise the socket timeout to minutes, for a blocking pop that is not used here.
        return connection

    def _set_ip_address(self, connection: Redis) -> None:
        self.ip_address = "unknown"
        with contextlib.suppress(KeyError):
            self.ip_address = str(connection.client_info()["addr"])
