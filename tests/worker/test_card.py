"""The gateway must know from the card alone what the engine would say."""

import dataclasses

import pytest

from model.engine import Engine
from model.params import GenerationParams
from service.jobs.card import ModelCard
from service.jobs.request import parse, resolve
from worker.card import model_card
from worker.generate import params_of
from worker.speed import measure


def test_card_travels_as_json_and_comes_back_equal(engine: Engine) -> None:
    card = model_card(engine.card)
    assert ModelCard.model_validate_json(card.model_dump_json()) == card


def test_card_keeps_the_identity_and_limits_of_the_checkpoint(engine: Engine) -> None:
    card = model_card(engine.card)
    assert (card.id, card.fingerprint) == (engine.card.id, engine.card.fingerprint)
    assert card.native_sizes == engine.card.native_sizes
    assert card.num_frames.max == engine.card.num_frames.max


def test_default_request_of_the_card_is_the_engines_default(engine: Engine) -> None:
    request = resolve(parse({"prompt": "a red circle", "seed": 7}), model_card(engine.card)).request
    assert params_of(request) == engine.card.default_params("a red circle", seed=7)


def test_gateway_and_engine_price_a_request_alike(engine: Engine) -> None:
    params = engine.card.default_params("a red circle")
    cost = engine.card.cost
    rows = 2 * params.num_inference_steps
    flop = 2 * cost.text_flop + rows * cost.forward_row_flop(params) + cost.decode_flop(params)
    assert _flop_by_card(model_card(engine.card), params) == pytest.approx(flop, rel=1e-12)


def test_operator_gives_the_model_more_names(engine: Engine) -> None:
    card = model_card(engine.card, more_aliases=("sora-2", engine.card.id))
    assert card.answers_to("Sora-2")
    assert card.aliases[: len(engine.card.aliases)] == engine.card.aliases


def test_measured_speed_prices_the_default_request(engine: Engine) -> None:
    card = model_card(engine.card, measured=measure(engine))
    assert card.measured is not None
    params = dataclasses.replace(engine.card.default_params("x"), num_inference_steps=40)
    seconds = card.estimated_seconds(
        width=params.width, height=params.height, num_frames=params.num_frames, num_inference_steps=40, rows_per_step=2
    )
    assert seconds is not None
    assert card.measured.seconds_per_clip < seconds < 2.1 * card.measured.seconds_per_clip


def _flop_by_card(card: ModelCard, params: GenerationParams) -> float:
    return card.cost.request_flop(
        width=params.width,
        height=params.height,
        num_frames=params.num_frames,
        num_inference_steps=params.num_inference_steps,
        rows_per_step=2,
    )
