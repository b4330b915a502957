"""Train the text encoder (UMT5) as a reader: every token of a caption states every attribute the caption names.

The target of a token is a fixed code, one direction an attribute value; what a caption leaves open stays zero. So both
languages and all wordings of one scene meet in one embedding. All prompts from outside the world meet in another, and
only a blank one is all zero. Frozen afterwards: a denoiser that trains its own reader needs many times longer.
"""

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

from model.tiny.captions import BLANK, Caption, describe, describe_freely, describe_partly
from model.tiny.plan import Plan
from model.tiny.ranks import average_gradients, run_ranks, step_rng
from model.tiny.world import ATTRIBUTES, draw_scene

WIDTH = 128
MAX_TOKENS = 64
BLANK_EVERY = 4
"""Negative prompts are long and few: they come in a batch of their own, every so many steps."""
NOTHING_SAID = "nothing"
BATCH_SIZE, LEARNING_RATE = 32, 3e-3
PARTIAL_SHARE, LEFT_OPEN = 0.75, ("shape", "shape", "colour", "motion")
"""How many captions leave part of the triple open, and which."""
CODE_LENGTH = 1.5
"""The length of an attribute's code. Tokens then have an rms of about 0.27, as in a full-sized UMT5."""


def train_text_encoder(work: Path, plan: Plan) -> None:
    """Write work/text_encoder. Needs work/tokenizer. Raises RuntimeError if it reads less than the plan needs."""
    run_ranks(_train, str(work), plan.text_steps)
    tokenizer = T5TokenizerFast.from_pretrained(work / "tokenizer")
    encoder = UMT5EncoderModel.from_pretrained(work / "text_encoder").eval()
    check_reading(reading_accuracy(encoder, tokenizer), plan.needed_reading)


def _train(rank: int, work_dir: str, num_steps: int) -> None:
    work = Path(work_dir)
    torch.manual_seed(0)
    tokenizer = T5TokenizerFast.from_pretrained(work / "tokenizer")
    encoder = _new_encoder(len(tokenizer))
    codes, parameters = reader_codes(), list(encoder.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    began = time.monotonic()
    for step in range(num_steps):
        rng = step_rng("text_encoder", rank, step)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / 50) * (1 - 0.98 * step / num_steps)
        captions = [draw_caption(rng) for _ in range(BATCH_SIZE)]
        loss = _reading_error(encoder, tokenizer, captions, codes)
        if step % BLANK_EVERY == 0:
            loss = loss + _reading_error(encoder, tokenizer, BLANK, codes)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(parameters, max_norm=1.0)
        optimizer.step()
        if rank == 0 and (step + 1) % 200 == 0:
            seconds = (time.monotonic() - began) / (step + 1)
            print(f"text step {step + 1}/{num_steps} loss {float(loss.detach()):.4f} {seconds:.3f} s/step", flush=True)
    if rank == 0:
        encoder.save_pretrained(work / "text_encoder")


def draw_caption(rng: random.Random) -> Caption:
    """A caption to learn reading from; none names a held-out triple.

    Where all three parts are named, the triples that are left out tell much of which colour is the shape's and where it
    moves: a reader learns that sooner than to read, and is then wrong about just the held-out ones. Where the shape or
    the motion is open, the others come together equally often.
    """
    scene = draw_scene(rng, held_out=False)
    if rng.random() < PARTIAL_SHARE:
        return describe_partly(scene, rng, without=rng.choice(LEFT_OPEN))
    return describe_freely(scene, rng)


def check_reading(accuracy: Mapping[str, float], needed: float) -> None:
    """Print the held-out accuracy. Raises RuntimeError below `needed`: no denoiser draws what its reader can't tell."""
    print("text held-out", *(f"{attribute} {100 * share:.1f} %" for attribute, share in accuracy.items()), flush=True)
    if weak := [attribute for attribute, share in accuracy.items() if share < needed]:
        raise RuntimeError(
            f"The text encoder reads {', '.join(weak)} rightly in less than {100 * needed:.0f} % of held-out captions. "
            "Raise text_steps in model/tiny/plan.py and run `make train-embedded` again; the earlier stages stay."
        )


def reader_codes() -> Mapping[str, Tensor]:
    """Orthogonal directions of length CODE_LENGTH  # attribute → num_values WIDTH, and NOTHING_SAID → 1 WIDTH"""
    generator = torch.Generator().manual_seed(2022)
    basis, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator))
    rows = iter(basis * CODE_LENGTH)
    names = {**ATTRIBUTES, NOTHING_SAID: (NOTHING_SAID,)}
    return {name: torch.stack([next(rows) for _ in values]) for name, values in names.items()}


def caption_code(codes: Mapping[str, Tensor], caption: Caption) -> Tensor:
    """The sum of the codes of what a caption says; zero for a blank one  # WIDTH"""
    if caption.is_blank:
        return torch.zeros(WIDTH)
    if not caption.says:
        return codes[NOTHING_SAID][0]
    said = [codes[attribute][ATTRIBUTES[attribute].index(value)] for attribute, value in caption.says.items()]
    return torch.stack(said).sum(0)


def embed(encoder: UMT5EncoderModel, tokenizer: T5TokenizerFast, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token embeddings and their mask  # b n WIDTH, b n"""
    batch = tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    hidden = encoder(batch.input_ids, batch.attention_mask).last_hidden_state
    return hidden, batch.attention_mask


@torch.no_grad()
def reading_accuracy(encoder: UMT5EncoderModel, tokenizer: T5TokenizerFast, *, count: int = 600) -> dict[str, float]:
    """Share of held-out captions whose mean token names the attribute rightly."""
    rng = random.Random("reading")
    codes = reader_codes()
    scenes = [draw_scene(rng, held_out=True) for _ in range(count)]
    texts = [describe(s, rng, language=("en", "zh")[i % 2]).text for i, s in enumerate(scenes)]
    embeds, mask = embed(encoder, tokenizer, texts)
    mean = (embeds * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    accuracy = {}
    for attribute, values in ATTRIBUTES.items():
        read = (mean @ codes[attribute].T).argmax(-1)
        truth = torch.tensor([values.index(s.value(attribute)) for s in scenes])
        accuracy[attribute] = float((read == truth).float().mean())
    return accuracy


def _reading_error(
    encoder: UMT5EncoderModel,
    tokenizer: T5TokenizerFast,
    captions: Sequence[Caption],
    codes: Mapping[str, Tensor],
) -> Tensor:
    """Mean squared distance between the tokens and what their caption says."""
    embeds, mask = embed(encoder, tokenizer, [c.text for c in captions])
    targets = torch.stack([caption_code(codes, c) for c in captions])[:, None]
    return (((embeds - targets) ** 2).sum(-1) * mask).sum() / mask.sum()


def _new_encoder(vocabulary_size: int) -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=vocabulary_size,
        d_model=WIDTH,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        relative_attention_max_distance=64,
        is_encoder_decoder=False,
        use_cache=False,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        tie_word_embeddings=False,
    )
    encoder = UMT5EncoderModel(config)
    # Layer 0 starts by looking at neighbours: which noun a colour word belongs to is a matter of distance.
    bias = encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    buckets = torch.arange(bias.shape[0])
    distance, is_right = (buckets % 16).float(), buckets >= 16
    with torch.no_grad():
        bias.copy_(-distance[:, None].expand_as(bias))
        bias[:, 2] -= 4.0 * is_right
        bias[:, 3] -= 4.0 * ~is_right
    return encoder
