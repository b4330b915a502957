"""How fast is the engine? Against diffusers' WanPipeline on the same weights, in turns, in this process.

`python -m bench.engine`: one request alone, several in flight, and a model large enough that arithmetic decides.
`python -m bench.engine mixed overhead`: these parts only.
"""

import argparse
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal
from unittest.mock import patch

import torch
from diffusers import WanPipeline, WanTransformer3DModel
from diffusers.models.attention import FeedForward
from torch import nn

from bench.report import Figure, report
from bench.stock import load_stock, run_stock
from model import stepper
from model.decoding import Decode
from model.engine import Engine
from model.folder import embedded_path
from model.linear_layers import use_own_linear_layers
from model.params import GenerationParams
from model.request import Request
from model.tiny.world import COLOURS

ROUNDS = int(os.environ.get("ROUNDS", "5"))
LARGE = {"num_attention_heads": 8, "attention_head_dim": 64, "ffn_dim": 2048, "num_layers": 14}
"""About 60 million parameters an expert."""
LARGE_CLIP = {"width": 256, "height": 192, "num_frames": 17, "num_inference_steps": 4}
"""960 video tokens."""


def main() -> int:
    stock = load_stock()
    ours = Engine.from_pretrained(embedded_path(), device="cpu", dtype="float32")
    parts: dict[str, Callable[[], Iterator[Figure]]] = {
        "one": lambda: one_request(ours, stock),
        "mixed": lambda: mixed(ours, stock),
        "identical": lambda: identical(ours, stock),
        "large": large,
        "overhead": lambda: overhead(ours),
        "linear": linear,
    }
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    # With `choices` Python 3.11 refuses the default.
    parser.add_argument("part", nargs="*", metavar="PART", help=f"{', '.join(parts)}; without one all")
    chosen = parser.parse_args().part or list(parts)
    if unknown := [name for name in chosen if name not in parts]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(parts)}")
    return report(itertools.chain.from_iterable(parts[name]() for name in chosen))


def one_request(ours: Engine, stock: WanPipeline) -> Iterator[Figure]:
    clip = ours.card.default_params("a red circle moves to the left on a white background")
    mine, theirs = in_turns(
        lambda turn: ours.generate(*take([clip], turn)), lambda turn: run_stock(stock, *take([clip], turn))
    )
    yield Figure("one request, decoded: WanPipeline", statistics.median(theirs), "s")
    yield ratio("one request, decoded: ours / WanPipeline", mine, theirs, goal=0.40)


def mixed(ours: Engine, stock: WanPipeline) -> Iterator[Figure]:
    """Eight requests of 10 to 30 steps and different guidance, against the stock pipeline one after another."""
    clips = [
        replace(
            ours.card.default_params(f"a {colour} star on a {wall} background", seed=i),
            num_inference_steps=10 + round(20 * i / 7),
            guidance_scale=3.0 + i % 4,
            guidance_scale_2=6.0 - i % 4,
        )
        for i, (colour, wall) in enumerate(zip(COLOURS, reversed(COLOURS), strict=True))
    ]

    def one_after_another(turn: int, output_type: Literal["np", "latent"]) -> None:
        for clip in take(clips, turn):
            run_stock(stock, clip, output_type)

    mine, theirs = in_turns(
        lambda turn: decode_all(ours, run_all(ours, take(clips, turn))), lambda turn: one_after_another(turn, "np")
    )
    yield ratio("8 mixed requests: our throughput / WanPipeline's", theirs, mine, goal=4.5, goal_is="at least")
    mine, theirs = in_turns(
        lambda turn: run_all(ours, take(clips, turn)), lambda turn: one_after_another(turn, "latent")
    )
    yield ratio("8 mixed requests, denoising alone", theirs, mine, goal=5.0, goal_is="at least")


def identical(ours: Engine, stock: WanPipeline) -> Iterator[Figure]:
    clip = ours.card.default_params("a blue square growing on a yellow background")
    clips = [replace(clip, seed=seed) for seed in range(16)]
    mine, theirs = in_turns(
        lambda turn: run_all(ours, take(clips, turn)),
        lambda turn: run_stock(stock, *take([clip], turn), "latent", batch_size=16),
    )
    yield ratio("16 equal requests: our throughput / its batch of 16", theirs, mine, goal=1.0, goal_is="at least")


