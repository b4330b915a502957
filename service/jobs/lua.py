"""Loads the Lua scripts beside this file: a shebang line, the shared prelude, the script's own body."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from redis import Redis
from redis.commands.core import Script
from redis.typing import EncodableT


def load_script(redis: Redis, name: str) -> Script:
    """The script scripts/<name>.lua, sent to the server on first use."""
    return redis.register_script(_source(name))


def write_anyway(redis: Redis, *commands: Sequence[EncodableT]) -> None:
    """Run writes in one go, at maxmemory too, where Redis refuses them otherwise.

    For the few bytes by which a worker is known: one that nobody sees can't take back the jobs of dead ones.
    """
    words = [word for command in commands for word in (len(command), *command)]
    load_script(redis, "write")(args=words)


@cache
def _source(name: str) -> str:
    folder = files("service.jobs") / "scripts"
    shebang, body = (folder / f"{name}.lua").read_text(encoding="utf-8").split("\n", 1)
    prelude = (folder / "prelude.lua").read_text(encoding="utf-8")
    return f"{shebang}\n{prelude}\n{body}"
