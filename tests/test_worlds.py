"""Worlds against independent brute-force checkers, which share no code with them."""

import functools
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heal_lib import worlds
from heal_lib.embedded.tokenizer import WORDS
from heal_lib.errors import HealError
from heal_lib.trajectory import Problem
from heal_lib.worlds.base import SPLITS

NAMES = [*worlds.names(), *worlds.names("registers")]
LEVELS = [(name, level) for name in NAMES for level in worlds.get(name).difficulties]
levels = pytest.mark.parametrize("name, level", LEVELS)
# Worlds whose habit makes valid steps that lead nowhere; what `registers` does instead: tests/test_registers.py.
searching = pytest.mark.parametrize("name, level", [(name, level) for name, level in LEVELS if name in worlds.names()])
OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


@functools.cache
def some(name, level, n=12, split="test"):
    return worlds.get(name).problems(split, n, 0, level)


def left_to_right(text, **values):
    """Value of "x*3+4" or "6*4+3", read from left to right."""
    first, *rest = re.split("([+*-])", text)
    value = values[first] if first in values else int(first)
    for op, operand in zip(rest[::2], rest[1::2], strict=True):
        value = OPERATIONS[op](value, int(operand))
    return value


GLYPHS = {"k": "*+", "m": "-*", "q": "+-", "w": "*-"}  # what each does to even and to odd values


def final_values(question):
    """Every way to read the glyphs of a program, and whether it is the right one."""
    chains = re.findall(r"([A-D])=(\d+)(\S+)", question)
    glyphs, found = [chain[-2] for _, _, chain in chains if chain[-2] in GLYPHS], {}
    for guess in itertools.product("+-*", repeat=len(glyphs)):
        said, right, values = iter(guess), True, []
        for name, start, chain in chains:
            value = int(start)
            for symbol, operand in re.findall(r"(\D)(\d)", chain):
                op = next(said) if symbol in GLYPHS else symbol
                right = right and op == GLYPHS.get(symbol, op * 2)[value % 2]
                value = OPERATIONS[op](value, int(operand))
            values.append(f"{name}={value}")
        found[" ".join(values)] = right
    return found


@functools.cache
def answers(problem):
    """All right answers, and many wrong ones that look right."""
    if problem.world == "equations":
        chain, e = problem.question.removeprefix("equation ").split("=")
        return {str(x): left_to_right(chain, x=x) == int(e) for x in range(1, 100)}
    if problem.world == "registers":
        return final_values(problem.question)
    if problem.world == "paths":
        edges, start, target = re.fullmatch("path (.*): (.) to (.)", problem.question).groups()
        walks, open_ones = {}, [start]
        while open_ones:
            walk = open_ones.pop()
            walks[walk] = walk[-1] == target and len(walk) > 1
            open_ones += [walk + b for a, b in edges.replace(">", "").split() if a == walk[-1]]
        return walks
    numbers, target = re.fullmatch("countdown (.*) to (.*)", problem.question).groups()
    return {"".join(map("".join, zip(["", *ops], order, strict=True))): left_to_right(
        "".join(map("".join, zip(["", *ops], order, strict=True)))) == int(target)
        for order in itertools.permutations(numbers.split()) for ops in itertools.product("+-*", repeat=len(order) - 1)}


def canonical(problem):
    """What makes two problems the same, whatever their wording."""
    if problem.world == "equations":
        chain, e = problem.question.removeprefix("equation x").split("=")
        moves, total = [], 0
        for op, a in re.findall(r"([+*-])(\d+)", chain):
            if op == "*":
                moves, total = [*moves, total, f"*{a}"], 0
            else:
                total += int(op + a)
        return *moves, total, e
    if problem.world == "paths":
        edges, ends = problem.question.removeprefix("path ").split(": ")
        return *sorted(edges.split()), ends
    if problem.world == "registers":
        return *sorted(re.findall(r"=(\S+)", problem.question)), "registers"
    numbers, target = problem.question.removeprefix("countdown ").split(" to ")
    return *sorted(map(int, numbers.split())), target


def join(*parts):
    return "\n\n".join(step for part in parts for step in part)


def boxed(answer):
    return ["\\boxed{" + answer + "}"]


def derivation(world, problem):
    return join(world.routine(problem), world.derivation(problem), boxed(problem.answer))


# --- problems

@levels
def test_splits_share_no_problem(name, level):
    seen = {split: [canonical(p) for seed in (0, 1) for p in worlds.get(name).problems(split, 10, seed, level)]
            for split in SPLITS}
    for a, b in itertools.combinations(SPLITS, 2):
        assert not set(seen[a]) & set(seen[b])


@levels
def test_problems_are_different_and_the_same_for_the_same_arguments(name, level):
    world = worlds.get(name)
    problems = world.problems("distil", 12, 5, level)
    assert problems == world.problems("distil", 12, 5, level) != world.problems("distil", 12, 6, level)
    assert len({p.id for p in problems}) == len({canonical(p) for p in problems}) == 12
    assert {(p.world, p.difficulty) for p in problems} == {(name, level)}


