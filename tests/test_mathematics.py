"""The world `math`: its own problems, boxes, answers, and files of problems."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from own_problems import rows

from heal_lib import sampling, worlds
from heal_lib.errors import HealError
from heal_lib.trajectory import Problem, split_steps
from heal_lib.worlds import mathematics
from heal_lib.worlds.mathematics import OWN, Source, equal, last_box, load, normalised

MATH = worlds.get("math")


def said(answer, box):
    return MATH.verify(Problem("p", "math", "own", "?", answer), box)


def test_the_shipped_answers_are_those_of_brute_force():
    shipped = [json.loads(line) for line in OWN.read_text().splitlines()]
    assert shipped == list(rows()) and len(shipped) >= 40
    assert len({normalised(row["problem"]) for row in shipped}) == len(shipped)


def test_the_embedded_models_know_nothing_of_it():
    assert "math" not in worlds.names()


def test_splits_share_no_problem_and_are_the_same_each_time():
    parts = {split: {p.id for p in MATH.problems(split, 99, 0, "own")} for split in ("distil", "development", "test")}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 44
    assert all(parts.values())
    first = MATH.problems("distil", 5, 1, "own")
    assert first == MATH.problems("distil", 5, 1, "own") != MATH.problems("distil", 5, 2, "own")


@pytest.mark.parametrize("text, box", [
    ("so \\boxed{7}", "7"), ("\\boxed{1} or rather \\boxed{ 2 }.", "2"), ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ("\\boxed{3} and \\boxed{4", None), ("\\boxed{3 and \\boxed{4}", "4"),
    ("\\boxed{\\boxed{7}}", "\\boxed{7}"),
    ("\\boxed{5 or \\boxed{6}}", "5 or \\boxed{6}"), ("\\boxed{\\left\\{7\\right.}", "\\left\\{7\\right."),
    ("\\boxed{1} \\boxed{\\{2\\}}", "\\{2\\}"), ("\\boxed{1} \\boxed{2\\}", None),
    ("no box", None), ("\\boxed{", None), ("\\boxed{" * 10**5, None),
    ("\\boxed{{1}", None), ("\\boxed{" + "1" * 10**6 + "}", None), ("", None)])
def test_the_last_box_counts_or_none(text, box):
    assert last_box(text) == box


def test_a_box_inside_the_thoughts_is_no_answer():
    assert said("7", "<think>\\boxed{7}</think> It is \\boxed{7}.")
    assert not said("7", "<think> so \\boxed{7}</think> I do not know.")
    assert said("7", "no thoughts: \\boxed{7}") and said("7", "<think>8</think> \\boxed{7} <think> or")
    assert not said("7", "<think> so \\boxed{7}") and not said("7", "<think>1</think> no <think> so \\boxed{7}")


@pytest.mark.parametrize("file", ["answers.jsonl", "more_answers.jsonl"])
def test_every_verdict_on_two_answers_is_right_either_way(file):
    cases = [json.loads(line) for line in Path(__file__).with_name(file).read_text("utf-8").splitlines()]
    assert [case for case in cases if equal(case["right"], case["said"]) is not case["equal"]] == []
    texts = {text for case in cases for text in (case["right"], case["said"])}
    assert [text for text in sorted(texts) if not equal(text, text)] == []


@pytest.mark.parametrize("right, told, same", [
    ("\\frac{5}{12}", "5/12", True), ("\\frac{39}{2}", "19.5", True), ("2\\sqrt{2}", "\\sqrt{8}", True),
    ("56", "57", False),
    ("\\{1, 2\\}", "2, 1", True), ("\\{1, 2\\}", "1", False), ("1", "\\{1, 2\\}", False), ("(1, 2)", "(2, 1)", False),
    ("1000", "1,000", True), ("3", "\u0663", False), ("7", "", False), ("7", "7" * 501, False), ("x^2", "x^{2}", True),
    ("3", "3 \\text{ or } 4", False)])
def test_answers_are_compared_strictly(right, told, same):
    assert equal(right, told) is same


def test_questions_are_the_same_whatever_their_dress():
    assert normalised("Find  $x$ if\\, $\\dfrac{1}{2}x=3$.") == normalised("find $x$ if $\\frac{1}{2} x = 3$")
    assert normalised("Find $x+1$.") == normalised("Find $x + 1$") != normalised("Find $x+2$")
    assert normalised("Is 1,000 − x^{2} odd?") == normalised("is $1000-x^2$ odd")


@pytest.mark.parametrize("one, other", [
    ("x+1", "x-1"), ("1/2", "12"), ("\\frac{1}{2}", "12"), ("\\frac{1}{23}", "\\frac{12}{3}"),
    ("x^{12}", "x^12"), ("1.5", "15"), ("1,2", "12"), ("x<1", "x>1"), ("x<1", "x\\le 1"), ("3!", "3"), ("|x|", "x"),
    ("2x", "2^x"), ("x²", "x2"), ("x_1", "x1"),
    ("2(x+1)", "2x+1"), ("a=b", "ab"), ("10\\%", "10"), ("\\sqrt{2}", "2"), ("2\\cdot 3", "23"), ("-1", "1")])
def test_questions_with_other_operators_are_other_questions(one, other):
    assert normalised(f"Find ${one}$.") != normalised(f"Find ${other}$.")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_files_of_one_s_own(tmp_path, suffix):
    import pandas as pd

    asked = [{"problem": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(30)]
    table = pd.DataFrame(asked)
    file = tmp_path / f"mine.{suffix}"
    {"jsonl": lambda: table.to_json(file, orient="records", lines=True), "csv": lambda: table.to_csv(file, index=False),
     "parquet": lambda: table.to_parquet(file)}[suffix]()
    problems = MATH.problems("distil", 99, 0, str(file))
    assert 5 < len(problems) < 25 and {p.answer for p in problems} <= {str(i) for i in range(1, 31)}
    assert problems[0].id.startswith("math-mine-") and "\\boxed" in MATH.prompt(problems[0])


def test_what_is_wrong_with_a_file_is_named(tmp_path):
    with pytest.raises(HealError, match="no data at"):
        load(Source(str(tmp_path / "none.jsonl")))
    (tmp_path / "a.jsonl").write_text('{"problem": "1+1?", "solution": "2"}\n')
    with pytest.raises(HealError, match="no column answer; it has problem, solution"):
        load(Source(str(tmp_path / "a.jsonl")))
    (tmp_path / "b.jsonl").write_text('{"problem": "1+1?", "answer": "2"}\n{"problem": "1+2?", "answer": null}\n')
    with pytest.raises(HealError, match="row 1 has no answer"):
        load(Source(str(tmp_path / "b.jsonl")))


@pytest.mark.parametrize("name, content", [
    ("a.csv", ""), ("b.csv", "problem,answer\n"), ("c.jsonl", ""), ("d.json", "[]"), ("e.jsonl", "\n\n")])
def test_an_empty_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(HealError, match=rf"{name}: no rows"):
        MATH.problems("distil", 1, 0, str(tmp_path / name))


@pytest.mark.parametrize("name, content", [
    ("a.jsonl", b"{"), ("b.jsonl", b"7\n"), ("c.json", b"[1]"), ("d.parquet", b"no"), ("e.csv", b"\xff\xfe")])
def test_a_file_of_another_kind_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HealError, match=name):
        load(Source(str(tmp_path / name)))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_line_ends_end_a_row(tmp_path, end):
    rows = [{"problem": f"1{odd}+ 1?", "answer": "2"} for odd in "\u2028\u2029\x85\f\v\x1c "]
    lines = {"csv": ["problem,answer", *(",".join(row.values()) for row in rows)],
             "jsonl": [json.dumps(row, ensure_ascii=False) for row in rows]}
    for kind, written in lines.items():
        (tmp_path / f"a.{kind}").write_bytes(end.join([*written, ""]).encode())
        assert load(Source(str(tmp_path / f"a.{kind}"))) == [(row["problem"], "2") for row in rows]


def test_a_file_is_read_as_it_is_written(tmp_path):
    (tmp_path / "a.csv").write_text('problem,answer,Year\n"1, 2\nor 3?",0.00000025,2050\n2?,007,\nNA,1.50,x\n')
    assert load(Source(str(tmp_path / "a.csv"))) == [("1, 2\nor 3?", "0.00000025"), ("2?", "007"), ("NA", "1.50")]
    (tmp_path / "a.jsonl").write_text(
        '{"problem": "?", "answer": 0.00000025, "Year": 2050}\n{"problem": "!", "answer": 0}')
    assert load(Source(str(tmp_path / "a.jsonl"))) == [("?", "0.00000025"), ("!", "0")]
    (tmp_path / "b.json").write_text('[{"problem": "?", "answer": ["1.50"]}, {"problem": "!", "answer": ["1", "2"]}]')
    assert load(Source(str(tmp_path / "b.json"))) == [("?", "1.50")]


def test_old_competition_problems_end_before_the_benchmarks(monkeypatch):
    import datasets

    rows = [{"Question": str(year), "Answer": "1", "Year": year} for year in range(2020, 2026)]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    assert [question for question, _ in load(mathematics.DISTIL["aime"])] == ["2020", "2021", "2022", "2023"]


def test_each_split_names_its_difficulties_and_an_unknown_one_is_refused(monkeypatch):
    monkeypatch.setattr(mathematics, "load", lambda source: [(f"Problem {i} of {source.path}", "1") for i in range(99)])
    mathematics._benchmarks.cache_clear()
    for split in mathematics.SPLITS:
        levels = MATH.levels(split)
        assert all(MATH.problems(split, 1, 0, level) for level in levels)
        for other in set(MATH.difficulties) - set(levels):
            with pytest.raises(HealError, match=f"'{other}' is not for split '{split}'"):
                MATH.problems(split, 1, 0, other)
    mathematics._benchmarks.cache_clear()
    assert set(MATH.levels("test")) | set(MATH.levels("distil")) == set(MATH.difficulties)
    for split in ("train", "pretrain", ""):
        with pytest.raises(HealError, match=f"unknown split '{split}'; choose one of distil, development, test"):
            MATH.problems(split, 1, 0, "own")
    assert worlds.get("paths").levels("test") == tuple(worlds.get("paths").difficulties)


def test_the_files_that_problems_come_from_are_known():
    assert MATH.data_files("own") == [OWN] and MATH.data_files("mine.csv") == [Path("mine.csv")]
    assert MATH.data_files("aime24") == [] == worlds.get("paths").data_files("hard")


def test_a_hub_that_is_out_of_reach_is_one_line(monkeypatch):
    import datasets

    def offline(*_, **__):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(HealError, match="aime_2024: cannot be loaded .no route to host.; check the name and"):
        MATH.problems("test", 3, 0, "aime24")
    with pytest.raises(HealError, match="'aime24' is not for split 'distil'"):
        MATH.problems("distil", 3, 0, "aime24")


def test_what_the_benchmarks_hold_is_not_distilled_from(monkeypatch):
    old = [("What is $1+1$?", "2"), ("What is $1+2$?", "3"), *((f"Old problem {i}", "1") for i in range(40))]
    held = [("what is $1 + 1$", "2")]
    monkeypatch.setattr(mathematics, "load", lambda source: old if source in mathematics.DISTIL.values() else held)
    mathematics._benchmarks.cache_clear()
    asked = [p.question for split in ("distil", "development") for p in MATH.problems(split, 99, 0, "aime")]
    mathematics._benchmarks.cache_clear()
    assert "What is $1+1$?" not in asked and len(asked) > 10


def test_the_hint_is_recognised_when_it_is_spoken_of():
    problem = MATH.problems("distil", 1, 0, "own")[0]
    assert MATH.speaks_of_hint(MATH.hint(problem)) and not MATH.speaks_of_hint("We count the cases.")
    for leak in ("working backwards from the known answer 7", "according to the answer provided", "the hint says 7",
                 "Since we are told the answer is 7", "which matches the given answer", "the solution was given as 7",
                 "I know that the final answer is 7", "see the answer key", "the answer we were given"):
        assert MATH.speaks_of_hint(f"So, {leak}.") and MATH.speaks_of_hint(leak.capitalize()), leak
    for honest in ("the answer is 7", "The final answer is \\boxed{7}.", "we are given that x > 0"):
        assert not MATH.speaks_of_hint(honest), honest
    with pytest.raises(HealError, match="first_step"):
        MATH.hint(problem, "first_step")


def test_the_calculator_is_the_oracle_where_it_sees_arithmetic_and_the_answer_is_a_number():
    problem = Problem("p", "math", "own", "?", "42")
    right, wrong = "We have $6 \\times 7 = 42$.\n\nSo \\boxed{42}.", "We have $6 \\times 6 = 42$.\n\nSo \\boxed{42}."
    report = MATH.check_steps(problem, right)
    assert report.genuine and [step.text for step in report.steps] == split_steps(right)
    assert not MATH.check_steps(problem, wrong).genuine and MATH.check_steps(problem, wrong).first_break() == 0
    assert MATH.check_steps(problem, "By symmetry the answer is \\boxed{42}.") is None
    assert MATH.check_steps(Problem("p", "math", "own", "?", "x+1"), right) is None


def test_a_wrong_hint_is_the_answer_of_another_problem_to_distil_from():
    problems = MATH.problems("distil", 5, 0, "own")
    answers = {p.answer for p in MATH.problems("distil", 100, 0, "own")}
    for problem in problems:
        hint = MATH.hint(problem, "wrong")
        assert hint == MATH.hint(problem, "wrong") != MATH.hint(problem) and MATH.speaks_of_hint(hint)
        assert any(f" {answer}. " in hint for answer in answers if answer != problem.answer)


def test_only_samples_that_were_given_a_hint_may_not_speak_of_it():
    problem = Problem("p", "math", "own", "?", "7")
    text = "Adding up, the correct answer is \\boxed{7}."
    assert sampling.accepts(MATH, problem, text, True)
    assert not sampling.accepts(MATH, problem, text, True, text)
    assert not sampling.accepts(MATH, problem, text.replace("7", "8"), True)
    assert not sampling.accepts(MATH, problem, text, False)
    assert sampling.accepts(MATH, problem, "So it is \\boxed{7}.", True, "So it is \\boxed{7}.")

    class Engine:
        def pieces(self, ids):
            return [text]

    draw = SimpleNamespace(token_ids=[1], entropy=[0.0], finished=True, text=text)
    counted = {source: sampling.candidate_row(Engine(), MATH, problem, draw, source=source, sample=0)["correct"]
               for source in ("sampled", "matched", "student", "hinted", "repaired")}
    assert counted == {"sampled": True, "matched": True, "student": True, "hinted": False, "repaired": False}


def test_a_file_whose_rows_all_fall_to_the_test_split_is_named(tmp_path):
    from heal_lib import scales
    from heal_lib.experiment import Experiment
    from heal_lib.store import Store

    (tmp_path / "few.jsonl").write_text(json.dumps({"problem": "What is 0 + 0?", "answer": "0"}) + "\n")
    few = str(tmp_path / "few.jsonl")
    run = Experiment(scales.get("smoke", worlds=["math"], difficulties=[few], benchmarks=[few]), Store(tmp_path))
    with pytest.raises(HealError, match=r"'math': no problem of '.*few.jsonl' falls to the split 'distil'; give more"):
        run.problems()


def test_a_problem_to_distil_from_that_a_benchmark_holds_is_named(tmp_path, monkeypatch):
    from heal_lib import scales
    from heal_lib.experiment import Experiment
    from heal_lib.store import Store

    rows = [{"problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(60)]
    files = {"mine": rows, "test": [{**row, "problem": row["problem"].upper()} for row in rows]}
    for name, part in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    mine, test = (str(tmp_path / f"{name}.jsonl") for name in files)
    monkeypatch.setitem(mathematics.TEST, "aime24", mathematics.Source(test))  # all of it is for testing

    def distil(benchmark):
        cfg = scales.get("smoke", worlds=["math"], difficulties=[mine], n_distil=99, n_test=99, benchmarks=[benchmark])
        return Experiment(cfg, Store(tmp_path)).problems()

    assert distil(mine) and distil(test)  # files are parted by a hash of the question, the same problem alike
    with pytest.raises(HealError, match=r"problems to distil from are in aime24 too, such as 'What is \d+ \+ \d+\?'"):
        distil("aime24")
