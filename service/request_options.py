"""Fields of a request for a video as options of a command."""

import argparse
from collections.abc import Mapping
from typing import Any

FIELDS: Mapping[str, tuple[type, str]] = {
    "negative_prompt": (str, "what to steer away from"),
    "size": (str, "WIDTHxHEIGHT; snapped to what the checkpoint makes"),
    "seconds": (float, "length; with --fps it decides --num-frames"),
    "num_frames": (int, "length in frames"),
    "fps": (int, "frames per second"),
    "num_inference_steps": (int, "denoising steps"),
    "guidance_scale": (float, "of the high-noise expert"),
    "guidance_scale_2": (float, "of the low-noise expert"),
    "flow_shift": (float, "larger: more steps at high noise"),
    "seed": (int, "same seed, same video; -1 draws one; without it the request's content decides"),
    "quality": (str, "draft, standard or high"),
}


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """The prompt and an option for every field."""
    parser.add_argument("prompt", help="what to draw")
    for field, (kind, explanation) in FIELDS.items():
        parser.add_argument(f"--{field.replace('_', '-')}", type=kind, help=explanation, metavar="VALUE")


def given_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """The request's body: the prompt and what was given."""
    given = {field: getattr(arguments, field) for field in ("prompt", *FIELDS)}
    return {field: value for field, value in given.items() if value is not None}
