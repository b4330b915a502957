"""What RQ's stored task name points at. The lease worker never imports a name that it reads from Redis."""

from typing import NoReturn


def generate(*_: object, **__: object) -> NoReturn:
    """Raises RuntimeError: a stock `rq worker` was started on wanserve's queue."""
    raise RuntimeError(
        "Jobs of this queue need a lease and a loaded model: start `wanserve worker` for it, not `rq worker`."
    )
