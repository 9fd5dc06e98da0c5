"""GEAR's repair and PURE's reading with a scripted engine: they know engines and worlds by protocol only."""

import inspect

import numpy as np
import pytest

from heal_lib import gear, sampling, scales, worlds
from heal_lib.engines import SamplingParams
from heal_lib.errors import HealError
from heal_lib.trajectory import COLUMNS, Problem, step_spans, to_dataset

WORLD = worlds.get("equations")
PROBLEM = Problem("e", "equations", "hard", "equation x*3+2*2=46", "7")
# K = 9 steps: the window of one third holds steps 1 and 2. An attempt that fails.
STEPS = ["x*3+2*2=46", "try 5", "5*3=15", "15+2=17", "17*2=34", "34<46", "try 6", "give up", "\\boxed{6}"]
REST = "46/2=23\n\n23-2=21\n\n21/3=7\n\n\\boxed{7}"
BASE = {"problem_id": PROBLEM.id, "world": "equations", "difficulty": "hard", "question": PROBLEM.question,
        "answer": "7", "source": "sampled", "sample": 4, "parent": -1, "n_kept": 0, "breakpoint": -1, "finished": True,
        "correct": False, "genuine": 0, "n_generated": 1}
PARAMS = SamplingParams(max_new_tokens=99, temperature=0.8)


def failed(engine, steps=STEPS, entropy=None, sample=4, finished=True):
    """A failed trajectory's row; entropy: nats of each step, the same for all its tokens."""
    text = "\n\n".join(steps)
    ids = engine.encode(text) + [engine.eos] * finished
    spans = step_spans(engine.pieces(ids))
    h = np.ones(len(spans)) if entropy is None else np.array(entropy, float)
    values = [x for x, (a, b) in zip(h, spans, strict=True) for _ in range(b - a)]
    return {**BASE, "sample": sample, "token_ids": ids, "entropy": values, "text": text, "finished": finished}


def surge_at(step):
    h = np.ones(len(STEPS))
    h[step] = 3
    return h


def repair(engine, rows, n=3, seed=0, **switches):
    return gear.repair(engine, WORLD, rows, n_candidates=n, params=PARAMS, seed=seed, **switches)


@pytest.fixture
def engine(scripted):
    return scripted(lambda prompt, key, j: REST)


# --- which texts are repaired

def pool(*right_of):
    """Samples of problems a, b, ..: (right ones, all) of each."""
    rows = [{**BASE, "problem_id": name, "sample": i, "token_ids": [i], "entropy": [1.0], "text": f"{name}{i}",
             "correct": i < right} for name, (right, n) in zip("abcd", right_of, strict=False) for i in range(n)]
    return to_dataset(rows)


def test_failed_texts_of_eligible_problems_are_chosen_by_the_seed():
    samples = pool((1, 4), (2, 4), (0, 6), (3, 3))
    for n_failed in (1, 2, 9):
        chosen = gear.failed(samples, n_failed, max_correct=1, seed=0)
        assert {name: len(rows) for name, rows in chosen.items()} == {"a": min(3, n_failed), "c": min(6, n_failed)}
        assert all(row["problem_id"] == name and not row["correct"] for name, rows in chosen.items() for row in rows)
    assert set(gear.failed(samples, 1, max_correct=0, seed=0)) == {"c"}
    picks = {tuple(row["sample"] for row in gear.failed(samples, 2, 1, seed)["c"]) for seed in (0, 0, 1, 2, 3)}
    assert 1 < len(picks) <= 4


def test_the_stage_repairs_what_is_chosen_as_its_settings_say(engine, monkeypatch):
    monkeypatch.setattr(gear.sampling, "watched", lambda model, kind: engine)
    text = failed(engine, entropy=surge_at(2))
    settings = {"max_new_tokens": None, "temperature": 0.7, "top_p": 0.9}
    how = {"world": "equations", "rule": "entropy", "n_failed": 2, "n_candidates": 3, "max_correct": 1, "model": "m",
           "engine": "hf", "settings": settings, "seed": 5, "hint": "answer"}
    found = gear.repairs(pool=to_dataset([text, {**text, "sample": 5, "correct": True}]), **how)
    by_hand = gear.repair(engine, WORLD, [text], n_candidates=3, seed=5,
                          params=SamplingParams(WORLD.longest("hard"), 0.7, top_p=0.9))
    assert found.to_list() == to_dataset(by_hand).to_list() and len(found) == 3
    assert len(gear.repairs(pool=pool((2, 4)), **how)) == 0


