"""`wanserve plan` says what fits a GPU, and refuses what is no GPU."""

import subprocess
import sys
from dataclasses import replace

import pytest

from model.a14b import SHAPE
from model.cost import DeviceRate
from worker.plan import Gpu, ServingPlan, plan_serving, read_checkpoint
from worker.plan_table import render

H100 = DeviceRate(peak_flop_per_second=989e12, share=0.5)


def plan(gigabytes: float, *, dtype: str = "bfloat16", rate: DeviceRate = H100, residency=None) -> ServingPlan:
    shape, card = read_checkpoint(None)
    gpu = Gpu(memory_bytes=gigabytes * 1e9, rate=rate)
    return plan_serving(shape, card, gpu, dtype=dtype, residency=residency)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which also says whether torch was imported."""
    code = (
        "import argparse, sys\n"
        "from worker.cli import add_plan\n"
        "parser = argparse.ArgumentParser(prog='wanserve')\n"
        "add_plan(parser.add_subparsers())\n"
        "arguments = parser.parse_args(sys.argv[1:])\n"
        "code = arguments.run(arguments)\n"
        "assert 'torch' not in sys.modules\n"
        "sys.exit(code)\n"
    )
    return subprocess.run([sys.executable, "-c", code, "plan", *arguments], capture_output=True, text=True)


def test_an_80_gb_gpu_makes_both_sizes_with_both_experts() -> None:
    small, large = plan(80).sizes

    assert plan(80).memory.residency == "both"
    assert not plan(80).memory.text_encoder_on_device
    assert (small.sizes[0], large.sizes[0]) == ((832, 480), (1280, 720))
    assert (small.largest_batch, large.largest_batch) == (2, 1)


def test_seconds_are_the_floor_at_the_peak_and_more_at_a_share_of_it() -> None:
    """The floor of 40 steps on an H100, without decoding: 135.7 s at 480p, 527.5 s at 720p."""
    peak = replace(H100, share=1.0)

    floors = [size.seconds["standard"] for size in plan(80, rate=peak).sizes]
    real = [size.seconds["standard"] for size in plan(80).sizes]

    assert floors == pytest.approx([135.7, 527.5], rel=0.01)
    assert real == pytest.approx([2 * seconds for seconds in floors])


def test_the_official_runs_fall_near_their_share_of_the_peak() -> None:
    """Published for one H100: 326.9 s at 480p, which is 41.5 % of the peak; 1041.5 s at 720p, 50.6 %."""
    for share, index, published in ((0.415, 0, 326.9), (0.506, 1, 1041.5)):
        size = plan(80, rate=replace(H100, share=share)).sizes[index]
        assert size.seconds["standard"] == pytest.approx(published, rel=0.02)


def test_swapping_costs_two_switches_a_video_and_rolling_none() -> None:
    swap, rolling, both = (plan(141, residency=way).sizes[0].seconds["draft"] for way in ("swap", "rolling", "both"))

    assert swap - both == pytest.approx(2 * plan(141).switch_seconds)
    assert rolling == both


def test_what_does_not_fit_is_told_the_gpu_that_it_takes() -> None:
    small, large = plan(48).sizes

    assert small.largest_batch >= 1
    assert large.largest_batch == 0
    enough = large.needed_bytes / 1e9
    assert plan(enough + 0.01).sizes[1].largest_batch == 1
    assert plan(enough - 0.01).sizes[1].largest_batch == 0
    assert f"1280x720 and 720x1280 take a GPU of {enough:.1f} GB." in render(plan(48))


def test_the_command_prints_a_table_without_loading_torch() -> None:
    done = run("--gpu-memory", "48")

    assert done.returncode == 0, done.stderr
    assert "wan2.2-t2v-a14b in bfloat16 on one GPU of 48.0 GB" in done.stdout
    assert "residency: rolling" in done.stdout
    assert "costs nothing" in done.stdout
    rows = {line.split(":")[0]: line for line in done.stdout.splitlines() if line.startswith(("480p", "720p"))}
    assert "273 s" in rows["480p"]
    assert "does not fit" in rows["720p"]


def test_a_gpu_on_which_nothing_fits_is_said_to_lack_what_it_lacks() -> None:
    done = run("--gpu-memory", "24", "--dtype", "float32")

    assert done.returncode == 1
    assert "lacking" in done.stdout
    assert "or --dtype bfloat16" in done.stdout


def test_a_folder_is_planned_by_its_own_numbers() -> None:
    done = run("--gpu-memory", "8", "--checkpoint", "embedded", "--dtype", "float32")

    assert done.returncode == 0, done.stderr
    assert "wan2.2-t2v-embedded in float32" in done.stdout
    assert "64p: 64x64" in done.stdout


BAD = {
    "no memory given": ((), "--gpu-memory"),
    "memory is a word": (("--gpu-memory", "lots"), '"lots" is no number above 0; give gigabytes'),
    "no memory at all": (("--gpu-memory", "0"), "above 0"),
    "memory is not a number": (("--gpu-memory", "nan"), "above 0"),
    "infinite memory": (("--gpu-memory", "inf"), "above 0"),
    "negative peak": (("--gpu-memory", "80", "--peak-tflops", "-1"), "such as 989"),
    "more than all": (("--gpu-memory", "80", "--share", "1.5"), "above 0 and at most 1"),
    "unknown dtype": (("--gpu-memory", "80", "--dtype", "fp8"), "bfloat16"),
    "unknown residency": (("--gpu-memory", "80", "--residency", "disk"), "rolling"),
    "no such folder": (("--gpu-memory", "80", "--checkpoint", "nowhere"), "model_index.json"),
}


@pytest.mark.parametrize(("arguments", "complaint"), BAD.values(), ids=BAD.keys())
def test_what_can_not_be_planned_is_refused_with_what_is_legal(arguments: tuple[str, ...], complaint: str) -> None:
    done = run(*arguments)

    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def test_the_shape_without_a_folder_is_a14b() -> None:
    assert read_checkpoint(None)[0] is SHAPE
