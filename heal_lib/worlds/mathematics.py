"""math: competition problems from hub data sets or from a file, answers checked by math-verify.

    {"problem": "How many ...?", "answer": "210"}      a row of a JSONL, Parquet or CSV file
    ... so there are \\boxed{210} of them.              what a trajectory has to end with

There is no step oracle: `check_steps` gives None. `own` is a small set written by this project, which needs no hub.
A difficulty is a data set; the distil sets are cleaned of whatever the benchmarks hold, by normalised text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from heal_lib.errors import HealError
from heal_lib.trajectory import Problem, rng_of, seed_of
from heal_lib.worlds import compare
from heal_lib.worlds.base import ANSWER_OPENING, World

OWN = Path(__file__).with_name("own.jsonl")
LONGEST = 500  # characters of an answer; longer ones are no answer
LONGEST_SAMPLE = 8192  # tokens
BOXES = 20  # of a text are looked at, from its end
READERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


@dataclass(frozen=True)
class Source:
    """A data set on the hub (or a local file) and the names of its columns."""

    path: str
    split: str = "train"
    config: str | None = None
    problem: str = "problem"
    answer: str = "answer"


# What was not run here: loading from the hub (the names and columns are those of the data sets' pages).
DISTIL = {"aime": Source("gneubig/aime-1983-2024", problem="Question", answer="Answer")}
TEST = {
    "aime24": Source("HuggingFaceH4/aime_2024"),
    "aime25": Source("math-ai/aime25", "test"),
    "math500": Source("HuggingFaceH4/MATH-500", "test"),
    "amc": Source("AI-MO/aimo-validation-amc"),
    "olympiad": Source("Hothan/OlympiadBench", config="OE_TO_maths_en_COMP", problem="question", answer="final_answer"),
}


class Mathematics(World):
    name = "math"
    difficulties = {name: {} for name in ("own", *DISTIL, *TEST)}

    def knows(self, difficulty: str) -> bool:
        return difficulty in self.difficulties or Path(difficulty).suffix in READERS

    def longest(self, difficulty: str) -> int:
        return LONGEST_SAMPLE

    def data_files(self, difficulty: str) -> list[Path]:
        return [] if difficulty in (*DISTIL, *TEST) else [OWN if difficulty == "own" else Path(difficulty)]

    def problems(self, split: str, n: int, seed: int, difficulty: str) -> list[Problem]:
        """n problems of a data set in a seeded order, or all it has. A path to a file is a difficulty of its own.

        own and files are parted into distil, development and test by hash; of the hub's sets, `aime` is for distilling
        and development (to 2023, without what the benchmarks hold), the others for test. Raises HealError otherwise."""
        if difficulty in TEST or difficulty in DISTIL:
            if (split == "test") != (difficulty in TEST):
                raise HealError(f"math: '{difficulty}' is not for split '{split}'; "
                                f"distil from {', '.join(DISTIL)}, test on {', '.join(TEST)}")
            rows = load(TEST[difficulty]) if split == "test" else _without(load(DISTIL[difficulty]), _benchmarks())
        else:
            rows = load(Source(str(OWN) if difficulty == "own" else difficulty))
        low, high = {"test": (60, 100), "development": (50, 60), "distil": (0, 50)}.get(split, (0, 0))
        if difficulty in TEST:
            low, high = 0, 100
        keyed = {seed_of(normalised(question)): (question, answer) for question, answer in rows}
        chosen = [key for key in keyed if low <= key % 100 < high]
        rng_of(seed, self.name, split, difficulty).shuffle(chosen)
        return [Problem(f"math-{Path(difficulty).stem}-{key:016x}", self.name, difficulty, *keyed[key])
                for key in chosen[:n]]

    def prompt(self, problem: Problem) -> str:
        return f"{problem.question}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."

    def verify(self, problem: Problem, text: str) -> bool:
        """The last complete box, outside any think block, holds an answer equal to the right one."""
        box = last_box(text.rpartition("</think>")[2])
        return box is not None and equal(problem.answer, box)

    def hint(self, problem: Problem, form: str = "answer") -> str:
        if form != "answer":
            raise HealError(f"math knows no hint '{form}', for it has no derivations to take a step from; use 'answer'")
        return f"Wait. The correct answer is {problem.answer}. I will find the steps that lead to it.\n\n"

    def speaks_of_hint(self, text: str) -> bool:
        return re.search(r"the correct answer is|(the|as a|given) hint|answer (is|was) given", text, re.I) is not None

    def check_steps(self, problem: Problem, text: str):
        return None


# --- answers
def last_box(text: str) -> str | None:
    """Content of the last complete \\boxed{...}, braces balanced; None if there is none."""
    at = text.rfind(ANSWER_OPENING)
    for _ in range(BOXES):
        if at == -1:
            break
        depth, start = 1, at + len(ANSWER_OPENING)
        for i in range(start, min(len(text), start + LONGEST + 1)):
            depth += (text[i] == "{") - (text[i] == "}")
            if depth == 0:
                return text[start:i].strip()
        at = text.rfind(ANSWER_OPENING, 0, at)
    return None


def equal(right: str, said: str) -> bool:
    """Whether two answers are equal by math-verify, strictly: a set is not its subset, a tuple not its set.

    Raises HealError where comparisons cannot be made at all."""
    if not said or len(said) > LONGEST:
        return False
    if _plain(right) == _plain(said):
        return True
    return compare.equal(right, said)


def _plain(answer: str) -> str:
    return re.sub(r"\s+|\\[,;! ]|\$", "", answer).removesuffix(".")


# --- data
def normalised(question: str) -> str:
    """A question without case, spacing, punctuation and TeX's decoration, to tell duplicates by."""
    text = unicodedata.normalize("NFKC", question).lower()
    text = re.sub(r"\\(left|right|displaystyle|text|mathrm|dfrac|tfrac|frac|[,;!quad ]+)", "", text)
    return re.sub(r"[\W_]+", "", text)


