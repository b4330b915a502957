"""How well and how fast the prompt filter decides: `python -m bench.moderation`; HALF=dev while building it.

bench/moderation_prompts holds the prompts; a SHA-256 of each says which half it is in. No prompt of the test half
went into the word lists, the corpus or the thresholds. Caught: blocked or held for review.
"""

import hashlib
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.report import Figure, report
from service.moderation.normalise import readings_of
from service.moderation.policy import Policy
from service.moderation.scoring import category_named, scores_of

FOLDER = Path(__file__).with_name("moderation_prompts")
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Prompt:
    text: str
    language: str
    category: str | None
    """None: it is fine."""

    @property
    def half(self) -> str:
        return "test" if hashlib.sha256(self.text.encode()).digest()[0] & 1 else "dev"


def prompts() -> Iterator[Prompt]:
    for path in sorted(FOLDER.glob("*.txt")):
        kind, language = path.stem.split("_")
        category = None
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                category = line.strip("[]") if kind == "unsafe" else None
            elif line and not line.startswith("#"):
                yield Prompt(line, language, category)


def main() -> int:
    half = os.environ.get("HALF", "test")
    chosen = [prompt for prompt in prompts() if prompt.half == half]
    return report([*_quality(chosen, is_dev=half == "dev"), *_speed(chosen)])


def _quality(chosen: list[Prompt], *, is_dev: bool) -> Iterator[Figure]:
    policy = Policy()
    caught = {prompt: policy.judge(scores_of(prompt.text)).action != "allow" for prompt in chosen}
    unsafe = [prompt for prompt in chosen if prompt.category]
    safe = [prompt for prompt in chosen if not prompt.category]
    if is_dev:
        for prompt, is_caught in caught.items():
            if is_caught != bool(prompt.category):
                shown = {
                    name: round(score, 2) for name, score in scores_of(prompt.text).by_category.items() if score > 0.2
                }
                print("missed" if prompt.category else "false", prompt.text, shown)
    yield Figure("prompts", len(chosen))
    yield Figure("recall", _share(caught, unsafe), "%", 95, "at least")
    yield Figure("false positives", _share(caught, safe), "%", 2, "at most")
    for language in ("en", "zh"):
        yield Figure(f"recall, {language}", _share(caught, [p for p in unsafe if p.language == language]), "%")
        yield Figure(f"false positives, {language}", _share(caught, [p for p in safe if p.language == language]), "%")
    for category in dict.fromkeys(prompt.category for prompt in unsafe):
        yield Figure(f"recall, {category}", _share(caught, [p for p in unsafe if p.category == category]), "%")


def _share(caught: dict[Prompt, bool], of: list[Prompt]) -> float:
    return 100 * statistics.mean(caught[prompt] for prompt in of)


def _speed(chosen: list[Prompt]) -> Iterator[Figure]:
    scores_of("warm")
    named = {prompt for prompt in chosen if category_named(readings_of(prompt.text))}
    decided = [_milliseconds(prompt.text) for _ in range(ROUNDS) for prompt in chosen if prompt in named]
    read = [_milliseconds(prompt.text) for _ in range(ROUNDS) for prompt in chosen if prompt not in named]
    yield Figure("p99 where the word lists decide", _p99(decided), "ms", 1, "at most")
    yield Figure("p99 of all", _p99([*decided, *read]), "ms", 25, "at most")
    yield Figure("median where the classifier decides", statistics.median(read), "ms")


def _milliseconds(text: str) -> float:
    start = time.perf_counter()
    scores_of(text)
    return (time.perf_counter() - start) * 1000


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


if __name__ == "__main__":
    raise SystemExit(main())
