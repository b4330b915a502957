"""The checkpoint's card as the gateway reads it."""

import dataclasses
from collections.abc import Sequence

from model.card import CheckpointCard
from service.jobs.card import Measured, ModelCard

ENGINE_ONLY = {"sigma_grid", "max_size_pixels"}
"""What the gateway has no use for."""


def model_card(
    card: CheckpointCard, *, measured: Measured | None = None, more_aliases: Sequence[str] = ()
) -> ModelCard:
    """The wire format of a card. measured: this worker's speed; None before it has warmed up.

    more_aliases: names that the operator wants it to answer to, beside the checkpoint's own.
    """
    content = {name: value for name, value in dataclasses.asdict(card).items() if name not in ENGINE_ONLY}
    aliases = tuple(dict.fromkeys((*card.aliases, *more_aliases)))
    return ModelCard.model_validate({**content, "aliases": aliases, "measured": measured})
