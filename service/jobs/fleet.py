"""The models that are known and the workers that live, as Redis tells them at one instant."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import ModelNotFound, NoModel
from service.jobs.card import ModelCard
from service.jobs.record import WorkerInfo
from service.logs import get_logger

Part = TypeVar("Part", bound=BaseModel)

log = get_logger(__name__)

NO_FLEET = "0" * 40
"""A digest that no fleet has."""


class FleetChanged(Exception):
    """A model or a worker came, went or changed since the request was made: look again and make it anew."""


@dataclass(frozen=True, slots=True)
class Fleet:
    cards: tuple[ModelCard, ...]
    """All ever registered, those of live workers first. Empty before the first worker."""

    workers: tuple[WorkerInfo, ...]
    """Those whose report_alive has not run out."""

    digest: str
    """Tells this fleet from any other one."""

    @classmethod
    def of(cls, cards: Sequence[str], workers: Sequence[str], *, digest: str) -> "Fleet":
        """From what lies in Redis."""
        alive = tuple(_readable(WorkerInfo, workers))
        live = {worker.model for worker in alive}
        known = _readable(ModelCard, cards)
        return cls(tuple(sorted(known, key=lambda card: (card.id not in live, card.id))), alive, digest)

    def card(self, name: str | None = None) -> ModelCard:
        """The card that answers to a name; without one the first. Raises NoModel, ModelNotFound."""
        if not self.cards:
            raise NoModel("No worker has registered a model yet. Try again when one is up.")
        for card in self.cards:
            if name is None or card.answers_to(name):
                return card
        known = ", ".join(card.id for card in self.cards)
        raise ModelNotFound(f"The model {name!r} does not exist here; known are: {known}.", param="model")

    def num_workers(self, model: str) -> int:
        """That run the model with this id."""
        return sum(worker.model == model for worker in self.workers)


def _readable(kind: type[Part], texts: Sequence[str]) -> Iterator[Part]:
    """A worker of a newer version must not take the others' models from this gateway's sight."""
    for text in texts:
        try:
            yield kind.model_validate_json(text)
        except ValidationError:
            _tell_unreadable(kind.__name__, text)


@lru_cache(maxsize=256)
def _tell_unreadable(kind: str, text: str) -> None:
    """Once: fleets are read with every request."""
    log.warning("fleet_unreadable", kind=kind, begins=text[:80])
