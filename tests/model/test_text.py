"""Prompts without padding, and padding folded into one key, against the padded originals."""

import math

import pytest
import torch
from torch.nn import functional as F

from model.folder import open_folder
from model.loader import load_parts
from model.text import clean_prompt, count_tokens, pad_biases, prompt_embeds, text_keys_values


@pytest.fixture(scope="module")
def parts():
    return load_parts(open_folder("embedded"), device="cpu", dtype="float32")


def embed(parts, prompt):
    return prompt_embeds(prompt, tokenizer=parts.tokenizer, text_encoder=parts.text_encoder, max_tokens=512)


@pytest.mark.parametrize("prompt", ["", "a red circle", "一个红色的圆形向左移动", "a red circle " * 300])
@torch.inference_mode()
def test_unpadded_encoding_equals_the_padded_one(parts, prompt):
    padded = parts.tokenizer(
        clean_prompt(prompt), padding="max_length", max_length=512, truncation=True, return_tensors="pt"
    )
    reference = parts.text_encoder(padded.input_ids, padded.attention_mask).last_hidden_state[0]
    length = int(padded.attention_mask.sum())

    ours = embed(parts, prompt)

    assert len(ours) == length <= 512
    torch.testing.assert_close(ours, reference[:length], rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_folded_padding_weighs_as_much_as_512_padded_tokens(parts):
    transformer = parts.experts.high_noise
    rows = [embed(parts, "a red circle moves to the left on a white background"), embed(parts, "")]
    attention = transformer.blocks[0].attn2
    heads = (attention.heads, transformer.config.attention_head_dim)
    query = torch.randn(2, heads[0], 9, heads[1], generator=torch.Generator().manual_seed(5))

    folded = text_keys_values(transformer, rows, max_tokens=512)[0]
    ours = F.scaled_dot_product_attention(query, folded.key, folded.value, attn_mask=folded.bias)

    padded = torch.stack([F.pad(row, (0, 0, 0, 512 - len(row))) for row in rows])
    text = transformer.condition_embedder.text_embedder(padded)
    key, value = (
        tensor.unflatten(2, heads).transpose(1, 2)
        for tensor in (attention.norm_k(attention.to_k(text)), attention.to_v(text))
    )
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(query, key, value), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("num_pads", [1, 2, 3, 37, 255, 500, 511])
def test_pad_biases_add_up_to_the_number_of_pads_in_every_precision(dtype, num_pads):
    biases = torch.tensor(pad_biases(num_pads, dtype), dtype=dtype)

    total = sum(math.exp(bias) for bias in biases.tolist())

    assert total == pytest.approx(num_pads, rel=1e-3 if dtype == torch.bfloat16 else 1e-5)


def test_a_prompt_that_fills_all_tokens_has_no_pads():
    assert pad_biases(0, torch.float32) == []


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  a\tred\n circle ", "a red circle"),
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("cafÃ©", "café"),
        ("一个红色的圆形", "一个红色的圆形"),
        ("", ""),
    ],
)
def test_prompts_are_cleaned_as_wan_does(raw, clean):
    assert clean_prompt(raw) == clean


def test_tokens_are_counted_beyond_the_limit_too(parts):
    assert count_tokens("a red circle", parts.tokenizer) == len(embed(parts, "a red circle"))
    assert count_tokens("a red circle " * 300, parts.tokenizer) > 900
