"""Tables from samples whose accuracies are known by construction, and from a run that needs no model."""

import types

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from micro import micro

from heal_lib import ablate, baselines, claims, scales, stats, students, tables
from heal_lib.errors import HealError
from heal_lib.experiment import Experiment
from heal_lib.plots import results as figures


def samples(correct, n_problems=5, seeds=(0, 1), k=2):
    """`correct`: {(method, benchmark): share of problems that are always right}."""
    draws = [(p, seed) for p in range(n_problems) for seed in seeds for _ in range(k)]
    rows = [(f"{benchmark}-{p}", *benchmark.split("-"), method, seed, benchmark, p < share * n_problems)
            for (method, benchmark), share in correct.items() for p, seed in draws]
    return pd.DataFrame(rows, columns=["problem_id", "world", "difficulty", "method", "seed", "benchmark", "correct"])


TWO = samples({("heal", "a-hard"): 0.8, ("heal", "b-hard"): 0.6, ("heal", "a-easy"): 1.0,
               ("star", "a-hard"): 0.2, ("star", "b-hard"): 0.2, ("star", "a-easy"): 1.0})


def test_accuracies_are_means_with_their_sizes():
    table = tables.accuracies(TWO, n_boot=50).set_index(["method", "benchmark"])
    row = table.loc["heal", "a-hard"]
    assert row["mean"] == pytest.approx(0.8) and row["ci_low"] <= 0.8 <= row["ci_high"]
    assert [*row[["n_problems", "n_seeds", "n_samples"]]] == [5, 2, 2]
    assert table.loc["star", "a-easy"][["ci_low", "ci_high"]].tolist() == pytest.approx([0.025 ** (1 / 5), 1])


def test_hard_benchmarks_are_pooled_beside_the_rest():
    both = tables.with_pooled(TWO)
    assert set(both["benchmark"]) == {"a-hard", "b-hard", "a-easy", tables.POOLED}
    table = tables.accuracies(both, n_boot=50).set_index(["method", "benchmark"])
    assert table.loc[("heal", tables.POOLED), "mean"] == pytest.approx(0.7)
    assert table.loc[("heal", tables.POOLED), "n_problems"] == 10
    assert set(tables.only_pooled(TWO)["benchmark"]) == {tables.POOLED} and len(TWO) == 5 * 2 * 2 * 6


def test_hard_benchmarks_but_the_one_that_judges_are_pooled_apart():
    three = pd.concat([TWO, TWO[TWO["benchmark"] == "a-hard"].assign(
        benchmark=claims.JUDGE, problem_id=lambda rows: "judge/" + rows["problem_id"], correct=0.0)])
    table = tables.accuracies(tables.with_elsewhere(three), n_boot=50).set_index(["method", "benchmark"])["mean"]
    assert table["heal", claims.ELSEWHERE] == pytest.approx(0.7)
    assert table["heal", tables.POOLED] == pytest.approx(1.4 / 3) and len(table) == 2 * 6


def test_a_right_answer_that_is_not_derived_does_not_count_where_derivations_are_asked_for():
    rows = pd.DataFrame({"correct": [True, True, False, True], "genuine": [1, 0, 0, -1]})
    assert tables.derived(rows)["correct"].tolist() == [True, False, False]  # the last world has no oracle


def test_one_hard_benchmark_alone_is_shown_once():
    one = tables.with_pooled(TWO[TWO["benchmark"] != "b-hard"])
    assert set(tables.distinct(one)["benchmark"]) == {"a-hard", "a-easy"}
    both = tables.with_pooled(TWO)
    assert tables.distinct(both) is both


