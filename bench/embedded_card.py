"""The embedded checkpoint's card, as its worker registers it."""

from model.describe import read_card
from model.folder import open_folder
from service.jobs.card import Measured, ModelCard
from worker.card import model_card

MEASURED = Measured(seconds_per_step=0.02, seconds_per_clip=1.0, device="cpu", dtype="float32")
"""About what two cores do: a card without it promises no time."""


def embedded_card() -> ModelCard:
    return model_card(read_card(open_folder("embedded")), measured=MEASURED)
