"""Bad model output: whatever a model writes, verifiers and oracles neither raise nor hang, and accept nothing that an
independent brute-force checker does not.

`make fuzz` sets FUZZ_CASES, and FUZZ_OUT for the file of its figures; each test's share of the cases is the same. Its
long texts have a million characters, those of `make test` a tenth."""

import json
import os
import re
import time
from pathlib import Path

import pytest
import reliability
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_worlds import answers, some

from heal_lib import sampling, worlds
from heal_lib.embedded.tokenizer import PROGRAM_WORDS, WORDS
from heal_lib.trajectory import Problem
from heal_lib.worlds.mathematics import last_box

CASES = int(os.environ.get("FUZZ_CASES", 1000))
LONG = 10**6 if "FUZZ_OUT" in os.environ else 10**5
EMBEDDED = [*worlds.names(), *worlds.names("registers")]
NAMES = [*EMBEDDED, "math"]
fuzzed = settings(max_examples=CASES // (2 * len(EMBEDDED) + 1), deadline=None, database=None,
                  suppress_health_check=list(HealthCheck))
MATH = worlds.get("math")

# --- what models write when things go wrong
junk = st.text(max_size=40)
digits = st.one_of(st.integers(-10**6, 10**6).map(str), st.integers(1, 5000).map(lambda n: "9" * n),
                   st.sampled_from(["٧", "７", "²", "½", "७", "Ⅶ", "00", "-0", "+7", "7.0", "1e9", "0x7", "7_0", "∞"]))
brackets = st.recursive(st.sampled_from(["", "7", "x"]), lambda inner: st.builds("{}{}{}".format, st.sampled_from(
    ["{", "\\boxed{", "(", "[", "\\text{", "\\frac{1}{"]), inner, st.sampled_from(["}", "", ")", "]", "}}"])))
tokens = st.lists(st.sampled_from([*WORDS, *PROGRAM_WORDS, "\\boxed", "{", "}", "<think>", "</think>", "\n", "\r\n",
                                   "\x85", "\0"]), max_size=30).map("".join)
pieces = st.one_of(junk, digits, brackets, tokens, st.sampled_from(["", " ", "\n\n", "\n", "<think>", "</think>"]))


def texts(inside):
    """Any of the above, with boxes: one, none, several, open ones, and ones among thoughts."""
    box = st.one_of(inside, pieces).map("\\boxed{{{}}}".format)
    return st.lists(st.one_of(box, box, pieces, inside), max_size=6).flatmap(
        lambda parts: st.sampled_from(["", "\n\n", "\n", " "]).map(lambda joint: joint.join(parts)))


def near(answer):
    """The right answer, and what is a slip away from it."""
    at = st.integers(0, len(answer))
    return st.one_of(st.just(answer), st.builds(lambda i, c: answer[:i] + c + answer[i + 1 :], at, st.characters()),
                     st.builds(lambda i, c: answer[:i] + c + answer[i:], at, st.sampled_from(" 0+-*.,{}A7٧\n")))


def told(text):
    """What the text's one box says, found without the library's code: None unless the text ends with it."""
    head, opening, tail = text.partition("\\boxed{")
    inside, closing, rest = tail.partition("}")
    lone = opening and closing and "\\boxed{" not in tail and "{" not in inside and not rest.strip()
    return inside if lone else None


@pytest.mark.parametrize("name", EMBEDDED)
@fuzzed
@given(data=st.data())
def test_a_verifier_accepts_what_brute_force_does(name, data):
    world = worlds.get(name)
    problem = data.draw(st.sampled_from([p for d in world.difficulties for p in some(name, d, 3)]))
    text = data.draw(texts(st.one_of(near(problem.answer), st.sampled_from(sorted(answers(problem))))))
    right = answers(problem).get(told(text), False)
    assert world.verify(problem, text) is right
    assert not (sampling.accepts(world, problem, text, True, text) and not right)


