"""Worlds of several families in one run: models of their own, and students of their own."""

from dataclasses import replace

import pytest

from heal_lib import baselines, scales, students, teacher
from heal_lib.experiment import Experiment
from heal_lib.store import Store

BOTH = scales.get("smoke", worlds=["registers", "paths", "equations"], teacher_draws=2)


def test_each_family_has_its_own_teacher_and_student_and_all_the_tokens():
    found = teacher.families(BOTH)
    assert [(cfg.worlds, cfg.teacher, cfg.student) for cfg in found] == [
        (("registers",), "registers-teacher", "registers-student"), (("paths", "equations"), "teacher", "student")]
    assert {cfg.train_tokens for cfg in found} == {BOTH.train_tokens}


@pytest.mark.parametrize(("method", "worlds"), [("heal", 2), ("sft-rs", 2), ("heal-no-gear", 2), ("heal-nll", 1),
                                                ("heal-fixed-cut", 1), ("heal-first-step", 1)])
def test_a_control_is_trained_where_it_can_be_told_apart(method, worlds):
    assert [cfg.worlds for cfg in students.families(BOTH, method)] == [("registers",), ("paths", "equations")][:worlds]
    nowhere = scales.get("smoke", worlds=["paths"])  # no such world: then wherever it can be trained
    assert [cfg.worlds for cfg in students.families(nowhere, method)] == [("paths",)]
    beside = replace(BOTH, compared="rivals")  # where it stands beside rivals
    assert len(students.families(beside, method)) == 2


def test_seeds_take_the_draws_of_the_teacher_in_turn(tmp_path):
    run = Experiment(BOTH, Store(tmp_path))

    def drawn(seed):  # the seeds of the texts that a student learns from
        return {pool.inputs["seed"] for student in run.students("heal", seed)
                for pool in student.inputs["rows"].inputs["pool"]}

    assert [drawn(seed) for seed in range(4)] == [{0}, {1}, {0}, {1}]
    one = Experiment(scales.get("smoke", worlds=BOTH.worlds), Store(tmp_path))
    tests = [[(stage.name, stage.inputs) for stage in each._evaluation("teacher", 1)] for each in (run, one)]
    assert tests[0] == tests[1]  # how a model is tested does not hang on what others learn from


def test_a_variant_of_gear_changes_what_is_repaired_alone():
    """Known wrong turn: with the first step for a hint, stage II was told it, too."""
    usual, other = (students.drawn(teacher.families(BOTH)[0], name) for name in ("heal", "heal-first-step"))
    told = {source: {stage.inputs["hint"] for stage in other[source]} for source in ("hinted", "repairs")}
    assert told == {"hinted": {"answer"}, "repairs": {"first_step"}}
    assert other["hinted"] == usual["hinted"] and other["readings"]["hint"] == usual["readings"]["hint"]
    assert other["readings"]["repair"] != usual["readings"]["repair"]


def test_every_variant_of_a_part_is_a_control():
    assert set(baselines.CONTROLS).isdisjoint([*baselines.MAIN, *baselines.MODULES])
    assert {*baselines.CUTS, *baselines.FILTERS, *baselines.ORDERS} <= {*baselines.CONTROLS, *baselines.MODULES}
