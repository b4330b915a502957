"""From a prompt to what the denoiser attends to: embeddings, keys and values with folded padding."""

import html
import math
import re
from typing import NamedTuple

import ftfy
import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

KEYS_AT_A_TIME = 16
"""What attention kernels take together; of keys that are left over, a CPU takes one after another."""


def clean_prompt(prompt: str) -> str:
    """Repairs mojibake and HTML entities and collapses white space, as Wan's own pipeline does."""
    text = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return re.sub(r"\s+", " ", text).strip()


def count_tokens(prompt: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """As they would be without a limit. prompt: as clean_prompt() leaves it."""
    return len(tokenizer(prompt, verbose=False).input_ids)


def prompt_embeds(
    prompt: str, *, tokenizer: PreTrainedTokenizerBase, text_encoder: UMT5EncoderModel, max_tokens: int
) -> torch.Tensor:
    """Embeddings of the real tokens only, n d, cut at max_tokens. prompt: as clean_prompt() leaves it.

    The encoder masks padding out of its attention, so that encoding without any is exact and much less work.
    """
    tokens = tokenizer(prompt, truncation=True, max_length=max_tokens, return_tensors="pt")
    ids = tokens.input_ids.to(text_encoder.device)
    return text_encoder(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]


class TextKeysValues(NamedTuple):
    """What the cross-attention of one block needs of the text; computed once per request and expert."""

    key: torch.Tensor
    """b heads l head_dim, normalised."""

    value: torch.Tensor
    """b heads l head_dim."""

    bias: torch.Tensor
    """b 1 1 l, added to the attention logits."""


def text_keys_values(
    transformer: WanTransformer3DModel, rows: list[torch.Tensor], *, max_tokens: int
) -> list[TextKeysValues]:
    """Keys and values of every block for a stack of prompts; rows: n d each, n may differ.

    Wan pads text with zeros to max_tokens and does NOT mask the padding: pads take part in every attention.
    All pads of a prompt have the same key and value, so one of them, with the logarithm of their number added
    to its logit, weighs the same. Rows are filled up to equal length, a multiple of KEYS_AT_A_TIME, with keys of bias
    -inf: weight zero.
    """
    weight = transformer.proj_out.weight
    embeds, bias = _fold_padding([row.to(weight) for row in rows], max_tokens=max_tokens)
    text = transformer.condition_embedder.text_embedder(embeds)
    # See text_projection.py.
    joint = getattr(transformer, "text_projection", None)
    pairs = (
        [_keys_values(block.attn2, text) for block in transformer.blocks] if joint is None else joint.keys_values(text)
    )
    return [TextKeysValues(key, value, bias) for key, value in pairs]


def _keys_values(attention: WanAttention, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    key = attention.norm_k(attention.to_k(text))
    value = attention.to_v(text)
    heads = (attention.heads, -1)
    return key.unflatten(2, heads).transpose(1, 2).contiguous(), value.unflatten(2, heads).transpose(1, 2).contiguous()


def _fold_padding(rows: list[torch.Tensor], *, max_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stacked embeddings b l d and their logit bias b 1 1 l; l: the longest row with its pads' stand-ins."""
    dtype = rows[0].dtype
    biases = [[0.0] * len(row) + pad_biases(max_tokens - len(row), dtype) for row in rows]
    length = KEYS_AT_A_TIME * math.ceil(max(map(len, biases)) / KEYS_AT_A_TIME)
    embeds = torch.stack([_extend(row, length) for row in rows])
    filled = [bias + [-math.inf] * (length - len(bias)) for bias in biases]
    return embeds, embeds.new_tensor(filled)[:, None, None, :]


def pad_biases(num_pads: int, dtype: torch.dtype) -> list[float]:
    """Logit biases, exact in dtype, whose exponentials add up to num_pads.

    One is enough in float32. bfloat16 has no number near ln 500 (it would be 1.6 % off), so a second key
    makes up for what the first lacks.
    """
    if num_pads == 0:
        return []
    largest = _round_down(math.log(num_pads), dtype)
    missing = num_pads - math.exp(largest)
    if dtype == torch.float32 or missing <= 0:
        return [largest]
    return [largest, _round_down(math.log(missing), dtype)]


def _round_down(value: float, dtype: torch.dtype) -> float:
    rounded = torch.tensor(value, dtype=torch.float64).to(dtype)
    if rounded.double() > value:
        rounded = torch.nextafter(rounded, torch.full_like(rounded, -math.inf))
    return float(rounded)


def _extend(row: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(row, (0, 0, 0, length - len(row)))
