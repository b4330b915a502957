"""Who may leave a label away or change it: the service's rule, the tenant's, and the request's own wishes."""

import pytest

from service.errors import InvalidRequest
from service.jobs.cache import cache_key, seed_of
from service.jobs.record import VideoRequest
from service.jobs.request import parse
from service.jobs.visible_label import Asked, AskedLabel, LabelPolicy, LabelRule, visible_label

LOGO = "a" * 64
REQUEST = VideoRequest(
    model="wan",
    prompt="a red ball",
    negative_prompt="",
    width=96,
    height=96,
    delivery_width=256,
    delivery_height=256,
    num_frames=17,
    fps=8,
    seconds="2",
    num_inference_steps=8,
    guidance_scale=3.0,
    guidance_scale_2=3.0,
    flow_shift=3.0,
    seed=0,
)


@pytest.mark.parametrize(
    ("rule", "asked", "is_drawn"),
    [
        ("always", None, True),
        ("always", True, True),
        ("default", None, True),
        ("default", False, False),
        ("on_request", None, False),
        ("on_request", True, True),
        ("off", None, False),
        ("off", False, False),
    ],
)
def test_rule_decides_unless_it_leaves_it_to_the_request(rule: LabelRule, asked: Asked, is_drawn: object) -> None:
    assert (visible_label(asked, LabelPolicy(), rule=rule) is not None) == is_drawn
    of_tenant = LabelPolicy(rule=rule)
    assert (visible_label(asked, of_tenant, rule="on_request" if is_drawn else "always") is not None) == is_drawn


@pytest.mark.parametrize(
    ("rule", "asked", "says"),
    [
        ("always", False, "can't be left away"),
        ("always", AskedLabel(seconds=3), "whole clip"),
        ("always", AskedLabel(opacity=0.5), "at least 1"),
        ("always", AskedLabel(logo=False), "logo can't be left away"),
        ("off", True, "turned off"),
        ("off", AskedLabel(language="zh"), "turned off"),
    ],
)
def test_wish_against_the_rule_is_refused_with_its_reason(rule: LabelRule, asked: Asked, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        visible_label(asked, LabelPolicy(logo=LOGO), rule=rule)
    assert refused.value.param == "visible_label"


def test_wishes_go_before_what_the_tenant_has() -> None:
    policy = LabelPolicy(text="AI by Acme", position="top-right", opacity=0.8, logo=LOGO)

    plain = visible_label(None, policy, rule="default")
    wished = visible_label(AskedLabel(language="zh", position="bottom-left", seconds=2), policy, rule="default")

    assert plain is not None
    assert wished is not None
    assert (plain.text, plain.position, plain.opacity, plain.seconds) == ("AI by Acme", "top-right", 0.8, None)
    assert (wished.text, wished.position, wished.opacity, wished.seconds) == ("AI生成", "bottom-left", 0.8, 2)


def test_logo_is_drawn_without_a_text_too_and_never_over_it() -> None:
    policy = LabelPolicy(rule="default", logo=LOGO, logo_position="bottom-right")

    alone = visible_label(False, policy, rule="default")
    beside = visible_label(True, policy, rule="default")

    assert alone is not None
    assert beside is not None
    assert (alone.text, alone.logo, alone.logo_position) == (None, LOGO, "bottom-right")
    assert (beside.position, beside.logo_position) == ("bottom-right", "bottom-left")
    assert visible_label(AskedLabel(logo=False), LabelPolicy(rule="on_request", logo=LOGO), rule="off") is not None


def test_logo_that_nobody_set_cant_be_asked_for() -> None:
    with pytest.raises(InvalidRequest, match="no logo"):
        visible_label(AskedLabel(logo=True), LabelPolicy(), rule="default")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"text": "made by us"}, "visible_label.text"),
        ({"text": "AI\x07"}, "visible_label.text"),
        ({"text": "AI\u202e生成"}, "visible_label.text"),
        ({"text": "AI😀"}, "visible_label.text"),
        ({"text": "AI" * 20}, "visible_label.text"),
        ({"opacity": 0}, "visible_label.opacity"),
        ({"opacity": True}, "visible_label.opacity"),
        ({"logo": "perhaps"}, "visible_label.logo"),
        ({"seconds": True}, "visible_label.seconds"),
        ({"seconds": 1}, "visible_label.seconds"),
        ({"position": "middle"}, "visible_label.position"),
        ({"colour": "red"}, "visible_label.colour"),
        ("perhaps", "visible_label"),
    ],
)
def test_label_that_cant_be_is_refused_with_its_field(asked: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse({"prompt": "a red ball", "visible_label": asked})
    assert refused.value.param == param


def test_label_decides_the_file_but_not_the_seed() -> None:
    labelled = REQUEST.model_copy(update={"visible_label": visible_label(True, LabelPolicy(), rule="default")})

    assert cache_key(REQUEST, fingerprint="") != cache_key(labelled, fingerprint="")
    assert seed_of(REQUEST) == seed_of(labelled)


def test_watermark_decides_the_file() -> None:
    assert cache_key(REQUEST, fingerprint="") != cache_key(REQUEST, fingerprint="", is_watermarked=True)
