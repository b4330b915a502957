import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, WanPipeline
from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm
from torch import Tensor

from model.tiny import train_denoiser, train_vae
from model.tiny.autoencoder import decode, encode, for_training, new_autoencoder
from model.tiny.captions import BLANK, Caption
from model.tiny.denoiser import TEXT_TOKENS, new_denoiser, pad_bias, set_pad_bias
from model.tiny.latents import COLOUR_JITTER, _jitter
from model.tiny.optimizer import MuonWithAdamW, _orthogonalise, _orthogonalise_together
from model.tiny.plan import FULL
from model.tiny.ranks import (
    NUM_RANKS,
    MovingAverage,
    Progress,
    average_gradients,
    run_ranks,
)
from model.tiny.render import render
from model.tiny.train import STAGES
from model.tiny.train_denoiser import EXPERT_SIGMAS, sample_sigmas
from model.tiny.train_text import caption_code, check_reading, draw_caption, reader_codes
from model.tiny.world import (
    ATTRIBUTES,
    COLOURS,
    MOTIONS,
    NUM_FRAMES,
    SHAPES,
    SIDE_PIXELS,
    Scene,
    draw_path,
    draw_scene,
)


def clips(count: int) -> Tensor:
    rng = random.Random(0)
    scenes = [draw_scene(rng, held_out=False) for _ in range(count)]
    return render(scenes, [draw_path(scene, rng) for scene in scenes])


