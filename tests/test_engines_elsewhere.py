"""Engines that draw elsewhere: Ray's workers give what hf gives, to the bit; vLLM is stood in for; what is missing is
said."""

import functools
import importlib.util
import os
import sys
import types

import numpy as np
import pytest
import torch
from toys import Toy, build_small, in_small_batches

from heal_lib import baselines, embedded, pace, scales, teacher, worlds
from heal_lib.engines import SamplingParams, choose
from heal_lib.engines import ray as spread
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError
from heal_lib.files import ROOT

PARAMS = SamplingParams(40)


def build():
    torch.set_num_threads(1)
    return HFEngine(*embedded.load("student"))


def build_noted(folder):
    """Leaves its node's name in a folder."""
    import ray

    (folder / ray.get_runtime_context().get_node_id()).touch()
    return build()


def spread_over(workers, local, of=build, *arguments):
    engine = spread.RayEngine(local.tokenizer, functools.partial(build_small, of, *arguments), workers)
    return in_small_batches(engine)


@pytest.fixture(scope="module")
def local():
    return build()


@pytest.fixture(scope="module")
def prompts(local):
    return [local.prompt(w.prompt(p)) for w in map(worlds.get, ("equations", "paths"))
            for p in w.problems("test", 3, 0, "easy")]


OPTIONS = {"runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join([str(ROOT), os.path.dirname(__file__)]),
                                         "OMP_NUM_THREADS": "1"}}}


@pytest.fixture(scope="module")
def cluster():
    """Workers have this process's variables and not some of their own, so that those started beforehand will do."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OPTIONS["runtime_env"]["env_vars"].items():
            patch.setenv(name, value)
        spread.start(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, runtime_env={})
    yield ray
    spread.release()
    ray.shutdown()


def same(found, known, exact=False):
    for mine, right in zip(sum(found, []), sum(known, []), strict=True):
        assert (mine.token_ids, mine.text, mine.finished) == (right.token_ids, right.text, right.finished)
        np.testing.assert_allclose(mine.entropy, right.entropy, atol=0 if exact else 1e-5, rtol=0)


def test_two_workers_of_ray_draw_and_read_what_hf_does(cluster, local, prompts):
    alone, engine = build_small(build), spread_over(2, local)
    known = alone.sample(prompts, 2, PARAMS, seed=3)
    same(engine.sample(prompts, 2, PARAMS, seed=3), known, exact=True)
    texts = [samples[0].token_ids for samples in known]
    for mine, right in zip(engine.score(prompts, texts), alone.score(prompts, texts), strict=True):
        for name in ("nll", "entropy", "self_certainty"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(right, name))
    ends, tails = [[0, len(t)] for t in texts], [[5, 6]] * len(texts)
    for mine, right in zip(engine.tail_nll(prompts, texts, ends, tails), alone.tail_nll(prompts, texts, ends, tails),
                           strict=True):
        np.testing.assert_array_equal(mine, right)
    assert engine.prompt("facts\n\n") == local.prompt("facts\n\n") and engine.vocabulary == local.vocabulary


def test_what_a_lost_worker_had_is_drawn_again(cluster, local, prompts, tmp_path):
    marker, words = str(tmp_path / "died"), local.vocabulary
    keys = [str(i) for i in range(len(prompts))]
    found = spread_over(2, local, Toy, words, marker).sample(prompts, 2, PARAMS, 7, keys)
    same(found, Toy(words).sample(prompts, 2, PARAMS, 7, keys), exact=True)
    assert os.path.exists(marker)


def test_what_goes_wrong_in_workers_is_one_line_and_the_next_call_works(cluster, local, prompts, monkeypatch):
    monkeypatch.setattr(spread, "RETRIES", 1)
    spread.release()
    for words, marker, said in ((local.vocabulary, "", "^ray: its workers were lost 2 times .*HEAL_WORKERS"),
                                ("another", None, "^ray: a worker's tokenizer is not this machine's")):
        with pytest.raises(HealError, match=said) as error:
            spread_over(1, local, Toy, words, marker).sample(prompts, 1, PARAMS, seed=0)
        assert "\n" not in str(error.value)
    assert spread_over(1, local, Toy, local.vocabulary).sample(prompts, 1, PARAMS, seed=0)[3][0].text == "3 0"


@pytest.mark.slow
def test_two_nodes_share_the_rows(local, prompts, tmp_path):
    """Two nodes of a cluster on this machine, of one core each: no node could hold both workers."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    spread.release()
    ray.shutdown()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes.add_node(num_cpus=1)
        spread.start(address=nodes.address, **OPTIONS)
        assert spread.room() == 2
        drawn = spread_over(2, local, build_noted, tmp_path).sample(prompts, 2, PARAMS, seed=3)
        same(drawn, build_small(build).sample(prompts, 2, PARAMS, seed=3), exact=True)
        assert len(list(tmp_path.iterdir())) == 2
    finally:
        spread.release()
        ray.shutdown()
        nodes.shutdown()


def test_inside_a_worker_a_model_is_run_as_it_is(monkeypatch):
    assert isinstance(spread.build("student"), spread.RayEngine)
    monkeypatch.setenv(spread.IN_WORKER, "1")
    assert isinstance(spread.build("student"), HFEngine)


@pytest.mark.parametrize("where", ["127.0.0.1:9", "ray://127.0.0.1:9", "nonsense"])
def test_a_cluster_that_does_not_answer_is_named(monkeypatch, where):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", where)
    with pytest.raises(HealError, match=f"^RAY_ADDRESS={where}: no cluster answers there") as error:
        scales.get("smoke", engine="ray")
    assert "\n" not in str(error.value)


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


# --- vocabularies
def speaker(words):
    return types.SimpleNamespace(vocabulary=words, prompt=lambda text: [1], encode=lambda text: [len(text)],
                                 tokenizer=types.SimpleNamespace(eos_token_id=7))


def test_a_student_with_other_words_is_given_the_text():
    (problem,) = worlds.get("equations").problems("test", 1, 0, "easy")
    row = {**vars(problem), "problem_id": problem.id, "token_ids": [3, 4, 5], "text": "four"}
    other, same = (baselines.tokens(row, speaker("student"), speaker(words)) for words in ("teacher", "student"))
    assert other == {"input_ids": [1, 4, 7], "completion_mask": [0, 1, 1]}
    assert same == {"input_ids": [1, 3, 4, 5], "completion_mask": [0, 1, 1, 1]}


def test_logits_do_not_cross_vocabularies(monkeypatch, tmp_path):
    monkeypatch.setattr(choose, "engine", lambda name, kind="hf": speaker(name))
    with pytest.raises(HealError, match="one vocabulary"):
        pace._to_logits([], None, "student", "teacher", 9, tmp_path)
