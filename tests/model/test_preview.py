"""Small pictures of a request under way."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.engine import Engine
from model.errors import CheckpointError
from model.folder import embedded_path
from model.preview import FILE_NAME, colour_fields, fit_preview


@pytest.fixture(scope="module")
def finished(engine):
    request = engine.prepare(engine.card.default_params("a red circle on a white background", seed=1))
    while not request.is_denoised:
        engine.step([request])
    return request


def shrunk_last_frames(engine, request):
    """What was decoded, at the preview's size: the last frame of every latent frame  # f h w 3"""
    frames = torch.tensor(engine.decode(request).pixels[::4]).float().permute(0, 3, 1, 2)
    return F.interpolate(frames, size=(8, 8), mode="area").permute(0, 2, 3, 1).numpy()


def test_a_preview_shows_what_the_decoded_video_does(engine, finished):
    preview = engine.preview(finished)

    assert preview.shape == (5, 8, 8, 3)
    assert preview.dtype == np.uint8
    shown, meant = preview.mean(axis=-1), shrunk_last_frames(engine, finished).mean(axis=-1)
    assert np.corrcoef(shown.ravel(), meant.ravel())[0, 1] > 0.8


def test_half_way_a_preview_is_already_close_to_the_end(engine, make_params, finished):
    request = engine.prepare(finished.params)
    start = np.abs(engine.preview(request).astype(int) - engine.preview(finished)).mean()
    while request.step < request.schedule.num_steps // 2:
        engine.step([request])
    half_way = np.abs(engine.preview(request).astype(int) - engine.preview(finished)).mean()

    assert half_way < 0.3 * start


def test_a_checkpoint_without_a_map_gets_one_that_stays_beside_it(checkpoint_copy):
    (checkpoint_copy / FILE_NAME).unlink(missing_ok=True)

    first = Engine.from_pretrained(checkpoint_copy, device="cpu", dtype="float32")
    kept = json.loads((checkpoint_copy / FILE_NAME).read_text())
    again = Engine.from_pretrained(checkpoint_copy, device="cpu", dtype="float32")

    assert first.card.fingerprint == again.card.fingerprint
    assert first._preview == again._preview
    assert len(kept["weights"]) == 16


def test_the_embedded_checkpoint_ships_its_map():
    assert (embedded_path() / FILE_NAME).is_file()


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[",
        '{"weights": [[1, 2]], "bias": [0, 0, 0]}',
        '{"weights": 3, "bias": 4}',
        '{"weights": [[1, 2, 3]], "bias": [0, 0, 0]}',
    ],
)
def test_a_broken_map_is_refused_by_name(checkpoint_copy, content):
    (checkpoint_copy / FILE_NAME).write_text(content)

    with pytest.raises(CheckpointError, match=FILE_NAME):
        Engine.from_pretrained(checkpoint_copy, device="cpu", dtype="float32")


def test_the_fit_is_of_the_latents_and_always_the_same(engine):
    vae = engine._parts.vae
    assert fit_preview(vae, colour_fields()[:4]) == fit_preview(vae, colour_fields()[:4])
