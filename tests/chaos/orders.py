"""What the customers of a storm ask for: drawn from a seed, so that two storms of one seed ask for the same."""

import random
from dataclasses import dataclass
from typing import Literal

COLOURS = ("red", "blue", "green", "yellow", "white")
SHAPES = ("ball", "star", "square", "triangle")
SIZES = ("64x64", "96x64", "64x96")

Intent = Literal["keep", "cancel", "delete"]
Moment = Literal["at once", "in progress", "completed"]


@dataclass(frozen=True, slots=True)
class Order:
    """One video to be made, and what its customer does with it afterwards."""

    key: str
    """Idempotency-Key."""

    prompt: str
    size: str
    num_inference_steps: int
    seed: int
    intent: Intent
    moment: Moment
    """When to cancel or delete."""

    num_frames: int = 5

    @property
    def body(self) -> dict[str, str | int]:
        names = ("prompt", "size", "num_inference_steps", "seed", "num_frames")
        return {name: getattr(self, name) for name in names}


def draw_orders(count: int, chance: random.Random) -> list[Order]:
    """A fifth is cancelled or deleted; a fifth asks for what the one before asked for."""
    orders: list[Order] = []
    for number in range(count):
        twin = orders[-1] if orders and chance.random() < 0.2 else None
        orders.append(_draw(number, chance, twin=twin))
    return orders


def _draw(number: int, chance: random.Random, *, twin: Order | None) -> Order:
    intent: Intent = chance.choices(("keep", "cancel", "delete"), weights=(8, 1, 1))[0]
    moments: tuple[Moment, ...] = ("at once", "in progress", "completed")
    moment = chance.choice(moments[:2] if intent == "cancel" else moments)
    prompt = f"a {chance.choice(COLOURS)} {chance.choice(SHAPES)} on a {chance.choice(COLOURS)} background"
    size, steps = chance.choice(SIZES), chance.randint(4, 40)
    if twin is not None:
        return Order(f"order-{number}", twin.prompt, twin.size, twin.num_inference_steps, twin.seed, intent, moment)
    return Order(f"order-{number}", prompt, size, steps, number, intent, moment)
