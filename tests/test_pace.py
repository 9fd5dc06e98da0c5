import itertools

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from heal_lib import pace
from heal_lib.errors import HealError
from heal_lib.files import read_json
from heal_lib.pace import STAGES, budgets, curriculum, fill, same_passes
from heal_lib.trajectory import rng_of, seed_of

SOURCES = {"repair": ["r1", "r2"], "base": ["b1", "b2", "b3"], "hint": ["h1"]}


def test_three_stages_cumulative():
    """docs/method.md, section 4, whatever the order in which the sources come."""
    assert STAGES == ("base", "hint", "repair")
    assert curriculum(SOURCES) == [["b1", "b2", "b3"], ["b1", "b2", "b3", "h1"], ["b1", "b2", "b3", "h1", "r1", "r2"]]


def test_other_orders():
    assert curriculum(SOURCES, cumulative=False) == [["b1", "b2", "b3"], ["h1"], ["r1", "r2"]]
    assert curriculum(SOURCES, order="separate") == curriculum(SOURCES, cumulative=False)
    assert curriculum(SOURCES, order="reversed") == [["r1", "r2"], ["r1", "r2", "h1"],
                                                     ["r1", "r2", "h1", "b1", "b2", "b3"]]
    for cumulative in (True, False):
        assert curriculum(SOURCES, order="mixed", cumulative=cumulative) == [["b1", "b2", "b3", "h1", "r1", "r2"]]


@pytest.mark.parametrize("order", ["staged", "mixed", "reversed"])
def test_every_order_ends_on_the_same_data(order):
    assert sorted(curriculum(SOURCES, order=order)[-1]) == sorted(itertools.chain(*SOURCES.values()))


def test_sources_without_rows_make_no_stage():
    assert curriculum({"base": ["b"], "hint": [], "repair": ["r"]}) == [["b"], ["b", "r"]]
    assert curriculum({"base": ["b"]}) == curriculum({"base": ["b"]}, order="reversed") == [["b"]]
    assert curriculum({"base": [], "hint": ["h"], "repair": []}) == [["h"]]


def test_nothing_at_all_and_an_unknown_order_are_refused():
    for nothing in ({}, {"base": []}, {"base": [], "hint": [], "repair": []}):
        with pytest.raises(HealError, match="nothing to train on"):
            curriculum(nothing)
    with pytest.raises(HealError, match="'shuffled'; choose staged, separate, mixed, interleaved or reversed"):
        curriculum(SOURCES, order="shuffled")


def test_budgets_by_hand():
    assert budgets([["aa"], ["aa", "bbbb"]], 80) == [20, 60]  # 2 and 6 tokens
    assert budgets([["a"], ["a"], ["a"]], 100) == [33, 34, 33]
    assert budgets([[1, 1], [1]], 30, length=lambda row: 5) == [20, 10]


@given(st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=6), min_size=1, max_size=5), st.integers(0, 10**6))
def test_budgets_add_up_and_are_fair(stages, total):
    shares, sizes = budgets(stages, total, length=int), [sum(stage) for stage in stages]
    assert sum(shares) == total
    assert all(abs(share - total * size / sum(sizes)) <= 1 for share, size in zip(shares, sizes, strict=True))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 200))
def test_fill_reaches_the_budget_with_whole_rows_in_whole_passes(lengths, budget):
    rows = [(i, n) for i, n in enumerate(lengths)]
    out = fill(rows, budget, 0, length=lambda row: row[1])
    spent = [n for _, n in out]
    assert sum(spent) >= budget and sum(spent[:-1]) < max(budget, 1)  # the last row is the one that reaches it
    for at in range(0, len(out), len(rows)):  # each pass holds every row once
        assert len(set(out[at : at + len(rows)])) == len(out[at : at + len(rows)])


def test_fill_is_seeded_and_shuffles_each_pass():
    rows = ["x" * (i + 1) for i in range(10)]
    out = fill(rows, 220, 0)
    assert out == fill(rows, 220, 0) != fill(rows, 220, 1)
    assert out[:10] != out[10:20] and sorted(out[:10]) == sorted(out[10:20]) == rows
    assert rows == ["x" * (i + 1) for i in range(10)] and fill(rows, 0, 0) == []


def test_equal_passes_by_hand():
    """300 tokens go through 100 three times; so do 60 through 20."""
    assert same_passes(300, [10, 10], [50, 50]) == 60
    assert same_passes(300, [50, 50], [50, 50]) == 300 == same_passes(300, [7], [])


@given(st.lists(st.integers(1, 50), min_size=1), st.lists(st.integers(1, 50), min_size=1), st.integers(1, 10**6))
def test_equal_passes_are_equal(lengths, like, total):
    assert same_passes(total, lengths, like) == pytest.approx(total / sum(like) * sum(lengths), abs=0.501, rel=0)


def test_fill_of_nothing_is_an_error_not_an_endless_loop():
    for rows in ([], [""]):
        with pytest.raises(HealError, match="nothing to train on"):
            fill(rows, 10, 0)


