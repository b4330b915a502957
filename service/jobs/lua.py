"""Loads the Lua scripts beside this file: a shebang line, the shared prelude, the script's own body."""

from functools import cache
from importlib.resources import files

from redis import Redis
from redis.commands.core import Script


def load_script(redis: Redis, name: str) -> Script:
    """The script scripts/<name>.lua, sent to the server on first use."""
    return redis.register_script(_source(name))


@cache
def _source(name: str) -> str:
    folder = files("service.jobs") / "scripts"
    shebang, body = (folder / f"{name}.lua").read_text(encoding="utf-8").split("\n", 1)
    prelude = (folder / "prelude.lua").read_text(encoding="utf-8")
    return f"{shebang}\n{prelude}\n{body}"
