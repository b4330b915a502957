"""What a check of `wanserve doctor` finds, and how other packages add theirs."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    OK = "ok"
    WARN = "warn"
    """It works, and will not do for everybody."""

    FAIL = "fail"
    """It does not work, or something would be lost."""

    ABSENT = "absent"
    """Not a part of this installation."""


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    health: Health
    seen: str
    fix: str = ""
    """What to do; empty where all is well."""


Check = Callable[[], Finding]