def test_interleaving_gives_every_source_the_same_weight():
    stages = curriculum({"base": [1, 2, 3, 4], "hint": [5], "repair": [6, 7]}, order="interleaved")
    assert stages == [[1, 5, 6, 2, 5, 7, 3, 5, 6, 4, 5, 7]]


def test_no_budget_is_no_rows():
    assert fill(["b1", "b2"], 0, seed=0) == [] == fill([], 0, seed=0) == fill(["", ""], 0, seed=0)


def test_every_pass_is_shuffled_by_a_stream_of_its_own():
    rows, passes = list("abcdefgh"), []
    for epoch in (0, 1, 2):
        passes.append(list(rows))
        rng_of(7, "epoch", epoch).shuffle(passes[-1])
    assert fill(rows, 24, seed=7) == [*passes[0], *passes[1], *passes[2]]


def test_a_budget_of_one_token_needs_a_token():
    assert fill(["a", "b"], 1, seed=0) in (["a"], ["b"]) and fill([""], 0, seed=0) == []
    with pytest.raises(HealError, match="hold no tokens"):
        fill([""], 1, seed=0)


# --- what training is handed

ROWS = [("base", [1, 2, 3]), ("base", [4, 5]), ("hint", [6] * 4), ("repair", [7] * 5), ("repair", [7] * 5)]


def rows(of=ROWS):
    return Dataset.from_list([{"stage": stage, "input_ids": ids, "completion_mask": [0, *[1] * (len(ids) - 1)],
                               "problem_id": "p"} for stage, ids in of])


def trained(monkeypatch, folder, **switches):
    """(arguments of `training.train`, training.json) of a student that is not trained."""
    seen = []

    def train(*arguments):
        seen.append(arguments)
        return [[{"step": 1, "loss": 2.5}, {"step": 2, "eval_loss": 1.5}, {"train_runtime": 3}] for _ in arguments[1]]

    monkeypatch.setattr(pace.training, "train", train)
    how = {"rows": rows(), "student": "student", "order": "staged", "restart": True, "loss": "tokens",
           "cumulative": True, "n_tokens": 400, "batch_size": 3, "learning_rate": 0.02, "how": {"method": "full"},
           "seed": 5, "folder": folder}
    pace.train(**{**how, **switches})
    (arguments,) = seen
    return arguments, read_json(folder / "training.json")


def test_each_stage_is_handed_its_share_of_the_tokens_and_noted(monkeypatch, tmp_path):
    (base, stages, configs, folder, how, _, heldout), noted = trained(monkeypatch, tmp_path)
    assert base.endswith("student") and folder == tmp_path and heldout == []
    assert how == pace.Finetune(method="full")
    data = [[ids for name, ids in ROWS if name in STAGES[:i]] for i in (1, 2, 3)]
    shares = budgets(data, 400)
    for i, (handed, all_rows, share) in enumerate(zip(stages, data, shares, strict=True), 1):
        assert [row["input_ids"] for row in handed] == fill(all_rows, share, seed_of(5, "fill", i))
        assert all(set(row) == {"input_ids", "completion_mask"} for row in handed)
    assert [(c.learning_rate, c.batch_size, c.in_order) for c in configs] == [(0.02, 3, True)] * 3
    assert len({c.seed for c in configs}) == 3 and all(0 <= c.seed < 2**31 for c in configs)
    assert noted["learning_rate"] == 0.02 and noted["seed"] == 5
    assert [(s["stage"], s["rows"], s["unique"]) for s in noted["stages"]] == [(1, 2, 2), (2, 3, 3), (3, 5, 4)]
    assert [s["tokens"] for s in noted["stages"]] == [sum(len(row["input_ids"]) for row in rows) for rows in stages]
    assert all(s["loss"] == [[1, 2.5]] and s["eval_loss"] == [[2, 1.5]] for s in noted["stages"])


def test_without_a_restart_all_stages_are_one_in_their_order(monkeypatch, tmp_path):
    apart = trained(monkeypatch, tmp_path / "apart")[0][1]
    (_, (joined,), (config,), *_), noted = trained(monkeypatch, tmp_path / "joined", restart=False)
    assert joined == [row for stage in apart for row in stage] and config.in_order
    assert [(s["stage"], s["rows"]) for s in noted["stages"]] == [(1, 2 + 3 + 5)]


def test_like_another_method_s_passes_and_with_rows_held_out(monkeypatch, tmp_path):
    twice = rows(ROWS * 2)
    (_, stages, *_, heldout), noted = trained(monkeypatch, tmp_path, order="mixed", like=twice, heldout=rows(ROWS[:2]))
    assert len(stages) == 1 and 200 <= noted["stages"][0]["tokens"] < 205  # half the rows, so half the tokens
    assert [row["input_ids"] for row in heldout] == [[1, 2, 3], [4, 5]]
