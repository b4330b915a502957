import random
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model.tiny.evaluate import GOALS, contact_sheet, draw_trials, judge_ground_truth
from model.tiny.judge import NOTHING, judge
from model.tiny.render import render
from model.tiny.world import ATTRIBUTES, SHAPES, Scene, draw_path

SCENE = Scene("blue", "red", "square", "still")


def clip_of(scene: Scene) -> NDArray[np.uint8]:
    clip = render([scene], [draw_path(scene, random.Random(0))])[0]
    pixels: NDArray[np.uint8] = ((clip + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
    return pixels


def test_ground_truth_is_accepted_and_wrong_captions_are_rejected() -> None:
    assert judge_ground_truth(64) == (100.0, 100.0)


def test_an_empty_clip_shows_nothing() -> None:
    verdict = judge(np.full((17, 64, 64, 3), (40, 75, 220), np.uint8))
    assert (verdict.background, verdict.colour, verdict.shape, verdict.motion) == ("blue", NOTHING, NOTHING, NOTHING)


def test_a_shape_that_is_another_one_in_a_single_frame_is_no_shape() -> None:
    clip = clip_of(SCENE)
    clip[9] = clip_of(replace(SCENE, shape="circle"))[9]
    assert judge(clip).shape == NOTHING


def test_a_doubled_shape_is_no_shape() -> None:
    clip = clip_of(SCENE)
    clip[5] = np.maximum(clip[5], np.roll(clip[5], 30, axis=1))
    assert judge(clip).shape == NOTHING


@pytest.mark.parametrize("shape", SHAPES)
def test_a_torn_outline_is_no_shape(shape: str) -> None:
    clip = clip_of(replace(SCENE, shape=shape))
    rows, columns = np.nonzero(clip[3, :, :, 0] > 127)
    middle = int(columns.mean())
    clip[3, rows.min() : rows.max(), middle - 4 : middle + 4] = clip[3, 0, 0]
    assert judge(clip).shape == NOTHING


def test_a_jump_in_the_middle_is_not_rest() -> None:
    clip = clip_of(SCENE)
    clip[8] = np.roll(clip[8], 12, axis=1)
    assert judge(clip).motion == NOTHING


def test_trials_are_held_out_pairs_with_one_seed_and_cover_every_held_out_triple() -> None:
    trials = draw_trials(256)
    assert len(trials) == 512
    assert len({t.scene for t in trials}) == 256
    assert len({(t.scene.shape, t.scene.colour, t.scene.motion) for t in trials}) == 64
    for english, chinese in zip(trials[::2], trials[1::2], strict=True):
        assert (english.scene, english.seed) == (chinese.scene, chinese.seed)
        assert english.scene.is_held_out
        assert english.prompt.isascii()
        assert not chinese.prompt.isascii()


def test_there_is_a_goal_for_every_attribute() -> None:
    assert set(GOALS) == {*ATTRIBUTES, "all"}


def test_a_contact_sheet_shows_five_frames_a_clip() -> None:
    sheet = contact_sheet([clip_of(SCENE)] * 3, columns=2, scale=1)
    assert sheet.size == (2 * 5 * 64, 2 * 64)