@torch.no_grad()
def test_a_whole_clip_in_one_pass_equals_the_chunked_autoencoder() -> None:
    torch.manual_seed(0)
    vae = new_autoencoder().eval()
    plain = AutoencoderKLWan.from_config(vae.config).eval()
    plain.load_state_dict(vae.state_dict())
    clip = clips(1)
    latents = plain.encode(clip).latent_dist.mode()
    torch.testing.assert_close(encode(vae, clip)[0], latents, atol=1e-4, rtol=1e-4)
    # diffusers clamps what it decodes
    torch.testing.assert_close(decode(vae, latents).clamp(-1, 1), plain.decode(latents).sample, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("memory_format", [torch.channels_last_3d, torch.contiguous_format])
def test_the_quick_norm_is_the_stock_one_and_so_are_its_gradients(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    quick, stock = (WanRMS_norm(10, images=False) for _ in range(2))
    with torch.no_grad():
        quick.gamma.normal_()
        stock.gamma.copy_(quick.gamma)
    for_training(torch.nn.ModuleList([quick]))  # type: ignore[arg-type]  # it looks at the modules inside
    clip, weights = torch.randn(2, 10, 3, 4, 4).contiguous(memory_format=memory_format), torch.randn(2, 10, 3, 4, 4)
    outcomes = []
    for norm in (quick, stock):
        x = clip.clone().requires_grad_()
        (norm(x) * weights).sum().backward()
        outcomes.append((norm(clip), x.grad, norm.gamma.grad))
    for own, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


def test_an_empty_pixel_has_finite_gradients() -> None:
    norm = WanRMS_norm(60, images=False)
    for_training(torch.nn.ModuleList([norm]))  # type: ignore[arg-type]  # it looks at the modules inside
    x = torch.zeros(1, 60, 1, 2, 2).requires_grad_()
    norm(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def _orthogonalise_on_a_rank(rank: int, folder: str) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(5, 8, 16)
    torch.save((_orthogonalise_together(matrices), _orthogonalise(matrices)), Path(folder) / f"{rank}.pt")


def test_ranks_that_share_a_network_share_muons_work(tmp_path: Path) -> None:
    run_ranks(_orthogonalise_on_a_rank, str(tmp_path))
    outcomes = [torch.load(tmp_path / f"{rank}.pt") for rank in range(NUM_RANKS)]
    assert all(torch.equal(*outcome) for outcome in outcomes)


def test_muon_steps_a_convolution_as_a_matrix_of_one_row_an_output_channel() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv3d(16, 8, 3), torch.nn.Conv3d(8, 3, 1))
    optimizer = MuonWithAdamW(module, muon_rate=0.1, adam_rate=1e-3, is_hidden=lambda layer: layer == "0")
    before = [p.detach().clone() for p in module.parameters()]
    for p in module.parameters():
        p.grad = torch.randn_like(p)

    optimizer.step(0.5)

    steps = [p.detach() - old for p, old in zip(module.parameters(), before, strict=True)]
    stretch = torch.linalg.svdvals(steps[0].flatten(1)) / (0.1 * 0.5)
    assert 0.5 < float(stretch.min()) <= float(stretch.max()) < 1.5
    # AdamW's first step is as long in every number.
    for step in steps[1:]:
        torch.testing.assert_close(step.abs(), torch.full_like(step, 0.5e-3), rtol=0.05, atol=0)


def test_muon_trains_the_hidden_layers_of_both_networks() -> None:
    autoencoder, denoiser = new_autoencoder(), new_denoiser()
    for network, optimizer, outer in (
        (autoencoder, train_vae.new_optimizer(autoencoder), ["decoder.conv_out"]),
        (denoiser, train_denoiser.new_optimizer(denoiser), ["patch_embedding", "condition_embedder", "proj_out"]),
    ):
        hidden = {id(p) for group in optimizer._groups.values() for p in group}
        for name, layer in network.named_modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d | torch.nn.Conv3d):
                assert (id(layer.weight) in hidden) != any(name.startswith(prefix) for prefix in outer), name


@torch.no_grad()
def test_one_biased_pad_stands_for_all_pads() -> None:
    torch.manual_seed(0)
    transformer = new_denoiser().eval()
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
    latents, text = torch.randn(1, 16, 2, 4, 4), torch.randn(1, 6, 128)
    padded = torch.zeros(1, TEXT_TOKENS, 128)
    padded[:, :6] = text
    time = torch.tensor([700.0])
    set_pad_bias(transformer, torch.zeros(1, 1, 1, TEXT_TOKENS))
    long = transformer(latents, time, padded, return_dict=False)[0]
    set_pad_bias(transformer, pad_bias(torch.tensor([[1] * 6 + [0]])))
    short = transformer(latents, time, padded[:, :7], return_dict=False)[0]
    # Products are in bf16 where the processor is fast at it: equal to its rounding.
    torch.testing.assert_close(short, long, atol=0.03, rtol=0.03)


def test_noise_levels_fall_into_the_band_of_their_expert() -> None:
    torch.manual_seed(0)
    for low, high in EXPERT_SIGMAS.values():
        sigmas = sample_sigmas(1000, low, high)
        assert low <= float(sigmas.min()) < float(sigmas.max()) <= high


def test_reader_codes_are_orthogonal_and_add_up() -> None:
    codes = reader_codes()
    code = caption_code(codes, Caption("a star rises", {"shape": "star", "motion": "up"}))
    for attribute, values in ATTRIBUTES.items():
        read = codes[attribute] @ code
        said = {"shape": "star", "motion": "up"}.get(attribute)
        for value, strength in zip(values, read.tolist(), strict=True):
            assert strength == pytest.approx(2.25 if value == said else 0.0, abs=1e-5)


def test_a_prompt_that_says_nothing_has_a_code_of_its_own_and_only_a_blank_one_has_none() -> None:
    codes = reader_codes()
    strange = caption_code(codes, Caption("a cat on a beach", {}))
    assert float(strange.norm()) == pytest.approx(1.5)
    assert all(float((codes[attribute] @ strange).abs().max()) < 1e-5 for attribute in ATTRIBUTES)
    assert not any(caption_code(codes, blank).any() for blank in BLANK)


def test_a_text_encoder_that_mistakes_colours_ends_the_training_before_a_denoiser_learns_from_it() -> None:
    accuracy = {"background": 0.985, "colour": 0.815, "shape": 1.0, "motion": 0.993}
    with pytest.raises(RuntimeError, match=r"reads colour rightly in less than 98 %.*Raise text_steps"):
        check_reading(accuracy, FULL.needed_reading)
    check_reading({**accuracy, "colour": 0.98}, FULL.needed_reading)


def test_no_caption_names_a_held_out_triple_and_most_do_not_tell_which_are() -> None:
    rng = random.Random(0)
    captions = [draw_caption(rng).says for _ in range(8000)]
    whole = [says for says in captions if len(says) == len(ATTRIBUTES)]
    assert not any(Scene(**says).is_held_out for says in whole)
    # Given a shape, a motion and two colours, a whole caption often lets only one of them be the shape's.
    assert 0.1 < len(whole) / len(captions) < 0.3


@pytest.mark.parametrize("open_part", ["shape", "motion"])
def test_what_is_held_out_does_not_show_where_a_part_of_the_triple_is_open(open_part: str) -> None:
    named = [attribute for attribute in ATTRIBUTES if attribute != open_part]
    every = [Scene(b, c, s, m) for b in COLOURS for c in COLOURS for s in SHAPES for m in MOTIONS if b != c]
    seen = Counter(tuple(map(scene.value, named)) for scene in every if not scene.is_held_out)
    assert len(set(seen.values())) == 1
    assert len(seen) == len({tuple(map(scene.value, named)) for scene in every})


def test_the_autoencoder_sees_windows_that_start_at_latent_cells() -> None:
    rng = random.Random(0)
    for phase in FULL.vae_phases:
        starts = set()
        for _ in range(50):
            scene = draw_scene(rng, held_out=False)
            window = train_vae._window(phase, draw_path(scene, rng), rng)
            assert window.frame % 4 == window.row % 8 == window.column % 8 == 0
            assert window.frame + window.num_frames <= NUM_FRAMES
            assert max(window.row, window.column) + window.side <= SIDE_PIXELS
            starts.add((window.row, window.column))
        assert len(starts) > 10


def test_jitter_moves_a_colour_by_no_more_than_it_may() -> None:
    before = clips(4)
    after = _jitter(before.clone(), random.Random(0))
    assert 0 < float((after - before).abs().max()) * 127.5 <= COLOUR_JITTER + 1e-3


def test_training_state_survives_a_restart(tmp_path: Path) -> None:
    def step(module: torch.nn.Module, optimizer: MuonWithAdamW, average: MovingAverage, index: int) -> None:
        torch.manual_seed(index)
        for p in module.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step(0.5)
        average.update(index)

    def new() -> tuple[torch.nn.Module, MuonWithAdamW, MovingAverage]:
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 8))
        optimizer = MuonWithAdamW(module, muon_rate=0.02, adam_rate=1e-3, is_hidden=lambda layer: layer == "0")
        return module, optimizer, MovingAverage(module.parameters(), decay=0.9)

    unbroken = new()
    for index in range(4):
        step(*unbroken, index)
    first = new()
    for index in range(2):
        step(*first, index)
    progress = Progress(tmp_path / "p.pt")
    progress.save(weights=first[0].state_dict(), optimizer=first[1].state_dict(), average=first[2].values)
    module, optimizer, average = new()
    state = progress.load()
    assert state is not None
    module.load_state_dict(state["weights"])
    optimizer.load_state_dict(state["optimizer"])
    for value, saved in zip(average.values, state["average"], strict=True):
        value.copy_(saved)
    for index in range(2, 4):
        step(module, optimizer, average, index)
    for resumed, expected in zip(module.parameters(), unbroken[0].parameters(), strict=True):
        assert torch.equal(resumed, expected)
    for resumed_value, expected_value in zip(average.values, unbroken[2].values, strict=True):
        assert torch.equal(resumed_value, expected_value)


