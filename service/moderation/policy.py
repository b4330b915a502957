"""What is done about a prompt, by its scores. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from service.jobs.fields import Number
from service.jobs.record import Wire
from service.moderation.categories import CATEGORIES, Category

Action = Literal["allow", "review", "block"]
ReviewRule = Literal["flagged", "everything", "never"]


@dataclass(frozen=True, slots=True)
class Scores:
    """How much a text asks for each category, from 0 to 1."""

    by_category: Mapping[Category, float]


class Thresholds(Wire):
    """From these scores on a prompt is held for review, and refused. With block at or below review nothing is held."""

    review: Number = Field(0.5, gt=0, le=1)
    block: Number = Field(0.8, gt=0, le=1)


@dataclass(frozen=True, slots=True)
class Verdict:
    action: Action
    category: Category | None = None
    """What decided it. None of an allowed text, and of one that is reviewed because everything is."""

    scores: Mapping[Category, float] = field(default_factory=dict, compare=False)
    """What it was decided by."""


ALLOWED = Verdict("allow")


class Policy(Wire):
    """A tenant's, or the service's own."""

    thresholds: dict[Category, Thresholds] = Field(default_factory=dict)
    """Of the categories that differ from the service's own."""

    review: ReviewRule = "flagged"
    """What a person looks at before it is made. Without reviewers ("never") what is flagged is refused."""

    frames: ReviewRule = "flagged"
    """What a person looks at once it is made. Without reviewers ("never") what the frame check flags fails."""

    def judge(self, scores: Scores) -> Verdict:
        """The gravest action that any category asks for. What sexualises minors is never left to a reviewer."""
        held: Category | None = None
        for category in ("sexual/minors", *CATEGORIES):
            score, limits = scores.by_category[category], self.thresholds.get(category, Thresholds())
            if score >= limits.block or (score >= limits.review and self._refuses(category)):
                return Verdict("block", category, scores.by_category)
            if score >= limits.review:
                held = held or category
        if held is None and self.review != "everything":
            return Verdict("allow", scores=scores.by_category)
        return Verdict("review", held, scores.by_category)

    def flags(self, category: Category, score: float) -> bool:
        """Whether a score is refused or held."""
        limits = self.thresholds.get(category, Thresholds())
        return score >= min(limits.review, limits.block)

    def _refuses(self, category: Category) -> bool:
        return category == "sexual/minors" or self.review == "never"
