"""On Ray: an engine's workers give what hf gives, to the bit; stages as tasks keep their order, also when workers are
lost, and a student's run gives what it gives without Ray; clusters that do not answer are named."""

import functools
import os

import numpy as np
import pytest
import torch
import toys

from heal_lib import cluster as tasks
from heal_lib import embedded, progress, scales, worlds
from heal_lib.engines import SamplingParams
from heal_lib.engines import ray as spread
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError
from heal_lib.experiment import Experiment
from heal_lib.files import ROOT, file_hash
from heal_lib.stage import Stage
from heal_lib.store import Store

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
    engine = spread.RayEngine(local.tokenizer, functools.partial(toys.build_small, of, *arguments), workers)
    return toys.in_small_batches(engine)


@pytest.fixture(scope="module")
def local():
    return build()


def questions(local):
    return [local.prompt(w.prompt(p)) for w in map(worlds.get, ("equations", "paths"))
            for p in w.problems("test", 3, 0, "easy")]


@pytest.fixture(scope="module")
def prompts(local):
    return questions(local)


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


@pytest.mark.slow
def test_two_workers_of_ray_draw_and_read_what_hf_does(cluster, local, prompts):
    alone, engine = toys.build_small(build), spread_over(2, local)
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


@pytest.mark.slow
def test_what_a_lost_worker_had_is_drawn_again(cluster, local, prompts, tmp_path):
    marker, words = str(tmp_path / "died"), local.vocabulary
    keys = [str(i) for i in range(len(prompts))]
    found = spread_over(2, local, toys.Toy, words, marker).sample(prompts, 2, PARAMS, 7, keys)
    same(found, toys.Toy(words).sample(prompts, 2, PARAMS, 7, keys), exact=True)
    assert os.path.exists(marker)


@pytest.mark.slow
def test_what_goes_wrong_in_workers_is_one_line_and_the_next_call_works(cluster, local, prompts, monkeypatch):
    monkeypatch.setattr(spread, "RETRIES", 1)
    spread.release()
    for words, marker, said in ((local.vocabulary, "", "^ray: its workers were lost 2 times .*HEAL_WORKERS"),
                                ("another", None, "^ray: a worker's tokenizer is not this machine's")):
        with pytest.raises(HealError, match=said) as error:
            spread_over(1, local, toys.Toy, words, marker).sample(prompts, 1, PARAMS, seed=0)
        assert "\n" not in str(error.value)
    assert spread_over(1, local, toys.Toy, local.vocabulary).sample(prompts, 1, PARAMS, seed=0)[3][0].text == "3 0"


# --- stages as its tasks
def bits(folder):
    """What a stage left, but for the seconds that it took."""
    return {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.rglob("*.*"))
            if path.name != "manifest.json"}


def said(store, stage):
    return (store.get(stage).folder / "said").read_text().split()


@pytest.mark.slow
def test_stages_are_tasks_in_the_order_that_they_need_and_a_lost_one_is_made_again(cluster, tmp_path):
    first = [Stage(f"first {i}", toys.say, {"word": i}) for i in range(3)]
    first.append(Stage("lost", toys.die_once, {"marker": str(tmp_path / "died")}))
    last = Stage("last", toys.say, {"word": "last", "after": first})
    store, again = Store(tmp_path / "cache"), Store(tmp_path / "cache")
    tasks.have(store, [last])
    assert os.path.exists(tmp_path / "died") and said(store, first[-1]) == ["again"]
    assert all(said(store, one)[1] != str(os.getpid()) for one in [*first[:3], last])
    tasks.have(again, [last])
    assert [event.what for event in again.events] == ["reused"] * 5


@pytest.mark.slow
def test_what_goes_wrong_is_one_line_and_the_rest_is_kept(cluster, tmp_path, monkeypatch):
    store, good = Store(tmp_path), Stage("good", toys.say, {"word": "good"})
    monkeypatch.setattr(spread, "RETRIES", 1)
    for function, kind, words in ((toys.refuse, HealError, "^refused; give another$"),
                                  (toys.break_down, KeyError, "nothing"),
                                  (toys.die, HealError, "^bad: its workers were lost 2 times")):
        with pytest.raises(kind, match=words) as error:
            tasks.have(store, [good, Stage("bad", function)])
        assert "\n" not in str(error.value)
    monkeypatch.setenv(progress.IN_WORKER, "1")  # as in a worker, and gone after this test
    monkeypatch.setattr(tasks, "versions", lambda: {})
    with pytest.raises(HealError, match="other code or libraries"):
        tasks._fill(str(tmp_path), store.task(good))
    assert progress.IN_WORKER == spread.IN_WORKER


@pytest.mark.slow
def test_a_run_with_students_is_that_of_hf_bit_for_bit(cluster, tmp_path, monkeypatch):
    sent, send, found = [], tasks._Line.send, {}
    monkeypatch.setattr(tasks._Line, "send", lambda line, work: sent.append(work[1].name) or send(line, work))
    for engine in ("hf", "ray"):
        cfg = scales.get("smoke", engine=engine, worlds=["equations"], difficulties=["easy"], benchmarks=["easy"],
                         n_distil=3, n_samples=2, n_test=2, k_eval=2, seeds=[0, 1], train_tokens=2000,
                         max_new_tokens=40)
        run = Experiment(cfg, Store(tmp_path / engine))
        run.evaluate([("sft-rs", 0), ("sft-rs", 1), ("teacher", 0)])
        found[engine] = {made.folder.name.rpartition("-")[0]: bits(made.folder) for made in run.store._made.values()}
    assert found["hf"] == found["ray"] and len(found["ray"]) == 7  # pool, rows; 2 students; 3 evaluations
    assert len(sent) == 5 and not any(name.startswith(("pool", "evaluation teacher")) for name in sent)


# --- other clusters
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
        same(drawn, toys.build_small(build).sample(prompts, 2, PARAMS, seed=3), exact=True)
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
