"""A request that was saved goes on bit by bit, anywhere; what does not fit is refused with a reason."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from model.engine import Engine
from model.errors import InvalidState
from tests.model.oracle import our_latents

GO_ON = """
import sys, torch
from pathlib import Path
from model.engine import Engine
torch.set_num_threads(int(sys.argv[2]))
folder = Path(sys.argv[1])
engine = Engine.from_pretrained("embedded", device="cpu", dtype="float32")
request = engine.resume((folder / "state.safetensors").read_bytes())
while not request.is_denoised:
    engine.step([request])
(folder / "end.safetensors").write_bytes(engine.save(request))
"""


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_a_request_killed_at_any_step_goes_on_bit_by_bit(engine, make_params, guidance_scale):
    params = make_params(num_inference_steps=8, guidance_scale=guidance_scale, guidance_scale_2=guidance_scale)
    unbroken = our_latents(engine, params)
    request = engine.prepare(params)
    experts = []
    for step in range(params.num_inference_steps + 1):
        resumed = engine.resume(engine.save(request))
        assert resumed.step == step
        while not resumed.is_denoised:
            engine.step([resumed])
        assert torch.equal(resumed.latents, unbroken)
        if not request.is_denoised:
            experts.append(request.expert)
            engine.step([request])

    assert set(experts) == {"high_noise", "low_noise"}


def test_another_process_goes_on_bit_by_bit(engine, make_params, tmp_path: Path):
    params = make_params(num_inference_steps=6)
    request = engine.prepare(params)
    while request.expert == "high_noise":
        engine.step([request])
    (tmp_path / "state.safetensors").write_bytes(engine.save(request))

    command = [sys.executable, "-c", GO_ON, str(tmp_path), str(torch.get_num_threads())]
    subprocess.run(command, check=True, timeout=300)

    end = load((tmp_path / "end.safetensors").read_bytes())
    assert torch.equal(end["latents"], our_latents(engine, params))


def test_a_request_saved_from_a_batch_holds_only_its_own_tensors(engine, make_params):
    requests = [engine.prepare(make_params(seed=seed)) for seed in range(4)]
    engine.step(requests)

    size = requests[0].latents.numel() * 4
    assert len(engine.save(requests[0])) < 4 * size + 2000


@pytest.fixture
def state(engine, make_params) -> bytes:
    request = engine.prepare(make_params())
    engine.step([request])
    return engine.save(request)


def test_a_state_of_another_checkpoint_is_refused_with_both_fingerprints(engine, state):
    card = dataclasses.replace(engine.card, fingerprint="other")
    other = Engine(engine._parts, shape=engine._shape, card=card, preview=engine._preview)

    with pytest.raises(InvalidState, match=f"fingerprint {engine.card.fingerprint}, the loaded checkpoint of other"):
        other.resume(state)


def test_a_state_of_another_dtype_is_refused(state):
    with pytest.raises(InvalidState, match="dtype float32, the loaded checkpoint of bfloat16"):
        Engine.from_pretrained("embedded", device="cpu", dtype="bfloat16").resume(state)


def test_a_state_of_another_version_is_refused(engine, state):
    newer = state.replace(rb"\"schema_version\": 1", rb"\"schema_version\": 9")
    assert newer != state

    with pytest.raises(InvalidState, match="schema version 9; this program reads 1"):
        engine.resume(newer)


@pytest.mark.parametrize("keep", [0, 5, 100, 2000, -1])
def test_a_truncated_state_is_refused(engine, state, keep):
    with pytest.raises(InvalidState, match="can't be read"):
        engine.resume(state[:keep])


def test_a_state_whose_tensors_differ_in_shape_is_refused(engine, state):
    tensors = load(state)
    about = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])["__metadata__"]

    with pytest.raises(InvalidState, match="several kinds"):
        engine.resume(save(tensors | {"clean": tensors["clean"][:, :, :1].contiguous()}, about))


def test_a_state_that_contradicts_itself_is_refused(engine, state):
    longer = state.replace(rb"\"num_frames\": 5", rb"\"num_frames\": 9")
    assert longer != state

    with pytest.raises(InvalidState, match="does not fit its own parameters"):
        engine.resume(longer)
