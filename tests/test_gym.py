"""Tasks of reasoning-gym as worlds, and worlds that other packages register.

The package needs a compiler to install (pip install '.[gym]'), so most of this runs on a stand-in with its protocol;
the last part runs on the package itself where it is there."""

import dataclasses
import importlib.util
import sys
import types
from random import Random

import pytest

from heal_lib import worlds
from heal_lib.errors import HealError
from heal_lib.trajectory import problem_of
from heal_lib.worlds import World, gym
from heal_lib.worlds.base import SPLITS

REAL = importlib.util.find_spec("reasoning_gym") is not None


@dataclasses.dataclass
class Settings:
    largest: int = 50
    shown: bool = True
    signs: list[str] | None = None
    seed: int | None = None
    size: int = 500

    def validate(self):
        assert self.largest > 1, "largest must be above 1"


class Sums:
    """A data set as the package has them."""

    def __init__(self, config):
        config.validate()
        self.config = config

    def __getitem__(self, i):
        rng = Random(self.config.seed + i)
        a, b = rng.randint(1, self.config.largest), rng.randint(1, self.config.largest)
        return {"question": f"Add {a} and {b}.", "answer": str(a + b), "metadata": {"sum": a + b}}

    def score_answer(self, answer, entry):
        return 1.0 if int(answer) == entry["metadata"]["sum"] else 0.01


class Mute(Sums):
    def __getitem__(self, i):
        return {**super().__getitem__(i), "answer": None}


class Running(Sums):
    def score_answer(self, answer, entry):
        return float(eval(answer) == entry["metadata"]["sum"])  # noqa: S307  what is to be refused


@pytest.fixture
def package(monkeypatch):
    """A stand-in for the package, with three tasks."""
    factory = types.ModuleType("reasoning_gym.factory")
    factory.DATASETS = {"two_sums": (Sums, Settings), "mute": (Mute, Settings), "running": (Running, Settings)}
    monkeypatch.setitem(sys.modules, "reasoning_gym", types.ModuleType("reasoning_gym"))
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", factory)
    monkeypatch.setattr(Sums, "__module__", "reasoning_gym.arithmetic.sums")
    for cached in (gym._task, gym._made, worlds._gym):
        cached.cache_clear()
    yield
    for cached in (gym._task, gym._made, worlds._gym):
        cached.cache_clear()


@pytest.fixture
def world(package):
    return worlds.get("gym:two_sums")


def test_problems_are_the_same_for_the_same_arguments_and_splits_share_no_question(world):
    drawn = world.problems("distil", 20, 0, "default")
    assert drawn == world.problems("distil", 20, 0, "default") != world.problems("distil", 20, 1, "default")
    asked = {split: {p.question for seed in (0, 1) for p in world.problems(split, 20, seed, "default")}
             for split in SPLITS}
    assert sum(map(len, asked.values())) == len(set().union(*asked.values()))
    assert {(p.world, p.difficulty) for p in drawn} == {("gym:two_sums", "default")}
    assert world.knows("default") and world.longest("default") > 0


def test_the_verdict_is_the_task_s_own_and_only_its_full_mark_counts(world):
    for problem in world.problems("test", 5, 0, "default"):
        a = problem.answer
        for text in (f"So \\boxed{{{a}}}", f"The answer is {a}.", f"<answer>{a}</answer>", f"I add.\n{a}",
                    f"\\boxed{{0{a}}}"):
            assert world.verify(problem, text), text
        for text in ("", "\\boxed{}", "\\boxed{1}", f"{a}\nno number", f"\\boxed{{{a}}} or \\boxed{{1}}",
                    f"<think>{a}"):
            assert not world.verify(problem, text), text


def test_a_problem_s_row_is_enough_to_judge_it(world):
    (problem,) = world.problems("test", 1, 3, "largest=9+shown=false")
    row = {"problem_id": problem.id, **{f.name: getattr(problem, f.name) for f in dataclasses.fields(problem)[1:]}}
    gym._made.cache_clear()
    assert worlds.get(row["world"]).verify(problem_of(row), f"\\boxed{{{problem.answer}}}")


def test_the_package_s_version_is_in_the_keys_of_its_worlds_alone(world, monkeypatch):
    from heal_lib import teacher

    first, other = teacher.where(world.name), teacher.where("equations")
    monkeypatch.setattr(teacher, "versions", lambda packages: dict.fromkeys(packages, "another"))
    assert teacher.where(world.name).by[:2] == first.by[:2] and teacher.where(world.name) != first
    assert teacher.where(world.name).by[2] == {"reasoning-gym": "another"} and teacher.where("equations") == other


def test_a_first_step_is_refused_for_a_task_without_derivations(world):
    with pytest.raises(HealError, match="no derivations to take a step from"):
        world.hint(world.problems("distil", 1, 0, "default")[0], "first_step")