# --- the cut

@pytest.mark.parametrize("surge, backoff, stay", [(1, 1, 0), (2, 1, 1), (2, 0, 2), (2, 2, 0), (1, 0, 1)])
def test_the_breakpoint_that_is_found_is_the_one_that_is_used(engine, surge, backoff, stay):
    """Known wrong turn: the surge decides what is kept, in the prompt and in the row."""
    (row,) = repair(engine, [failed(engine, entropy=surge_at(surge))], n=1, backoff=backoff)
    kept = "".join(step + "\n\n" for step in STEPS[:stay])
    assert engine.calls[0]["prompt"] == PROBLEM.question + "\n\n" + kept + "hint 7\n\n"
    assert row["text"] == kept + REST and row["breakpoint"] == surge and row["n_kept"] == len(kept)


@pytest.mark.parametrize("switches, stay", [
    ({}, 1),
    ({"window": 1.0}, 6),  # the largest rise of all is at step 7
    ({"surge": "value", "window": 1.0}, 4),  # the largest value is at step 5
    ({"window_unit": "tokens", "window": 0.1}, 0),  # one step begins in the first tenth of the tokens
    ({"rule": "value"}, 1),
    ({"rule": "middle"}, 4),
    ({"rule": "start"}, 0),
])
def test_rules_and_switches_move_the_cut(engine, switches, stay):
    h = [1, 1, 3, 4, 4.5, 5, 1, 3.5, 1]
    (row,) = repair(engine, [failed(engine, entropy=h)], n=1, **switches)
    assert row["text"].removesuffix(REST) == "".join(step + "\n\n" for step in STEPS[:stay])
    assert (row["breakpoint"] == -1) == (switches.get("rule", "entropy") != "entropy")


def test_the_random_cut_is_seeded_and_its_own_for_each_trajectory(engine):
    rows = [failed(engine, sample=i) for i in range(12)]
    cuts = [[r["n_kept"] for r in repair(engine, rows, n=1, rule="random", window=1.0, seed=s)] for s in (0, 0, 1)]
    assert cuts[0] == cuts[1] != cuts[2] and len(set(cuts[0])) > 2


def test_the_oracle_s_cut_keeps_what_is_right(engine):
    (row,) = repair(engine, [failed(engine)], n=1, rule="oracle")
    assert row["text"] == STEPS[0] + "\n\n" + REST and row["breakpoint"] == -1  # "try 5" leads nowhere


def test_a_world_without_oracle_has_no_such_cut(engine, monkeypatch):
    monkeypatch.setattr(type(WORLD), "check_steps", lambda self, problem, text: None)
    with pytest.raises(HealError, match="'equations' has no step oracle"):
        repair(engine, [failed(engine)], rule="oracle")


def test_where_the_oracle_sees_nothing_its_cut_keeps_all_but_the_last_step(engine, monkeypatch):
    seen = type(WORLD).check_steps
    monkeypatch.setattr(type(WORLD), "check_steps",
                        lambda self, problem, text: None if text.startswith("?") else seen(self, problem, text))
    rows = [failed(engine), {**failed(engine), "text": "?"}]
    cuts = [r["n_kept"] for r in repair(engine, rows, n=1, rule="oracle")]
    assert cuts[0] < cuts[1]


def test_without_a_hint_the_teacher_goes_on_from_what_is_kept(engine):
    repair(engine, [failed(engine)], n=1, hint="none", rule="start")
    repair(engine, [failed(engine)], n=1, hint="wrong", rule="start")
    assert [call["prompt"].endswith(WORLD.prompt(PROBLEM)) for call in engine.calls] == [True, False]


