"""What the filter's classifier makes of ways of saying it that it never saw: `python -m bench.moderation_unseen`.

The training corpus is split by its lines, six times: what is made from a line is judged by a classifier trained without
it. Each line counts once. The word lists, which were written beside the corpus, are left out.
"""

from collections.abc import Iterator
from typing import get_args

import numpy as np

from bench.report import Figure, report
from service.moderation.categories import CATEGORIES
from service.moderation.classifier import Language
from service.moderation.policy import Thresholds
from service.moderation.train import features_of, fit, read_corpus

FOLDS = 6


def main() -> int:
    return report(figure for language in get_args(Language) for figure in _of(language))


def _of(language: Language) -> Iterator[Figure]:
    texts, labels, lines = read_corpus(language)
    caught = _caught(language, features_of(language, texts), labels, lines)
    categories = np.where(labels.any(axis=1), labels.argmax(axis=1), -1)
    of_line = {
        line: (categories[lines == line][0], 100 * float(caught[lines == line].mean())) for line in np.unique(lines)
    }
    yield Figure(f"{language}: recall, unseen lines", _mean(of_line, set(range(len(CATEGORIES)))), "%")
    for place, category in enumerate(CATEGORIES):
        if any(each == place for each, _ in of_line.values()):
            yield Figure(f"{language}: recall, {category}", _mean(of_line, {place}), "%")
    yield Figure(f"{language}: false positives, unseen lines", _mean(of_line, {-1}), "%")


def _caught(language: Language, features: np.ndarray, labels: np.ndarray, lines: np.ndarray) -> np.ndarray:
    caught = np.zeros(len(lines), dtype=bool)
    for fold in range(FOLDS):
        # A prime: neighbours, which resemble each other, fall into different folds.
        is_out = lines * 7919 % FOLDS == fold
        weight, bias = fit(language, features[~is_out], labels[~is_out])
        scores = 1 / (1 + np.exp(-(features[is_out] @ weight + bias)))
        caught[is_out] = scores.max(axis=1) >= Thresholds().review
    return caught


def _mean(of_line: dict[int, tuple[int, float]], categories: set[int]) -> float:
    return float(np.mean([share for category, share in of_line.values() if category in categories]))


if __name__ == "__main__":
    raise SystemExit(main())
