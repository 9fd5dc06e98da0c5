"""PURE's reading with a scripted engine: perplexity of steps, uncertainty of the answer after each."""

import numpy as np
import pytest
from test_repair import BASE, PROBLEM, REST, failed, repair, surge_at

from heal_lib import pure
from heal_lib.errors import HealError
from heal_lib.trajectory import step_spans


@pytest.fixture
def engine(scripted):
    return scripted(lambda prompt, key, j: REST)


def reading_row(engine):
    return {**failed(engine), "text": REST, "token_ids": [*engine.encode(REST), engine.eos], "correct": True}


def test_reading_by_hand(scripted):
    """Steps 46/2=23, 23-2=21, 21/3=7; the answer's own step is left out."""
    def nll(ids):
        return np.repeat([1.0, 2.0, 3.0, 9.0], [9, 9, 8, len(ids) - 26])

    def tail(ends, ids):  # uncertainty 4, 3, 2, 1; the opening's tokens are not the answer's
        return np.array([[50.0] * (len(ids) - 1) + [4.0 - k] for k in range(len(ends))])

    engine = scripted(nll=nll, tail=tail)
    (got,) = pure.read(engine, [reading_row(engine)])
    assert got["n_steps"] == 3 and got["ppl"] == pytest.approx(np.exp([1, 2, 3]))
    assert got["uncertainty"] == pytest.approx([4, 3, 2, 1]) and len(got["nll"]) == len(REST) + 1
    assert engine.tails == [(PROBLEM.question + "\n\n", [0, 9, 18, 26], "\\boxed{7")]
    assert pure.anomaly(got, "max", "before") == pytest.approx(np.exp(3) / 2.01)
    assert pure.anomaly(got, "max", "after") == pytest.approx(np.exp(3) / 1.01)
    assert pure.anomaly(got, "mean", "before", eps=1) == pytest.approx(
        np.mean([np.exp(1) / 5, np.exp(2) / 4, np.exp(3) / 3]))


def test_among_candidates_every_answer_is_read_to_its_end(scripted):
    """Of 9 numbers, the right one gets surer; the others stay as unlikely as they were."""
    def tail(ends, ids):
        own = [ids[-2:] == [ord("7"), ord("}")]]
        return np.array([[50.0] * (len(ids) - 1) + [4.0 - k if all(own) else 4.0] for k in range(len(ends))])

    engine = scripted(tail=lambda ends, ids: tail(ends, ids)[:, -len(ids):] * ([0] * (len(ids) - 1) + [1]))
    (got,) = pure.read(engine, [reading_row(engine)], answers="candidates")
    answers = [said.removeprefix("\\boxed{").removesuffix("}") for _, _, said in engine.tails]
    assert answers[0] == "7" and len(set(answers)) == 9 and all(said[-1] == "}" for _, _, said in engine.tails)
    assert got["uncertainty"] == pytest.approx(np.log(1 + 8 * np.exp([0.0, -1, -2, -3])))
    with pytest.raises(HealError, match="pure_answers='all': use likelihood or candidates"):
        pure.read(engine, [], answers="all")


def test_a_text_that_a_problem_has_twice_is_read_once(scripted, monkeypatch):
    engine = scripted(tail=lambda ends, ids: np.ones((len(ends), len(ids))))
    monkeypatch.setattr(pure.sampling, "watched", lambda model, kind: engine)
    one, other = reading_row(engine), {**reading_row(engine), "problem_id": "q"}
    found = pure.readings(world="equations", rows=[{**row, "correct": right} for row, right in
                                                   ((one, True), (other, True), (one, False), (one, True))],
                          model="", engine="", step_delimiter="")
    assert len(found) == 3 and len(engine.scored) == 2 and found[0] == found[2]


def test_no_hint_is_in_context_when_a_trajectory_is_read(scripted):
    engine = scripted(lambda prompt, key, j: REST)
    (row,) = repair(engine, [failed(engine, entropy=surge_at(2))], n=1)
    pure.read(engine, [row])
    assert engine.scored == [(PROBLEM.question + "\n\n", row["text"])]
    assert "hint" not in engine.scored[0][0] + engine.tails[0][0]


def test_an_answer_without_steps_is_all_assertion(engine):
    (got,) = pure.read(engine, [{**reading_row(engine), "token_ids": [*engine.encode("\\boxed{7}"), engine.eos]}])
    assert got["n_steps"] == 0 and len(got["uncertainty"]) == 1 and pure.anomaly(got) == np.inf


def test_reading_an_empty_trajectory_is_a_one_line_error(real):
    with pytest.raises(HealError, match="empty"):
        pure.read(real, [{**BASE, "token_ids": []}])


def test_a_real_model_s_reading_is_made_of_plain_scores(real):
    prompt, ids = real.encode(PROBLEM.question + "\n\n"), real.encode(REST)
    (got,) = pure.read(real, [{**BASE, "token_ids": ids}])
    spans = step_spans(real.pieces(ids))[:3]
    np.testing.assert_allclose(got["ppl"], [np.exp(got["nll"][a:b].mean()) for a, b in spans], rtol=1e-5)
    assert len(pure.read(real, [])) == 0
    for k, end in enumerate([0, *(end for _, end in spans)]):
        (score,) = real.score([[*prompt, *ids[:end], *real.encode("\\boxed{")]], [real.encode("7")])
        assert got["uncertainty"][k] == pytest.approx(score.nll.mean(), abs=1e-4)
