"""The yardstick of bench/queue.py: what FastAPI and Redis cost when nothing else is done. `python -m bench.bare`.

Two `def` handlers: one does a single SET, the other a single GET, on the server, client options and uvicorn
settings of the gateway.
"""

import sys
import uuid
from typing import Any

import uvicorn
from fastapi import FastAPI

from service.jobs.connection import connect
from service.settings import Settings


def main() -> int:
    settings = Settings.load()
    assert settings.redis_url is not None
    with connect(settings.redis_url) as redis:
        app = FastAPI()

        @app.post("/")
        def write(body: dict[str, Any]) -> dict[str, str]:
            key = uuid.uuid4().hex
            redis.set(f"bare:{key}", str(body))
            return {"id": key}

        @app.get("/{key}")
        def read(key: str) -> dict[str, str]:
            return {"id": key, "value": str(redis.get(f"bare:{key}"))}

        uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, access_log=False, server_header=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