def test_differences_are_paired_and_named():
    few = tables.differences(TWO, [("heal", "star")], n_boot=200).set_index("benchmark")
    assert few.loc["a-hard", "difference"] == pytest.approx(0.6) and few.loc["a-hard", "interval"] == "includes zero"
    more = samples({(row.method, row.benchmark): row.correct for row in TWO.groupby(["method", "benchmark"])[
        "correct"].mean().reset_index().itertuples()}, n_problems=20)
    table = tables.differences(more, [("heal", "star")], n_boot=200).set_index("benchmark")
    assert table.loc["a-hard", "interval"] == "above zero" and table.loc["a-hard", "detectable"] > 0
    assert table.loc["a-easy", "interval"] == "includes zero" and np.isnan(table.loc["a-easy", "detectable"])
    flipped = tables.differences(more, [("star", "heal")], n_boot=200).set_index("benchmark")
    assert flipped.loc["a-hard", "interval"] == "below zero"
    # By hand: differences 1, 1, 1, 0, 0 under each seed, none between seeds; t(4) has 2.776 and .941 standard errors.
    by_hand = (2.776445 + 0.940965) * np.sqrt(np.var([1, 1, 1, 0, 0], ddof=1) / 5)
    assert few.loc["a-hard", "detectable"] == pytest.approx(by_hand, rel=1e-5)


def test_the_hardest_to_beat_is_named_on_each_benchmark_in_their_order():
    rows = [["x", "b", 0.2], ["x", "a", 0.1], ["y", "b", 0.1], ["y", "a", 0.3]]
    found = tables.least(pd.DataFrame(rows, columns=["against", "benchmark", "difference"]))
    assert found[["benchmark", "against"]].to_numpy().tolist() == [["b", "y"], ["a", "x"]]


@pytest.mark.parametrize(("low", "high", "words"), [
    (0.1, 0.2, "above zero"), (-0.2, -0.1, "below zero"), (-0.1, 0.1, "includes zero"), (0.0, 0.2, "includes zero")])
def test_where_an_interval_lies(low, high, words):
    assert tables.verdict(low, high) == words


def test_a_missing_cell_is_an_error_not_a_zero():
    with pytest.raises(HealError, match="seeds differ"):
        tables.accuracies(TWO.iloc[1:], n_boot=10)


class Run:
    """A run of two problems: one solved by the teacher, one hinted and repaired."""

    def __init__(self, folder):
        self.cfg, self.folder = scales.get("smoke", worlds=["equations"], seeds=[0, 1]), folder
        self.store = types.SimpleNamespace(get=lambda which: types.SimpleNamespace(seconds=2.0))

    def variant(self, switches):
        return self

    def pool(self):
        return Rows(problem_id=["p", "q"], n_generated=[10, 20], correct=[True, False], text=["a", "b"])

    def hinted(self):
        return Rows(problem_id=["p", "q"], n_generated=[3, 4], correct=[True, True], text=["a", "a"])

    def repairs(self, rule):
        return Rows(problem_id=["q"], n_generated=[50], correct=[False], text=["c"])

    def correct_counts(self):
        return {"p": 2, "q": 0}

    def training_sources(self, method):
        row = {"world": "a", "difficulty": "hard", "problem_id": "p", "text": "t", "token_ids": [1, 2, 3]}
        return {"base": [row, row], "hint": [] if method == "sft-rs" else [row]}

    def stages(self, which):
        return [which]

    def trained(self, method, seeds):
        return list(seeds)

    def training_logs(self, method, seed):
        stages = [{"stage": 1, "rows": 2, "unique": 1, "tokens": 60, "loss": [[1, 2.0], [2, 1.0]]},
                  {"stage": 2, "rows": 3, "unique": 2, "tokens": 40, "loss": [[1, 1.5]]}]
        return [{"stages": stages}]

    def students(self, method, seed):
        return [f"student {method} {seed}"]


class Rows(dict):
    """As much of a datasets.Dataset as the tables read."""

    def __init__(self, **columns):
        super().__init__(columns)

    def __len__(self):
        return len(self["problem_id"])

    def __iter__(self):
        return iter([dict(zip(self.keys(), row, strict=True)) for row in zip(*self.values(), strict=True)])

    def select_columns(self, names):
        return Rows(**{name: self[name] for name in names})


def test_teacher_tokens_are_counted_by_source(tmp_path):
    table = tables.teacher_sources(Run(tmp_path)).set_index("source")
    assert table["tokens"].to_dict() == {"pool": 30, "hinted": 7, "repairs entropy": 50}
    assert table.loc["pool", "tokens_per_accepted"] == 30 and table.loc["pool", "seconds"] == 2
    assert np.isnan(table.loc["repairs entropy", "tokens_per_accepted"])  # none accepted: missing, not infinite
    assert table["unique"].to_dict() == {"pool": 1, "hinted": 2, "repairs entropy": 0}


