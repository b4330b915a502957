"""One video straight into a file: no queue, no store, no server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.engine import Engine
from model.progress import Progress
from service.jobs.record import VideoRequest, new_asset_id
from service.jobs.request import parse, resolve
from service.moderation.filter import PromptFilter
from service.moderation.policy import Policy
from service.provenance.notary import Notary
from worker.card import model_card
from worker.generate import params_of
from worker.media.encode import save_mp4
from worker.media.resize import enlarge
from worker.media.tags import generation_of, tags


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be made of a wish."""

    request: VideoRequest
    changed: Mapping[str, tuple[object, object]]
    """By field: what was asked and what is taken instead."""


def plan(engine: Engine, fields: Mapping[str, Any]) -> Plan:
    """Check and snap as the gateway does. fields: a request body. Raises InvalidRequest."""
    resolved = resolve(parse(fields), model_card(engine.card))
    # What a service would hold for review is up to whoever sits here.
    PromptFilter().check(resolved.request.prompt, resolved.request.negative_prompt, Policy())
    return Plan(resolved.request, resolved.changed)


def make_file(
    engine: Engine,
    request: VideoRequest,
    output: Path,
    *,
    notary: Notary,
    on_progress: Callable[[Progress], None],
) -> None:
    """Writes the MP4, whole or not at all, labelled and signed. Raises OutOfMemory, NotFinite and OSError."""
    params, asset_id = params_of(request), new_asset_id()
    model, fingerprint = engine.card.id, engine.card.fingerprint
    frames = engine.generate(params, on_progress=on_progress)
    pixels = enlarge(frames.pixels, width=request.delivery_width, height=request.delivery_height)
    said = tags(params, model=model, fingerprint=fingerprint, asset_id=asset_id)
    save_mp4(pixels, request.fps, output, tags=said | notary.tags(asset_id))
    generation = generation_of(
        notary, params, model=model, fingerprint=fingerprint, revision=engine.card.revision, asset_id=asset_id
    )
    notary.seal(output, generation)
