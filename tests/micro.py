"""A run at a micro scale, with a teacher that is told what to say and a tiny student that is really trained."""

import os
import random

import numpy as np
import pytest

from heal_lib import embedded, scales, students, teacher, worlds
from heal_lib.engines import choose
from heal_lib.experiment import Experiment
from heal_lib.trajectory import rng_of

MICRO = {"worlds": ["equations"], "n_distil": 3, "n_samples": 5, "n_hinted": 6, "n_failed": 2, "n_candidates": 6,
         "n_test": 2, "k_eval": 2, "n_development": 2, "seeds": [0], "train_tokens": 2000, "batch_size": 8,
         "deduplicate": False}  # the scripted teacher repeats itself, and a test of its own is about that


def micro(**overrides):
    return scales.get("smoke", **{**MICRO, **overrides})


def scripted_teacher(scripted, words, solved=0.6):
    """Derives the answer of easy problems in a share `solved` of draws, never that of others; with the hint it derives
    three times in four and otherwise asserts."""
    book = {p.question: p for split in ("distil", "development", "test") for w in map(worlds.get, worlds.names())
            for level in w.difficulties for p in w.problems(split, 3, 0, level)}

    def script(prompt, key, j):
        question, *done = [step for step in prompt.split("\n\n") if step]
        problem, rng = book[question], rng_of(key, j)
        world = worlds.get(problem.world)
        routine = world.routine(problem)
        if done and done[-1].startswith("hint "):
            way = world.derivation(problem) if rng.random() < 0.75 else world.shortcut(problem, rng)
            steps = [*routine[len(done) - 1 :], *way]
        elif problem.difficulty == "easy" and rng.random() < solved or solved == 1:
            steps = [*routine, *world.derivation(problem)]
        else:
            return "\n\n".join([*routine, "try 1", "try 2", "give up", "\\boxed{0}"])
        return "\n\n".join([*steps, f"\\boxed{{{problem.answer}}}"])

    return scripted(script, words, nll=lambda ids: np.array([i % 7 / 3 for i in ids]),
                    tail=lambda ends, tail: np.array([[1 / (k + 1)] * len(tail) for k in range(len(ends))]))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the tests that look at the same run."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def says(monkeypatch, cache, models_folder, scripted, words):
    """Puts a scripted teacher (and evaluated student) in place; returns a function that puts another."""
    monkeypatch.setenv("HEAL_MODELS", str(models_folder))
    monkeypatch.setenv("HEAL_CACHE", str(cache))
    monkeypatch.delenv("HEAL_EVENTS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)  # all in this process
    # A data set is named by a hash of all that it is, ten milliseconds for each file that is read: here by a number.
    monkeypatch.setattr("datasets.arrow_dataset.generate_fingerprint", lambda _: f"{random.getrandbits(64):016x}")
    forget()

    def install(**knobs):
        engine = scripted_teacher(scripted, words, **knobs)
        monkeypatch.setattr(choose, "engine", lambda name, kind="hf": engine)
        return engine

    install()
    yield install
    forget()


def forget():
    """Models are known by their hash, and stages by their scale, for the time of a process."""
    for known in (embedded.model_hash, teacher.pool, teacher.hinted, teacher.repairs, teacher.readings,
                  teacher.matched, teacher.student_pool, students.training_rows, students.heldout,
                  students.student, students.evaluation):
        known.cache_clear()


@pytest.fixture
def run(says):
    return Experiment(micro())
