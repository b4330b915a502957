"""Which prompts are refused. Blocks only what is clear; knows no request and no HTTP."""

import unicodedata
from functools import lru_cache

from service.errors import InvalidRequest, ModerationBlocked
from service.moderation.lexicon import read_lexicon
from service.moderation.normalise import han_reading, latin_readings, plain

POLICY_VERSION = 1
"""Part of the cache key: raise it when the policy changes what may be shown."""

LONGEST_WRITTEN_OUT = 12_000
"""Characters. A single one can stand for eighteen, so that a prompt of legal length may be far longer to read."""

REMEMBERED_TEXTS = 2048

AVOIDABLE = frozenset({"sexual", "violence/graphic", "self-harm"})
"""Naming these in a negative prompt asks to keep them out."""

_WORDING = {
    "sexual": "sexual content",
    "sexual/minors": "sexual content with minors",
    "violence/graphic": "graphic violence",
    "hate": "hate",
    "self-harm": "self-harm",
    "extremism": "extremism",
}


def check_prompts(prompt: str, negative_prompt: str) -> None:
    """Raises ModerationBlocked with the field as param. The message names the category, never the word.

    Raises InvalidRequest for what is too long once its ligatures are written out.
    """
    _refuse_overlong(prompt, param="prompt")
    _refuse_overlong(negative_prompt, param="negative_prompt")
    _refuse(category_of(prompt), param="prompt")
    category = category_of(negative_prompt)
    if category not in AVOIDABLE:
        _refuse(category, param="negative_prompt")


@lru_cache(maxsize=REMEMBERED_TEXTS)
def category_of(text: str) -> str | None:
    """The category that a text clearly falls into, if any. Remembered: prompts are sent again, and defaults always."""
    normal = plain(text)
    english, chinese = read_lexicon("en"), read_lexicon("zh")
    found = (english.category_of(reading) for reading in latin_readings(normal))
    return next((category for category in found if category), chinese.category_of(han_reading(normal)))


def _refuse_overlong(text: str, *, param: str) -> None:
    if len(unicodedata.normalize("NFKC", text)) > LONGEST_WRITTEN_OUT:
        raise InvalidRequest(
            f"{param} is longer than {LONGEST_WRITTEN_OUT} characters once its ligatures are written out.", param=param
        )


def _refuse(category: str | None, *, param: str) -> None:
    if category is not None:
        raise ModerationBlocked(
            f"The {param.replace('_', ' ')} was refused: it asks for {_WORDING[category]}.", param=param
        )