def test_fixed_and_permuted_cuts_are_made_of_gear_s_own(engine):
    """Breakpoints 1, 2, 2, 2 of these texts: the median is 2, and a permutation deals them out anew."""
    rows = [failed(engine, entropy=surge_at(s), sample=i) for i, s in enumerate((1, 2, 2, 2))]
    one, two = 0, len(STEPS[0]) + 2  # tokens kept
    assert [r["n_kept"] for r in repair(engine, rows, n=1)] == [one, two, two, two]
    assert [r["n_kept"] for r in repair(engine, rows, n=1, rule="fixed")] == [two] * 4
    dealt = [[r["n_kept"] for r in repair(engine, rows, n=1, rule="permuted", seed=s)] for s in range(8)]
    assert all(sorted(d) == [one, two, two, two] for d in dealt) and len(set(map(tuple, dealt))) > 1
    assert dealt[3] == [r["n_kept"] for r in repair(engine, rows, n=1, rule="permuted", seed=3)]


def test_a_random_cut_in_the_text_goes_beyond_the_window(engine):
    rows = [failed(engine, sample=i) for i in range(30)]
    kept = {r["n_kept"] for r in repair(engine, rows, n=1, rule="random-text")}
    assert len(kept) >= 6 and max(kept) > len("\n\n".join(STEPS[:4]))


def test_kept_tokens_are_exactly_the_leading_steps(engine):
    row = failed(engine, entropy=surge_at(7))
    (out,) = repair(engine, [row], n=1, window=1.0)
    start, end = step_spans(engine.pieces(row["token_ids"]))[5]  # steps 0..5 stay
    assert out["n_kept"] == end and out["token_ids"][:end] == row["token_ids"][:end]
    assert engine.pieces(out["token_ids"][:end])[-2:] == ["\n", "\n"]


def test_another_delimiter_makes_other_steps(engine):
    row = failed(engine)
    row["entropy"] = [1.0] * row["text"].index("+2*2") + [3.0] * (len(row["token_ids"]) - row["text"].index("+2*2"))
    (out,) = repair(engine, [row], n=1, step_delimiter="3", backoff=0)
    assert out["text"].startswith("x*346/2")


def test_a_trajectory_of_one_step_is_cut_at_0(engine):
    for rule in gear.CUT_RULES:
        for backoff in (0, 1):
            (row,) = repair(engine, [failed(engine, ["\\boxed{6}"])], n=1, rule=rule, backoff=backoff)
            assert row["n_kept"] == 0 and row["breakpoint"] == -1 and row["text"] == REST


def test_an_empty_trajectory_is_a_one_line_error(engine):
    for rule in gear.CUT_RULES:
        with pytest.raises(HealError, match="without tokens"):
            repair(engine, [{**failed(engine), "token_ids": [], "entropy": []}], rule=rule)


def test_a_problem_without_failed_trajectory_needs_no_teacher(engine):
    assert repair(engine, []) == [] and engine.calls == []


# --- the hint

def test_the_hint_is_in_the_prompt_and_never_in_the_row(engine):
    """Known wrong turn: a repair that never sees the answer."""
    rows = repair(engine, [failed(engine, entropy=surge_at(s), sample=s) for s in (1, 2)])
    assert all(call["prompt"].endswith("hint 7\n\n") and call["prompt"].count("hint") == 1 for call in engine.calls)
    assert len(rows) == 6 and all(row["correct"] for row in rows)
    for row in rows:
        assert not WORLD.speaks_of_hint(row["text"] + row["question"])
        assert "hint" not in "".join(engine.pieces(row["token_ids"]))


def test_the_first_step_may_be_the_hint(engine):
    repair(engine, [failed(engine)], hint="first_step")
    assert engine.calls[0]["prompt"].endswith("hint 46/2=23\n\n")
    with pytest.raises(HealError, match="hint form"):
        repair(engine, [failed(engine)], hint="everything")


def test_controls_of_the_hint(engine):
    repair(engine, [failed(engine)], hint="wrong")
    repair(engine, [failed(engine)], hint="none")
    wrong, none = (call["prompt"] for call in engine.calls)
    assert none == PROBLEM.question + "\n\n"
    assert wrong == none + WORLD.hint(PROBLEM, "wrong") and wrong != none + "hint 7\n\n"


# --- the candidates

