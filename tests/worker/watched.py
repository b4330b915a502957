"""The real engine, watched."""

import time
from collections.abc import Sequence

from model.engine import Engine
from model.errors import EngineError, NotFinite
from model.request import Request


class WatchedEngine(Engine):
    """Notes who shared each step, and is slow or fails where told to."""

    def __init__(self, engine: Engine) -> None:
        self.__dict__ |= engine.__dict__
        self.groups: list[list[str]] = []
        self.error: Exception | None = None
        self.failing_prompt: str | None = None
        self.pause_seconds = 0.0

    def step(self, requests: Sequence[Request]) -> dict[Request, EngineError]:
        self.groups.append([request.params.prompt for request in requests])
        if self.error is not None:
            raise self.error
        time.sleep(self.pause_seconds)
        failing = [request for request in requests if request.params.prompt == self.failing_prompt]
        failed = super().step([request for request in requests if request not in failing])
        return failed | {request: NotFinite("Use bfloat16.") for request in failing}
