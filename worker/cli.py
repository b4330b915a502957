"""`wanserve worker`, `generate` and `plan`. Imports torch only when a command runs: --help must be quick."""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from service.errors import InvalidRequest, ServiceError, StartupError
from service.logs import configure_logs
from service.request_options import add_request_options, given_fields
from service.settings import Settings

if TYPE_CHECKING:
    from model.engine import Engine
    from model.progress import Progress

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def add_worker(commands: "Commands") -> None:
    """`wanserve worker`: a worker process, as `python -m worker`."""
    parser = commands.add_parser(
        "worker",
        help="run a GPU worker",
        description="Run a worker: it loads the model once, then makes videos from the queue until stopped. "
        "Settings come from the environment: REDIS_URL, S3_ENDPOINT, WANSERVE_CHECKPOINT and others.",
    )
    parser.set_defaults(run=run_worker_command)


def add_generate(commands: "Commands") -> None:
    """`wanserve generate "prompt" -o file.mp4`: works without any server."""
    parser = commands.add_parser(
        "generate",
        help="make one video without any server",
        description="Make one video into a file, without queue, storage or gateway.",
    )
    add_request_options(parser)
    parser.add_argument("-o", "--output", type=Path, default=Path("video.mp4"), help="default: video.mp4")
    parser.add_argument("--checkpoint", help='a diffusers folder, or "embedded"')
    parser.add_argument("--device", help="auto, cpu, mps, cuda or cuda:1")
    parser.add_argument("--dtype", help="auto, float32, bfloat16 or float16")
    parser.set_defaults(run=run_generate_command)


def add_plan(commands: "Commands") -> None:
    """`wanserve plan --gpu-memory 80`: pure arithmetic, no GPU is asked."""
    parser = commands.add_parser(
        "plan",
        help="what fits a GPU: placement, batches, seconds",
        description="Plan a checkpoint on one GPU: where its parts lie, the largest batch per size, the seconds a "
        "video takes. Exit code 1 where no size fits.",
    )
    parser.add_argument(
        "--gpu-memory",
        type=_number("gigabytes (10**9 bytes), such as 80"),
        required=True,
        metavar="GB",
        help="of the GPU, in GB of 10**9 bytes",
    )
    parser.add_argument(
        "--peak-tflops",
        type=_number("TFLOP/s, such as 989 for an H100 in bfloat16"),
        default=989.0,
        metavar="TFLOP/S",
        help="dense peak of the GPU in that dtype (default: 989, an H100 in bfloat16)",
    )
    parser.add_argument(
        "--share",
        type=_number("a share of the peak, such as 0.5", most=1.0),
        default=0.5,
        metavar="SHARE",
        help="of the peak that is reached (default: 0.5)",
    )
    parser.add_argument("--checkpoint", metavar="FOLDER", help="default: the numbers of Wan2.2-T2V-A14B, from no file")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--residency", choices=("auto", "both", "swap", "rolling"), default="auto")
    parser.set_defaults(run=run_plan_command)


def _number(unit: str, *, most: float = math.inf) -> Callable[[str], float]:
    """An argument's type: a number above 0."""
    legal = f"above 0 and at most {most:g}" if most < math.inf else "above 0"

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        # NaN fails both comparisons.
        if not 0 < number <= most or math.isinf(number):
            raise argparse.ArgumentTypeError(f'"{text}" is no number {legal}; give {unit}')
        return number

    return read


def run_plan_command(arguments: argparse.Namespace) -> int:
    """0 when a plan is printed under which some size fits, 1 when none does, 2 for a checkpoint that can't be read."""
    from model.cost import DeviceRate
    from model.errors import CheckpointError
    from worker.plan import Gpu, plan_serving, read_checkpoint
    from worker.plan_table import render

    rate = DeviceRate(peak_flop_per_second=arguments.peak_tflops * 1e12, share=arguments.share)
    residency = None if arguments.residency == "auto" else arguments.residency
    try:
        shape, card = read_checkpoint(arguments.checkpoint)
    except CheckpointError as e:
        return _complain(str(e), EXIT_USAGE)
    gpu = Gpu(memory_bytes=arguments.gpu_memory * 1e9, rate=rate)
    plan = plan_serving(shape, card, gpu, dtype=arguments.dtype, residency=residency)
    print(render(plan))
    return 0 if plan.fits else EXIT_FAILED