def test_only_finished_right_candidates_that_do_not_mention_the_hint_count(scripted):
    said = [REST, (REST, False), REST.replace("{7}", "{8}"), "as the hint says\n\n" + REST, REST + "\n\n", "",
            ("try 1" * 30, False), REST + "\n\ngive up", "23=23\n\n" + REST]
    engine = scripted(lambda prompt, key, j: said[j])
    rows = repair(engine, [failed(engine, entropy=surge_at(2))], n=len(said))
    assert [row["correct"] for row in rows] == [True, False, False, False, True, False, False, False, True]
    assert [row["finished"] for row in rows] == [True, False, True, True, True, True, False, True, True]
    assert [row["genuine"] for row in rows] == [1, 1, 0, 0, 1, 0, 0, 0, 0]  # the last one: 23=23 is no step of it


def test_nothing_is_cut_off_and_the_teacher_s_tokens_are_counted(scripted):
    """Known wrong turn: text cut silently at a fixed token count. The prefix is kept, not drawn again."""
    long = "try 1\n\n" * 300 + REST
    engine = scripted(lambda prompt, key, j: long)
    (row,) = repair(engine, [failed(engine, entropy=surge_at(2))], n=1)
    assert row["text"] == STEPS[0] + "\n\n" + long
    assert row["n_generated"] == len(long) + 1 and len(row["token_ids"]) == row["n_kept"] + row["n_generated"]
    assert row["n_kept"] == len(STEPS[0]) + 2 and len(row["entropy"]) == row["n_generated"]


def test_rows_say_where_they_come_from(engine):
    rows = repair(engine, [failed(engine, sample=s) for s in (9, 2)], n=3, seed=5)
    assert [row["parent"] for row in rows] == [9, 9, 9, 2, 2, 2]
    assert [row["sample"] for row in rows] == list(range(6))  # one index per candidate of the problem
    assert {row["source"] for row in rows} == {"repaired"} and {row["problem_id"] for row in rows} == {"e"}
    assert set(rows[0]) == set(COLUMNS) and len(to_dataset(rows)) == 6
    keys = [call["key"] for call in engine.calls]
    assert len(set(keys)) == 2 and all(key.startswith("e/") for key in keys)  # no two trajectories share draws
    assert all(call["params"] is PARAMS and call["n"] == 3 and call["seed"] == 5 for call in engine.calls)


def test_what_is_not_said_is_as_in_the_paper_and_in_the_scales(engine):
    """A third of the trajectory, one step back, twenty candidates; a plain draw has no parent and no breakpoint."""
    told = {name: p.default for name, p in inspect.signature(gear.repair).parameters.items()}
    usual = scales.get("demo")
    assert told["n_candidates"] == 20 and told["rule"] == "entropy" and told["window"] == pytest.approx(1 / 3)
    for name in ("window", "window_unit", "surge", "backoff", "hint", "step_delimiter"):
        assert told[name] == getattr(usual, name)
    (draw,) = engine.sample([engine.encode("x\n\n")], 1, PARAMS, 0, ["k"])[0]
    row = sampling.candidate_row(engine, WORLD, PROBLEM, draw, source="sampled", sample=3)
    assert (row["parent"], row["breakpoint"], row["n_kept"], row["sample"]) == (-1, -1, 0, 3)


def test_a_world_without_oracle_marks_its_rows(engine, monkeypatch):
    monkeypatch.setattr(type(WORLD), "check_steps", lambda self, problem, text: None)
    assert repair(engine, [failed(engine)], n=1)[0]["genuine"] == -1


def test_repair_with_a_real_model(real):
    """The same through the hf engine, whose tokens are words."""
    ids = real.encode("\n\n".join(STEPS))
    row = {**BASE, "token_ids": ids, "entropy": [0.0] * 14 + [1.0] * (len(ids) - 14)}
    end = step_spans(real.pieces(ids))[1][1]
    for out in gear.repair(real, WORLD, [row], n_candidates=2, params=SamplingParams(8), seed=0, backoff=0):
        assert out["n_kept"] == end and out["token_ids"][:end] == ids[:end]
        assert out["text"].startswith("x*3+2*2=46\n\ntry 5\n\n") and not out["correct"]
