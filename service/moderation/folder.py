"""A classifier of the operator's own, in a folder: transformers' text classification, exported to ONNX.

Asked after ours, which stays. Runs in this process without transformers or PyTorch, on one core.
"""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors
from tokenizers import Encoding, Tokenizer

from service.errors import FilterUnavailable, StartupError
from service.logs import get_logger
from service.moderation.categories import CATEGORIES, Category
from service.moderation.external import category_of, higher
from service.moderation.policy import Scores
from service.settings import Settings

MAX_TOKENS = 512
"""Of a piece, where the folder does not say less."""

MAX_PIECES = 16
PLACES = ("onnx/model.onnx", "model.onnx")
EXPORT = 'Export it with `pip install "optimum[onnx]"` and `optimum-cli export onnx --model {folder} {folder}/onnx`.'

FAILURES = (
    onnxruntime_errors.Fail,
    onnxruntime_errors.InvalidArgument,
    onnxruntime_errors.InvalidGraph,
    onnxruntime_errors.InvalidProtobuf,
    onnxruntime_errors.NotImplemented,
    onnxruntime_errors.RuntimeException,
)
"""onnxruntime's own, which have no common base; Fail is also what a run says that was stopped."""

log = get_logger(__name__)


class FolderClassifier:
    """Threads may share it. Raises StartupError where the folder does not hold what is needed, and says what."""

    def __init__(self, settings: Settings) -> None:
        assert settings.moderation_folder is not None
        folder = settings.moderation_folder
        self._timeout_seconds = settings.moderation_timeout_seconds
        self._session = _session(folder)
        self._inputs = {node.name for node in self._session.get_inputs()}
        config = _config(folder)
        _check_labels(config, self._session, folder)
        self._categories = _categories(config, settings.moderation_names, folder)
        self._is_multi_label = config.get("problem_type") == "multi_label_classification"
        longest = min(MAX_TOKENS, config.get("max_position_embeddings", MAX_TOKENS))
        self._tokenizer = _tokenizer(folder, max_tokens=longest)

    def close(self) -> None:
        """Nothing is held open."""

    def widen(self, text: str, own: Scores) -> Scores:
        """The higher of both scores, category by category. Raises FilterUnavailable where it takes too long."""
        return higher(own, self._ask(text))

    def _ask(self, text: str) -> Mapping[Category, float]:
        encoded = self._tokenizer.encode(text)
        worst = self._probabilities([encoded, *encoded.overflowing][:MAX_PIECES]).max(axis=0)
        scores: dict[Category, float] = {}
        for place, category in self._categories.items():
            scores[category] = max(scores.get(category, 0.0), float(worst[place]))
        return scores

    def _probabilities(self, pieces: list[Encoding]) -> np.ndarray:
        """(pieces, labels)."""
        logits = self._run(
            {
                "input_ids": np.array([piece.ids for piece in pieces], dtype=np.int64),
                "attention_mask": np.array([piece.attention_mask for piece in pieces], dtype=np.int64),
                "token_type_ids": np.array([piece.type_ids for piece in pieces], dtype=np.int64),
            }
        )
        if self._is_multi_label:
            return cast(np.ndarray, 1 / (1 + np.exp(-logits)))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return cast(np.ndarray, powers / powers.sum(axis=1, keepdims=True))

    def _run(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        options = onnxruntime.RunOptions()
        timer = threading.Timer(self._timeout_seconds, lambda: setattr(options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            taken = {name: feed for name, feed in feeds.items() if name in self._inputs}
            return cast(np.ndarray, self._session.run(None, taken, options)[0])
        except FAILURES as e:
            log.warning("moderation_unavailable", reason=f"{type(e).__name__}: {e}"[:200])
            raise FilterUnavailable("The prompt filter does not answer: try later.", retry_after_seconds=10) from e
        finally:
            timer.cancel()


def _session(folder: Path) -> onnxruntime.InferenceSession:
    path = next((folder / place for place in PLACES if (folder / place).is_file()), None)
    if path is None:
        raise StartupError(f"{folder} holds neither {' nor '.join(PLACES)}. {EXPORT.format(folder=folder)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:
        raise StartupError(f"{path} is no ONNX model that can be loaded ({e}). {EXPORT.format(folder=folder)}") from e


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads(_file(folder, "config.json").read_bytes())
    except ValueError as e:
        raise StartupError(f"{folder}/config.json is no JSON ({e}).") from e
    if not isinstance(config, dict) or not isinstance(config.get("id2label"), dict):
        raise StartupError(f"{folder}/config.json has no id2label: it is no text classification model.")
    return config


def _check_labels(config: Mapping[str, Any], session: onnxruntime.InferenceSession, folder: Path) -> None:
    num_labels, width = len(config["id2label"]), session.get_outputs()[0].shape[-1:]
    # A width that the model leaves open comes as its name.
    if width and isinstance(width[0], int) and width[0] != num_labels:
        raise StartupError(
            f"The model in {folder} gives {width[0]} scores, and its config.json names {num_labels} labels."
        )


def _categories(config: Mapping[str, Any], names: Mapping[str, Category], folder: Path) -> dict[int, Category]:
    """By the label's place in the logits, those labels that mean something here."""
    labels = {int(place): str(label) for place, label in config["id2label"].items()}
    meant = {place: names.get(label) or category_of(label) for place, label in labels.items()}
    found = {place: category for place, category in meant.items() if category is not None}
    if not found:
        raise StartupError(
            f"No label of {folder} ({', '.join(labels.values())}) names a category ({', '.join(CATEGORIES)}): say what "
            f"they mean, WANSERVE_MODERATION_LABELS={next(iter(labels.values()))}=hate, for example."
        )
    return found


def _tokenizer(folder: Path, *, max_tokens: int) -> Tokenizer:
    path = _file(folder, "tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as e:
        raise StartupError(f"{path} can't be read ({e}).") from e
    tokenizer.enable_truncation(max_tokens)
    tokenizer.enable_padding()
    return tokenizer


def _file(folder: Path, name: str) -> Path:
    path = next((place / name for place in (folder, folder / "onnx") if (place / name).is_file()), None)
    if path is None:
        raise StartupError(f"{folder} holds no {name}: it is part of what transformers saves, and of an export.")
    return path
