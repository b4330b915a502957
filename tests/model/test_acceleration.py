"""What speeds up where it can and steps aside where it can't."""

import logging

import pytest
import torch
from torch._inductor import config as inductor

from model.engine import Engine
from tests.model.oracle import our_latents


def load(**changes) -> Engine:
    return Engine.from_pretrained("embedded", device="cpu", dtype="float32", **changes)


@pytest.mark.parametrize(("name", "reason"), [("flash", "flash-attn"), ("sage", "sageattention"), ("cudnn", "kernel")])
def test_a_backend_that_can_not_run_here_falls_back_with_one_line(engine, make_params, caplog, name, reason):
    with caplog.at_level(logging.WARNING, logger="model"):
        fallen_back = load(attention_backend=name)

    [record] = [record for record in caplog.records if record.name.startswith("model")]
    assert f"Attention backend {name} can't be used here, native runs instead" in record.getMessage()
    assert reason in record.getMessage().lower()
    assert torch.equal(our_latents(fallen_back, make_params()), our_latents(engine, make_params()))


def test_the_native_backend_is_taken_silently(engine, make_params, caplog):
    native = load(attention_backend="native")

    assert not [record for record in caplog.records if record.name.startswith("model")]
    assert torch.equal(our_latents(native, make_params()), our_latents(engine, make_params()))


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match='attention_backend is "fast"; give native, cudnn, flash, flash3, sage'):
        load(attention_backend="fast")


# torch's compiler warns of torch's own modules when it is first imported.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::UserWarning:torch")
def test_blocks_that_can_not_be_compiled_run_uncompiled_with_one_line(engine, make_params, caplog, monkeypatch):
    monkeypatch.setattr(inductor.cpp, "cxx", ("/nowhere/c++",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    with caplog.at_level(logging.WARNING, logger="model"):
        uncompiled = load(compile_blocks=True)

    [record] = [record for record in caplog.records if record.name.startswith("model")]
    assert "run uncompiled" in record.getMessage()
    assert torch.equal(our_latents(uncompiled, make_params()), our_latents(engine, make_params()))
