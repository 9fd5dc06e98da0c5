from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal_lib import evaluation, scales
from heal_lib.errors import HealError
from heal_lib.evaluation import avg_at_k, pass_at_k
from heal_lib.files import ROOT, write_json
from heal_lib.gear import eligible
from heal_lib.stats import bootstrap_mean, paired_bootstrap
from heal_lib.trajectory import COLUMNS


def test_pass_at_k_against_every_subset():
    for n in range(1, 8):
        for c in range(n + 1):
            samples = [True] * c + [False] * (n - c)
            for k in range(1, n + 1):
                hits = [any(s) for s in combinations(samples, k)]
                assert pass_at_k(n, c, k) == pytest.approx(sum(hits) / len(hits), abs=1e-14)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_against_exact_binomials(case):
    n, c, k = case
    assert pass_at_k(n, c, k) == pytest.approx(float(1 - Fraction(comb(n - c, k), comb(n, k))), abs=1e-12)


def test_pass_at_k_broadcasts():
    c, k = np.array([0, 1, 15, 30]), np.array([1, 2, 30])
    curve = pass_at_k(30, c[:, None], k)
    assert curve.shape == (4, 3)
    assert curve == pytest.approx(np.array([[pass_at_k(30, i, j) for j in k] for i in c.tolist()]))
    assert isinstance(pass_at_k(30, 1, 1), float) and pass_at_k(30, 1, 1) == pytest.approx(1 / 30)
    assert pass_at_k(np.array([5, 30]), [1, 1], 5) == pytest.approx([1, 1 / 6])
    assert pass_at_k(np.uint8(5), np.uint8(4), 3) == 1  # n - c - j below 0 must not wrap around
    assert pass_at_k(30, np.array([], dtype=int), 1).shape == (0,)
    assert pass_at_k(10_000, 5_000, 9_000) == 1


@pytest.mark.parametrize(
    "args, mend",
    [
        ((5, 1, 6), "draw more"),
        ((5, 6, 1), "c <= n"),
        ((5, -1, 1), "0 <= c"),
        ((5, 1, 0), "k >= 1"),
        ((5, 1.5, 1), "whole"),
        ((5, np.nan, 1), "whole"),
        ((5, np.array([True, False]), 1), "yes/no"),
    ],
)
def test_pass_at_k_refuses(args, mend):
    with pytest.raises(HealError, match=mend) as error:
        pass_at_k(*args)
    assert "\n" not in str(error.value)


def test_pass_at_n_is_a_bare_yes_or_no():
    """Known wrong turn: pass@30 of 30 samples cannot tell 1 right from 29; the gates need the share."""
    c = np.array([0, 1, 2, 14, 15, 30])
    assert pass_at_k(30, c, 30).tolist() == [0, 1, 1, 1, 1, 1]
    share = pass_at_k(30, c, 1)
    assert share == pytest.approx(c / 30)
    assert (share < 0.5).tolist() == [True, True, True, True, False, False]
    assert eligible(c).tolist() == [True, True, False, False, False, False]


def test_pass_at_k_is_unbiased():
    right = np.random.default_rng(0).random((20_000, 10)) < 0.3
    assert pass_at_k(10, right.sum(-1), 4).mean() == pytest.approx(1 - 0.7**4, abs=0.006)


def test_avg_at_k():
    correct = [[1, 0, 0, 0], [1, 1, 0, 1]]
    assert avg_at_k(correct).tolist() == [0.25, 0.75]
    assert avg_at_k(correct, 2).tolist() == [0.5, 1]
    for k in (0, 5):
        with pytest.raises(HealError, match="avg_at_k"):
            avg_at_k(correct, k)
    with pytest.raises(HealError, match="avg_at_k"):
        avg_at_k([])


def test_avg_at_k_is_over_samples_whatever_lies_before_them():
    correct = np.arange(24).reshape(2, 3, 4) % 5 % 2  # problems, seeds, samples
    for k in (1, 3, 4):
        by_hand = [[sum(samples[:k].tolist()) / k for samples in problem] for problem in correct]
        assert avg_at_k(correct, k) == pytest.approx(np.array(by_hand))
    assert avg_at_k([1, 0, 0]) == pytest.approx(1 / 3) and avg_at_k([1, 0], 1) == 1