def run_worker_command(_arguments: argparse.Namespace) -> int:
    """Ends the process with 0 after a request to stop; 2 for what can't be served, 1 for anything else."""
    try:
        from service.embedded import attach

        settings = attach(Settings.load())
        configure_logs(settings, process="worker")
        from model.errors import CheckpointError, EngineError
        from worker.endings import DeviceLost
        from worker.process import run_worker
    except StartupError as e:
        return _complain(e.message, EXIT_USAGE)
    try:
        run_worker(settings)
    except StartupError as e:
        return _complain(e.message, EXIT_USAGE)
    except (CheckpointError, ValueError) as e:
        return _complain(str(e), EXIT_USAGE)
    except (ServiceError, EngineError, DeviceLost) as e:
        return _complain(str(e) or type(e).__name__, EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    sys.stderr.flush()
    # All is closed, and tearing down torch would take seconds of the ten that a supervisor waits.
    os._exit(0)


def run_generate_command(arguments: argparse.Namespace) -> int:
    """0 when the file is there, 2 for a request or settings that can't be served, 1 for anything else."""
    try:
        _check_output(arguments.output)
        _check_prompt(arguments.prompt)
        _generate(arguments)
    except (InvalidRequest, StartupError) as e:
        return _complain(e.message, EXIT_USAGE)
    except _CommandError as e:
        return _complain(str(e), e.exit_code)
    except OSError as e:
        return _complain(f"{arguments.output} can't be written ({e.strerror}).", EXIT_FAILED)
    except KeyboardInterrupt:
        return _complain("Stopped; no file was written.", EXIT_INTERRUPTED)
    return 0


class _CommandError(Exception):
    """What ends the command; the message says what to do."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _check_output(output: Path) -> None:
    if output.suffix.lower() != ".mp4":
        raise _CommandError(f"{output}: the file's name must end in .mp4.", EXIT_USAGE)
    if output.is_dir() or not output.parent.is_dir():
        raise _CommandError(f"{output}: give a file in a folder that exists.", EXIT_USAGE)


def _check_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise _CommandError("prompt is empty: say what to draw.", EXIT_USAGE)


def _generate(arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    settings = _settings(arguments)
    engine = _load_engine(settings)
    from model.errors import EngineError
    from service.provenance.notary import Notary
    from worker.direct import make_file, plan

    planned = plan(engine, given_fields(arguments))
    for field, (asked, taken) in planned.changed.items():
        print(f"{field}: {asked} was asked for, {taken} is what {engine.card.id} makes.", file=sys.stderr)
    request = planned.request
    notary = Notary(settings)
    with tqdm(total=request.num_inference_steps + 1, unit="step", leave=False) as bar:
        try:
            make_file(
                engine, request, arguments.output, notary=notary, on_progress=lambda progress: _show(bar, progress)
            )
        except EngineError as e:
            raise _CommandError(str(e), EXIT_FAILED) from e
    size = f"{request.delivery_width}x{request.delivery_height}"
    length = f"{request.num_frames} frames at {request.fps} fps"
    seconds = time.monotonic() - started
    print(f"{arguments.output}: {size}, {length}, seed {request.seed}, made in {seconds:.1f} s")


def _settings(arguments: argparse.Namespace) -> Settings:
    given = {name: getattr(arguments, name) for name in ("checkpoint", "device", "dtype")}
    return Settings.load().with_changes(**{name: value for name, value in given.items() if value is not None})


def _load_engine(settings: Settings) -> "Engine":
    from model.errors import EngineError
    from worker.engine import load_engine

    try:
        return load_engine(settings)
    except (EngineError, ValueError) as e:
        raise _CommandError(str(e), EXIT_USAGE) from e


def _show(bar: "tqdm[Any]", progress: "Progress") -> None:
    decoded = progress.completed_frames / progress.num_frames
    bar.n = progress.completed_steps + (1 if decoded == 1 else 0)
    bar.set_description("decoding" if progress.completed_steps == progress.num_inference_steps else "denoising")


def _complain(message: str, code: int) -> int:
    print(f"wanserve: {message}", file=sys.stderr)
    return code
