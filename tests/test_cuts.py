"""What notebook 02 measures, by hand: chance by position, what repairs yield, gates on a card."""

import json

import numpy as np
import pytest
from datasets import Dataset

from heal_lib import cuts, scales


def _found(breakpoint, first_break, n_steps=9, problem="p", world="registers", difficulty="hard"):
    return {"problem_id": problem, "world": world, "difficulty": difficulty, "breakpoint": breakpoint, "stop": 4,
            "first_break": first_break, "n_steps": n_steps}


def test_chance_by_position_is_what_the_other_breakpoints_would_hit():
    found = [_found(1, 1), _found(1, 2), _found(3, 3), _found(2, 9, n_steps=3), _found(7, 7, difficulty="easy")]
    permuted, fixed = cuts.elsewhere(found, 0).T
    assert permuted.tolist() == [0.5, 0.25, 0.25, 0, 1] and fixed.tolist() == [1, 0, 0, 0, 1]
    permuted, fixed = cuts.elsewhere(found, 1).T
    assert permuted.tolist() == [0.75, 1, 0.5, 0, 1] and fixed.tolist() == [1, 1, 0, 0, 1]
    assert cuts.elsewhere([_found(8, 2, n_steps=3)], 0).tolist() == [[1, 1]]  # a cut beyond the end is one at the end


def test_breakpoints_that_know_their_text_beat_their_own_distribution():
    found = [_found(k, k, problem=f"p{i}") for i in range(8) for k in (1, 2, 3)]
    line = cuts.breaks([*found, _found(1, None)], n_boot=50).set_index("slack").loc[0]
    assert (line["mean"], line["n_trajectories"], line["n_problems"]) == (1, 24, 8)
    assert line["chance_permuted"] == pytest.approx(1 / 3) == line["chance_fixed"] == line["chance_window"]
    assert line["gain_permuted"] == pytest.approx(2 / 3) and line["chance_trajectory"] == pytest.approx(1 / 8)
    blind = cuts.breaks([_found(2, k, problem=f"p{i}") for i in range(8) for k in (1, 2, 3)], n_boot=50).iloc[0]
    assert blind["gain_permuted"] == blind["gain_fixed"] == 0
    assert len(cuts.breaks([], n_boot=50)) == 0


def _repairs(*rows):
    return Dataset.from_list([{"problem_id": p, "world": "registers", "difficulty": "hard", "correct": genuine >= 0,
                               "genuine": genuine, "n_generated": 10, "text": text} for p, genuine, text in rows])


def test_yields_by_hand():
    data = {"entropy": _repairs(("p", 1, "a"), ("p", 1, "a"), ("q", 1, "a"), ("q", -1, "b")),
            "start": _repairs(("p", 0, "a"), ("p", -1, "c"), ("q", 1, "a"), ("q", -1, "b"))}
    table = cuts.yields(data, "cut", n_boot=50).set_index(["cut", "metric"])
    rate = table["mean"].unstack()
    assert rate.loc["entropy", ["repair_rate", "genuine_rate", "genuine_share"]].tolist() == [0.75, 0.75, 1]
    assert rate.loc["start", ["repair_rate", "genuine_rate", "genuine_share"]].tolist() == [0.5, 0.25, 0.5]
    assert rate.loc["entropy", "unique_share"] == pytest.approx(2 / 3) and rate.loc["start", "unique_share"] == 1
    assert rate.loc["entropy", "tokens_per_genuine"] == pytest.approx(40 / 3)
    assert rate.loc["start", "tokens_per_genuine"] == 40
    assert table.loc[("start", "genuine_rate"), "first_minus_this"] == 0.5
    line = table.loc[("entropy", "tokens_per_genuine")]
    assert line["ci_low"] <= line["mean"] <= line["ci_high"] and np.isnan(line["first_minus_this"])


def test_the_first_s_repairs_per_token_are_set_over_the_others():
    data = {"entropy": _repairs(("p", 1, "a"), ("p", 1, "b"), ("q", 1, "a"), ("q", -1, "b")),
            "start": _repairs(("p", 1, "a"), ("p", -1, "c"), ("q", 1, "a"), ("q", -1, "b")),
            "none": _repairs(*((p, -1, "x") for p in "ppqq"))}
    table = cuts.yields(data, "cut", n_boot=50).set_index(["cut", "metric"])
    ends = ["first_over_this", "over_low", "over_high"]
    assert table.loc[("start", "tokens_per_genuine"), ends].tolist() == [1.5, 1, 2]  # q alike, p twice as many
    assert table.loc[("entropy", "tokens_per_genuine"), ends].tolist() == [1, 1, 1]
    assert table.loc[("none", "tokens_per_genuine"), ends].isna().all()  # a ratio to nothing
    assert table.loc[("start", "genuine_rate"), ends].isna().all()
    behind = cuts.yields({"none": data["none"], "start": data["start"]}, "cut", n_boot=50).set_index(["cut", "metric"])
    assert behind.loc[("start", "tokens_per_genuine"), ends].isna().all()  # 0 of few is no ratio of 0 [0, 0]


def test_tokens_per_repair_without_any_repair_are_bounded_by_the_share_of_candidates():
    """0 genuine of 40 problems: at most so many candidates are, at ten tokens each."""
    none = _repairs(*((f"p{i}", -1, "x") for i in range(40) for _ in range(5)))
    one = _repairs(*((f"p{i}", 1 if i + k == 0 else -1, "x") for i in range(40) for k in range(5)))
    table = cuts.yields({"none": none, "one": one}, "cut", n_boot=200).set_index(["cut", "metric"])
    share = 1 - 0.025 ** (1 / 40)
    for metric in ("tokens_per_genuine", "tokens_per_accepted"):
        line, other = table.loc[("none", metric)], table.loc[("one", metric)]
        assert line["mean"] == line["ci_high"] == np.inf and line["ci_low"] == pytest.approx(10 / share)
        assert other["mean"] == 2000 and other["ci_high"] == np.inf
    assert table.loc[("none", "genuine_rate"), "ci_high"] == pytest.approx(share)


def test_ratio_of_ratios_by_hand():
    a, b = ([4, 2], [10, 10]), ([1, 2], [10, 20])
    value, low, high = cuts.relative(a, b, n_boot=200)
    assert value == pytest.approx(3) and low <= value <= high
    assert np.isnan(cuts.relative(a, ([0, 0], [10, 20]), n_boot=50)).all()


def test_gates_are_read_from_the_card_of_a_world_that_judges_gear(tmp_path, monkeypatch):
    monkeypatch.setenv("HEAL_MODELS", str(tmp_path))
    cfg = scales.get("smoke", worlds=["equations", "registers"])
    assert len(cuts.gates(cfg)) == 0
    for name in ("teacher", "registers-teacher"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(json.dumps({"gates": {"kept_values": [7, 4, None, True]}}))
    assert cuts.gates(cfg)[["world", "gate", "value", "met"]].to_numpy().tolist() == [
        ["registers", "kept_values", 7, True]]