def test_methods_pay_for_what_they_use(tmp_path):
    table = tables.method_costs(Run(tmp_path), ["student", "sft-rs", "star", "heal"]).set_index("method")
    assert table["teacher_tokens"].to_dict() == {"student": 0, "sft-rs": 30, "star": 37, "heal": 87}
    assert table.loc["star", "hinted"] == table.loc["heal", "hinted"] == 7
    assert table.loc["heal", ["rows", "unique", "trained_tokens", "training_seconds"]].tolist() == [3, 1, 100, 2]


def test_switches_are_those_of_the_scale_and_the_values_to_try_are_valid():
    import shlex

    from heal_lib.notebooks import parse_value

    table = tables.switches(scales.get("smoke"))
    for row in table.itertuples():
        options = shlex.split(row[4])
        tried = dict(zip(options[1::3], map(parse_value, options[2::3]), strict=True))
        assert set(options[::3]) == {"-p"} and next(iter(tried)) == row.switch
        assert scales.get("smoke", **tried).name == "smoke"
    shown = table.set_index("switch")["to try"]
    assert shown["n_failed"] == "-p n_failed 3"  # every scale has two
    assert shown["pure_rule"] == "-p pure_rule threshold -p pure_lambda 5"  # a share of rows is no anomaly


def test_every_method_has_a_colour_and_a_marker_of_its_own():
    from heal_lib.plots import COLOURS, MARKERS

    assert set(COLOURS) == set(MARKERS) == set(baselines.METHODS)
    assert len({(COLOURS[name], MARKERS[name]) for name in baselines.MAIN}) == len(baselines.MAIN)


def test_a_method_that_was_not_tested_on_every_hard_benchmark_is_not_pooled():
    shares = {("heal", "a-hard"): 0.5, ("heal", "b-hard"): 0.5, ("heal-nll", "b-hard"): 0.2}
    some = tables.with_pooled(samples(shares))
    assert set(some[some["benchmark"] == tables.POOLED]["method"]) == {"heal"}
    table = tables.differences(some, [("heal", "heal-nll")], n_boot=50)
    assert table["benchmark"].tolist() == ["b-hard"]


def test_stopping_early_pays_for_the_samples_that_say_when(says):
    run = Experiment(micro())
    table = tables.method_costs(run, ["sft-rs", "sft-rs-early"]).set_index("method")
    pools = [run.store.data(pool) for pool in students.heldout(run.cfg).inputs["pool"]]
    assert table["development"].to_dict() == {"sft-rs": 0, "sft-rs-early": sum(sum(p["n_generated"]) for p in pools)}
    paid = table["teacher_tokens"]
    assert paid["sft-rs-early"] == paid["sft-rs"] + table.loc["sft-rs-early", "development"] > paid["sft-rs"]
    plt.close(figures.token_bars(table.reset_index()))


def test_a_smaller_budget_asks_fewer_problems_with_pools_as_large(says, monkeypatch):
    run, asked = Experiment(micro(budgets=(1 / 3,))), []
    monkeypatch.setattr(Experiment, "variant", lambda self, switches: asked.append(switches) or self)
    found = tables.budget_samples(run, ["sft-rs"], ["star"])
    assert [set(switches) for switches in asked if switches] == [{"n_distil", "learning_rates"}] * 3
    assert [switches["n_distil"] for switches in asked if switches] == [1, 3, 3]
    assert found.groupby(["share", "method"])["n_distil"].first().to_dict() == {
        (1 / 3, "sft-rs"): 1, (1, "sft-rs"): 3, (1, "star"): 3}


def test_counts_say_of_which_draw_they_are():
    assert tables.of_one_draw(scales.get("smoke")) == "" and "first of the 3" in tables.of_one_draw(scales.get("full"))