def test_a_problem_is_the_same_in_every_process():
    """Committed results rest on it; no hash randomisation, no dependence on what was drawn before."""
    first = worlds.get("equations").problems("test", 1, 0, "hard")[0]
    assert first == some("equations", "hard")[0] and re.fullmatch(r"equations-hard-[0-9a-f]{16}", first.id)


@levels
def test_the_given_answer_is_right_and_there_are_wrong_ones(name, level):
    for problem in some(name, level):
        right = answers(problem)
        assert right[problem.answer] and not all(right.values())


def test_unknown_names_are_refused():
    world = worlds.get("paths")
    for call, words in [
        (lambda: worlds.get("chess"), "unknown world 'chess'; choose one of equations, paths, countdown"),
        (lambda: world.problems("train", 1, 0, "easy"), "unknown split 'train'"),
        (lambda: world.problems("test", 1, 0, "huge"), "no difficulty 'huge'"),
        (lambda: world.hint(some("paths", "easy")[0], "essay"), "unknown hint form 'essay'"),
    ]:
        with pytest.raises(HealError, match=re.escape(words)):
            call()


def test_more_problems_than_there_are_is_an_error(monkeypatch):
    world = worlds.get("equations")
    monkeypatch.setattr(world, "_draw", lambda rng, **knobs: ("x+1=2", "equation x+1=2", "1"))
    with pytest.raises(HealError, match="fewer than 2 easy problems"):
        world.problems("pretrain", 2, 0, "easy")


# --- verifier

@levels
def test_the_verifier_agrees_with_brute_force(name, level):
    world = worlds.get(name)
    for problem in some(name, level, 6):
        for answer, right in answers(problem).items():
            assert world.verify(problem, f"\\boxed{{{answer}}}") is right


@levels
def test_the_verifier_is_strict(name, level):
    world, problem = worlds.get(name), some(name, level)[0]
    a, box = problem.answer, boxed(problem.answer)[0]
    assert world.verify(problem, box) and world.verify(problem, f"so\n\n{box}\n\n ")
    wrong = [
        "", " ", a, f"boxed{{{a}}}", f"\\boxed{{{a}", "\\boxed{}", "\\boxed{ }", f"\\boxed {{{a}}}", f"\\fbox{{{a}}}",
        box + box, f"\\boxed{{1}}\n\n{box}", f"{box}\n\n\\boxed{{", f"{box} or not", f"{box}.", f"{box}\n\ngive up",
        f"\\boxed{{{box}}}", f"\\boxed{{{{{a}}}}}", f"\\boxed{{\\text{{{a}}}}}",
        f"\\boxed{{ {a}}}", f"\\boxed{{{a} }}", f"\\boxed{{{a}\n}}", f"\\boxed{{0{a}}}", f"\\boxed{{+{a}}}",
        f"\\boxed{{{a}.0}}", f"\\boxed{{{a}{a}}}", "\\boxed{" + "9" * 10_000 + "}", "\\boxed{" + a * 5000 + "}",
        box.replace("{", "\uff5b"), "\\boxed{" + a.translate({48 + i: 0x660 + i for i in range(10)}
                                                               | {65 + i: 0xff21 + i for i in range(26)}) + "}",
    ]
    for text in wrong:
        assert not world.verify(problem, text), text


def test_leading_zeros_are_refused_inside_an_expression_too():
    problem = Problem("c", "countdown", "easy", "countdown 3 4 6 to 27", "6*4+3")
    verify = worlds.get("countdown").verify
    assert verify(problem, "\\boxed{6*4+3}")
    for answer in ("06*4+3", "6*04+3", "6*4+03", "6*4+3+0", "6*4 + 3", "(6*4)+3", "3+6*4", "6*4+3=27", "27"):
        assert not verify(problem, f"\\boxed{{{answer}}}")


def test_a_path_must_run_from_start_to_target_along_edges():
    problem = Problem("p", "paths", "easy", "path F>Z A>C A>E C>F C>G: A to Z", "ACFZ")
    verify = worlds.get("paths").verify
    assert verify(problem, "\\boxed{ACFZ}")
    for path in ("ACF", "CFZ", "AFZ", "ACEFZ", "ZFCA", "A", "Z", "AZ", "acfz", "A C F Z", "ACFZZ"):
        assert not verify(problem, f"\\boxed{{{path}}}")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=80, deadline=None)
@given(text=st.one_of(
    st.text(max_size=60),
    st.text(max_size=20).map(lambda t: f"\\boxed{{{t}}}"),
    st.lists(st.sampled_from([*WORDS, *"ABCXYZ٣²９½\x85", "0", "7", "12", "399", "99999"]), max_size=25).map("".join),
    st.from_regex(r"\A(\d{1,30}[-+*/]\d{1,30}=\d{1,30}\n\n)*\\boxed\{\w{0,9}\}\Z"),
))
def test_junk_neither_raises_nor_verifies(name, text):
    for level in worlds.get(name).difficulties:
        world, problem = worlds.get(name), some(name, level)[0]
        report = world.check_steps(problem, text)
        assert all(step.text.strip() for step in report.steps)
        box = re.fullmatch(r"(?s).*\\boxed\{(.*?)\}\s*", text)
        assert world.verify(problem, text) == bool(box and text.count("\\boxed{") == 1
                                                   and answers(problem).get(box[1], False))
        if report.genuine:
            assert world.verify(problem, text)
