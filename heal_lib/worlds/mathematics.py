"""math: competition problems from hub data sets or from a file, answers compared by `answers`.

    {"problem": "How many ...?", "answer": "210"}      a row of a JSONL, Parquet or CSV file
    ... so there are \\boxed{210} of them.              what a trajectory has to end with

The step oracle is the calculator, where it sees arithmetic and the answer is a number: algebra, geometry and words pass
it by (`calculator` says what it cannot see). `own` is a small set written by this project, which needs no hub.
A difficulty is a data set; the distil sets are cleaned of whatever the benchmarks hold, by normalised text."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from heal_lib.errors import HealError
from heal_lib.trajectory import Problem, rng_of, seed_of
from heal_lib.worlds import calculator, compare, told
from heal_lib.worlds.answers.text import plain
from heal_lib.worlds.base import StepReport, World

OWN = Path(__file__).with_name("own.jsonl")
LONGEST = 500  # characters of an answer; longer ones are no answer
LONGEST_SAMPLE = 8192  # tokens
SPLITS = {"distil": (0, 50), "development": (50, 60), "test": (60, 100)}  # percent of the hash range
FILES = (".jsonl", ".json", ".parquet", ".csv")
_BRACES = re.compile(r"\\+boxed\s*\{|\\.|[{}]", re.DOTALL)


@dataclass(frozen=True)
class Source:
    """A data set on the hub (or a local file) and the names of its columns."""

    path: str
    split: str = "train"
    config: str | None = None
    problem: str = "problem"
    answer: str = "answer"
    until: int | None = None  # rows of a later `Year` are left out


# What was not run here: loading from the hub (the names and columns are those of the data sets' pages).
# The set of old AIME problems goes on to 2024, which is a benchmark.
DISTIL = {"aime": Source("gneubig/aime-1983-2024", problem="Question", answer="Answer", until=2023)}
TEST = {
    "aime24": Source("HuggingFaceH4/aime_2024"),
    "aime25": Source("math-ai/aime25", "test"),
    "math500": Source("HuggingFaceH4/MATH-500", "test"),
    "amc": Source("AI-MO/aimo-validation-amc"),
    "olympiad": Source("Hothan/OlympiadBench", config="OE_TO_maths_en_COMP", problem="question", answer="final_answer"),
}


class Mathematics(World):
    name = "math"
    difficulties: ClassVar[dict[str, dict[str, Any]]] = {name: {} for name in ("own", *DISTIL, *TEST)}

    def knows(self, difficulty: str) -> bool:
        return difficulty in self.difficulties or Path(difficulty).suffix in FILES

    def levels(self, split: str) -> tuple[str, ...]:
        return ("own", *(TEST if split == "test" else DISTIL))

    def data_files(self, difficulty: str) -> list[Path]:
        path = OWN if difficulty == "own" else Path(difficulty)
        return [path] if path.suffix in FILES else []

    def longest(self, difficulty: str) -> int:
        return LONGEST_SAMPLE

    def problems(self, split: str, n: int, seed: int, difficulty: str) -> list[Problem]:
        """n problems of a data set in a seeded order, or all it has. A path to a file is a difficulty of its own.

        own and files are parted into distil, development and test by hash; of the hub's sets, `aime` is for distilling
        and development (to 2023, without what the benchmarks hold), the others for test. Raises HealError otherwise."""
        if split not in SPLITS:
            raise HealError(f"math: unknown split '{split}'; choose one of {', '.join(SPLITS)}")
        if difficulty in self.difficulties and difficulty not in self.levels(split):
            raise HealError(f"math: '{difficulty}' is not for split '{split}'; "
                            f"distil from {', '.join(DISTIL)}, test on {', '.join(TEST)}")
        low, high = SPLITS[split]
        if difficulty in TEST:
            rows, low, high = load(TEST[difficulty]), 0, 100
        elif difficulty in DISTIL:
            rows = _without(load(DISTIL[difficulty]), _benchmarks())
        else:
            rows = load(Source(str(OWN) if difficulty == "own" else difficulty))
        keyed = {seed_of(normalised(question)): (question, answer) for question, answer in rows}
        chosen = [key for key in keyed if low <= key % 100 < high]
        rng_of(seed, self.name, split, difficulty).shuffle(chosen)
        return [Problem(f"math-{Path(difficulty).stem}-{key:016x}", self.name, difficulty, *keyed[key])
                for key in chosen[:n]]

    def prompt(self, problem: Problem) -> str:
        return f"{problem.question}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."

    def verify(self, problem: Problem, text: str) -> bool:
        """The last box, outside any think block, holds an answer equal to the right one."""
        box = last_box(text.rpartition("</think>")[2].partition("<think>")[0])
        return box is not None and equal(problem.answer, box)

    def hint(self, problem: Problem, form: str = "answer") -> str:
        if form not in ("answer", "wrong"):
            raise HealError(f"math knows no hint '{form}', for it has no derivations to take a step from; use 'answer'")
        answer = problem.answer if form == "answer" else self._other_answer(problem)
        return f"Wait. The correct answer is {answer}. I will find the steps that lead to it.\n\n"

    def _other_answer(self, problem: Problem) -> str:
        others = [answer for answer in _answers(problem.difficulty) if not equal(problem.answer, answer)]
        if not others:
            raise HealError(f"math: no problem to distil from in '{problem.difficulty}' has another answer than "
                            f"'{problem.answer}'; use another hint than 'wrong'")
        return rng_of("wrong hint", problem.id).choice(others)

    def speaks_of_hint(self, text: str) -> bool:
        return told.reveals(text)

    def check_steps(self, problem: Problem, text: str) -> StepReport | None:
        """The calculator's report; None where the answer is no plain number, or no calculation can be read."""
        if calculator.number(problem.answer) is None or not calculator.facts(text):
            return None
        return calculator.check(text, problem.answer, delimiter=self.step_delimiter)


