"""/models: what workers have registered."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.api.auth import WithReader
from service.api.deps import WithGateway
from service.api.problems import problem_docs
from service.jobs.card import DefaultRange, Defaults, Limits, Measured, ModelCard, Quality

router = APIRouter(prefix="/models", tags=["models"])


class Model(BaseModel):
    """A model and what can be asked of it."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "wanserve"
    aliases: list[str]
    fingerprint: str
    revision: str | None = Field(description="As those who published the checkpoint call it.")
    sizes: list[str] = Field(description="Sizes of files at which it draws best, the default first.")
    native_sizes: list[str]
    num_frames: DefaultRange
    frame_stride: int = Field(description="num_frames is 1 + n * frame_stride.")
    fps: DefaultRange
    defaults: Defaults
    limits: Limits
    quality: dict[str, Quality]
    example_prompts: dict[str, list[str]] = Field(description="By language.")
    description: dict[str, str] = Field(description="What it can draw, by language.")
    measured: Measured | None = Field(description="A worker's own speed for the default request.")
    live_workers: int


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("", responses=problem_docs(401, 403, 503), summary="List models")
def list_models(gateway: WithGateway, _reader: WithReader) -> ModelList:
    """Models of live workers first; those whose workers are gone still take requests, which then wait."""
    fleet = gateway.store.fleet()
    return ModelList(data=[_model(card, live_workers=fleet.num_workers(card.id)) for card in fleet.cards])


@router.get("/{model_id:path}", responses=problem_docs(401, 403, 404, 503), summary="Look at a model")
def get_model(gateway: WithGateway, _reader: WithReader, model_id: str) -> Model:
    """By id or alias."""
    fleet = gateway.store.fleet()
    card = fleet.card(model_id)
    return _model(card, live_workers=fleet.num_workers(card.id))


def _model(card: ModelCard, *, live_workers: int) -> Model:
    return Model(
        id=card.id,
        aliases=list(card.aliases),
        fingerprint=card.fingerprint,
        revision=card.revision,
        sizes=[_text(card.delivery_size(size)) for size in card.native_sizes],
        native_sizes=[_text(size) for size in card.native_sizes],
        num_frames=card.num_frames,
        frame_stride=card.frame_stride,
        fps=card.fps,
        defaults=card.defaults,
        limits=card.limits,
        quality=card.quality,
        example_prompts={language: list(prompts) for language, prompts in card.example_prompts.items()},
        description=card.description,
        measured=card.measured,
        live_workers=live_workers,
    )


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
