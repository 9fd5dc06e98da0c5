"""The stages at a micro scale: the teacher's data, training rows, students, evaluations."""

import numpy as np
import pytest
from micro import micro

from heal_lib import baselines, embedded, evaluation, report, students, tables, teacher
from heal_lib.engines import choose
from heal_lib.errors import HealError
from heal_lib.experiment import Experiment
from heal_lib.files import read_json
from heal_lib.store import Store
from heal_lib.trajectory import COLUMNS

# --- the teacher's data

def test_the_pool_holds_n_samples_of_each_problem_and_no_hint(run):
    pool = run.pool()
    assert pool.column_names == list(COLUMNS) and len(pool) == 6 * 5
    assert set(pool["source"]) == {"sampled"} and not any("hint" in text for text in pool["text"])
    assert [row["sample"] for row in pool][:5] == list(range(5))
    counts = run.correct_counts()
    assert set(counts) == {p.id for p in run.problems()} and 0 < sum(counts.values()) < 30


def test_hinted_samples_are_for_problems_below_the_share(run):
    counts, hinted = run.correct_counts(), run.hinted()
    assert set(hinted["problem_id"]) == {key for key, c in counts.items() if c < 0.5 * 5}
    assert len(hinted) == 6 * len(set(hinted["problem_id"])) and any(hinted["correct"])
    assert not any("hint" in text for text in hinted["text"])


def test_repairs_are_for_eligible_problems_and_failed_trajectories(run):
    """Known wrong turn: gates that are the same. Here some problem is hinted, but not repaired."""
    counts, failed, repairs = run.correct_counts(), run.failed(), run.repairs()
    assert set(failed) == {key for key, c in counts.items() if c <= 1} < {r["problem_id"] for r in run.hinted()}
    assert all(len(rows) == 2 and not any(r["correct"] for r in rows) for rows in failed.values())
    assert len(repairs) == 2 * 6 * len(failed) and any(repairs["correct"]) and set(repairs["source"]) == {"repaired"}
    chosen = {(key, row["sample"]) for key, rows in failed.items() for row in rows}
    assert {(r["problem_id"], r["parent"]) for r in repairs} == chosen
    again = Experiment(micro()).failed()
    assert chosen == {(key, row["sample"]) for key, rows in again.items() for row in rows}


def test_cut_rules_are_stages_of_their_own(run):
    start, middle = run.repairs("start"), run.repairs("middle")
    assert set(start["n_kept"]) == {0} and min(middle["n_kept"]) > 0


def test_development_looks_at_other_hard_problems(run):
    pool = run.pool("development")
    assert set(pool["difficulty"]) == {"hard"} and len(set(pool["problem_id"])) == 2
    assert not set(pool["problem_id"]) & set(run.pool()["problem_id"])
    assert len(run.anomalies("hinted", "development")) == len(run.accepted("hinted", "development")) > 0


# --- training data

VERIFIED = [m for m, spec in baselines.METHODS.items() if spec.trained and spec.base in ("correct", "limo")]


@pytest.mark.parametrize("method", VERIFIED)
def test_training_data_is_right_capped_and_without_hint(run, words, method):
    """Known wrong turn: incorrect samples left in the Base stage."""
    spec, sources = baselines.get(method), run.training_sources(method)
    assert list(sources) == ["base"] + ["hint"] * bool(spec.hint) + ["repair"] * bool(spec.cut)
    for name, rows in sources.items():
        assert rows and all(row["correct"] and row["finished"] for row in rows)
        assert {row["source"] for row in rows} == {{"base": "sampled", "hint": "hinted", "repair": "repaired"}[name]}
        per_problem = np.unique([row["problem_id"] for row in rows], return_counts=True)[1]
        assert per_problem.max() <= run.cfg.per_problem_cap
        for row in rows:
            trained = row
            text = words.decode(trained["input_ids"], skip_special_tokens=True)
            assert text == row["question"] + "\n\n" + row["text"] and "hint" not in text
            learned = [i for i, m in zip(trained["input_ids"], trained["completion_mask"], strict=True) if m]
            assert learned == list(row["token_ids"]) and learned[-1] == words.eos_token_id


def test_the_matched_budget_is_heal_s(run):
    """Rejection sampling gets as many more tokens as HEAL spends on hints and repairs, within one sample a problem."""
    extra = sum(run.hinted()["n_generated"]) + sum(run.repairs()["n_generated"])
    per_round = sum(run.pool()["n_generated"]) / run.cfg.n_samples
    drawn = len(run.matched()) / len(run.problems())
    assert abs(drawn - extra / per_round) <= 0.5 and {r["source"] for r in run.matched()} == {"matched"}
    rows = run.training_sources("sft-rs-matched")["base"]
    assert all(row["correct"] for row in rows) and {r["source"] for r in rows} <= {"sampled", "matched"}


