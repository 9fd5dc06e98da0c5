"""What each method's students are given: right, capped, without a hint, filtered as it says."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from micro import micro

from heal_lib import baselines, students, tables, teacher
from heal_lib.experiment import Experiment

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


def test_a_text_ends_as_the_student_s_texts_end():
    """Known wrong turn: one vocabulary, two end tokens, and a student that learned to go on for ever."""
    run = Experiment(micro())
    row = {**run.problems()[0].__dict__, "problem_id": "p", "token_ids": [5, 6, 7], "text": ""}

    class Ends:
        vocabulary, tokenizer, opens_thought = "one", SimpleNamespace(eos_token_id=9), False

        def prompt(self, question):
            return [1]

        def encode(self, text):
            return [len(text)] if text else []

    assert baselines.tokens(row, Ends(), Ends()) == {"input_ids": [1, 5, 6, 9], "completion_mask": [0, 1, 1, 1]}
    thinks = Ends()
    thinks.opens_thought = True  # its prompt ends in <think>
    for writer, reader, before in ((thinks, Ends(), "\n</think>\n\n"), (Ends(), thinks, "<think>\n")):
        assert baselines.tokens(row, writer, reader)["input_ids"] == [1, len(before), 5, 6, 9]


def test_a_matched_budget_may_hold_as_many_rows_of_a_problem_as_heal():
    rows = [{"problem_id": "p", "world": "paths", "text": str(i), "correct": True} for i in range(40)]
    settings = {"per_problem_cap": 4, "deduplicate": True}
    held = {kind: len(baselines._base(kind, [rows[:20]], [rows[20:]], settings, 0, "student")[0])
            for kind in ("correct", "matched")}
    assert held == {"correct": 4, "matched": 12}


def test_limo_s_hardest_are_of_each_world_and_no_alphabet_s():
    rows = [{"problem_id": f"{world}{i:02}", "world": world, "text": str(j), "correct": True, "entropy": [1.0]}
            for world, easy in (("a", 0), ("b", 3)) for i in range(8) for j in range(1 + easy)]
    settings = {"per_problem_cap": 4, "deduplicate": True}
    chosen = [[row["problem_id"] for part in baselines._base("limo", [rows], [], settings, seed, "student")
               for row in part] for seed in range(6)]
    assert all([key[0] for key in found] == ["a", "a", "b", "b"] for found in chosen)
    assert len({tuple(found) for found in chosen}) > 1


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
    monkeypatch.setattr(run, "have", lambda stages: None)
    assert run.learning_rate("heal") == run.learning_rate("heal-no-pace") == 1e-3  # a variant of HEAL takes HEAL's
    assert Experiment(micro(learning_rates=[3e-3])).learning_rate("heal") == 3e-3  # nothing is trained to choose it


def test_a_grid_goes_on_while_the_best_is_at_an_end(monkeypatch):
    run = Experiment(micro(learning_rates=[5e-3, 1e-4, 1e-3]))
    asked = {"heal": 1e-3, "star": 0.1, "sft-rs": 1e-5}
    monkeypatch.setattr(run, "have", lambda stages: None)
    monkeypatch.setattr(run, "tuning", lambda m, rate: -abs(math.log(rate / asked[m])) if m in asked else 0)
    grid = [1e-4, 1e-3, 5e-3]
    assert run.rates([*asked, "limo"]) == {"heal": grid, "star": [*grid, 0.025, 0.125, 0.625],
                                           "sft-rs": [*grid, 1e-5, 1e-6], "limo": [*grid, 1e-5]}
    assert [run.learning_rate(m) for m in (*asked, "limo")] == [1e-3, 0.125, 1e-5, 1e-4]  # of equal ones the first
    table = tables.tuning(run, ["heal", "star", "teacher"]).set_index("method")
    assert list(table) == ["0.0001", "0.001", "0.005", "0.025", "0.125", "0.625", "chosen"]
    assert table["chosen"].tolist() == [1e-3, 0.125] and table.loc["heal"].isna().tolist() == [
        False] * 3 + [True] * 3 + [False]


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
            for m in ("heal", "heal-no-pure", "heal-random-drop", "heal-nll", "heal-pure-plus", "heal-oracle",
                      "heal-oracle-share", "heal-drop-more")}
    everything = rows["heal-no-pure"]
    sizes = np.unique([r["problem_id"] for r in everything], return_counts=True)[1]
    dropped = dict.fromkeys(("heal", "heal-random-drop", "heal-nll", "heal-pure-plus", "heal-oracle-share"), 0.2)
    for method, share in (dropped | {"heal-drop-more": 0.4}).items():  # of each problem's pool
        assert len(rows[method]) == len(everything) - sum(int(share * n) for n in sizes) < len(everything)
        assert {r["sample"] for r in rows[method]} <= {r["sample"] for r in everything}
    assert rows["heal"] != rows["heal-random-drop"]
    assert [r["genuine"] for r in rows["heal-oracle"]] == [1] * sum(r["genuine"] for r in everything)
    assert 0 < len(rows["heal-oracle"]) < len(everything)


def test_an_oracle_that_drops_as_many_drops_spurious_rows_first():
    rows = [{"problem_id": f"p{i % 2}", "source": "repair", "sample": i, "genuine": genuine}
            for i, genuine in enumerate([0, 1, 0, 1, 1, 1, 1, 1, 0, 1])]
    settings = {"pure_lambda": 0.4, "pure_rule": "quantile"}
    kept = baselines.filtered(rows, {}, "repairs", "oracle-share", settings, 0)
    assert len(kept) == 6 and sum(not row["genuine"] for row in kept) == 1  # 2 of 5 go; p0 has three spurious ones
    fewer = [row for row in rows if row["sample"] not in (2, 8)]
    kept = baselines.filtered(fewer, {}, "repairs", "oracle-share", settings, 0)
    assert [row["genuine"] for row in kept] == [1] * len(kept) and len(kept) == 5  # p0 1 of 3, p1 2 of 5


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
