"""Problems, steps and the one data-set schema that every stage reads and writes.

A trajectory is a list of tokens; its steps are the pieces of its text between delimiters ("\\n\\n" [S]).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heal_lib.errors import HealError

STEP_DELIMITER = "\n\n"


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


def to_dataset(rows: Iterable[dict], more: dict[str, str] | None = None):
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


def problem_of(row: dict) -> Problem:
    """The problem that a data-set row belongs to."""
    return Problem(row["problem_id"], row["world"], row["difficulty"], row["question"], row["answer"])


def step_spans(pieces: Sequence[str], delimiter: str = STEP_DELIMITER) -> list[tuple[int, int]]:
    """Token index ranges [start, end) of the steps of one trajectory.

    pieces: the text of each token; joined they are the trajectory's text. A token belongs to the step in which
    it begins, a delimiter to the step that it ends; a delimiter may be spread over tokens or share one.
    Returns [] for an empty trajectory. The ranges cover all tokens, in order."""
    if not delimiter:
        raise HealError("step_delimiter is empty; give the text that separates steps, such as a blank line")
    text, starts, at = "".join(pieces), [], 0
    for piece in pieces:
        starts.append(at)
        at += len(piece)
    ends, at = [], text.find(delimiter)
    while at != -1:
        at += len(delimiter)
        while text.startswith(delimiter, at):  # a run of delimiters is one boundary
            at += len(delimiter)
        ends.append(at)
        at = text.find(delimiter, at)
    spans, first = [], 0
    for end in ends:
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
    return [step for step in text.split(delimiter) if step.strip()]


def seed_of(*parts) -> int:
    """A 63-bit seed from any printable parts. Hashed, so that neighbouring seeds do not share streams."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rng_of(*parts) -> random.Random:
    """A random stream of its own for (seed, split, index, ...)."""
    return random.Random(seed_of(*parts))
