"""What is made again after a change, and what is not."""
import re
import shutil

import pytest
from micro import forget, micro

from heal_lib import embedded, gear, scales, stage, students, teacher
from heal_lib.experiment import Experiment
from heal_lib.files import hash_of
from heal_lib.store import Store


def used(cache, cfg, method="heal"):
    """What kinds of stages were made or reused for everything up to a method's training data."""
    run = Experiment(cfg, Store(cache))
    run.training_sources(method)
    kinds = {}
    for event in run.store.events:
        kinds.setdefault(re.sub(r" equations-(easy|hard).*| equations$", "", event.name), set()).add(event.what)
    return kinds


def test_only_what_depends_on_a_change_is_made_again(says, tmp_path):
    everything = {"pool", "hinted", "repairs entropy", "readings hinted", "readings repairs entropy", "rows heal"}

    def made(**overrides):
        events = used(tmp_path, micro(**overrides))
        assert set(events) == everything
        return {kind for kind, what in events.items() if "made" in what}

    assert made() == everything
    assert made() == made(n_test=1) == set()
    repaired = {"repairs entropy", "readings repairs entropy", "rows heal"}
    assert made(n_failed=1) == repaired
    assert {"repairs entropy"} <= made(window=0.5) <= repaired  # what finds the same cuts makes nothing after it anew
    assert made(pure_lambda=0.5) == made(deduplicate=True) == {"rows heal"}
    assert made(n_hinted=2) == {"hinted", "readings hinted", "rows heal"}
    assert {"hinted", "repairs entropy"} <= made(hint="first_step") <= everything - {"pool"}
    assert "pool" in made(n_samples=4) <= everything


def test_another_world_or_level_is_added_to_what_is_there(says, tmp_path):
    used(tmp_path, micro(difficulties=["hard"]))
    run = Experiment(micro(difficulties=["easy", "hard"]), Store(tmp_path))
    run.pool()
    assert {(e.what, e.name) for e in run.store.events} == {("reused", "pool equations-hard"),
                                                            ("made", "pool equations-easy")}


def test_a_control_is_not_made_again_for_a_switch_that_it_does_not_read(says, tmp_path):
    def what(rule, **overrides):
        run = Experiment(micro(**overrides), Store(tmp_path))
        rows = run.repairs(rule)
        return run.store.events[-1].what, rows["token_ids"]

    changed = {"surge": "value", "window": 1.0, "window_unit": "tokens", "backoff": 0}
    for rule, unread in gear.UNREAD.items():
        _, rows = what(rule)
        for switch, value in changed.items():
            if switch in unread:
                assert what(rule, **{switch: value})[0] == "reused"
        other = Experiment(micro(**{switch: changed[switch] for switch in unread}), Store(tmp_path / rule))
        assert other.repairs(rule)["token_ids"] == rows  # and it does not read them indeed
    assert what("entropy")[0] == "made" and what("entropy", window=1.0)[0] == "made"


def test_other_models_make_everything_again(says, tmp_path, words, monkeypatch):
    from heal_lib.embedded import models

    used(tmp_path / "cache", micro())
    models.new_model("student", words, 7).save_pretrained(tmp_path / "teacher")
    shutil.copytree(embedded.folder("student"), tmp_path / "student")
    monkeypatch.setenv("HEAL_MODELS", str(tmp_path))
    forget()
    assert all("made" in what for kind, what in used(tmp_path / "cache", micro()).items() if kind != "rows heal")


def keys(cfg, cache):
    """Kind of stage -> the inputs that stand in its key, of all that the table's row of `heal` goes through."""
    (one,) = teacher.families(cfg)
    found, group = Store(cache), teacher.groups(cfg)[-1]
    which = {"pool": teacher.pool(one, group), "hinted": teacher.hinted(one, group),
             "repairs": teacher.repairs(one, group), "rows": students.training_rows(one, "heal"),
             **{f"readings {name}": teacher.readings(one, group, name) for name in ("hinted", "repairs entropy")}}
    for each in which.values():
        found.get(each)
    which["student"] = students.student(one, "heal", 0, one.learning_rates[0])
    which["evaluation"] = students.evaluation(one, "student", 0)
    return {kind: hash_of([found.task(each).parts["inputs"], each.name]) for kind, each in which.items()}


