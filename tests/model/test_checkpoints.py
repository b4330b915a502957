"""Folders: good ones of every layout, and what is said about bad ones."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from transformers import UMT5EncoderModel

from model import recipe
from model.describe import A14B, read_card
from model.engine import Engine
from model.errors import CheckpointError
from model.fingerprint import fingerprint
from model.folder import embedded_path, open_folder
from model.loader import choose_device, choose_dtype, load_parts
from model.tiny.export import REVISION
from tests.model.oracle import our_latents

NEEDED_FILES = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "transformer_2/config.json",
    "transformer_2/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]


@pytest.mark.parametrize("name", NEEDED_FILES)
def test_a_missing_file_is_named(checkpoint_copy, name):
    (checkpoint_copy / name).unlink()

    with pytest.raises(CheckpointError, match=re.escape(Path(name).name)) as caught:
        open_folder(checkpoint_copy)
    assert str(checkpoint_copy) in str(caught.value)
    assert "download" in str(caught.value)


@pytest.mark.parametrize("name", [name for name in NEEDED_FILES if name.endswith(".safetensors")])
def test_weights_that_were_cut_off_are_refused(checkpoint_copy, name):
    file = checkpoint_copy / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    with pytest.raises(CheckpointError, match=rf"{re.escape(name)} was cut off.* Download it again"):
        load_parts(open_folder(checkpoint_copy), device="cpu")


@pytest.mark.parametrize("name", ["model_index.json", "transformer_2/config.json", "wanserve.json"])
@pytest.mark.parametrize("content", ["{", "[]", "", "\x00"])
def test_json_that_is_broken_is_named(checkpoint_copy, name, content):
    (checkpoint_copy / name).write_text(content)

    with pytest.raises(CheckpointError, match=re.escape(name)):
        read_card(open_folder(checkpoint_copy))


def edit(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


OTHER_CHECKPOINTS = {
    "Wan2.1, one expert": ("model_index.json", {"transformer_2": [None, None]}, "one expert only"),
    "no boundary": ("model_index.json", {"boundary_ratio": None}, "one expert only"),
    "TI2V-5B": ("model_index.json", {"expand_timesteps": True}, "TI2V-5B"),
    "the VAE of TI2V-5B": ("vae/config.json", {"is_residual": True}, "TI2V-5B"),
    "another transformer": (
        "model_index.json",
        {"transformer": ["diffusers", "LTXVideoTransformer3DModel"]},
        "gives LTXVideoTransformer3DModel for transformer, but WanTransformer3DModel is needed",
    ),
    "no VAE": ("model_index.json", {"vae": None}, "gives None for vae"),
    "I2V, more channels": ("transformer/config.json", {"in_channels": 36}, "must be alike"),
    "another text encoder": ("text_encoder/config.json", {"d_model": 64}, "different checkpoints"),
    "another solver order": ("scheduler/scheduler_config.json", {"solver_order": 3}, "solver"),
    "layers as a string": (
        "transformer/config.json",
        {"num_layers": "six"},
        "num_layers must be a whole number",
    ),
}


@pytest.mark.parametrize(("name", "changes", "message"), OTHER_CHECKPOINTS.values(), ids=OTHER_CHECKPOINTS.keys())
def test_other_kinds_of_checkpoint_are_refused_with_the_reason(checkpoint_copy, name, changes, message):
    edit(checkpoint_copy / name, **changes)

    with pytest.raises(CheckpointError, match=message):
        open_folder(checkpoint_copy)


def test_an_image_to_video_checkpoint_is_refused(checkpoint_copy):
    for expert in ("transformer", "transformer_2"):
        edit(checkpoint_copy / expert / "config.json", in_channels=36)

    with pytest.raises(CheckpointError, match="image-to-video"):
        open_folder(checkpoint_copy)


def test_a_folder_that_is_not_there_says_what_to_give(tmp_path):
    with pytest.raises(CheckpointError, match=r'model_index\.json.*"embedded"'):
        Engine.from_pretrained(tmp_path / "nowhere")


def test_a_tensor_missing_from_the_weights_is_not_left_random(checkpoint_copy):
    file = checkpoint_copy / "transformer_2" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["blocks.3.attn1.to_q.weight"]
    save_file(weights, file, metadata={"format": "pt"})

    with pytest.raises(CheckpointError, match=r"transformer_2: the weight files lack blocks\.3\.attn1\.to_q\.weight"):
        load_parts(open_folder(checkpoint_copy), device="cpu")


def test_weights_of_another_size_are_refused(checkpoint_copy):
    for expert in ("transformer", "transformer_2"):
        edit(checkpoint_copy / expert / "config.json", ffn_dim=256)

    message = (
        r"safetensors: blocks\.0\.ffn\.net\.0\.proj\.weight has the shape \[\d+, \d+\], but .* asks for \[256, \d+\]"
    )
    with pytest.raises(CheckpointError, match=message):
        load_parts(open_folder(checkpoint_copy), device="cpu")


HEADER_FAULTS = {
    "cut inside the header": (lambda data: data[:100], "was cut off"),
    "surplus bytes": (lambda data: data + b"\0" * 8, "goes on after its end"),
    "no JSON": (lambda data: data[:8] + b"}" + data[9:], "broken header"),
    "no table": (lambda data: (2).to_bytes(8, "little") + b"[]", "broken header"),
}


@pytest.mark.parametrize(("damage", "message"), HEADER_FAULTS.values(), ids=HEADER_FAULTS.keys())
def test_a_damaged_weight_file_is_named_before_anything_is_loaded(checkpoint_copy, monkeypatch, damage, message):
    file = checkpoint_copy / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    monkeypatch.setattr(UMT5EncoderModel, "from_pretrained", None)

    with pytest.raises(CheckpointError, match=rf"vae.diffusion_pytorch_model\.safetensors .*{message}"):
        load_parts(open_folder(checkpoint_copy), device="cpu")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vae/config.json", {"temperal_downsample": 3}, "temperal_downsample must be a list of true and false"),
        ("vae/config.json", {"out_channels": "3"}, "out_channels must be a whole number"),
        ("model_index.json", {"boundary_ratio": "x"}, "boundary_ratio must be a number"),
        ("transformer/config.json", {"patch_size": 2}, "patch_size must be a list of whole numbers"),
        ("scheduler/scheduler_config.json", {"solver_type": 2}, "solver_type must be a string"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(checkpoint_copy, name, changes, message):
    edit(checkpoint_copy / name, **changes)

    with pytest.raises(CheckpointError, match=f"{re.escape(Path(name).name)}: {message}"):
        open_folder(checkpoint_copy)


@pytest.fixture
def sharded_checkpoint(checkpoint_copy):
    for expert in ("transformer", "transformer_2"):
        transformer = WanTransformer3DModel.from_pretrained(checkpoint_copy / expert, dtype=torch.float16)
        shutil.rmtree(checkpoint_copy / expert)
        transformer.save_pretrained(checkpoint_copy / expert, max_shard_size="1MB")
    return checkpoint_copy


def test_sharded_weights_make_the_same_latents(engine, sharded_checkpoint, make_params):
    sharded = Engine.from_pretrained(sharded_checkpoint, device="cpu", dtype="float32")

    assert len(list((sharded_checkpoint / "transformer").glob("*.safetensors"))) > 1
    assert torch.equal(our_latents(sharded, make_params()), our_latents(engine, make_params()))


def test_a_missing_shard_is_named(sharded_checkpoint):
    shard = sorted((sharded_checkpoint / "transformer_2").glob("*.safetensors"))[1]
    shard.unlink()

    with pytest.raises(CheckpointError, match=shard.name):
        open_folder(sharded_checkpoint)


def test_a_shard_that_lacks_what_the_index_promises_is_named(sharded_checkpoint):
    index = sharded_checkpoint / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    first, other = sorted(set(places.values()))[:2]
    moved = next(name for name, shard in places.items() if shard == first)
    edit(index, weight_map=places | {moved: other})

    with pytest.raises(CheckpointError, match=f"{other} lacks {re.escape(moved)}, which its index puts there"):
        load_parts(open_folder(sharded_checkpoint), device="cpu")


def test_a_folder_without_wanserve_json_gets_the_official_recipe(checkpoint_copy):
    (checkpoint_copy / "wanserve.json").unlink()

    card = Engine.from_pretrained(checkpoint_copy, device="cpu").card

    assert card.id == "checkpoint"
    assert card.sigma_grid == "official"
    assert card.defaults.flow_shift == 12.0
    assert (card.defaults.guidance_scale, card.defaults.guidance_scale_2) == (4.0, 3.0)
    assert card.native_sizes == ((1280, 720), (720, 1280), (832, 480), (480, 832))
    assert card.default_params("a cat").negative_prompt == recipe.NEGATIVE_PROMPT


def test_a14b_is_recognised_by_its_configs_alone(tmp_path):
    card = read_card(open_folder(make_a14b_folder(tmp_path / "any name")))

    assert card.id == "wan2.2-t2v-a14b"
    assert {"Wan-AI/Wan2.2-T2V-A14B-Diffusers", "wan2.2-t2v-plus"} <= set(card.aliases)
    assert card.delivery_short_side is None
    assert (card.num_frames.default, card.fps.default) == (81, 16)
    card.check(card.default_params("两只猫在拳击台上对打"))


@pytest.mark.parametrize("place", ["snapshot", "note", "nowhere"])
def test_revision_is_the_hubs_commit_where_the_download_tells_it(tmp_path, place):
    commit = "0123456789abcdef" * 2 + "01234567"
    folder = make_a14b_folder(tmp_path / "snapshots" / (commit if place == "snapshot" else "main"))
    if place == "note":
        note = folder / ".cache" / "huggingface" / "download" / "model_index.json.metadata"
        note.parent.mkdir(parents=True)
        note.write_text(f"{commit}\n{'e' * 40}\n1764000000.0\n")

    assert read_card(open_folder(folder)).revision == (None if place == "nowhere" else commit)


def test_revision_in_wanserve_json_comes_first_and_changes_no_fingerprint(checkpoint_copy):
    before = read_card(open_folder(checkpoint_copy))
    edit(checkpoint_copy / "wanserve.json", revision="2026-11")

    after = read_card(open_folder(checkpoint_copy))

    assert (before.revision, after.revision) == (REVISION, "2026-11")
    assert before.fingerprint == after.fingerprint


def make_a14b_folder(path: Path) -> Path:
    """The real configs' numbers; the weights are placeholders, since only their presence is looked at."""
    shutil.copytree(embedded_path(), path)
    (path / "wanserve.json").unlink()
    for expert in ("transformer", "transformer_2"):
        edit(
            path / expert / "config.json",
            num_layers=A14B.num_layers,
            num_attention_heads=A14B.num_heads,
            attention_head_dim=A14B.head_dim,
            ffn_dim=A14B.ffn_dim,
            text_dim=A14B.text_dim,
            freq_dim=A14B.freq_dim,
            rope_max_seq_len=A14B.rope_max_seq_len,
        )
    edit(path / "text_encoder" / "config.json", d_model=4096, num_layers=24, num_heads=64, d_kv=64, d_ff=10240)
    edit(path / "vae" / "config.json", base_dim=96, dim_mult=[1, 2, 4, 4], num_res_blocks=2)
    return path


