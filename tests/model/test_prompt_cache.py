import torch

from model.prompt_cache import PromptCache


class Encoder:
    def __init__(self):
        self.prompts = []

    def __call__(self, prompt):
        self.prompts.append(prompt)
        return torch.zeros(len(prompt), 4)


def test_a_prompt_is_encoded_once():
    cache, encode = PromptCache(), Encoder()

    assert cache.get("a ball", encode) is cache.get("a ball", encode)
    assert encode.prompts == ["a ball"]


def test_the_least_recently_used_prompt_is_forgotten_first():
    cache, encode = PromptCache(max_bytes=2 * 16), Encoder()
    for prompt in ("a", "b", "a", "c"):
        cache.get(prompt, encode)

    assert cache.num_bytes == 32
    cache.get("a", encode)
    cache.get("b", encode)
    assert encode.prompts == ["a", "b", "c", "b"]


def test_an_embedding_larger_than_the_cache_is_not_kept():
    cache, encode = PromptCache(max_bytes=16), Encoder()

    assert cache.get("long", encode).shape == (4, 4)
    assert cache.num_bytes == 0


def test_the_engine_encodes_the_negative_prompt_of_many_requests_once(engine, make_params, monkeypatch):
    encoded = []
    encode = type(engine)._encode_prompt
    monkeypatch.setattr(type(engine), "_encode_prompt", lambda self, p: encoded.append(p) or encode(self, p))

    for seed in range(3):
        engine.prepare(make_params(negative_prompt="grainy and dull", seed=seed))
        engine.prepare(make_params(negative_prompt="  grainy and \n dull", seed=seed))

    assert encoded.count("grainy and dull") == 1
