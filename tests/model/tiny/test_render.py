"""Windows of a clip: the same pixels as cutting them from the whole one, and mostly with the shape in them."""

import random

import torch

from model.tiny.plan import VaePhase
from model.tiny.render import Window, render
from model.tiny.train_vae import _window
from model.tiny.world import NUM_FRAMES, SHAPES, SIDE_PIXELS, draw_path, draw_scene


def test_a_window_is_what_one_would_cut_from_the_whole_clip() -> None:
    rng = random.Random(1)
    scenes = [draw_scene(rng, held_out=False) for _ in range(len(SHAPES) * 4)]
    paths = [draw_path(scene, rng) for scene in scenes]
    windows = [Window(9, 32, rng.randint(0, 8), rng.randint(0, 32), rng.randint(0, 32)) for _ in scenes]

    whole, parts = render(scenes, paths), render(scenes, paths, windows)

    for clip, part, window in zip(whole, parts, windows, strict=True):
        columns = slice(window.column, window.column + 32)
        assert torch.equal(part, clip[:, window.frame : window.frame + 9, window.row : window.row + 32, columns])


def test_a_window_shows_a_path_only_where_pixels_differ() -> None:
    rng = random.Random(2)
    shown = []
    for _ in range(200):
        scene = draw_scene(rng, held_out=False)
        path = draw_path(scene, rng)
        window = Window(1, 16, rng.randint(0, 16), rng.randint(0, 48), rng.randint(0, 48))
        clip = render([scene], [path], [window])
        has_both = bool((clip.amax((2, 3, 4)) - clip.amin((2, 3, 4))).amax() > 0.1)
        is_filled = bool((clip[0, :, 0, 8, 8] != render([scene], [path])[0, :, 0, 0, 0]).any())
        if window.shows(path):
            shown.append(has_both or is_filled)

    assert 20 < len(shown) < 180
    assert sum(shown) / len(shown) > 0.95


def test_training_windows_lie_within_the_clip_and_mostly_hold_the_shape() -> None:
    rng = random.Random(3)
    phase = VaePhase(1, 1, 9, 32)
    shows = 0
    for _ in range(200):
        path = draw_path(draw_scene(rng, held_out=False), rng)
        window = _window(phase, path, rng)
        assert (window.num_frames, window.side) == (9, 32)
        assert 0 <= window.frame <= NUM_FRAMES - 9
        assert 0 <= min(window.row, window.column) <= max(window.row, window.column) <= SIDE_PIXELS - 32
        shows += window.shows(path)

    assert shows > 160
