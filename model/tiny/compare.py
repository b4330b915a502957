"""How much adherence does a dtype cost? `python -m model.tiny.compare --dtype bfloat16`.

Both dtypes get the same prompts and seeds; the difference is judged pair by pair, with its 95 % interval.
"""

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from model.tiny.evaluate import Outcome, draw_trials, run_trials

MAX_LOSS = 3.0
"""Points that half precision may cost."""


@dataclass(frozen=True, slots=True)
class Difference:
    """In percent points, positive where the second is better."""

    mean: float
    half_width: float
    """Of the 95 % interval, by the normal approximation."""


def paired_difference(reference: Sequence[bool], other: Sequence[bool]) -> Difference:
    """Both over the same prompts and seeds, in the same order; at least two."""
    pairs = [int(b) - int(a) for a, b in zip(reference, other, strict=True)]
    deviation = statistics.stdev(pairs) / math.sqrt(len(pairs))
    return Difference(mean=100 * statistics.fmean(pairs), half_width=100 * 1.96 * deviation)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.tiny.compare", description=__doc__)
    parser.add_argument("--checkpoint", default="embedded")
    parser.add_argument("--dtype", nargs="+", default=["bfloat16", "float16"])
    parser.add_argument("--reference", default="float32")
    parser.add_argument("--scenes", type=int, default=128, help="held-out scenes, each in both languages")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    trials = draw_trials(args.scenes)
    reference = _all_right(run_trials(args.checkpoint, trials, args.steps, args.reference))
    print(f"{args.reference}: {100 * statistics.fmean(reference):.1f} % of {len(trials)} prompts all right", flush=True)
    for dtype in args.dtype:
        found = paired_difference(reference, _all_right(run_trials(args.checkpoint, trials, args.steps, dtype)))
        interval = f"{found.mean - found.half_width:+.1f} .. {found.mean + found.half_width:+.1f}"
        verdict = "ok" if found.mean >= -MAX_LOSS else "short"
        print(
            f"{dtype} against {args.reference}: {found.mean:+.1f} points, 95 % interval {interval}   {verdict}",
            flush=True,
        )


def _all_right(outcomes: Sequence[Outcome]) -> list[bool]:
    return [outcome.is_right("all") for outcome in outcomes]


if __name__ == "__main__":
    main()