def results(n_samples=3, methods=("heal", "sft-rs")):
    """Samples of two benchmarks, 4 problems, 2 seeds, and a table of them by (method, benchmark, problem, seed)."""
    rng, rows, cells = np.random.default_rng(0), [], {}
    for cell in ((m, b, p, s) for m in methods for b in ("a-easy", "a-hard") for p in range(4) for s in range(2)):
        cells[cell] = rng.integers(0, 2, (n_samples, 2))
        rows += [(cell[0], cell[3], cell[1], f"p{cell[2]}", k, right, done, -1, 7, "", "")
                 for k, (right, done) in enumerate(cells[cell].tolist())]
    return pd.DataFrame(rows, columns=evaluation.SAMPLE), cells


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_results_table_against_loops_over_its_samples(k):
    samples, cells = results()
    table = evaluation.results_table(samples, temperature=0.7, n_boot=200, k=k)
    measures = {"avg@3": lambda x: x[:, 0].mean(), "truncated": lambda x: 1 - x[:, 1].mean(),
                f"pass@{k}": lambda x: np.mean([any(s) for s in combinations(x[:, 0], k)])}
    assert len(table) == 2 * 2 * 3 and set(table["metric"]) == set(measures)
    for _, row in table.iterrows():
        def scores(method, of=row):
            return np.array([[measures[of["metric"]](cells[method, of["benchmark"], p, s]) for s in range(2)]
                             for p in range(4)])

        mine, theirs = scores(row["method"]), scores("sft-rs")
        assert row[["mean", "ci_low", "ci_high"]].tolist() == pytest.approx(bootstrap_mean(mine, n_boot=200))
        difference = (0, 0, 0) if row["method"] == "sft-rs" else paired_bootstrap(mine, theirs, n_boot=200)
        assert row[["diff_vs_sft_rs", "diff_low", "diff_high"]].tolist() == pytest.approx(difference)
        assert row[["n_problems", "n_seeds", "n_samples", "temperature"]].tolist() == [4, 2, 3, 0.7]


def test_without_the_baseline_no_difference_is_shown():
    table = evaluation.results_table(results(1, ("heal", "star"))[0], temperature=1, n_boot=20, k=1)
    assert table["metric"].unique().tolist() == ["avg@1", "pass@1", "truncated"]
    assert table["mean"].notna().all() and table[["diff_vs_sft_rs", "diff_low", "diff_high"]].isna().all(axis=None)


@pytest.mark.parametrize("lost", ["p1", 0])
def test_a_cell_that_is_missing_is_no_zero(lost):
    samples, _ = results()
    whole = evaluation.score_matrix(samples, "heal", "a-hard", "correct", avg_at_k)
    assert whole.shape == (4, 2)
    gone = (samples["seed"] == 1) & (samples["problem_id"] == lost if lost == "p1" else samples["sample"] == lost)
    with pytest.raises(HealError, match="seeds differ in problems or samples"):
        evaluation.score_matrix(samples[~gone], "heal", "a-hard", "correct", avg_at_k)
    with pytest.raises(HealError, match="no samples of 'limo'"):
        evaluation.score_matrix(samples, "limo", "a-hard", "correct", avg_at_k)


def test_every_sample_can_be_read_back_and_gives_the_cell_again(tmp_path):
    rows = [(m, s, "a-hard", f"p{p}", k, int((p + k + s) % 3 == 0), 1, -1, 7, "a long text", "key")
            for m in ("heal", "sft-rs") for s in (1, 0) for p in range(4) for k in range(2)]
    samples = pd.DataFrame(rows, columns=evaluation.SAMPLE)
    evaluation.save_samples(samples, tmp_path)
    assert sorted(path.name for path in (tmp_path / "per_sample").iterdir()) == ["heal.parquet", "sft-rs.parquet"]
    kept = pd.read_parquet(tmp_path / "per_sample" / "heal.parquet")
    assert list(kept.columns) == evaluation.SAMPLE and len(kept) == 16
    order = kept[["seed", "benchmark", "problem_id", "sample"]].to_records(index=False).tolist()
    assert order == sorted(order) and order[0][0] == 0
    table = evaluation.results_table(samples, temperature=1.0, n_boot=10)
    cell = table[(table["method"] == "heal") & (table["metric"] == "avg@2")]["mean"].item()
    assert kept["correct"].mean() == pytest.approx(cell)