@pytest.mark.slow
def test_a_smaller_budget_draws_less_for_every_method(says):
    run = Experiment(micro(budgets=(0.5,), n_ablation_seeds=1))
    table = tables.at_budgets(tables.budget_samples(run, ["sft-rs", "heal"]), n_boot=10)
    tokens = table.groupby(["method", "share"])["teacher_tokens"].first().unstack()
    assert (tokens[0.5] < 0.8 * tokens[1.0]).all() and (tokens.loc["heal"] > tokens.loc["sft-rs"]).all()
    assert set(table.loc[table["share"] == 1.0, "n_seeds"]) == {1} and {"mean", "ci_low", "ci_high"} < {*table}
    figures.at_budgets(table, [tables.POOLED])


def test_a_comparison_has_one_corrected_p_value_whatever_else_is_asked_for():
    names = ("heal", "heal-no-gear", "heal-random-cut", "star")
    several = tables.with_pooled(samples({(m, b): share for m, share in zip(names, (0.8, 0.6, 0.4, 0.2), strict=True)
                                          for b in ("a-hard", "b-hard", "a-easy")}))
    alone = tables.differences(several, [("heal", "heal-no-gear")], n_boot=50)
    among = tables.differences(several, [("heal", m) for m in names[1:]], n_boot=50)
    same = among[among["against"] == "heal-no-gear"]
    assert alone["p_holm"].tolist() == same["p_holm"].tolist() and set(alone["against"]) == {"heal-no-gear"}
    gear = among[among["against"].isin(["heal-no-gear", "heal-random-cut"])]
    for pooled in (True, False):  # the pooled ones are a family by themselves
        mine = gear[(gear["benchmark"] == tables.POOLED) == pooled]
        assert mine["p_holm"].tolist() == stats.holm(mine["p"].to_numpy()).tolist()
    assert among["p_holm"].notna().all() and (among["p_holm"] >= among["p"]).all()


def test_aggregates_rank_runs():
    rows = [{"method": m, "benchmark": f"{b}-hard", "problem_id": p, "seed": s, "correct": m == "heal"}
            for m in ("heal", "sft-rs") for b in "ab" for p in "pq" for s in (0, 1)]
    found = tables.aggregates(pd.DataFrame(rows), n_boot=20).set_index("method")
    assert found.loc["heal", "iqm"] == 1 and found.loc["sft-rs", "iqm"] == 0
    assert found.loc["heal", "p_better"] == 1 and found.loc["sft-rs", "p_better"] != found.loc["sft-rs", "p_better"]


def test_a_tweak_stands_beside_the_default():
    frame = pd.DataFrame([{"method": name, "benchmark": "a-hard", "problem_id": f"p{i}", "seed": seed, "sample": 0,
                           "correct": right} for name, right in (("usual", 0), ("heal", 1), ("other", 1))
                          for i in range(3) for seed in (0, 1)])
    table = tables.beside_default(frame, ["usual", "heal"], n_boot=20)
    assert list(table["method"]) == ["usual", "heal"] and list(table["mean"]) == [0, 1]
    assert table["minus_default"].isna()[0] and table["minus_default"][1] == 1
    (row,) = ablate.side_by_side(table, "usual", "heal").to_numpy()
    assert row[0] == "a-hard" and row[1].startswith("0.0 [") and row[2].startswith("100.0 [")
    assert row[3].startswith("+100.0 [")


def test_each_seed_has_its_mean_and_its_draw():
    frame = TWO.assign(correct=TWO["correct"] & (TWO["seed"] == 1))
    table = tables.by_seed(frame).set_index(["benchmark", "method", "seed"])
    assert [table.loc[("a-hard", "heal", seed), "mean"] for seed in (0, 1)] == pytest.approx([0, 0.8])
    assert list(table.columns) == ["mean", "n_problems"] and set(table["n_problems"]) == {5}
    assert list(table.index.get_level_values(0).unique()) == ["a-hard", "b-hard", "a-easy"]
    of = tables.by_seed(frame.assign(seed=frame["seed"] + 3, method=frame["method"].replace("star", "teacher")), 2)
    assert of.set_index(["method", "seed"]).loc["heal", "draw"].to_dict() == {3: 1, 4: 0}
    assert of.loc[of["method"] == "teacher", "draw"].isna().all()
