"""The engine on a CUDA device, against the same engine on the CPU."""

import dataclasses

import numpy as np
import pytest
import torch

from model.engine import Engine
from model.errors import OutOfMemory
from tests.model.oracle import our_latents, relative_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def on_cpu():
    return Engine.from_pretrained("embedded", device="cpu", dtype="float32")


def on_gpu(dtype):
    return Engine.from_pretrained("embedded", device="cuda", dtype=dtype)


def test_a_seed_gives_the_same_clip_on_both_devices(on_cpu):
    params = on_cpu.card.default_params("a red circle moves left", seed=3)
    gpu = on_gpu("float32")

    assert relative_error(our_latents(gpu, params).cpu(), our_latents(on_cpu, params)) < 1e-3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_makes_nearly_the_same_clip(on_cpu, dtype):
    params = on_cpu.card.default_params("一个绿色的三角形向右移动", seed=3)

    pixels = on_gpu(dtype).generate(params).pixels

    assert np.abs(pixels.astype(int) - on_cpu.generate(params).pixels).mean() < 4


def test_the_same_seed_gives_the_same_pixels_again(on_cpu):
    gpu = on_gpu("bfloat16")
    params = on_cpu.card.default_params("a blue star moves up", seed=5)

    assert np.array_equal(gpu.generate(params).pixels, gpu.generate(params).pixels)


def test_auto_takes_the_gpu_in_half_precision():
    engine = Engine.from_pretrained("embedded")

    assert engine.device.type == "cuda"
    assert engine.dtype in (torch.bfloat16, torch.float16)


def test_a_request_beyond_the_memory_is_refused_and_the_next_one_runs():
    gpu = on_gpu("float32")
    small = gpu.card.default_params("a red circle moves left")
    torch.cuda.set_per_process_memory_fraction(0.0005)
    try:
        with pytest.raises(OutOfMemory, match="fewer frames or a smaller size"):
            gpu.generate(dataclasses.replace(small, width=2048, height=2048))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert gpu.generate(small).num_frames == small.num_frames


def prepared(gpu, count):
    clip = gpu.card.default_params("a red circle moves left")
    return [
        gpu.prepare(dataclasses.replace(clip, seed=seed, num_inference_steps=4 + seed, guidance_scale=1.0 + seed))
        for seed in range(count)
    ]


def run(gpu, requests):
    while in_flight := [request for request in requests if not request.is_denoised]:
        assert gpu.step(in_flight) == {}
    return [request.latents for request in requests]


def test_requests_in_flight_together_equal_each_alone():
    gpu = on_gpu("float32")

    together = run(gpu, prepared(gpu, 6))

    for ours, request in zip(together, prepared(gpu, 6), strict=True):
        assert relative_error(ours, run(gpu, [request])[0]) < 1e-3


def test_a_batch_invariant_engine_gives_the_same_bits_whatever_the_company():
    gpu = Engine.from_pretrained("embedded", device="cuda", dtype="bfloat16", batch_invariant=True)

    together = run(gpu, prepared(gpu, 6))

    for ours, request in zip(together, prepared(gpu, 6), strict=True):
        assert torch.equal(ours, run(gpu, [request])[0])


def test_a_saved_request_goes_on_bit_by_bit():
    gpu = on_gpu("bfloat16")
    [request] = prepared(gpu, 1)
    gpu.step([request])
    resumed = gpu.resume(gpu.save(request))

    assert torch.equal(run(gpu, [resumed])[0], run(gpu, [request])[0])
