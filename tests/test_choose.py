"""Choosing an engine: what is missing is said, vLLM is stood in for, and logits stay within a vocabulary."""

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from test_engines_elsewhere import PARAMS, build, questions, same

from heal_lib import baselines, pace, scales, teacher, worlds
from heal_lib.engines import SamplingParams, choose
from heal_lib.errors import HealError


@pytest.fixture(scope="module")
def local():
    return build()


@pytest.fixture(scope="module")
def prompts(local):
    return questions(local)


@pytest.fixture
def vllm(monkeypatch, local):
    """A stand-in with vLLM's names: an LLM that draws with the local model, and keeps what it is asked."""
    asked = []

    @torch.inference_mode()
    def told(prompt, ids):
        logits = local.model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        return [{i: types.SimpleNamespace(logprob=p) for i, p in enumerate(row)}
                for row in torch.log_softmax(logits.float(), -1).tolist()]

    class LLM:
        def __init__(self, **options):
            asked.append(options)

        def generate(self, prompts, settings, *, use_tqdm):
            for prompt, how in zip(prompts, settings, strict=True):
                noise = np.random.default_rng(how.seed).random((1, how.max_tokens))
                params = SamplingParams(how.max_tokens, how.temperature, how.top_k, how.top_p)
                (draw,) = local._decode([prompt["prompt_token_ids"]], 1, noise, params)
                ids = draw.token_ids[:-1] if getattr(self, "hides_end", False) and draw.finished else draw.token_ids
                out = types.SimpleNamespace(token_ids=tuple(ids), finish_reason="stop" if draw.finished else "length",
                                            logprobs=told(prompt["prompt_token_ids"], ids) if how.logprobs else None)
                yield types.SimpleNamespace(outputs=[out])

    module = types.SimpleNamespace(LLM=LLM, SamplingParams=types.SimpleNamespace, asked=asked)
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


@pytest.mark.parametrize("hides_end", [False, True])
def test_vllm_draws_with_a_seed_of_its_own_each_and_is_read_here(vllm, local, prompts, monkeypatch, hides_end):
    from heal_lib.engines.vllm import VLLMEngine

    monkeypatch.setenv("HEAL_VLLM", '{"tensor_parallel_size": 2, "trust_remote_code": true}')
    engine = VLLMEngine(local, "folder")
    engine.llm.hides_end = hides_end
    assert vllm.asked == [{"model": "folder", "gpu_memory_utilization": 0.5, "tensor_parallel_size": 2,
                           "enable_prefix_caching": True, "logprobs_mode": "raw_logprobs", "trust_remote_code": False}]
    same(engine.sample(prompts, 2, PARAMS, seed=1), local.sample(prompts, 2, PARAMS, seed=1))
    assert engine.drawn == sum(len(s.token_ids) for s in sum(local.sample(prompts, 2, PARAMS, seed=1), []))
    monkeypatch.setenv("HEAL_VLLM", '{"max_logprobs": -1}')  # entropies come with the draws, of the whole vocabulary
    scored, score = [], local.score
    monkeypatch.setattr(local, "score", lambda p, c: scored.append(len(p)) or score(p, c))
    warm = SamplingParams(40, temperature=0.7)
    same(VLLMEngine(local, "folder").sample(prompts, 1, warm, seed=1), local.sample(prompts, 1, warm, seed=1))
    assert scored == [0]
    monkeypatch.setenv("HEAL_VLLM", "tensor_parallel_size=2")
    with pytest.raises(HealError, match="HEAL_VLLM is no JSON object"):
        VLLMEngine(local, "folder")


def test_another_model_s_tokens_are_refused(vllm, local, prompts):
    from heal_lib.engines.vllm import VLLMEngine

    engine = VLLMEngine(local, "folder")
    out = types.SimpleNamespace(token_ids=[len(local.tokenizer)], finish_reason="length", logprobs=None)
    engine.llm.generate = lambda given, *_, **__: [types.SimpleNamespace(outputs=[out])] * len(given)
    with pytest.raises(HealError, match="is the same model drawing there"):
        engine.sample(prompts[:1], 1, PARAMS, seed=0)


