"""Problems, steps and the one data-set schema that every stage reads and writes.

A trajectory is a list of tokens; its steps are the pieces of its text between delimiters ("\\n\\n" [S]), or its
sentences (`SENTENCE`) where a model writes prose.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heal_lib.errors import HealError

if TYPE_CHECKING:
    from datasets import Dataset

STEP_DELIMITER = "\n\n"
SENTENCE = "sentence"  # in place of a delimiter: steps are sentences and lines
# A mark that ends a sentence, with what closes around it. The space after it belongs to the next sentence, as models'
# tokens begin with their space; a line break belongs to the line that it ends.
_STOP = re.compile(r"""(?<![.!?])[.!?]++["'”’)\]*_]*+(?=\s)(?:[^\S\n]*+\n\s*(?<=\n))?|\n\s*(?<=\n)""")
_GOES_ON = re.compile(  # before a full stop: titles, abbreviations, an initial, the number of a list's item
    r"(?:(?<!\w)(?:Mrs?|Ms|Dr|Prof|St|Jr|Sr|Mt|vs|e\.g|i\.e|cf|approx|Fig|Eq|ca|[A-HJ-Z])|(?:^|\n)[ \t]*\d{1,3})\Z")
_NEXT = re.compile(r"\s*(\S?)")


@dataclass(frozen=True)
class Problem:
    """One task. All fields are text, so that a row of any data set can be turned back into its problem."""

    id: str
    world: str
    difficulty: str
    question: str
    answer: str  # one ground-truth answer, as it would stand in the box


# One row per trajectory. `token_ids` is the training completion: any hint is already removed from it.
COLUMNS = {
    "problem_id": "string",
    "world": "string",
    "difficulty": "string",
    "question": "string",
    "answer": "string",
    "source": "string",  # sampled | hinted | repaired
    "sample": "int64",  # index of the draw within its problem
    "parent": "int64",  # repaired: `sample` of the failed trajectory; else -1
    "n_kept": "int64",  # leading tokens kept from the parent; else 0
    "breakpoint": "int64",  # 0-based step index of the parent's entropy surge; -1 where there is none
    "token_ids": "list<int64>",
    "entropy": "list<float32>",  # nats, full vocabulary, at the moment of drawing
    "text": "string",
    "finished": "bool",  # ended with EOS; otherwise cut by the length limit, which counts as incorrect
    "correct": "bool",
    "genuine": "int64",  # oracle: 1 derived by valid steps, 0 not, -1 no oracle
    "n_generated": "int64",  # tokens the teacher drew for it (the cost)
}


def to_dataset(rows: Iterable[dict[str, Any]], more: dict[str, str] | None = None) -> Dataset:
    """Rows (dicts with exactly the COLUMNS, and `more`) to a `datasets.Dataset`; an empty list gives an empty one.

    Raises HealError for a row without answer, with an empty trajectory, or with other columns."""
    import pyarrow as pa
    from datasets import Dataset

    rows, columns = list(rows), {**COLUMNS, **(more or {})}
    for row in rows:
        of = f"problem {row.get('problem_id')}"
        if not row.get("answer"):
            raise HealError(f"{of}: the row has no answer; add one or drop the row")
        if wrong := row.keys() ^ columns.keys():
            raise HealError(f"{of}: columns missing or unknown: {', '.join(sorted(wrong))}; see trajectory.COLUMNS")
        if not len(row["token_ids"]):
            raise HealError(f"{of}: the trajectory of sample {row['sample']} is empty; drop the row")
    types = {"string": pa.string(), "int64": pa.int64(), "bool": pa.bool_(), "list<int64>": pa.list_(pa.int64()),
             "list<float32>": pa.list_(pa.float32())}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    return Dataset(pa.Table.from_pylist(rows, schema=schema))


def problem_of(row: dict[str, Any]) -> Problem:
    """The problem that a data-set row belongs to."""
    return Problem(row["problem_id"], row["world"], row["difficulty"], row["question"], row["answer"])


def step_ends(text: str, delimiter: str = STEP_DELIMITER) -> list[int]:
    """Where steps end in a text: character indices after each delimiter, or after each sentence and line.

    A run of delimiters is one boundary. No sentence ends inside a number (3.5), after a title or an initial
    (Mr. J. Hill), after the number of a list's item, or before a small letter."""
    if not delimiter:
        raise HealError("step_delimiter is empty; give the text that separates steps, such as a blank line, or "
                        f"'{SENTENCE}'")
    if delimiter != SENTENCE:
        return [found.end() for found in re.finditer(f"(?:{re.escape(delimiter)})+", text)]
    return [found.end() for found in _STOP.finditer(text) if not _within(text, found)]


def _within(text: str, stop: re.Match) -> bool:
    """Whether a mark stands inside a sentence."""
    if "\n" in stop[0]:
        return False
    goes_on = stop[0] == "." and _GOES_ON.search(text, max(0, stop.start() - 12), stop.start())
    following = _NEXT.match(text, stop.end())
    return bool(goes_on or following and following[1].islower())


def step_spans(pieces: Sequence[str], delimiter: str = STEP_DELIMITER) -> list[tuple[int, int]]:
    """Token index ranges [start, end) of the steps of one trajectory.

    pieces: the text of each token; joined they are the trajectory's text. A token belongs to the step in which
    it begins, a delimiter to the step that it ends; a delimiter may be spread over tokens or share one.
    Returns [] for an empty trajectory. The ranges cover all tokens, in order."""
    text, starts, at = "".join(pieces), [], 0
    for piece in pieces:
        starts.append(at)
        at += len(piece)
    spans, first = [], 0
    for end in step_ends(text, delimiter):
        last = first
        while last < len(pieces) and starts[last] < end:
            last += 1
        if last > first:
            spans.append((first, last))
            first = last
    if first < len(pieces):
        spans.append((first, len(pieces)))
    return spans


def split_steps(text: str, delimiter: str = STEP_DELIMITER) -> list[str]:
    """The non-empty steps of a text, without their delimiters."""
    if delimiter != SENTENCE:
        return [step for step in text.split(delimiter) if step.strip()]
    ends = [0, *step_ends(text, delimiter), len(text)]
    return [step for a, b in zip(ends, ends[1:], strict=False) if (step := text[a:b].strip())]


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any printable parts. Hashed, so that neighbouring seeds do not share streams."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rng_of(*parts: object) -> random.Random:
    """A random stream of its own for (seed, split, index, ...)."""
    return random.Random(seed_of(*parts))
