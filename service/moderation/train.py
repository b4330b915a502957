"""Trains the classifier from the corpus beside it: `python -m service.moderation.train` writes classifier.npz.

Deterministic: the same corpus and embedding model give the same file. Takes half a minute on two cores.
"""

import re
from importlib.resources import files
from itertools import product
from random import Random

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array

from service.moderation.categories import CATEGORIES
from service.moderation.classifier import WEIGHTS, Embedder, Language, han_features, han_input, latin_inputs
from service.moderation.normalise import readings_of

EXPANSIONS_PER_LINE = 24
"""Of one corpus line at most: drawn, where its alternatives allow more."""

SAFE_EXPANSIONS_PER_LINE = 32
POSITIVES = {"en": 0.15, "zh": 0.35}
"""Weight of the texts that belong to a category, against all others: most prompts are harmless. More where the features
are words seen before or not: there a threshold of one half would pass nearly all that is new."""

L2 = {"en": 2e-4, "zh": 5e-5}

_ALTERNATIVES = re.compile(r"\{([^}]*)\}")


def main() -> None:
    weights = {}
    for language in ("en", "zh"):
        texts, labels, _ = read_corpus(language)
        weight, bias = fit(language, features_of(language, texts), labels)
        weights[f"{language}_weight"], weights[f"{language}_bias"] = weight.astype(np.float16), bias
        print(f"{language}: {len(texts)} texts")
    np.savez_compressed(WEIGHTS, allow_pickle=False, **weights)


def read_corpus(language: Language) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Texts; for each category 1.0 where a text belongs to it, (texts, categories); the line that each is made from."""
    random = Random(0)
    section, examples = "", {}
    for number, line in enumerate(
        (files("service.moderation") / f"corpus/{language}.txt").read_text(encoding="utf-8").splitlines()
    ):
        match line.strip():
            case comment if not comment or comment.startswith("#"):
                continue
            case header if header.startswith("["):
                section = header.strip("[]")
            case template:
                limit = SAFE_EXPANSIONS_PER_LINE if section == "safe" else EXPANSIONS_PER_LINE
                examples.update(dict.fromkeys(_expand(template, random, limit), (section, number)))
    labels = np.array([[float(section == category) for category in CATEGORIES] for section, _ in examples.values()])
    # What sexualises minors is sexual too.
    labels[:, CATEGORIES.index("sexual")] = np.maximum(
        labels[:, CATEGORIES.index("sexual")], labels[:, CATEGORIES.index("sexual/minors")]
    )
    return list(examples), labels, np.array([number for _, number in examples.values()])


def _expand(template: str, random: Random, limit: int) -> list[str]:
    pieces = _ALTERNATIVES.split(template)
    # Odd pieces are the insides of braces.
    choices = [piece.split("|") if i % 2 else [piece] for i, piece in enumerate(pieces)]
    everything = ["".join(combination) for combination in product(*choices)]
    return everything if len(everything) <= limit else random.sample(everything, limit)


def features_of(language: Language, texts: list[str]) -> np.ndarray:
    if language == "zh":
        return np.stack([han_features(han_input(readings_of(text))) for text in texts])
    embedder, read = Embedder(), [latin_inputs(readings_of(text))[0] for text in texts]
    return np.concatenate([embedder.embed(read[i : i + 64]) for i in range(0, len(read), 64)])


def fit(language: Language, features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression of (texts, features), a category at a time."""
    positives, l2 = POSITIVES[language], L2[language]
    matrix = csr_array(features)
    weight, bias = np.zeros((features.shape[1], labels.shape[1])), np.zeros(labels.shape[1])
    for i, label in enumerate(labels.T):
        share = label.mean()
        balance = np.where(label > 0, positives / share, (1 - positives) / (1 - share)) / len(label)
        start = np.zeros(features.shape[1] + 1)
        solution = minimize(_loss, start, (matrix, label, balance, l2), method="L-BFGS-B", jac=True)
        weight[:, i], bias[i] = solution.x[:-1], solution.x[-1]
    return weight, bias


def _loss(
    parameters: np.ndarray, features: csr_array, label: np.ndarray, balance: np.ndarray, l2: float
) -> tuple[float, np.ndarray]:
    """Cross-entropy and its gradient."""
    weight = parameters[:-1]
    logits = features @ weight + parameters[-1]
    error = (1 / (1 + np.exp(-logits)) - label) * balance
    loss = float((balance * (np.logaddexp(0, logits) - label * logits)).sum() + l2 / 2 * weight @ weight)
    return loss, np.append(features.T @ error + l2 * weight, error.sum())


if __name__ == "__main__":
    main()