# --- choosing one
def test_what_an_engine_lacks_is_said_before_anything_runs(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(HealError, match="unknown engine 'sglang'; choose one of hf, openai, ray, vllm"):
        scales.get("smoke", engine="sglang")
    with pytest.raises(HealError, match="needs a server: give base_url, or set OPENAI_BASE_URL"):
        scales.get("smoke", engine="openai")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HealError, match=r"pip install '.\[vllm\]'"):
        scales.get("smoke", engine="vllm")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with pytest.raises(HealError, match="engine 'vllm' needs a CUDA GPU"):
        scales.get("smoke", engine="vllm")


def test_a_server_draws_for_the_teacher_alone_and_its_draws_have_keys_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    monkeypatch.setenv("HEAL_CACHE", str(tmp_path))
    models = ("teacher", "student")
    found = {kind: [teacher.drawing(scales.get("smoke", engine=kind), model)["engine"] for model in models]
             for kind in ("hf", "ray", "openai")}
    assert {kind: [engine.value for engine in both] for kind, both in found.items()} == {
        "hf": ["hf", "hf"], "ray": ["ray", "ray"], "openai": ["openai", "hf"]}
    assert found["hf"][0].by == found["ray"][0].by == found["openai"][1].by != found["openai"][0].by


@pytest.mark.parametrize("kind, name, value", [
    ("openai", "HEAL_LOGPROBS", "1"), ("vllm", "HEAL_VLLM", '{"dtype": "half"}')])
def test_a_variable_that_changes_what_an_engine_draws_changes_its_key_and_no_other(monkeypatch, kind, name, value):
    monkeypatch.delenv(name, raising=False)
    usual = {each: choose.key(each) for each in choose.names()}
    monkeypatch.setenv(name, value)
    assert {each for each, key in usual.items() if choose.key(each) != key} == {kind}
    monkeypatch.setenv(name, "")
    assert {each: choose.key(each) for each in usual} == usual


# --- vocabularies
def speaker(words):
    return types.SimpleNamespace(vocabulary=words, prompt=lambda text: [1], opens_thought=False,
                                 encode=lambda text: [len(text)] if text else [],
                                 tokenizer=types.SimpleNamespace(eos_token_id=7))


def test_a_student_with_other_words_is_given_the_text():
    (problem,) = worlds.get("equations").problems("test", 1, 0, "easy")
    row = {**vars(problem), "problem_id": problem.id, "token_ids": [3, 4, 5], "text": "four"}
    other, same = (baselines.tokens(row, speaker("student"), speaker(words)) for words in ("teacher", "student"))
    assert other == {"input_ids": [1, 4, 7], "completion_mask": [0, 1, 1]}
    assert same == {"input_ids": [1, 3, 4, 7], "completion_mask": [0, 1, 1, 1]}  # and ends as it ends texts


def test_logits_do_not_cross_vocabularies(monkeypatch, tmp_path):
    monkeypatch.setattr(choose, "words", speaker)
    with pytest.raises(HealError, match="one vocabulary"):
        pace._to_logits([], None, "student", "teacher", tmp_path, None)


def test_a_process_holds_a_few_engines_and_on_a_gpu_one(monkeypatch):
    """Known wrong turn: every student that was evaluated stayed in the memory of the card."""
    built = []
    monkeypatch.setattr(choose, "_held", {})
    monkeypatch.setattr(choose, "_module", lambda kind: types.SimpleNamespace(
        build=lambda name: built.append(name) or object()))
    first = choose.engine("a", "toy")
    assert choose.engine("a", "toy") is first and built == ["a"]
    for name in "bcdbe":
        choose.engine(name, "toy")
    assert [name for name, _ in choose._held] == ["c", "d", "b", "e"]
    monkeypatch.setattr(choose.engines, "device", lambda: "cuda")
    choose.engine("f", "toy")
    assert list(choose._held) == [("f", "toy")]
    choose.release()
    assert not choose._held