def test_limo_is_one_sample_of_each_of_the_hardest_solved_problems(says):
    run = Experiment(micro())
    rows, counts = run.training_sources("limo")["base"], run.correct_counts()
    solved = sorted(c for c in counts.values() if c)
    chosen = [row["problem_id"] for row in rows]
    assert len(set(chosen)) == len(chosen) == max(1, round(len(solved) / 4))
    assert sorted(counts[key] for key in chosen) == solved[: len(chosen)]
    for row in rows:
        others = [r for r in run.pool() if r["problem_id"] == row["problem_id"] and r["correct"]]
        assert np.mean(row["entropy"]) == min(np.mean(r["entropy"]) for r in others)


def test_paced_prefers_problems_that_the_student_half_solves(says):
    """The scripted student solves easy problems in some draws: the weights p(1-p) are its own."""
    run = Experiment(micro())
    before = run.training_sources("sft-rs")["base"]
    rates = {}
    for stage in students.drawn(teacher.families(run.cfg)[0], "paced")["rivals"]:
        rows = run.store.data(stage)
        for key in set(rows["problem_id"]):
            mine = [row["correct"] for row in rows if row["problem_id"] == key]
            rates[key] = (sum(mine) + 1) / (len(mine) + 2)
    chosen = [row["problem_id"] for row in run.training_sources("paced")["base"]]
    share = {key: chosen.count(key) / len(chosen) for key in set(chosen)}
    weight = {key: rates[key] * (1 - rates[key]) * sum(r["problem_id"] == key for r in before) for key in share}
    total = sum(weight.values())
    assert len(chosen) == 4 * len(before)
    assert all(abs(share[key] - weight[key] / total) < 0.2 for key in share)


def test_answers_are_stated_for_every_problem_without_reasoning(run, words):
    rows = run.training_sources("answers")["base"]
    assert {row["problem_id"] for row in rows} == {p.id for p in run.problems()}
    text = words.decode(rows[0]["input_ids"])
    assert rows[0]["question"] in text and f"\\boxed{{{rows[0]['answer']}}}" in text and "try" not in text


def test_a_switch_of_a_method_changes_its_data_alone(run):
    usual, changed = run.training_sources("heal"), run.training_sources("heal-backoff-0")
    assert [r["text"] for r in usual["base"]] == [r["text"] for r in changed["base"]]
    kept = [sum(each.repairs()["n_kept"]) for each in (run, run.variant({"backoff": 0}))]
    assert kept[0] < kept[1] and {r["n_kept"] for r in changed["repair"]} > {r["n_kept"] for r in usual["repair"]} - {0}
    assert run.cfg.backoff == 1 and run.variant({}) is run


def test_the_rate_that_does_best_on_development_problems_is_used(run, monkeypatch):
    run = Experiment(micro(learning_rates=[1e-4, 1e-3, 1e-2]))
    found = {1e-4: 0.1, 1e-3: 0.4, 1e-2: 0.4}
    monkeypatch.setattr(run, "tuning", lambda method, rate: found[rate] if method == "heal" else rate)
    assert run.learning_rate("heal") == run.learning_rate("heal-no-pace") == 1e-3  # a variant of HEAL takes HEAL's
    assert run.learning_rate("star") == 1e-2
    assert Experiment(micro(learning_rates=[3e-3])).learning_rate("heal") == 3e-3  # nothing is trained to choose it


def test_star_hints_the_problems_that_heal_hints(run):
    """A rival with fewer hints would be no rival."""
    hinted = {m: {r["problem_id"] for r in run.training_sources(m)["hint"]} for m in ("star", "star-pure", "heal")}
    assert hinted["star"] == hinted["heal"] == hinted["star-pure"] and "repair" not in run.training_sources("star")
    of = {m: {r["text"] for r in run.training_sources(m)["hint"]} for m in hinted}
    assert of["star-pure"] == of["heal"]


def test_a_text_counts_once_for_its_problem(says):
    """In every method, before filters and caps; the same text of another problem is another text."""
    run, all_rows = (Experiment(micro(per_problem_cap=99, deduplicate=once)) for once in (True, False))
    for method in ("sft-rs", "star", "heal", "heal-no-pure"):
        rows = [(r["problem_id"], r["text"]) for part in run.training_sources(method).values() for r in part]
        every = [(r["problem_id"], r["text"]) for part in all_rows.training_sources(method).values() for r in part]
        assert len(rows) == len(set(rows)) < len(every) and set(rows) <= set(every)
    assert baselines.unique([{"problem_id": 1, "text": "a"}, {"problem_id": 2, "text": "a"}],
                            [{"problem_id": 1, "text": "a"}, {"problem_id": 1, "text": "b"}]) == [
        [{"problem_id": 1, "text": "a"}, {"problem_id": 2, "text": "a"}], [{"problem_id": 1, "text": "b"}]]


