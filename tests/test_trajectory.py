import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal_lib.errors import HealError
from heal_lib.trajectory import (
    COLUMNS,
    SENTENCE,
    Problem,
    problem_of,
    rng_of,
    seed_of,
    split_steps,
    step_spans,
    to_dataset,
)

ROW = {
    "problem_id": "p", "world": "equations", "difficulty": "easy", "question": "equation x+1=2", "answer": "1",
    "source": "sampled", "sample": 0, "parent": -1, "n_kept": 0, "breakpoint": -1, "token_ids": [5, 1],
    "entropy": [0.5, 0.25], "text": "x", "finished": True, "correct": False, "genuine": 0, "n_generated": 2,
}


@pytest.mark.parametrize("pieces, spans", [
    ([], []),
    ([""], [(0, 1)]),  # EOS alone
    (["a"], [(0, 1)]),
    (["a", "\n\n"], [(0, 2)]),
    (["a", "\n\n", "b", ""], [(0, 2), (2, 4)]),  # the delimiter belongs to the step that it ends
    (["a\n\n", "b"], [(0, 1), (1, 2)]),
    (["a\n", "\n", "b"], [(0, 2), (2, 3)]),  # spread over tokens
    (["a\n", "\nb", "c"], [(0, 2), (2, 3)]),  # ... one of which begins the next step
    (["a\n\nb", "c"], [(0, 1), (1, 2)]),  # shared: the token counts where it begins
    (["a\n\nb\n\nc", "d"], [(0, 1), (1, 2)]),
    (["a", "\n\n", "\n\n", "b"], [(0, 3), (3, 4)]),  # a run of delimiters is one boundary
    (["a", "\n\n\n", "b"], [(0, 2), (2, 3)]),
    (["a", "\n", "b"], [(0, 3)]),
    (["\n\n", "a"], [(0, 1), (1, 2)]),
    (["a", "\n\n", ""], [(0, 2), (2, 3)]),
])
def test_step_spans_by_hand(pieces, spans):
    assert step_spans(pieces) == spans


def test_another_delimiter_and_none():
    assert step_spans(["a", ";", "b;", "c"], ";") == [(0, 2), (2, 3), (3, 4)]
    with pytest.raises(HealError, match="step_delimiter"):
        step_spans(["a"], "")


@pytest.mark.parametrize("text, sentences", [
    ("", []),
    ("One.", ["One."]),
    ("Tom has 3 pens. He buys 2. 3 + 2 = 5.", ["Tom has 3 pens.", "He buys 2.", "3 + 2 = 5."]),
    ("It costs $3.50. She pays 1.5 times that!", ["It costs $3.50.", "She pays 1.5 times that!"]),
    ("Mr. Hill and Dr. J. Green met Mrs. Lee. They ate.", ["Mr. Hill and Dr. J. Green met Mrs. Lee.", "They ate."]),
    ("So did I. Then he left.", ["So did I.", "Then he left."]),  # I is a word, not an initial
    ("Fruit, e.g. Apples. Yes?! (So.) \"No.\" End", ["Fruit, e.g. Apples.", "Yes?!", "(So.)", "\"No.\"", "End"]),
    ("1. Add 3.\n2. Take 2.\n\n10. Stop", ["1. Add 3.", "2. Take 2.", "10. Stop"]),
    ("We get:\n3 + 2 = 5\n\nSo 5", ["We get:", "3 + 2 = 5", "So 5"]),
    ("At 5 p.m. he left. **Done.** Ok", ["At 5 p.m. he left.", "**Done.**", "Ok"]),  # a small letter goes on
    ("x = 4. 5 + 1 = 6.", ["x = 4.", "5 + 1 = 6."]),
    ("Wait... What? 7.", ["Wait...", "What?", "7."]),
])
def test_sentences_by_hand(text, sentences):
    assert split_steps(text, SENTENCE) == sentences


@pytest.mark.parametrize("pieces, spans", [
    (["Go", ".", " On", ".", ""], [(0, 2), (2, 5)]),  # a space begins the next token, so it begins the next step
    (["A", ".\n", "\n", "B"], [(0, 3), (3, 4)]),  # a line break ends the step before it
    (["A", ".", "\n\n", " B"], [(0, 3), (3, 4)]),
    (["3", ".", "5", " is"], [(0, 4)]),
    ([], []), (["", ""], [(0, 2)]),
])
def test_sentence_spans_by_hand(pieces, spans):
    assert step_spans(pieces, SENTENCE) == spans


def test_sentences_of_a_long_run_take_no_time():
    for part in (" ", ".", "\n", "!\"", "1. "):
        text = part * 200_000
        assert "".join(split_steps(text, SENTENCE)).replace(" ", "") == text.replace(" ", "").replace("\n", "")


@given(st.lists(st.text("aB1.?! \n", max_size=4), max_size=12))
def test_sentence_spans_cover_all_tokens_in_order(pieces):
    spans = step_spans(pieces, SENTENCE)
    assert [i for start, end in spans for i in range(start, end)] == list(range(len(pieces)))
    assert all(start < end for start, end in spans)


@given(st.lists(st.text("a\n", max_size=4), max_size=12))
def test_step_spans_cover_all_tokens_in_order(pieces):
    spans = step_spans(pieces)
    assert [i for start, end in spans for i in range(start, end)] == list(range(len(pieces)))
    assert all(start < end for start, end in spans)


@given(st.text("a\n", max_size=30))
def test_step_spans_of_single_characters_are_the_text_s_steps(text):
    steps = [text[start:end] for start, end in step_spans(list(text))]
    assert steps == [m[0] for m in re.finditer(r"(?s).*?(?:(?:\n\n)+|\Z)", text) if m[0]]


def test_split_steps_drops_empty_ones():
    assert split_steps("a\n\n\n\nb\n\n \n\n") == ["a", "b"]
    assert split_steps("") == []


def test_a_row_keeps_its_problem_and_types():
    data = to_dataset([ROW, {**ROW, "sample": 1}])
    assert list(data.column_names) == list(COLUMNS) == list(ROW)
    assert data[0] == ROW and data[1]["sample"] == 1
    assert problem_of(data[0]) == Problem("p", "equations", "easy", "equation x+1=2", "1")


def test_an_empty_data_set_has_the_same_columns():
    assert to_dataset([]).features == to_dataset([ROW]).features and len(to_dataset([])) == 0


@pytest.mark.parametrize("row", [{**ROW, "answer": ""}, {**ROW, "answer": None},
                                 {k: v for k, v in ROW.items() if k != "answer"}])
def test_a_row_without_answer_is_refused(row):
    with pytest.raises(HealError, match="problem p: .*answer"):
        to_dataset([ROW, row])


def test_an_empty_trajectory_is_refused():
    with pytest.raises(HealError, match="problem p: .*empty"):
        to_dataset([{**ROW, "token_ids": [], "entropy": []}])


def test_other_columns_are_refused():
    for row in ({**ROW, "nll": 1}, {k: v for k, v in ROW.items() if k != "parent"}):
        with pytest.raises(HealError, match="problem p: columns .*(nll|parent)"):
            to_dataset([row])


def test_seeds_are_their_own_and_stable():
    assert seed_of(0, "test", 1) == 4693171817701981083  # committed results rest on it
    seeds = {seed_of(seed, split, i) for seed in range(20) for split in ("distil", "test") for i in range(20)}
    assert len(seeds) == 800 and all(0 <= s < 2**63 for s in seeds)
    assert seed_of("a", "b") != seed_of("ab") and seed_of(1, 2) != seed_of(12)
    assert rng_of(3).random() == rng_of(3).random() != rng_of(4).random()