@cache
def _answers(difficulty: str) -> list[str]:
    """Answers of some problems to distil from."""
    return [problem.answer for problem in Mathematics().problems("distil", 50, 0, difficulty)]


# --- answers
def last_box(text: str) -> str | None:
    """Content of the last \\boxed{...}, with what boxes enclose it; None where it does not close or there is none."""
    opened: list[int | None] = []  # where boxes begin; None for other braces
    last = None
    for brace in _BRACES.finditer(text):
        if "boxed" in brace[0]:
            last = None
            opened.append(brace.end())
        elif brace[0] == "{":
            opened.append(None)
        elif brace[0] == "}" and opened and (start := opened.pop()) is not None:
            last = text[start: brace.start()].strip()
    return last if last is not None and len(last) <= LONGEST else None


def equal(right: str, said: str) -> bool:
    """Whether two answers are equal (answers/verdict.py); no answer is longer than `LONGEST` characters.

    Raises HealError where comparisons cannot be made at all."""
    if not said or len(said) > LONGEST:
        return False
    return right == said or compare.equal(right, said)


# --- data
def normalised(question: str) -> str:
    """A question without case, spacing, punctuation and TeX's decoration, to tell duplicates by. Operators stay."""
    text = re.sub(r"\{(\w)\}", r"\1", plain(question))
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"(?<!\d)[.,]|[.,](?!\d)|[\s;:?\"'$~]", "", text)
    return unicodedata.normalize("NFKC", text).lower()


def load(source: Source) -> list[tuple[str, str]]:
    """(problem, answer) of every row; an answer in a list of one is taken out, rows of several are dropped.

    Raises HealError for a file that is not there, empty or of another kind, a set the hub does not give, missing
    columns, a row without answer."""
    data = list(_file_rows(Path(source.path)) if Path(source.path).suffix in FILES else _hub_rows(source))
    if not data:
        raise HealError(f"{source.path}: no rows; it needs at least one with {source.problem} and {source.answer}")
    columns = list(dict.fromkeys(column for row in data for column in row))
    if missing := {source.problem, source.answer} - set(columns):
        raise HealError(f"{source.path}: no column {', '.join(sorted(missing))}; it has {', '.join(columns)}")
    rows = []
    for i, row in enumerate(data):
        question, answer = row.get(source.problem), row.get(source.answer)
        if isinstance(answer, list):
            answer = answer[0] if len(answer) == 1 else answer
        if not question or not answer and answer != 0:
            lack = "answer" if question else "problem"
            raise HealError(f"{source.path}: row {i} has no {lack}; add it or drop the row")
        late = source.until is not None and int(row["Year"]) > source.until
        if not isinstance(answer, list) and not late:
            rows.append((str(question), str(answer).strip()))
    return rows


def _hub_rows(source: Source) -> Iterable[dict]:
    import datasets

    try:
        return datasets.load_dataset(source.path, source.config, split=source.split)
    except Exception as error:  # datasets raises a family of its own for what is not to be had
        raise HealError(f"{source.path}: cannot be loaded ({str(error).splitlines()[0][:120]}); "
                        "check the name and the network, or use 'own' or a local file") from None


def _file_rows(path: Path) -> list[dict]:
    """Rows of a file; numbers in a text file stay as they are written."""
    if not path.is_file():
        raise HealError(f"no data at {path}; give a .jsonl, .parquet or .csv file")
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_table(path).to_pylist()
        text = path.read_text("utf-8-sig")
        if path.suffix == ".csv":
            return list(csv.DictReader(io.StringIO(text, newline="")))
        if text.lstrip().startswith("["):
            rows = json.loads(text, parse_float=str)
        else:
            rows = [json.loads(line, parse_float=str) for line in text.split("\n") if line.strip()]
    except (ValueError, OSError, csv.Error) as error:
        raise HealError(f"{path}: cannot be read ({str(error).splitlines()[0][:120]}); "
                        "is it a file of the kind that its name says?") from None
    if not all(isinstance(row, dict) for row in rows):
        raise HealError(f"{path}: a row is no object; write each as {{\"problem\": ..., \"answer\": ...}}")
    return rows


@cache
def _benchmarks() -> frozenset[str]:
    """Normalised questions of all benchmarks."""
    return frozenset(normalised(question) for source in TEST.values() for question, _ in load(source))


def _without(rows, known):
    return [row for row in rows if normalised(row[0]) not in known]