def test_filters_drop_what_they_say(says):
    run = Experiment(micro(per_problem_cap=99))
    rows = {m: run.training_sources(m)["repair"]
            for m in ("heal", "heal-no-pure", "heal-random-drop", "heal-nll", "heal-pure-plus", "heal-oracle")}
    everything = rows["heal-no-pure"]
    sizes = np.unique([r["problem_id"] for r in everything], return_counts=True)[1]
    for method in ("heal", "heal-random-drop", "heal-nll", "heal-pure-plus"):  # a fifth of each problem's pool
        assert len(rows[method]) == len(everything) - sum(int(0.2 * n) for n in sizes) < len(everything)
        assert {r["sample"] for r in rows[method]} <= {r["sample"] for r in everything}
    assert rows["heal"] != rows["heal-random-drop"]
    assert [r["genuine"] for r in rows["heal-oracle"]] == [1] * sum(r["genuine"] for r in everything)
    assert 0 < len(rows["heal-oracle"]) < len(everything)


def test_the_most_anomalous_are_dropped(says):
    run = Experiment(micro(per_problem_cap=99))
    accepted, scores = run.accepted("repairs entropy"), run.anomalies("repairs entropy")
    kept = {(r["problem_id"], r["sample"]) for r in run.training_sources("heal")["repair"]}
    for problem in {r["problem_id"] for r in accepted}:
        mine = [(s, (problem, r["sample"]) in kept)
                for s, r in zip(scores, accepted, strict=True) if r["problem_id"] == problem]
        assert max(s for s, stays in mine if stays) <= min([s for s, stays in mine if not stays], default=np.inf)


def test_pure_filters_the_pools_it_is_told_to(says):
    every = {"per_problem_cap": 99}
    unfiltered = Experiment(micro(**every)).training_sources("heal-no-pure")
    run = Experiment(micro(pure_pool=["repair"], pure_lambda=0.5, **every)).training_sources("heal")
    assert run["hint"] == unfiltered["hint"] and len(run["repair"]) < len(unfiltered["repair"])


# --- nothing to do

def test_a_filter_that_keeps_nothing_leaves_an_empty_source(says):
    run = Experiment(micro(pure_lambda=1.0))
    sources = run.training_sources("heal")
    assert sources["hint"] == sources["repair"] == [] and sources["base"]
    folder = run.student("heal", 0)
    assert [path.name for path in folder.glob("stage-*")] == ["stage-1"]  # the base stage alone


def test_a_teacher_that_solves_everything_needs_no_hint_and_no_repair(says, tmp_path):
    says(solved=1)
    run = Experiment(micro(), Store(tmp_path))
    assert run.failed() == {} and set(run.correct_counts().values()) == {5}
    for which in ("hinted", "repairs entropy"):
        assert run.accepted(which) == [] and len(run.readings(which)) == 0 and run.anomalies(which).shape == (0,)
    assert len(run.hinted()) == 0 and run.hinted().column_names == run.repairs().column_names == list(COLUMNS)
    sources = run.training_sources("heal")
    assert sources["hint"] == sources["repair"] == [] and sources["base"]


def test_no_verified_sample_is_a_one_line_error_and_leaves_nothing(says, tmp_path):
    says(solved=0)
    run = Experiment(micro(), Store(tmp_path))
    assert run.training_sources("sft-rs") == {"base": []}
    with pytest.raises(HealError, match="no verified sample") as caught:
        run.student("sft-rs", 0)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if "student" in path.name] == []
    assert run.training_sources("heal")["repair"]  # what sampling never solves, repair does


def test_a_method_with_nothing_to_train_on_is_named_and_missing(says, tmp_path, capsys):
    says(solved=0)
    cfg = micro()
    samples = Experiment(cfg, Store(tmp_path)).evaluations(["student", "sft-rs", "heal"])
    assert set(samples["method"]) == {"student", "heal"}
    assert "sft-rs: no verified sample in any source, nothing to train on" in capsys.readouterr().out
    results = evaluation.results_table(samples, temperature=1.0, n_boot=50)
    assert results["diff_vs_sft_rs"].isna().all()
    table = report.accuracy_table(results, ["student", "sft-rs", "heal"])
    assert set(table["sft-rs"]) == {"n/a"} and set(table["heal − sft-rs"]) == {"n/a"}
    gain = tables.differences(samples, [("heal", "sft-rs"), ("heal", "student")], n_boot=50)
    assert set(gain["against"]) == {"student"}
    assert len(tables.differences(samples, [("heal", "sft-rs")], n_boot=50)) == 0


