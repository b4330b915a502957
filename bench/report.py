"""How benches speak: one line a figure, `name  value  goal  ok|short`. CHECK=1 turns a short one into exit code 1."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number; without a goal it only informs."""

    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    goal_is: Literal["at most", "at least"] = "at most"

    @property
    def is_short(self) -> bool:
        if self.goal is None:
            return False
        # NaN is short of any goal.
        reached = self.value <= self.goal if self.goal_is == "at most" else self.value >= self.goal
        return not reached

    @property
    def line(self) -> str:
        value = f"{self.value:.3f} {self.unit}".rstrip()
        if self.goal is None:
            return f"{self.name:<40} {value:>14}"
        verdict = "short" if self.is_short else "ok"
        return f"{self.name:<40} {value:>14}   {self.goal_is} {self.goal:g}   {verdict}"


def report(figures: Iterable[Figure]) -> int:
    """Prints every figure as it is measured; the process' exit code."""
    num_short = 0
    for figure in figures:
        print(figure.line, flush=True)
        num_short += figure.is_short
    is_checked = os.environ.get("CHECK") == "1"
    return int(is_checked and num_short > 0)
