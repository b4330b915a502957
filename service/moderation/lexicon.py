"""The word lists: read once, compiled to one pattern a rule. Knows nothing of how a text was normalised."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, cast

from service.moderation.categories import Category

List = Literal["en", "zh", "pinyin"]
"""The files beside this one. All but Chinese are read in whole words."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches a text in which every part is found."""

    category: Category
    parts: tuple[re.Pattern[str], ...]

    def matches(self, text: str) -> bool:
        return all(part.search(text) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Lexicon:
    """One language's rules, in the order of the file: the gravest category first."""

    allowed: re.Pattern[str]
    rules: tuple[Rule, ...]
    any_first_part: re.Pattern[str]
    """Where it is not found no rule matches: one look instead of hundreds at most texts."""

    def category_of(self, text: str) -> Category | None:
        """The first category that a normalised text falls into, if any."""
        rest = self.without_allowed(text)
        if not self.any_first_part.search(rest):
            return None
        return next((rule.category for rule in self.rules if rule.matches(rest)), None)

    def without_allowed(self, text: str) -> str:
        """What is left of a normalised text without the phrases that are fine."""
        # What replaces a phrase must not join its neighbours.
        return self.allowed.sub(" | ", text)


@cache
def read_lexicon(language: List) -> Lexicon:
    """From <language>.txt beside this file, which explains its own format."""
    groups: dict[str, str] = {}
    allowed: list[str] = []
    rules: list[Rule] = []
    firsts: list[str] = []
    for section, term in _lines(language):
        if section == "allow":
            allowed.append(_pattern(term, groups, language))
        elif section.startswith("group "):
            groups[section.removeprefix("group ")] = _expression(term, groups)
        else:
            terms = term.split(" & ")
            firsts.append(_expression(terms[0], groups))
            parts = [re.compile(_pattern(part, groups, language)) for part in terms]
            rules.append(Rule(cast(Category, section), tuple(parts)))
    first_parts = re.compile(_bounded("|".join(firsts), language))
    return Lexicon(re.compile("|".join(allowed)), tuple(rules), first_parts)


def _lines(language: List) -> Iterator[tuple[str, str]]:
    """Section and term of every line that holds one."""
    section = ""
    text = (files("service.moderation") / f"{language}.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        match line.strip():
            case "":
                continue
            case comment if comment.startswith("#"):
                continue
            case header if header.startswith("["):
                section = header.strip("[]")
            case term:
                yield section, term


def _pattern(term: str, groups: dict[str, str], language: List) -> str:
    return _bounded(_expression(term, groups), language)


def _bounded(expression: str, language: List) -> str:
    return f"(?:{expression})" if language == "zh" else rf"(?<!\w)(?:{expression})(?!\w)"


def _expression(term: str, groups: dict[str, str]) -> str:
    """A regular expression already, but for endings, spaces and groups."""
    expression = re.sub(r" (?!\?)", r"[\\s-]+", term.replace("*", r"\w*"))
    for name, group in groups.items():
        expression = expression.replace(f"<{name}>", f"(?:{group})")
    return expression