def test_one_sample_that_is_right_makes_an_eligible_problem_without_failure(says, tmp_path):
    says(solved=1)
    run = Experiment(micro(n_samples=1), Store(tmp_path))
    assert set(run.correct_counts().values()) == {1} and run.failed() == {} and len(run.repairs()) == 0


def test_random_models_go_all_the_way(says, tmp_path, monkeypatch):
    """Nothing scripted: models that know nothing solve nothing, and every stage says so."""
    from heal_lib.engines.hf import HFEngine

    monkeypatch.setattr(choose, "engine", lambda name, kind="hf": HFEngine(*embedded.load(name)))
    run = Experiment(micro(difficulties=["easy"], n_distil=2, n_samples=2, n_hinted=1, n_failed=1, n_candidates=1,
                         n_test=1, k_eval=2), Store(tmp_path))
    assert len(run.pool()) == 4 and not any(run.pool()["correct"])
    assert all(len(row["entropy"]) == len(row["token_ids"]) for row in run.pool())
    assert len(run.repairs()) == len(run.hinted()) == 2
    assert run.accepted("repairs entropy") == [] and len(run.readings("repairs entropy")) == 0
    with pytest.raises(HealError, match="no verified sample"):
        run.student("heal", 0)
    assert len(run.evaluation("student", 0)) == len(run.evaluation("teacher", 0)) == 4


# --- students and evaluation

def test_heal_trains_in_three_stages_within_the_budget(run):
    folder, sources = run.student("heal", 0), run.training_sources("heal")
    record = read_json(folder / "training.json")
    sizes = np.cumsum([len(sources[name]) for name in ("base", "hint", "repair")]).tolist()
    assert [stage["rows"] for stage in record["stages"]] == sizes  # cumulative
    assert sorted(path.name for path in folder.glob("stage-*")) == ["stage-1", "stage-2", "stage-3"]
    longest = max(len(r["input_ids"]) for rows in sources.values() for r in rows)
    assert 2000 <= sum(stage["tokens"] for stage in record["stages"]) < 2000 + 3 * longest
    assert len({embedded.model_hash(str(folder / f"stage-{i}")) for i in (1, 2, 3)}) == 3
    with pytest.raises(HealError, match="stage-4"):
        run.evaluation("heal", 0, stage=4)
    with pytest.raises(HealError, match="is not trained"):
        run.student("teacher", 0)


def test_a_student_of_adapters_is_another_one_and_is_evaluated_like_any(says, tmp_path):
    keys = set()
    for switches in ({}, {"finetune": "lora"}, {"finetune": "lora", "lora_rank": 2}):
        run = Experiment(micro(train_tokens=300, **switches), Store(tmp_path))
        assert len(run.evaluation("sft-rs", 0)) > 0
        keys.add(run.student("sft-rs", 0).name)
    assert len(keys) == 3


def test_students_are_reproducible_and_differ_by_seed(says, tmp_path):
    hashes = []
    for root, seed in (("a", 0), ("b", 0), ("b", 1)):
        folder = Experiment(micro(train_tokens=600), Store(tmp_path / root)).student("sft-rs", seed)
        hashes.append(embedded.model_hash(str(folder / "stage-1")))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_order_of_stages_changes_nothing(says, tmp_path):
    """Each stage draws from streams of its own: one that runs late, or alone, gives what it always gives."""
    found = []
    stages_in_order = [("pool",), ("hinted",), ("repairs", "entropy"), ("matched",)]
    for root, order in (("a", stages_in_order), ("b", stages_in_order[::-1])):
        run = Experiment(micro(), Store(tmp_path / root))
        made = {stage: getattr(run, stage)(*arguments) for stage, *arguments in order}
        found.append({stage: made[stage].to_pandas().to_json() for stage in sorted(made)})
    assert found[0] == found[1]


def test_evaluations_hold_every_method_seed_and_benchmark(says):
    run = Experiment(micro(train_tokens=300))
    table = run.evaluations(("teacher", "student", "sft-rs"))
    assert len(table) == 3 * 2 * 2 * 2  # methods, benchmarks, problems, samples
    assert set(table["benchmark"]) == {"equations-easy", "equations-hard"}
    assert {"method", "seed", "problem_id", "sample", "correct", "finished", "genuine"} <= set(table.columns)
    assert not set(table["problem_id"]) & set(run.pool()["problem_id"])
    assert table.groupby(["method", "problem_id"]).size().eq(2).all()


def test_unknown_names_are_refused(run):
    for call, words in [(lambda: run.training_sources("magic"), "unknown method 'magic'"),
                        (lambda: run.accepted("guesses"), "unknown source 'guesses'"),
                        (lambda: run.repairs("best"), "cut rule 'best'")]:
        with pytest.raises(HealError, match=words):
            call()