def load(source: Source) -> list[tuple[str, str]]:
    """(problem, answer) of every row; an answer in a list of one is taken out, rows of several are dropped.

    Raises HealError for a file that is not there or of another kind, a set the hub does not give, missing columns,
    a row without answer."""
    import datasets

    path = Path(source.path)
    try:
        if path.suffix in READERS:
            if not path.is_file():
                raise HealError(f"no data at {source.path}; give a .jsonl, .parquet or .csv file")
            data = datasets.load_dataset(READERS[path.suffix], data_files=str(path), split="train")
        else:
            data = datasets.load_dataset(source.path, source.config, split=source.split)
    except HealError:
        raise
    except Exception as error:  # datasets raises a family of its own for what is not to be had
        raise HealError(f"{source.path}: cannot be loaded ({str(error).splitlines()[0][:120]}); "
                        "check the name and the network, or use 'own' or a local file") from None
    if missing := {source.problem, source.answer} - set(data.column_names):
        raise HealError(f"{source.path}: no column {', '.join(sorted(missing))}; it has {', '.join(data.column_names)}")
    rows = []
    for i, row in enumerate(data):
        question, answer = row[source.problem], row[source.answer]
        if isinstance(answer, list):
            answer = answer[0] if len(answer) == 1 else answer
        if not question or not answer and answer != 0:
            lack = "answer" if question else "problem"
            raise HealError(f"{source.path}: row {i} has no {lack}; add it or drop the row")
        # The AIME set goes on to 2024, which is a benchmark.
        if not isinstance(answer, list) and int(row.get("Year") or 0) <= 2023:
            rows.append((str(question), str(answer).strip()))
    return rows


@cache
def _benchmarks() -> frozenset[str]:
    """Normalised questions of all benchmarks."""
    return frozenset(normalised(question) for source in TEST.values() for question, _ in load(source))


def _without(rows, known):
    return [row for row in rows if normalised(row[0]) not in known]
