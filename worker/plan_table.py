"""A serving plan as text for a terminal."""

from collections.abc import Iterator, Sequence

from model.memory import RESERVED_BYTES, MemoryPlan, gigabytes
from model.weights import FLOAT32_BYTES
from worker.plan import HOST_LINK_BYTES_PER_SECOND, ServingPlan, SizePlan


def render(plan: ServingPlan) -> str:
    """Several lines, without the last line's end."""
    head = f"{plan.model} in {plan.dtype} on one GPU of {gigabytes(plan.gpu.memory_bytes)}"
    parts = [[head], _table(_memory_rows(plan.memory)), _table(_size_rows(plan)), list(_notes(plan))]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _memory_rows(memory: MemoryPlan) -> Iterator[tuple[str, str, str]]:
    experts = "both experts" if memory.residency == "both" else "one expert"
    on_gpu = [experts, "text encoder", "VAE"] if memory.text_encoder_on_device else [experts, "VAE"]
    yield f"residency: {memory.residency}", "", ""
    yield "on the GPU", ", ".join(on_gpu), gigabytes(memory.weight_bytes)
    yield "", "assumed for CUDA and its libraries", gigabytes(RESERVED_BYTES)
    yield "", "left for videos" if memory.room_bytes >= 0 else "lacking", gigabytes(abs(memory.room_bytes))
    on_host = [] if memory.residency == "both" else ["both experts, page-locked"]
    on_host += [] if memory.text_encoder_on_device else ["text encoder"]
    if on_host:
        yield "in host memory", ", ".join(on_host), gigabytes(memory.host_bytes)


def _size_rows(plan: ServingPlan) -> Iterator[tuple[str, ...]]:
    tiers = [f"{tier}, {quality.num_inference_steps} steps" for tier, quality in plan.quality.items()]
    yield "size", "frames", "GPU memory for one", "largest batch", *tiers
    for size in plan.sizes:
        yield _label(size), str(size.num_frames), gigabytes(size.needed_bytes), *_outlook(size)


def _label(size: SizePlan) -> str:
    return f"{min(size.sizes[0])}p: " + ", ".join(f"{width}x{height}" for width, height in size.sizes)


def _outlook(size: SizePlan) -> list[str]:
    if size.largest_batch == 0:
        return ["does not fit", *("-" for _ in size.seconds)]
    return [
        str(size.largest_batch),
        *(f"{seconds:.{0 if seconds >= 10 else 2}f} s" for seconds in size.seconds.values()),
    ]


def _notes(plan: ServingPlan) -> Iterator[str]:
    rate, memory = plan.gpu.rate, plan.memory
    decoding = "decoding in float32" + ("" if memory.dtype_bytes == FLOAT32_BYTES else " at half that")
    yield f"Seconds: one video alone at {rate.share:.0%} of {rate.peak_flop_per_second / 1e12:g} TFLOP/s, {decoding}."
    yield "Videos in one batch share the GPU: each takes as long as all of them one after another."
    if not memory.text_encoder_on_device:
        yield "Prompts are encoded by the processor; the time for that is not in the seconds."
    yield from _switching(plan)
    for size in plan.sizes:
        if size.largest_batch == 0:
            sizes = " and ".join(f"{width}x{height}" for width, height in size.sizes)
            yield f"{sizes} take a GPU of {gigabytes(size.needed_bytes)}{_or_narrower(memory)}."


def _switching(plan: ServingPlan) -> Iterator[str]:
    """What an expert's way from host memory costs; nothing where both stay, or none fits."""
    wait = f"{plan.switch_seconds:.1f} s at an assumed {HOST_LINK_BYTES_PER_SECOND / 1e9:g} GB/s"
    steps = [size.step_seconds for size in plan.sizes if size.largest_batch]
    if plan.memory.residency == "both" or not steps:
        return
    if plan.memory.residency == "swap":
        yield f"A switch of experts waits {wait}; the seconds hold two of them."
    elif plan.switch_seconds <= min(steps):
        yield f"A switch of experts ({wait}) goes on behind a step and costs nothing."
    else:
        yield f"A switch of experts ({wait}) goes on behind a step of {min(steps):.2f} s; the rest is waited for."


def _or_narrower(memory: MemoryPlan) -> str:
    return ", or --dtype bfloat16" if memory.dtype_bytes == FLOAT32_BYTES else ""


def _table(rows: Iterator[tuple[str, ...]]) -> list[str]:
    shown = list(rows)
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [_line(row, widths) for row in shown]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
