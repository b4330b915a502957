"""A classifier of the operator's own, behind an OpenAI-compatible POST /moderations: asked after ours, which stays."""

from collections.abc import Mapping
from typing import Any, Protocol

import httpx

from service.errors import FilterUnavailable
from service.logs import get_logger
from service.moderation.categories import CATEGORIES, Category
from service.moderation.policy import Scores
from service.settings import Settings

NAMES: Mapping[str, Category] = {
    **{category: category for category in CATEGORIES},
    "hate/threatening": "hate",
    "harassment/threatening": "hate",
    "self-harm/intent": "self-harm",
    "self-harm/instructions": "self-harm",
    "illicit/violent": "extremism",
}
"""Theirs, and which of ours it means. What is not named here is left alone."""

log = get_logger(__name__)


class SecondReader(Protocol):
    """What is asked beside the filter's own classifier."""

    def widen(self, text: str, own: Scores) -> Scores:
        """The higher of both scores, category by category. Raises FilterUnavailable when it does not answer."""
        ...

    def close(self) -> None: ...


def higher(own: Scores, theirs: Mapping[Category, float]) -> Scores:
    """Category by category; theirs may leave some out."""
    return Scores({category: max(score, theirs.get(category, 0.0)) for category, score in own.by_category.items()})


def category_of(name: str) -> Category | None:
    """Ours that a label of theirs means, if it is one of NAMES, however it is written."""
    return NAMES.get(name.strip().lower().replace("_", "-")) or NAMES.get(name.strip().lower().replace("_", "/"))


class ExternalClassifier:
    """One connection pool. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        assert settings.moderation_url is not None
        key = settings.moderation_key
        headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
        self._client = httpx.Client(
            base_url=settings.moderation_url, headers=headers, timeout=settings.moderation_timeout_seconds
        )
        self._model = settings.moderation_model

    def close(self) -> None:
        self._client.close()

    def widen(self, text: str, own: Scores) -> Scores:
        """The higher of both scores, category by category. Raises FilterUnavailable when it does not answer."""
        try:
            theirs = self._ask(text)
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError) as e:
            log.warning("moderation_unavailable", reason=f"{type(e).__name__}: {e}"[:200])
            raise FilterUnavailable("The prompt filter does not answer: try later.", retry_after_seconds=10) from e
        return higher(own, theirs)

    def _ask(self, text: str) -> dict[Category, float]:
        body: dict[str, Any] = {"input": text}
        if self._model:
            body["model"] = self._model
        answer = self._client.post("/moderations", json=body)
        answer.raise_for_status()
        scores: dict[Category, float] = {}
        for name, score in answer.json()["results"][0]["category_scores"].items():
            category = category_of(name)
            if category is not None and isinstance(score, int | float):
                scores[category] = max(scores.get(category, 0.0), min(1.0, max(0.0, float(score))))
        return scores