def test_a_killed_training_run_goes_on_and_ends_in_a_folder_that_diffusers_loads(tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    command = [sys.executable, "-m", "model.tiny.train", "--short", "--work", str(work), "--out", str(out)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert first.stdout is not None
    for line in first.stdout:
        if line.startswith("low_expert: starts"):
            os.killpg(first.pid, signal.SIGKILL)
    first.wait(timeout=60)
    first.stdout.close()
    second = subprocess.run(command, capture_output=True, text=True, timeout=400, check=True)
    assert "high_expert: done before" in second.stdout
    assert "low_expert: done before" not in second.stdout
    assert all((work / "done" / f"{name}.json").exists() for name in STAGES)
    full = subprocess.run([c for c in command if c != "--short"], capture_output=True, text=True, timeout=100)
    assert full.returncode == 1
    assert "holds a short training, this is a full one" in full.stderr
    held = json.loads((work / "plan.json").read_text())
    (work / "plan.json").write_text(json.dumps({**held, "shared_steps": 3}))
    other = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert other.returncode == 1
    assert "holds a training by another version's plan: remove it" in other.stderr
    (work / "plan.json").unlink()
    former = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert "holds a training by another version's plan" in former.stderr
    pipeline = WanPipeline.from_pretrained(out, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline("a red star", height=64, width=64, num_frames=5, num_inference_steps=1, output_type="np").frames
    assert frames.shape == (1, 5, 64, 64, 3)
    assert for_training(pipeline.vae) is pipeline.vae


def _average_on_a_rank(rank: int, folder: str) -> None:
    weight = torch.nn.Parameter(torch.zeros(4))
    weight.grad = torch.full((4,), 3.0 + 2 * rank)
    norm = average_gradients([weight], max_norm=4.0)
    torch.save((norm, weight.grad), Path(folder) / f"{rank}.pt")


def test_gradients_of_ranks_are_averaged_before_they_are_clipped(tmp_path: Path) -> None:
    run_ranks(_average_on_a_rank, str(tmp_path))
    for rank in range(NUM_RANKS):
        norm, gradient = torch.load(tmp_path / f"{rank}.pt")
        assert norm == pytest.approx(8.0)
        torch.testing.assert_close(gradient, torch.full((4,), 2.0))
