"""A classifier of the operator's own from a folder: a real ONNX model and tokenizer, written here, of a few words."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from service.errors import FilterUnavailable, SettingsError, StartupError
from service.moderation.categories import CATEGORIES
from service.moderation.folder import FolderClassifier
from service.moderation.policy import Scores
from service.settings import Settings

VOCABULARY = ["[PAD]", "[UNK]", "gore", "slur"]
NOTHING = Scores(dict.fromkeys(CATEGORIES, 0.0))
LABELS = {"0": "ok", "1": "violence_graphic", "2": "mean"}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(labels) is a folder with a model whose logit of a label is 6 where its word occurs, else -6."""

    def make(labels: Mapping[str, str] = LABELS, *, place: str = "onnx/model.onnx", **config: Any) -> Path:
        (tmp_path / "onnx").mkdir(exist_ok=True)
        onnx.save(word_spotter(), str(tmp_path / place))
        written = {"id2label": labels, "problem_type": "multi_label_classification", **config}
        (tmp_path / "config.json").write_text(json.dumps(written))
        tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        return tmp_path

    return make


def word_spotter() -> onnx.ModelProto:
    """input_ids and attention_mask (b s) to logits (b 3): the highest that any token gives a label."""
    table = np.full((len(VOCABULARY), 3), -6, dtype=np.float32)
    table[VOCABULARY.index("gore"), 1] = table[VOCABULARY.index("slur"), 2] = 6
    inputs = [info(name, TensorProto.INT64, ["b", "s"]) for name in ("input_ids", "attention_mask")]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["seen"]),
        helper.make_node("ReduceMax", ["seen", "axes"], ["logits"], keepdims=0),
    ]
    weights = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axes")]
    return model(helper.make_graph(nodes, "spotter", inputs, [info("logits", TensorProto.FLOAT, ["b", 3])], weights))


def endless() -> onnx.ModelProto:
    """Counts for ever."""
    body = helper.make_graph(
        [helper.make_node("Add", ["i", "one"], ["o"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [info("n", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("i", TensorProto.FLOAT, [])],
        [info("on", TensorProto.BOOL, []), info("o", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.float32(1), "one")],
    )
    loop = helper.make_node("Loop", ["", "true", "zero"], ["logits"], body=body)
    constants = [numpy_helper.from_array(np.array(True), "true"), numpy_helper.from_array(np.float32(0), "zero")]
    ids, logits = info("input_ids", TensorProto.INT64, ["b", "s"]), info("logits", TensorProto.FLOAT, [])
    return model(helper.make_graph([loop], "endless", [ids], [logits], constants))


def info(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def opened(settings: Settings, folder: Path, **changes: Any) -> FolderClassifier:
    return FolderClassifier(settings.with_changes(moderation_folder=folder, **changes))


@pytest.fixture
def plain_settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.mark.parametrize("place", ["onnx/model.onnx", "model.onnx"])
def test_its_labels_raise_our_scores(plain_settings: Settings, write: Write, place: str) -> None:
    reader = opened(plain_settings, write(place=place), moderation_labels="mean=hate")

    seen = reader.widen("some gore here", NOTHING).by_category
    assert (seen["violence/graphic"] > 0.9, seen["hate"] < 0.1) == (True, True)
    assert reader.widen("a slur", NOTHING).by_category["hate"] > 0.9
    assert max(reader.widen("a red ball", NOTHING).by_category.values()) < 0.1
    own = Scores({**NOTHING.by_category, "sexual": 0.7})
    assert reader.widen("a red ball", own).by_category["sexual"] == 0.7


def test_one_label_of_many_is_read_as_a_share(plain_settings: Settings, write: Write) -> None:
    folder = write(problem_type="single_label_classification")
    read = opened(plain_settings, folder, moderation_labels="mean=hate").widen("gore and slur", NOTHING).by_category
    assert (read["violence/graphic"], read["hate"]) == pytest.approx((0.5, 0.5), abs=1e-3)


def test_what_stands_at_the_end_of_a_long_text_is_read_too(plain_settings: Settings, write: Write) -> None:
    reader = opened(plain_settings, write(max_position_embeddings=64))
    assert reader.widen("a quiet meadow " * 200 + "gore", NOTHING).by_category["violence/graphic"] > 0.9


def test_one_that_takes_too_long_is_cut_off(plain_settings: Settings, write: Write) -> None:
    folder = write()
    onnx.save(endless(), str(folder / "onnx/model.onnx"))

    with pytest.raises(FilterUnavailable):
        opened(plain_settings, folder, moderation_timeout_seconds=0.2).widen("a red ball", NOTHING)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("no model", "optimum-cli export onnx"),
        ("no tokenizer", "tokenizer.json"),
        ("torn model", "no ONNX model that can be loaded"),
        ("torn tokenizer", "can't be read"),
        ("no labels", "id2label"),
        ("few labels", "gives 3 scores, and its config.json names 1 labels"),
        ("strange labels", "WANSERVE_MODERATION_LABELS=good=hate"),
    ],
)
def test_a_folder_that_is_of_no_use_is_refused_at_the_start(
    plain_settings: Settings, write: Write, broken: str, told: str
) -> None:
    labels = {"strange labels": {"0": "good", "1": "bad", "2": "odd"}, "few labels": {"0": "hate"}}
    folder = write(labels.get(broken, LABELS))
    match broken:
        case "no model":
            (folder / "onnx/model.onnx").rename(folder / "model.safetensors")
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
        case "torn model":
            (folder / "onnx/model.onnx").write_bytes(b"nothing")
        case "torn tokenizer":
            (folder / "tokenizer.json").write_text("{}")
        case "no labels":
            (folder / "config.json").write_text("{}")

    with pytest.raises(StartupError) as refused:
        opened(plain_settings, folder)

    assert told in refused.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"moderation_labels": "mean"},
        {"moderation_labels": "mean=rude"},
        {"moderation_folder": "here", "moderation_url": "http://127.0.0.1:1/v1"},
    ],
)
def test_settings_that_make_no_sense_are_refused(plain_settings: Settings, changes: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        plain_settings.with_changes(**changes)