def large() -> Iterator[Figure]:
    """Random weights, so many and so wide that both spend their time in the same matrix products."""
    stock = load_stock()
    for part in ("transformer", "transformer_2"):
        setattr(stock, part, WanTransformer3DModel.from_config({**stock.transformer.config, **LARGE}))
    with tempfile.TemporaryDirectory(prefix="wanserve-bench-") as folder:
        stock.save_pretrained(folder)
        shutil.copy(embedded_path() / "wanserve.json", folder)
        ours = Engine.from_pretrained(folder, device="cpu", dtype="float32")
    clip = replace(ours.card.default_params("a ship"), **LARGE_CLIP)
    mine, theirs = in_turns(
        lambda turn: run_all(ours, take([clip], turn)),
        lambda turn: run_stock(stock, *take([clip], turn), "latent"),
        rounds=3,
    )
    yield Figure("60 M parameters an expert, 960 tokens: WanPipeline", statistics.median(theirs), "s")
    yield ratio("60 M parameters an expert, 960 tokens: ours / its", mine, theirs, goal=1.0)


def overhead(ours: Engine) -> Iterator[Figure]:
    """Share of a saturated run outside the experts' forwards: gathering, guidance, solver, scattering."""
    clip = ours.card.default_params("a green triangle rising in front of a cyan wall")
    clips = [replace(clip, seed=seed, num_inference_steps=18 + seed) for seed in range(8)]
    forward, shares = _TimedForward(stepper.predict_velocities), []
    for _ in range(ROUNDS):
        requests = [ours.prepare(each) for each in clips]
        forward.seconds = 0.0
        with patch.object(stepper, "predict_velocities", forward):
            started = time.perf_counter()
            step_all(ours, requests)
            shares.append(1 - forward.seconds / (time.perf_counter() - started))
    yield Figure("8 in flight: time outside forwards", 100 * statistics.median(shares), "%", goal=5.0)


def linear() -> Iterator[Figure]:
    """The embedded denoiser's feed-forward, 1280 tokens: our layers against diffusers'."""
    layers = nn.ModuleList([_feed_forward(), _feed_forward()])
    use_own_linear_layers(layers[0])
    tokens = torch.randn(16, 80, 128)

    def repeat(layer: nn.Module) -> None:
        with torch.inference_mode():
            for _ in range(100):
                layer(tokens)

    mine, theirs = in_turns(lambda _: repeat(layers[0]), lambda _: repeat(layers[1]))
    yield ratio("a feed-forward of 1280 tokens: ours / diffusers'", mine, theirs, goal=1.0)


def _feed_forward() -> nn.Module:
    return FeedForward(128, inner_dim=512, activation_fn="gelu-approximate")


class _TimedForward:
    """predict_velocities() under a stopwatch."""

    def __init__(self, forward: Callable[..., list[torch.Tensor]]) -> None:
        self._forward = forward
        self.seconds = 0.0

    def __call__(self, *args: object) -> list[torch.Tensor]:
        started = time.perf_counter()
        result = self._forward(*args)
        self.seconds += time.perf_counter() - started
        return result


def in_turns(
    mine: Callable[[int], object], theirs: Callable[[int], object], *, rounds: int = ROUNDS
) -> tuple[list[float], list[float]]:
    """Seconds of each round; both are told its number. The first is not counted: it pays for lazy initialisation."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for side, run in zip(seconds, (mine, theirs), strict=True):
            started = time.perf_counter()
            run(turn)
            if turn:
                side.append(time.perf_counter() - started)
    return seconds


def take(clips: Sequence[GenerationParams], turn: int) -> list[GenerationParams]:
    """The clips with prompts that no cache has seen."""
    return [replace(clip, prompt=f"{clip.prompt}, take {turn}") for clip in clips]


def ratio(
    name: str,
    seconds: Sequence[float],
    rival: Sequence[float],
    *,
    goal: float,
    goal_is: Literal["at most", "at least"] = "at most",
) -> Figure:
    """The median of neighbours' ratios, so that a slow minute of the machine hits both."""
    value = statistics.median(a / b for a, b in zip(seconds, rival, strict=True))
    return Figure(name, value, goal=goal, goal_is=goal_is)


def run_all(ours: Engine, clips: Sequence[GenerationParams]) -> list[Request]:
    requests = [ours.prepare(clip) for clip in clips]
    step_all(ours, requests)
    return requests


def step_all(ours: Engine, requests: Sequence[Request]) -> None:
    while in_flight := [request for request in requests if not request.is_denoised]:
        for error in ours.step(in_flight).values():
            raise error


def decode_all(ours: Engine, requests: Sequence[Request]) -> None:
    for decoded in ours.decode_all([Decode(request) for request in requests]):
        decoded.result()


if __name__ == "__main__":
    sys.exit(main())
