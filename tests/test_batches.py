"""What the hf engine decodes together: what fits into the memory, and what an attempt before has left."""

import pytest
import torch

from heal_lib import files
from heal_lib.engines import SamplingParams, hf
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError

PARAMS = SamplingParams(max_new_tokens=12)


@pytest.fixture
def prompts(real):
    return [real.encode(f"countdown {i} 4 6 to 27\n\n") for i in (3, 5, 7)]


def counted(engine, room=10**6):
    """The engine with its batches written down; more than `room` rows are too many for its memory."""
    decode, rows = engine._decode, []

    def narrow(prompts, n, noise, params):
        rows.append(len(noise))
        if len(noise) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(prompts, n, noise, params)

    engine._decode = narrow
    return rows


def plain(groups):
    return [[(draw.token_ids, draw.text, draw.finished, draw.entropy.tolist()) for draw in group] for group in groups]


def test_what_did_not_fit_once_is_not_tried_again(tiny, words, prompts):
    engine, whole = HFEngine(tiny, words), HFEngine(tiny, words).sample(prompts, 30, PARAMS, 0)
    rows = counted(engine, room=8)
    with pytest.warns(UserWarning, match="memory is full: 7 rows"):
        drawn = engine.sample(prompts, 30, PARAMS, 0)
    assert [n for n in rows if n > 8] == [90, 30, 15]
    assert engine.batch_rows <= 8 and [len(group) for group in drawn] == [30] * 3
    first, tried = len(rows), [n for n in rows if n > 8]
    engine.sample(prompts, 30, PARAMS, 1)
    assert max(rows[first:]) <= 8 and [n for n in rows if n > 8] == tried
    for a, b in zip(whole, drawn, strict=True):
        assert [x.token_ids for x in a] == [y.token_ids for y in b]


def test_one_row_that_does_not_fit_is_named(tiny, words, prompts):
    engine = HFEngine(tiny, words)
    counted(engine, room=0)
    with pytest.warns(UserWarning, match="memory is full"), pytest.raises(HealError, match="max_new_tokens"):
        engine.sample(prompts, 2, PARAMS, 0)


def test_a_stage_that_was_killed_goes_on_from_its_batches(tiny, words, prompts, tmp_path, monkeypatch):
    monkeypatch.setattr(hf, "WORTH", 0)
    whole = HFEngine(tiny, words, batch_rows=4).sample(prompts, 4, PARAMS, 0)
    engine = HFEngine(tiny, words, batch_rows=4)
    decode, rows = engine._decode, []

    def killed(*given):
        if len(rows) == 2:
            raise KeyboardInterrupt
        rows.append(len(given[2]))
        return decode(*given)

    engine._decode = killed
    with pytest.raises(KeyboardInterrupt), files.making(tmp_path / ".tmp-stage"):
        engine.sample(prompts, 4, PARAMS, 0)
    again = HFEngine(tiny, words, batch_rows=4)
    rows = counted(again)
    with files.making(tmp_path / ".tmp-stage"):
        assert plain(again.sample(prompts, 4, PARAMS, 0)) == plain(whole)
        assert rows == [4]
        again.sample(prompts, 4, PARAMS, 1)  # other draws are other batches
    assert rows == [4] * 4 and again.sample(prompts, 4, PARAMS, 0)
    assert rows == [4] * 7  # no stage is made: nothing is kept or looked for


def test_short_batches_are_not_worth_keeping(tiny, words, prompts, tmp_path):
    with files.making(tmp_path / ".tmp-stage"):
        HFEngine(tiny, words).sample(prompts, 2, PARAMS, 0)
    assert not list(tmp_path.iterdir()) and files.left_by_stage() is None


@pytest.mark.filterwarnings("error")
def test_telling_models_apart_says_nothing(tiny, words):
    """torch warns, once a process, of a number that is taken out of what is learned."""
    torch.set_warn_always(True)
    try:
        assert len(HFEngine(tiny, words)._weights) == len(list(tiny.parameters()))
    finally:
        torch.set_warn_always(False)