TEACHER = {"pool", "hinted", "repairs", "readings hinted", "readings repairs entropy"}
ON_HINTS, ON_REPAIRS = {"hinted", "readings hinted"}, {"repairs", "readings repairs entropy"}
# Every field of a scale: another value, and the stages whose keys it must change (those after them may change too).
MATTERS = {
    "worlds": (("paths",), {*TEACHER, "evaluation"}), "difficulties": (("easy",), TEACHER),
    "n_distil": (2, {"pool"}), "n_samples": (4, {"pool"}), "temperature": (0.9, {"pool", "evaluation"}),
    "top_p": (0.9, {"pool", "evaluation"}), "max_new_tokens": (99, {"pool", "evaluation"}),
    "teacher_seed": (1, {"pool", "rows"}), "n_hinted": (5, {"hinted"}),
    "stage_hint_below": (0.9, {"hinted"}), "hint": ("first_step", {"hinted", "repairs"}),
    "n_failed": (1, {"repairs"}), "n_candidates": (5, {"repairs"}), "eligible_max_correct": (0, {"repairs"}),
    "surge": ("value", {"repairs"}), "window": (0.5, {"repairs"}), "window_unit": ("tokens", {"repairs"}),
    "backoff": (0, {"repairs"}), "step_delimiter": (" ", {"readings hinted", "repairs"}),
    "n_test": (3, {"evaluation"}), "k_eval": (3, {"evaluation"}), "benchmarks": (("easy",), {"evaluation"}),
    "train_tokens": (999, {"student"}), "batch_size": (4, {"student"}), "learning_rates": ((1e-3,), {"student"}),
    "finetune": ("lora", {"student"}), "lora_rank": (4, {"student"}), "stages_cumulative": (False, {"student"}),
    "stages_restart": (False, {"student"}),
    "per_problem_cap": (2, {"rows"}), "deduplicate": (True, {"rows"}),
    "pure_lambda": (0.6, {"rows"}), "pure_rule": ("threshold", {"rows"}), "pure_pool": (("hint",), {"rows"}),
    "pure_aggregate": ("max", {"rows"}), "pure_uncertainty": ("after", {"rows"}), "pure_eps": (9.0, {"rows"}),
    "pure_answers": ("candidates", {"readings hinted", "readings repairs entropy"}),
}
ELSEWHERE = {"name", "teacher", "student", "entropy", "seeds", "n_ablation_seeds", "n_boot", "compared", "engine",
             "teacher_draws", "budgets", "n_development", "backend", "processes"}  # models by hash; counts of stages
AFTER = {"pool": {"hinted", "repairs", "readings hinted", "readings repairs entropy", "rows", "student"},
         "hinted": {"readings hinted", "rows", "student"}, "rows": {"student"}, "student": set(), "evaluation": set(),
         "repairs": {"readings repairs entropy", "rows", "student"}}


def test_every_field_of_a_scale_reaches_the_keys_that_it_must_and_no_stage_before(says, tmp_path):
    import dataclasses

    fields = {field.name for field in dataclasses.fields(scales.Scale) if not field.name.startswith("sweep_")}
    assert fields == MATTERS.keys() | ELSEWHERE
    usual = micro(difficulties=["hard"])
    first = keys(usual, tmp_path)
    for field, (value, must) in MATTERS.items():
        changed = keys(dataclasses.replace(usual, **{field: value}), tmp_path)
        differ = {kind for kind, key in changed.items() if key != first[kind]}
        may = must.union(*(AFTER.get(kind, {"rows", "student"}) for kind in must))
        assert must <= differ <= may, (field, differ)


@pytest.mark.parametrize("library", stage.LIBRARIES)
def test_another_version_of_a_library_makes_all_keys_new(monkeypatch, tmp_path, library):
    some = stage.Stage("pool", sampled_nothing, {})
    first, found = Store(tmp_path).task(some).key, stage.versions()
    monkeypatch.setattr(stage, "versions", lambda *_: {**found, library: "0.0"})
    assert Store(tmp_path).task(some).key != first


def sampled_nothing():
    return None


def test_problems_of_a_file_are_known_by_what_it_holds(tmp_path):
    """A file that changes under the same name must not find the results of the old one."""
    file, keys = tmp_path / "mine.jsonl", set()
    for answer in ("2", "3"):
        file.write_text(f'{{"problem": "1+1?", "answer": "{answer}"}}\n')
        keys.add(hash_of([each.by for each in teacher.benchmark("math", str(file))]))
    assert len(keys) == 2