@pytest.mark.parametrize("name", EMBEDDED)
@fuzzed
@given(data=st.data())
def test_an_oracle_calls_nothing_genuine_that_is_wrong(name, data):
    """Steps of a real derivation, shuffled, dropped, spoilt and mixed with junk."""
    world = worlds.get(name)
    problem = data.draw(st.sampled_from([p for d in world.difficulties for p in some(name, d, 3)]))
    real = [*world.routine(problem), *world.derivation(problem), f"\\boxed{{{problem.answer}}}"]
    step = st.one_of(st.sampled_from(real), st.sampled_from(real), st.sampled_from(real).flatmap(near), pieces)
    text = "\n\n".join(data.draw(st.one_of(st.lists(step, max_size=len(real) + 3), st.permutations(real))))
    report = world.check_steps(problem, text)
    if report.genuine:
        assert answers(problem).get(told(text), False)
        said = set(re.split(r"\n\n", text))
        needed = set(real[len(world.routine(problem)) : -1]) if name != "countdown" else set()
        assert needed <= said | {s for s in needed if re.fullmatch(r"(\d+)=\1", s)}  # each step of the one derivation
    assert all(isinstance(s.valid, bool) and s.text.strip() for s in report.steps)


@fuzzed
@given(text=texts(st.sampled_from(["7", " 7 ", "07", "8"])))
def test_the_last_box_outside_the_thoughts_is_what_math_looks_at(text):
    said = text.split("</think>")[-1].split("<think>")[0]
    box, found = last_box(said), None
    parts = re.findall(r"\\+boxed\{|\\.|[^\\]|\\", said, re.DOTALL)
    ends = {}
    for at in (i for i, part in enumerate(parts) if part.endswith("boxed{")):
        depth, ends[at] = 1, None
        for i in range(at + 1, len(parts)):
            depth += (parts[i] == "{" or parts[i].endswith("boxed{")) - (parts[i] == "}")
            if depth == 0:
                ends[at] = i
                break
    if ends and (end := ends[max(ends)]) is not None:
        outer = min(at for at in ends if ends[at] is not None and ends[at] >= end)
        found = "".join(parts[outer + 1 : ends[outer]]).strip()
    assert box == (found if found is not None and len(found) <= 500 else None)
    if box is None or re.fullmatch(r"0*8", box):  # no other process is asked: it would be most of the time
        assert box is None or not MATH.verify(Problem("p", "math", "own", "?", "7"), "\\boxed{8}")
        assert box is not None or not MATH.verify(Problem("p", "math", "own", "?", "7"), text)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("head", "part", "tail"), [
    ("", "9", ""), ("\\boxed{", "9", "}"), ("\\boxed{", "1*", "1}"), ("\\boxed{7}", " ", "x"), ("", "A", ""),
    ("", "{", ""), ("", "\n", ""), ("guess ", "A", ""), ("from A: ", "A>", ""), ("", "\\boxed{", ""),
    ("", "<think>", ""), ("", "1+1=2\n\n", ""), ("", "try 7\n\n", ""), ("", "\\boxed{7}\n\n", "")])
def test_a_megabyte_takes_bounded_time(name, head, part, tail):
    line = head + part * (LONG // len(part)) + tail
    line = line.replace("1+1=2", "A: 5+3=8") if name == "registers" else line
    world = worlds.get(name)
    problem = Problem("p", "math", "own", "?", "41") if name == "math" else some(name, "easy", 3)[0]
    begun = time.process_time()
    assert not world.verify(problem, line)
    report = world.check_steps(problem, line)
    assert report is None or not report.genuine
    assert time.process_time() - begun < 60 * LONG / 10**6  # a fraction of it; quadratic work would take far more


def teardown_module():
    """The figures of a nightly run."""
    if out := os.environ.get("FUZZ_OUT"):
        share = fuzzed.max_examples
        Path(out).write_text(json.dumps({
            **reliability.dated(), "cases": share * (2 * len(EMBEDDED) + 1), "cases_per_test": share,
            "long_texts": 14 * len(NAMES)}, indent=1) + "\n")
