"""The prompt filter: scores remembered by text, judged by a policy."""

import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

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

    def knows(self, prompt: str, negative_prompt: str) -> bool:
        """Whether check() need not read: it takes no time then."""
        return prompt in self._remembered and (not negative_prompt.strip() or negative_prompt in self._remembered)

    def scores(self, text: str) -> Scores:
        """Raises FilterUnavailable, and InvalidRequest for what is too long once its ligatures are written out."""
        return self._scores(text, param="input")

    def check(self, prompt: str, negative_prompt: str, policy: Policy) -> Verdict:
        """Allowed, or held for review. Raises ModerationBlocked with the field as param, and as scores().

        The message names the category, never the word.
        """
        verdict = self._judge(prompt, policy, param="prompt")
        if negative_prompt.strip():
            negative = policy.judge(self._scores(negative_prompt, param="negative_prompt"))
            if negative.action == "block" and negative.category not in AVOIDABLE:
                raise _blocked(negative, param="negative_prompt")
            if negative.action == "review" and negative.category not in AVOIDABLE and verdict == ALLOWED:
                return negative
        return verdict

    def _judge(self, text: str, policy: Policy, *, param: str) -> Verdict:
        verdict = policy.judge(self._scores(text, param=param))
        if verdict.action == "block":
            raise _blocked(verdict, param=param)
        return verdict

    def _scores(self, text: str, *, param: str) -> Scores:
        # Only a long text can be too long when written out.
        if len(text) * 18 > LONGEST_WRITTEN_OUT and len(unicodedata.normalize("NFKC", text)) > LONGEST_WRITTEN_OUT:
            raise InvalidRequest(
                f"{param} is longer than {LONGEST_WRITTEN_OUT} characters once its ligatures are written out.",
                param=param,
            )
        with self._lock:
            if text in self._remembered:
                self._remembered.move_to_end(text)
                return self._remembered[text]
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


def _blocked(verdict: Verdict, *, param: str) -> ModerationBlocked:
    assert verdict.category is not None
    return ModerationBlocked(
        f"The {param.replace('_', ' ')} was refused: it asks for {WORDING[verdict.category]}.",
        param=param,
        category=verdict.category,
    )