def test_settings_are_difficulties(world):
    problems = world.problems("distil", 8, 0, "largest=9")
    assert all(int(p.answer) <= 18 for p in problems)
    assert any(int(p.answer) > 18 for p in world.problems("distil", 8, 0, "default"))
    assert world.knows("largest=9+shown=false") and not world.knows("easy") and not world.knows("largest=a")
    for difficulty, said in [
            ("largst=3", "did you mean 'largest=...'?"), ("easy", "give default, or settings of largest, shown, signs"),
            ("largest=many", "gym:two_sums: largest=many is no int"), ("shown=3", "shown=3 is no bool"),
            ("signs=plus", "signs cannot be set from text; leave it out"),
            ("largest=1", "do not go together \\(largest must be above 1\\)")]:
        with pytest.raises(HealError, match=said):
            world.problems("distil", 1, 0, difficulty)


def test_hints_and_the_oracle(world):
    (problem,) = world.problems("distil", 1, 0, "default")
    assert problem.answer in world.hint(problem) and world.speaks_of_hint(world.hint(problem))
    wrong = world.hint(problem, "wrong")
    assert wrong == world.hint(problem, "wrong") != world.hint(problem) and not world.verify(problem, wrong)
    a, b = (int(part) for part in problem.question[4:-1].split(" and "))
    assert world.check_steps(problem, f"{a} + {b} = {a + b}. \\boxed{{{a + b}}}").genuine
    assert not world.check_steps(problem, f"\\boxed{{{a + b}}}").genuine


@pytest.mark.parametrize("name, said", [
    ("gym:two_sum", "reasoning-gym has no task 'two_sum'; did you mean 'gym:two_sums'?"),
    ("gym:", "reasoning-gym has no task ''; it has mute, running, two_sums"),
    ("gym:running", "scores 'running' by running the answer as code"),
    ("gmy:two_sums", "unknown world 'gmy:two_sums'; choose one of equations"),
])
def test_wrong_names_are_refused_in_one_line(package, name, said):
    with pytest.raises(HealError) as caught:
        worlds.get(name)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_tasks_without_an_answer_and_too_few_problems_are_refused(package):
    with pytest.raises(HealError, match="'gym:mute' gives no answer"):
        worlds.get("gym:mute").problems("test", 1, 0, "default")
    with pytest.raises(HealError, match="fewer than 50 largest=2 problems in split 'test'"):
        worlds.get("gym:two_sums").problems("test", 50, 0, "largest=2")
    with pytest.raises(HealError, match="unknown split 'train'"):
        worlds.get("gym:two_sums").problems("train", 1, 0, "default")


@pytest.mark.skipif(REAL, reason="the package is here")
def test_without_the_package_its_extra_is_named():
    gym._task.cache_clear()
    with pytest.raises(HealError, match=r"run: pip install '.\[gym\]'"):
        worlds.get("gym:chain_sum")


# --- worlds of other packages
class Chess(World):
    name = "chess"

    def __init__(self, opening="any"):
        self.opening = opening


class Broken(World):
    def __init__(self):
        raise RuntimeError("no board")


@pytest.fixture
def others(monkeypatch):
    def point(name, kind):
        return types.SimpleNamespace(name=name, value=f"somewhere:{kind.__name__}", load=lambda: kind)

    points = [point("chess", Chess), point("broken", Broken)]
    monkeypatch.setattr(worlds, "entry_points", lambda group: points if group == "heal_lib.worlds" else [])
    worlds._from_elsewhere.cache_clear()
    yield
    worlds._from_elsewhere.cache_clear()


def test_another_package_s_world_is_found_by_its_entry_point(others):
    assert worlds.get("chess") is worlds.get("chess") and worlds.get("chess").opening == "any"
    assert worlds.get("chess:italian").opening == "italian"
    assert "chess" not in worlds.every()


def test_what_another_package_does_wrong_is_one_line(others):
    with pytest.raises(HealError, match=r"'broken' of somewhere:Broken cannot be made \(RuntimeError\('no board'\)\)"):
        worlds.get("broken")
    with pytest.raises(HealError, match="choose one of .*chess.*; did you mean 'chess'?"):
        worlds.get("ches")


# --- the package itself
real = pytest.mark.skipif(not REAL, reason="needs reasoning-gym: pip install '.[gym]'")


@real
@pytest.mark.parametrize("task", ["chain_sum", "gsm_symbolic", "letter_counting", "syllogism", "products"])
def test_tasks_of_the_package_keep_the_promises(task):
    world = worlds.get(f"gym:{task}")
    problems = world.problems("distil", 4, 0, "default")
    assert problems == world.problems("distil", 4, 0, "default")
    for problem in problems:
        assert world.verify(problem, f"\\boxed{{{problem.answer}}}")
        assert not world.verify(problem, "\\boxed{no such answer}")
        assert (world.check_steps(problem, "") is None) == (task in ("letter_counting", "syllogism"))


@real
def test_the_nearest_task_is_named_and_scorers_that_run_code_are_refused():
    from reasoning_gym.factory import DATASETS

    with pytest.raises(HealError, match="did you mean 'gym:chain_sum'?"):
        worlds.get("gym:chain_smu")
    refused = set()
    for task in DATASETS:
        try:
            worlds.get(f"gym:{task}")
        except HealError:
            refused.add(task)
    assert refused == {
        "binary_matrix", "countdown", "intermediate_integration", "n_queens", "number_sorting",
        "polynomial_multiplication", "puzzle24", "simple_integration", "spiral_matrix", "string_insertion"}
