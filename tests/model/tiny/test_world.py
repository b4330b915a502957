import itertools
import random

import pytest

from model.tiny.captions import (
    EN_COLOURS,
    EN_MOTIONS,
    EN_SHAPES,
    ZH_COLOURS,
    ZH_MOTIONS,
    ZH_SHAPES,
    describe,
    describe_freely,
    describe_shown,
)
from model.tiny.world import (
    ATTRIBUTES,
    COLOURS,
    DEFAULT_SCENE,
    MOTIONS,
    NUM_FRAMES,
    SHAPES,
    SIDE_PIXELS,
    Scene,
    default_values,
    draw_path,
    draw_scene,
    draw_training_scene,
)

ALL_SCENES = [
    Scene(background, colour, shape, motion)
    for background, colour, shape, motion in itertools.product(COLOURS, COLOURS, SHAPES, MOTIONS)
    if background != colour
]


def test_a_quarter_of_all_combinations_is_held_out_and_every_pair_of_attributes_stays_seen() -> None:
    assert sum(s.is_held_out for s in ALL_SCENES) * 4 == len(ALL_SCENES)
    seen = [s for s in ALL_SCENES if not s.is_held_out]
    for one, other in itertools.combinations(ATTRIBUTES, 2):
        pairs = {(s.value(one), s.value(other)) for s in ALL_SCENES}
        assert {(s.value(one), s.value(other)) for s in seen} == pairs


def test_training_scenes_never_hold_a_held_out_combination() -> None:
    rng = random.Random(0)
    assert not any(draw_scene(rng, held_out=False).is_held_out for _ in range(2000))


def test_training_scenes_hold_the_share_of_stars_asked_for_and_nothing_held_out() -> None:
    rng = random.Random(0)
    scenes = [draw_training_scene(rng, star_share=0.5) for _ in range(2000)]
    assert not any(scene.is_held_out for scene in scenes)
    assert 0.46 < sum(scene.shape == "star" for scene in scenes) / len(scenes) < 0.54


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_path_advances_by_whole_cells_of_the_autoencoder_every_latent_frame(motion: str) -> None:
    path = draw_path(Scene("white", "red", "star", motion), random.Random(motion))
    for quarter in range(5):
        x, y, _ = path.at(quarter / 4)
        assert (x / 8, y / 8) == (pytest.approx(round(x / 8)), pytest.approx(round(y / 8)))


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_shape_stays_inside_the_frame_on_every_path(motion: str) -> None:
    rng = random.Random(motion)
    scene = Scene("white", "red", "star", motion)
    for _ in range(20):
        path = draw_path(scene, rng)
        for frame in range(NUM_FRAMES):
            x, y, radius = path.at(frame / (NUM_FRAMES - 1))
            assert radius <= min(x, y, SIDE_PIXELS - x, SIDE_PIXELS - y)


@pytest.mark.parametrize("words", [EN_COLOURS, ZH_COLOURS, EN_SHAPES, ZH_SHAPES, EN_MOTIONS, ZH_MOTIONS])
def test_no_wording_means_two_values(words: dict[str, tuple[str, ...]]) -> None:
    for one, other in itertools.combinations(words, 2):
        assert not set(words[one]) & set(words[other])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_full_caption_names_every_attribute(language: str) -> None:
    rng = random.Random(1)
    tables = (EN_COLOURS, EN_SHAPES, EN_MOTIONS) if language == "en" else (ZH_COLOURS, ZH_SHAPES, ZH_MOTIONS)
    colours, shapes, motions = tables
    for scene in rng.sample(ALL_SCENES, 200):
        caption = describe(scene, rng, language=language)
        text = caption.text.lower()
        assert dict(caption.says) == {a: scene.value(a) for a in ATTRIBUTES}
        for words, value in (
            (colours, scene.background), (colours, scene.colour), (shapes, scene.shape), (motions, scene.motion)
        ):  # fmt: skip
            assert any(word in text for word in words[value]), (value, text)


def test_a_free_caption_says_only_what_the_scene_shows() -> None:
    rng = random.Random(2)
    for _ in range(500):
        scene = draw_scene(rng, held_out=False)
        caption = describe_freely(scene, rng)
        assert all(scene.value(attribute) == value for attribute, value in caption.says.items())


def test_a_drawing_caption_leaves_open_only_what_the_scene_shows_by_default() -> None:
    rng = random.Random(3)
    left_open = set()
    for _ in range(3000):
        scene = draw_scene(rng, held_out=False)
        says = describe_shown(scene, rng).says
        assert all(scene.value(attribute) == value for attribute, value in says.items())
        left_open |= {(a, scene.value(a)) for a in ATTRIBUTES if a not in says}
    assert left_open == {
        ("background", "white"), ("background", "black"), ("colour", "blue"), ("colour", "yellow"),
        ("shape", "circle"), ("motion", "still"),
    }  # fmt: skip


def test_the_default_scene_is_its_own_default_and_is_trained_on() -> None:
    assert not DEFAULT_SCENE.is_held_out
    assert default_values(DEFAULT_SCENE) == {a: DEFAULT_SCENE.value(a) for a in ATTRIBUTES}


def test_by_default_no_shape_has_the_colour_of_its_background() -> None:
    for scene in ALL_SCENES:
        defaults = default_values(scene)
        assert defaults["background"] != scene.colour
        assert defaults["colour"] != scene.background
