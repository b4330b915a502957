"""The embedded tokenizer: a sentencepiece unigram of both languages in T5's file layout."""

import json
import random
import re
import string
from pathlib import Path

import sentencepiece
from transformers import T5TokenizerFast

from model.tiny.captions import NEGATIVE_PROMPTS, STRANGE_CHARACTERS, STRANGE_WORDS, UNKNOWN_SIGNS, describe_freely
from model.tiny.plan import Plan
from model.tiny.world import draw_scene

VOCABULARY_SIZE = 900
_BORDER = "\u2016"
_CJK = re.compile(r"([\u3400-\u9fff\uff00-\uffef])")


def train_tokenizer(work: Path, plan: Plan) -> None:
    """Write work/tokenizer; the same for every plan.

    Every CJK character is a piece of its own, so that no phrase hides a colour.
    """
    rng = random.Random("tokenizer")
    lines = [describe_freely(draw_scene(rng, held_out=False), rng).text for _ in range(12_000)]
    lines += [
        *NEGATIVE_PROMPTS,
        *STRANGE_WORDS,
        *STRANGE_CHARACTERS,
        *([" ".join(string.printable[:94])] * 2),
    ] * 10
    corpus, prefix = work / "corpus.txt", work / "raw" / "spiece"
    prefix.parent.mkdir(exist_ok=True)
    text = "\n".join(_CJK.sub(rf"{_BORDER}\1{_BORDER}", line) for line in lines)
    corpus.write_text(text.translate(dict.fromkeys(map(ord, UNKNOWN_SIGNS))), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(prefix),
        model_type="unigram",
        vocab_size=VOCABULARY_SIZE,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf",
        pretokenization_delimiter=_BORDER,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
        num_threads=1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    config = {
        "tokenizer_class": "T5TokenizerFast",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "extra_ids": 0,
        "additional_special_tokens": [],
        "model_max_length": 512,
    }
    (prefix.parent / "tokenizer_config.json").write_text(json.dumps(config))
    T5TokenizerFast.from_pretrained(prefix.parent).save_pretrained(work / "tokenizer")