BAD_CARDS = {
    "no id": ({"id": None}, "id must be a string"),
    "revision as a number": ({"revision": 1}, "revision must be a string"),
    "no sizes": ({"native_sizes": []}, "native_sizes must be a list"),
    "size off the grid": ({"native_sizes": [[60, 64]]}, "multiples of 16"),
    "default beyond the maximum": (
        {"num_frames": {"min": 1, "max": 9, "default": 17}},
        "must be 1 <= min",
    ),
    "frames off the grid": ({"num_frames": {"min": 1, "max": 17, "default": 16}}, "form 1 \\+ 4 n"),
    "unknown grid": ({"sigma_grid": "karras"}, 'sigma_grid must be "official" or "diffusers"'),
    "limits incomplete": ({"limits": {}}, "lacks limits.num_inference_steps.min"),
    "steps as text": (
        {"defaults": {"num_inference_steps": "20"}},
        "must be a whole number",
    ),
    "prompts not a list": (
        {"example_prompts": {"en": "a cat", "zh": []}},
        "en must be a list",
    ),
}


@pytest.mark.parametrize(("changes", "message"), BAD_CARDS.values(), ids=BAD_CARDS.keys())
def test_a_bad_wanserve_json_says_which_key_and_what_belongs_there(checkpoint_copy, changes, message):
    edit(checkpoint_copy / "wanserve.json", **changes)

    with pytest.raises(CheckpointError, match=message):
        read_card(open_folder(checkpoint_copy))