def test_texts_are_kept_of_hard_problems_and_several_methods_can_share_a_file(tmp_path):
    rows = [(m, 0, b, "p", 0, 1, 1, -1, 7, "a long text", "key") for m in ("b", "a") for b in ("a-hard", "a-easy")]
    evaluation.save_samples(pd.DataFrame(rows, columns=evaluation.SAMPLE), tmp_path, "greedy")
    kept = pd.read_parquet(tmp_path / "per_sample" / "greedy.parquet")
    assert kept[["method", "text"]].to_numpy().tolist() == [["a", ""], ["a", "a long text"], ["b", ""],
                                                            ["b", "a long text"]]


def test_samples_of_another_notebook_stay(tmp_path):
    """08 at a small scale compares some of the methods of 05 and once took the others' files for its own old ones."""
    def save(*methods):
        rows = [(m, 0, "a-hard", "p", 0, 1, 1, -1, 7, "", "") for m in methods]
        evaluation.save_samples(pd.DataFrame(rows, columns=evaluation.SAMPLE), tmp_path)
        return sorted(path.stem for path in (tmp_path / "per_sample").glob("*.parquet"))

    save("heal", "star", "teacher")
    outputs = {f"per_sample/{name}.parquet": "sha256" for name in ("heal", "star", "teacher")}
    write_json({"notebooks": {"05_main_results": {"outputs": outputs}}}, tmp_path / "run.json")
    assert save("heal", "star", "new") == ["heal", "new", "star", "teacher"]


def test_a_sample_of_trajectories_is_kept_for_reading(tmp_path):
    row = {name: {"string": "p", "bool": True}.get(kind, [1, 2] if "list" in kind else 3)
           for name, kind in COLUMNS.items()}
    rows = [{**row, "sample": i} for i in range(30)]
    for folder in ("one", "two"):
        evaluation.write_trajectories({"hinted": rows, "repaired": rows[:2], "none": []}, tmp_path / folder, n=10)
    kept = {path.stem: pd.read_parquet(path) for path in (tmp_path / "one/per_sample/trajectories").iterdir()}
    assert {name: len(frame) for name, frame in kept.items()} == {"hinted": 10, "repaired": 2}
    assert list(kept["hinted"].columns) == list(COLUMNS) and kept["hinted"]["sample"].is_monotonic_increasing
    again = pd.read_parquet(tmp_path / "two/per_sample/trajectories/hinted.parquet")
    assert again["sample"].tolist() == kept["hinted"]["sample"].tolist()
    assert again["token_ids"].iloc[0].tolist() == [1, 2]


def test_the_committed_samples_give_the_committed_table():
    """Without this project's code but for the bootstrap: one cell of the main table and one paired interval."""
    demo = ROOT / "results" / "demo"
    table = pd.read_csv(demo / "tables" / "main_results.csv").query("metric.str.startswith('avg')")
    row = table[(table["method"] == "heal") & table["benchmark"].str.endswith("-hard")].iloc[0]
    files = [pd.read_parquet(demo / "per_sample" / f"{method}.parquet") for method in ("heal", "sft-rs")]
    means = [file[file["benchmark"] == row["benchmark"]].pivot_table("correct", "problem_id", "seed").to_numpy()
             for file in files]
    found = [means[0].mean(), *paired_bootstrap(*means, n_boot=scales.get("demo").n_boot)]
    assert found == pytest.approx(row[["mean", "diff_vs_sft_rs", "diff_low", "diff_high"]].tolist(), abs=1e-5)
