"""Worlds of several families in one run: models of their own, and a share of the training tokens each."""

from heal_lib import scales, teacher


def shares(worlds, tokens):
    found = teacher.families(scales.get("smoke", worlds=worlds, train_tokens=tokens))
    return {cfg.worlds: cfg.train_tokens for cfg in found}


def test_a_family_s_students_get_its_worlds_share_of_the_training_tokens():
    old = ("equations", "paths", "countdown")
    assert shares([*old, "registers"], 1_200_000) == {old: 900_000, ("registers",): 300_000}
    assert shares(["registers", "paths"], 1001) == {("registers",): 500, ("paths",): 501}
    assert shares(old, 1001) == {old: 1001}


def test_each_family_has_its_own_teacher_and_student():
    found = teacher.families(scales.get("smoke", worlds=["registers", "paths"]))
    assert [(cfg.teacher, cfg.student) for cfg in found] == [("registers-teacher", "registers-student"),
                                                             ("teacher", "student")]
