"""Tables of PACE's stages: what they are given, how much of it is seen, what is learned and lost."""

import itertools

import pandas as pd
import pytest
from test_tables import Run

from heal_lib import baselines, evaluation, pace_tables, scales


def test_stages_and_their_data(tmp_path):
    run = Run(tmp_path)
    assert pace_tables.stage_names(run, "heal") == ["base", "hint"]
    assert pace_tables.stage_names(run, "sft-rs") == ["base"]
    data = pace_tables.stage_data(run, "heal").set_index("source")
    assert data.loc["base", ["problems", "rows", "unique", "tokens"]].tolist() == [1, 2, 1, 6]
    logs = pace_tables.training_logs(run, ["heal"])
    assert logs[logs["seed"] == 0]["tokens"].tolist() == [30, 60, 100]  # tokens seen, across stages


def test_exposure_is_the_share_of_the_budget_by_source():
    class Plain:
        cfg = scales.get("smoke", worlds=["equations"], train_tokens=900)

        def training_sources(self, method):
            row = {"world": "equations", "input_ids": [1, 2, 3]}
            return {"base": [row] * 10, "repair": [row] * 10}

    found = pace_tables.exposure(Plain(), ["heal", "heal-no-pace", "heal-reversed"])
    found = found.set_index("method").drop(columns="family")
    # Staged: 30 tokens of base, then 60 of both: a third of the budget and two thirds.
    assert found.loc["heal"].tolist() == pytest.approx([1 / 3 + 1 / 3, 0.5, 1 / 3, 0.5])
    assert found.loc["heal-no-pace"].tolist() == pytest.approx([0.5] * 4)
    assert found.loc["heal-reversed", "repair"] == pytest.approx(2 / 3)


def test_families_of_worlds_stand_apart_in_exposure():
    """A variant that is trained on one family alone is compared there: a mean over families would say that the pair
    of equal exposure differs."""
    class Two:
        cfg = scales.get("smoke", worlds=["equations", "paths", "registers"], train_tokens=900)

        def training_sources(self, method):
            base, repair = ({"world": world, "input_ids": [1, 2, 3]} for world in ("equations", "registers"))
            return {"base": [base] * 5 + [repair] * 10, "repair": [repair] * 70}

    found = pace_tables.exposure(Two(), ["heal-no-pace", "heal-separate"])
    assert found[["family", "method"]].to_numpy().tolist() == [
        ["equations+paths", "heal-no-pace"], ["registers", "heal-no-pace"], ["registers", "heal-separate"]]
    assert found["base"].tolist() == pytest.approx([1, 1 / 8, 1 / 8], abs=1e-3)  # budgets are whole tokens
    assert found["repair"].tolist() == pytest.approx([0, 7 / 8, 7 / 8], abs=1e-3)


def staged(solved):
    """`solved`: {(problem, seed): right or not, of two samples, after each stage}."""
    rows = [{"benchmark": "a-easy", "problem_id": p, "seed": s, "correct": int(one), "stage": stage}
            for (p, s), stages in solved.items() for stage, right in enumerate(stages) for one in right]
    return pd.DataFrame(rows)


def test_a_lost_skill_shows_as_a_step_below_zero():
    solved = {(p, s): ["11", "11", "00"] for p in "pq" for s in (0, 1)}
    steps = pace_tables.stage_steps(staged(solved), ["untrained", "+ base", "+ hint"], n_boot=20)
    assert steps["method"].tolist() == ["+ base", "+ hint"] and steps["difference"].tolist() == [0, -1]
    assert steps[["solved_before", "lost", "gained"]].to_numpy().tolist() == [[1, 0, 0], [1, 1, 0]]


def test_what_is_forgotten_shows_where_as_much_is_learned():
    """Solved is what any of the samples solves; of four pairs one is lost, one gained, one kept."""
    solved = {("p", 0): ["11", "00"], ("p", 1): ["00", "11"], ("q", 0): ["01", "10"], ("q", 1): ["00", "00"]}
    (step,) = pace_tables.stage_steps(staged(solved), ["untrained", "+ base"],
                                      n_boot=50).to_dict("records")
    assert [step[name] for name in ("difference", "solved_before", "lost", "gained")] == [0, 0.5, 0.25, 0.25]
    assert step["net"] == 0 and step["net_low"] <= 0 <= step["net_high"]
    assert step["lost_between_seeds"] == 0.5  # of four ordered pairs p and q lose one each
    assert step["lost_low"] <= 0.25 <= step["lost_high"] and step["gained_low"] <= 0.25 <= step["gained_high"]
    assert {"lost", "gained_high"} < set(pace_tables.stage_steps(staged(solved), ["untrained"],
                                                                 n_boot=5))  # of no stage: no row, all columns


def test_only_the_pairs_named_so_have_equal_exposure():
    class Plain:
        cfg = scales.get("smoke", worlds=["equations"], train_tokens=900)

        def training_sources(self, method):
            row = {"world": "equations", "input_ids": [1, 2, 3]}
            return {"base": [row] * 10, "hint": [row] * 15, "repair": [row] * 5}

    found = pace_tables.exposure(Plain(), baselines.ORDERS).set_index("method")[["base", "hint", "repair"]]
    same = {(a, b) for a, b in itertools.permutations(baselines.ORDERS, 2)
            if found.loc[a].tolist() == pytest.approx(found.loc[b].tolist())}
    assert same == {pair for one in pace_tables.EQUAL for pair in (one, one[::-1])}


def test_samples_after_each_stage_are_kept_under_names_of_their_own(tmp_path):
    class Staged(Run):
        evaluate = staticmethod(list)

        def evaluation(self, method, seed, stage=3):
            return pd.DataFrame([[method, seed, "a-hard", "p", 0, stage, 1, -1, 7, "", ""]],
                                columns=evaluation.SAMPLE)

        def training_sources(self, method):
            return dict.fromkeys(("base", "hint", "repair"), [{}])

    after = pace_tables.stage_samples(Staged(tmp_path))
    assert after.groupby("stage")["method"].unique().str[0].tolist() == [
        "student", "heal-after-base", "heal-after-hint", "heal"]
    evaluation.save_samples(after[after["method"].str.contains("-after-")], tmp_path)
    kept = {path.stem: pd.read_parquet(path)["correct"].item() for path in (tmp_path / "per_sample").iterdir()}
    assert kept == {"heal-after-base": 1, "heal-after-hint": 2}
