"""Loads Lua scripts: a shebang line, the shared preludes, the script's own body."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError
from redis.typing import EncodableT

JOBS = "service.jobs"
PRELUDES = ("keys", "waiting", "assets", "usage", "reviews", "ends", "records")
"""Each knows those before it."""


class Script:
    """Runs on the server, whole or not at all; sent there on first use. redis-py's own asks more of every call."""

    def __init__(self, redis: Redis, source: str) -> None:
        self._run: Callable[..., Any] = redis.execute_command
        self._source = source
        self._digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, *, args: Iterable[EncodableT] = ()) -> Any:
        """Its answer. Raises what redis-py raises."""
        words = tuple(args)
        try:
            return self._run("EVALSHA", self._digest, 0, *words)
        except NoScriptError:
            # A server that is new, or was started anew: it remembers the source from now on.
            return self._run("EVAL", self._source, 0, *words)


def load_script(redis: Redis, name: str, *, package: str = JOBS) -> Script:
    """The script scripts/<name>.lua of a package.

    Before the scripts of another package come the names of jobs' keys, then its own prelude.lua.
    """
    return Script(redis, _source(name, package))


def write_anyway(redis: Redis, *commands: Sequence[EncodableT]) -> None:
    """Run writes in one go, at maxmemory too, where Redis refuses them otherwise.

    For the few bytes by which a worker is known: one that nobody sees can't take back the jobs of dead ones.
    """
    words = [word for command in commands for word in (len(command), *command)]
    load_script(redis, "write")(args=words)


@cache
def _source(name: str, package: str) -> str:
    shebang, body = _text(package, name).split("\n", 1)
    return "\n".join([shebang, *_preludes(package), body])


def _preludes(package: str) -> list[str]:
    if package == JOBS:
        return [_text(JOBS, f"prelude/{name}") for name in PRELUDES]
    return [_text(JOBS, "prelude/keys"), _text(package, "prelude")]


def _text(package: str, name: str) -> str:
    return (files(package) / "scripts" / f"{name}.lua").read_text(encoding="utf-8")
