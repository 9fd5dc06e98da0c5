"""Stages as tasks of a local Ray: order, lost workers, errors; a student's run gives what it gives without Ray."""

import os

import pytest

from heal_lib import cluster, progress, scales
from heal_lib.engines import ray as spread
from heal_lib.errors import HealError
from heal_lib.experiment import Experiment
from heal_lib.files import ROOT, file_hash
from heal_lib.store import Stage, Store

pytest.importorskip("ray")


# --- functions of stages, which Ray's workers import from here
def say(*, word, folder, after=()):
    (folder / "said").write_text(f"{word} {os.getpid()}")


def die_once(*, folder, marker):
    if not os.path.exists(marker):
        open(marker, "w").close()
        os._exit(1)
    (folder / "said").write_text("again")


def die(*, folder):
    os._exit(1)


def refuse(*, folder):
    raise HealError("refused; give another")


def break_down(*, folder):
    {}["nothing"]


@pytest.fixture(scope="module")
def local():
    with pytest.MonkeyPatch.context() as patch:  # of the node, for workers that it starts beforehand
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.path.dirname(__file__)]))
        patch.setenv("OMP_NUM_THREADS", "1")
        spread.start(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, runtime_env={})
    import ray

    yield ray
    spread.release()
    ray.shutdown()


def bits(folder):
    """What a stage left, but for the seconds that it took."""
    return {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.rglob("*.*"))
            if path.name not in ("manifest.json", "training.json")}


def said(store, stage):
    return (store.get(stage).folder / "said").read_text().split()


def test_stages_are_tasks_in_the_order_that_they_need_and_a_lost_one_is_made_again(local, tmp_path):
    first = [Stage(f"first {i}", say, {"word": i}) for i in range(3)]
    first.append(Stage("lost", die_once, {"marker": str(tmp_path / "died")}))
    last = Stage("last", say, {"word": "last", "after": first})
    store, again = Store(tmp_path / "cache"), Store(tmp_path / "cache")
    cluster.have(store, [last])
    assert os.path.exists(tmp_path / "died") and said(store, first[-1]) == ["again"]
    assert all(said(store, one)[1] != str(os.getpid()) for one in [*first[:3], last])
    cluster.have(again, [last])
    assert [event.what for event in again.events] == ["reused"] * 5


def test_what_goes_wrong_is_one_line_and_the_rest_is_kept(local, tmp_path, monkeypatch):
    store, good = Store(tmp_path), Stage("good", say, {"word": "good"})
    for function, kind, words in ((refuse, HealError, "^refused; give another$"), (break_down, KeyError, "nothing"),
                                  (die, HealError, "^bad: its workers were lost")):
        with pytest.raises(kind, match=words) as error:
            cluster.have(store, [good, Stage("bad", function)])
        assert "\n" not in str(error.value)
    monkeypatch.setenv(progress.IN_WORKER, "1")  # as in a worker, and gone after this test
    monkeypatch.setattr(cluster, "versions", lambda: {})
    with pytest.raises(HealError, match="other code or libraries"):
        cluster._fill(str(tmp_path), store.task(good))
    assert progress.IN_WORKER == spread.IN_WORKER


@pytest.mark.slow
def test_a_run_with_students_is_that_of_hf_bit_for_bit(local, tmp_path, monkeypatch):
    tasks, send, found = [], cluster._Line.send, {}
    monkeypatch.setattr(cluster._Line, "send", lambda line, work: tasks.append(work[1].name) or send(line, work))
    for engine in ("hf", "ray"):
        cfg = scales.get("smoke", engine=engine, worlds=["equations"], difficulties=["easy"], benchmarks=["easy"],
                         n_distil=3, n_samples=2, n_test=2, k_eval=2, seeds=[0, 1], train_tokens=2000,
                         max_new_tokens=40)
        run = Experiment(cfg, Store(tmp_path / engine))
        run.evaluate([("sft-rs", 0), ("sft-rs", 1), ("teacher", 0)])
        found[engine] = {made.folder.name.rpartition("-")[0]: bits(made.folder) for made in run.store._made.values()}
    assert found["hf"] == found["ray"] and len(found["ray"]) == 7  # pool, rows; 2 students; 3 evaluations
    assert len(tasks) == 5 and not any(name.startswith(("pool", "evaluation teacher")) for name in tasks)
