"""Loads Lua scripts: a shebang line, the shared preludes, the script's own body."""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis import Redis, asyncio
from redis.exceptions import NoScriptError
from redis.typing import EncodableT

JOBS = "service.jobs"
PRELUDES = ("keys", "waiting", "assets", "usage", "reviews", "ends", "records")
"""Each knows those before it."""


class Source:
    """A script's text, and the name by which a server that has it knows it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Script:
    """Runs on the server, whole or not at all; sent there on first use. redis-py's own asks more of every call."""

    def __init__(self, redis: Redis, source: Source) -> None:
        self._run: Callable[..., Any] = redis.execute_command
        self._source = source

    def __call__(self, *, args: Iterable[EncodableT] = ()) -> Any:
        """Its answer. Raises what redis-py raises."""
        words = tuple(args)
        try:
            return self._run("EVALSHA", self._source.digest, 0, *words)
        except NoScriptError:
            # A server that is new, or was started anew: it remembers the source from now on.
            return self._run("EVAL", self._source.text, 0, *words)


class AsyncScript:
    """The same on an event loop."""

    def __init__(self, redis: asyncio.Redis, source: Source) -> None:
        self._run: Callable[..., Awaitable[Any]] = redis.execute_command
        self._source = source

    async def __call__(self, words: Sequence[EncodableT]) -> Any:
        try:
            return await self._run("EVALSHA", self._source.digest, 0, *words)
        except NoScriptError:
            return await self._run("EVAL", self._source.text, 0, *words)


def load_script(redis: Redis, name: str, *, package: str = JOBS) -> Script:
    """The script scripts/<name>.lua of a package.

    Before the scripts of another package come the names of jobs' keys, then its own prelude.lua.
    """
    return Script(redis, _source(name, package))


def load_async_script(redis: asyncio.Redis, name: str) -> AsyncScript:
    """As load_script(), of the queue's own."""
    return AsyncScript(redis, _source(name, JOBS))


def write_anyway(redis: Redis, *commands: Sequence[EncodableT]) -> None:
    """Run writes in one go, at maxmemory too, where Redis refuses them otherwise.

    For the few bytes by which a worker is known: one that nobody sees can't take back the jobs of dead ones.
    """
    words = [word for command in commands for word in (len(command), *command)]
    load_script(redis, "write")(args=words)


@cache
def _source(name: str, package: str) -> Source:
    shebang, body = _text(package, name).split("\n", 1)
    return Source("\n".join([shebang, *_preludes(package), body]))


def _preludes(package: str) -> list[str]:
    if package == JOBS:
        return [_text(JOBS, f"prelude/{name}") for name in PRELUDES]
    return [_text(JOBS, "prelude/keys"), _text(package, "prelude")]


def _text(package: str, name: str) -> str:
    return (files(package) / "scripts" / f"{name}.lua").read_text(encoding="utf-8")
