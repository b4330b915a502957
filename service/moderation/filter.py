"""The prompt filter: scores remembered by text, judged by a policy."""

import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Protocol

from service.errors import FilterUnavailable, InvalidRequest, ModerationBlocked
from service.moderation.categories import WORDING
from service.moderation.policy import ALLOWED, Policy, Scores, Verdict
from service.moderation.scoring import scores_of

LONGEST_WRITTEN_OUT = 12_000
"""Characters. A single one can stand for eighteen, so that a prompt of legal length may be far longer to read."""

REMEMBERED_TEXTS = 4096

AVOIDABLE = frozenset({"sexual", "violence/graphic", "self-harm"})
"""Naming these in a negative prompt asks to keep them out."""


class PromptFilter:
    """Threads may share it. Texts are remembered: prompts are sent again, and default negative prompts always."""

    def __init__(
        self, score: Callable[[str], Scores] = scores_of, *, fallback: Callable[[str], Scores] | None = None
    ) -> None:
        """fallback: what reads a text while score raises FilterUnavailable; None: nothing does."""
        self._score = score
        self._fallback = fallback
        self._remembered: OrderedDict[str, Scores] = OrderedDict()
        self._lock = Lock()

    def scores(self, text: str) -> Scores:
        """Raises FilterUnavailable, and InvalidRequest for what is too long once its ligatures are written out."""
        return self._scores(text, param="input")

    def check(self, prompt: str, negative_prompt: str, policy: Policy) -> Verdict:
        """Allowed, or held for review. Raises ModerationBlocked with the field as param, and as scores().

        The message names the category, never the word.
        """
        return _checked(prompt, negative_prompt, policy, read=self._scores)

    def check_remembered(self, prompt: str, negative_prompt: str, policy: Policy) -> Verdict | None:
        """As check() where nothing has to be read, which takes time; else None."""
        try:
            return _checked(prompt, negative_prompt, policy, read=self._remembered_scores)
        except _NotRemembered:
            return None

    def _remembered_scores(self, text: str, *, param: str) -> Scores:
        scores = self._recall(text)
        if scores is None:
            raise _NotRemembered(param)
        return scores

    def _recall(self, text: str) -> Scores | None:
        with self._lock:
            scores = self._remembered.get(text)
            if scores is not None:
                self._remembered.move_to_end(text)
            return scores

    def _scores(self, text: str, *, param: str) -> Scores:
        # Only a long text can be too long when written out.
        if len(text) * 18 > LONGEST_WRITTEN_OUT and len(unicodedata.normalize("NFKC", text)) > LONGEST_WRITTEN_OUT:
            raise InvalidRequest(
                f"{param} is longer than {LONGEST_WRITTEN_OUT} characters once its ligatures are written out.",
                param=param,
            )
        remembered = self._recall(text)
        if remembered is not None:
            return remembered
        try:
            scores = self._score(text)
        except FilterUnavailable:
            if self._fallback is None:
                raise
            return self._fallback(text)
        with self._lock:
            self._remembered[text] = scores
            if len(self._remembered) > REMEMBERED_TEXTS:
                self._remembered.popitem(last=False)
        return scores


class _NotRemembered(Exception):
    pass


class _Read(Protocol):
    def __call__(self, text: str, *, param: str) -> Scores: ...


def _checked(prompt: str, negative_prompt: str, policy: Policy, *, read: _Read) -> Verdict:
    verdict = policy.judge(read(prompt, param="prompt"))
    if verdict.action == "block":
        raise _blocked(verdict, param="prompt")
    if negative_prompt.strip():
        negative = policy.judge(read(negative_prompt, param="negative_prompt"))
        if negative.action == "block" and negative.category not in AVOIDABLE:
            raise _blocked(negative, param="negative_prompt")
        if negative.action == "review" and negative.category not in AVOIDABLE and verdict == ALLOWED:
            return negative
    return verdict


def _blocked(verdict: Verdict, *, param: str) -> ModerationBlocked:
    assert verdict.category is not None
    return ModerationBlocked(
        f"The {param.replace('_', ' ')} was refused: it asks for {WORDING[verdict.category]}.",
        param=param,
        category=verdict.category,
    )