def test_the_embedded_card_allows_its_own_defaults_and_tiers(engine):
    card = engine.card

    card.check(card.default_params(card.example_prompts["zh"][0]))
    assert card.quality["draft"].num_inference_steps < card.quality["high"].num_inference_steps
    assert card.delivery_short_side == 256


def fingerprint_of(path: Path) -> str:
    return fingerprint(open_folder(path), sigma_grid="diffusers")


def test_the_fingerprint_follows_weights_and_configs_but_not_the_description(checkpoint_copy, tmp_path):
    original = fingerprint_of(checkpoint_copy)
    described = Path(shutil.copytree(checkpoint_copy, tmp_path / "described"))
    edit(described / "wanserve.json", description={"en": "other", "zh": "其他"})
    reconfigured = Path(shutil.copytree(checkpoint_copy, tmp_path / "reconfigured"))
    edit(reconfigured / "model_index.json", boundary_ratio=0.9)
    retrained = Path(shutil.copytree(checkpoint_copy, tmp_path / "retrained"))
    weights = retrained / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")

    assert re.fullmatch("[0-9a-f]{64}", original)
    assert fingerprint_of(described) == original
    assert len({original, fingerprint_of(reconfigured), fingerprint_of(retrained)}) == 3


def test_huge_weights_are_fingerprinted_by_samples(checkpoint_copy, tmp_path, monkeypatch):
    monkeypatch.setattr("model.fingerprint.WHOLE_FILE_BYTES", 1_000_000)
    monkeypatch.setattr("model.fingerprint.SAMPLE_BYTES", 1000)
    changed = Path(shutil.copytree(checkpoint_copy, tmp_path / "changed"))
    weights = changed / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")

    assert fingerprint_of(checkpoint_copy) != fingerprint_of(changed)


@pytest.mark.parametrize("device", ["gpu", "cuda:77", "cpu:x", ""])
def test_a_device_that_is_not_there_is_refused_with_the_choices(device):
    with pytest.raises(ValueError, match="give auto, cpu, cuda"):
        choose_device(device)


def test_an_unknown_dtype_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="give auto, float32, bfloat16, float16"):
        choose_dtype("fp8", torch.device("cpu"))


def test_auto_is_float32_on_the_cpu():
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
