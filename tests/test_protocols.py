"""What every world and every engine promises, checked for all there are: a new file is tested without being named."""

import dataclasses

import numpy as np
import pytest

from heal_lib import embedded, worlds
from heal_lib.engines import SamplingParams, choose
from heal_lib.trajectory import SENTENCE, split_steps
from heal_lib.worlds.base import box

HERE = [name for name in choose.names() if name not in ("ray", "vllm", "openai")]  # see test_engines_elsewhere
PARAMS = SamplingParams(24)


# --- worlds
@pytest.fixture(params=worlds.every())
def world(request):
    return worlds.get(request.param)


@pytest.fixture
def problems(world):
    return world.problems("distil", 4, 0, next(iter(world.difficulties)))


def test_problems_are_the_same_for_the_same_arguments_and_splits_share_none(world, problems):
    level = problems[0].difficulty
    assert problems == world.problems("distil", 4, 0, level) != world.problems("distil", 4, 1, level)
    ids = [p.id for split in ("distil", "development", "test") for p in world.problems(split, 3, 0, level)]
    assert len(set(ids)) == len(ids) and world.knows(level) and world.longest(level) > 0
    assert {(p.world, p.difficulty) for p in problems} == {(world.name, level)}


def test_the_answer_in_its_box_verifies_and_other_texts_do_not(world, problems):
    for problem in problems:
        assert world.prompt(problem).strip() and world.verify(problem, f"so\n\n{box(problem.answer)}")
        for text in ("", box(""), box("no such answer")):
            assert not world.verify(problem, text)
        if world.step_delimiter == SENTENCE:  # prose states its answer as people do
            assert world.verify(problem, world.answer_opening + problem.answer)
            continue
        assert world.answer_opening in box(problem.answer)
        assert not world.verify(problem, problem.answer)
        assert not world.verify(problem, world.answer_opening + problem.answer)


def test_the_hint_tells_the_answer_and_is_known_for_a_hint(world, problems):
    for problem in problems:
        assert problem.answer in world.hint(problem) and world.speaks_of_hint(world.hint(problem))
        assert not world.speaks_of_hint(box(problem.answer))


def test_the_oracle_judges_each_step_and_an_asserted_answer_is_not_derived(world, problems):
    for problem in problems:
        report = world.check_steps(problem, box(problem.answer))
        if report is None:
            pytest.skip("a world whose oracle sees nothing here")
        assert not report.genuine
        text = "\n\n".join([*world.derivation(problem), box(problem.answer)])
        report = world.check_steps(problem, text)
        assert report.genuine and [step.text for step in report.steps] == split_steps(text, world.step_delimiter)
        assert world.step_delimiter == SENTENCE or not world.check_steps(problem, f"nonsense\n\n{text}").genuine


# --- engines
@pytest.fixture(scope="module", params=HERE)
def engine(request):
    choose.check(request.param)
    return choose.engine("student", request.param)


@pytest.fixture(scope="module")
def asked(engine):
    world = worlds.get("equations")
    return [engine.prompt(world.prompt(p)) for p in world.problems("test", 3, 0, "easy")]


def test_draws_have_the_shapes_of_the_protocol(engine, asked):
    drawn = engine.sample(asked, 2, PARAMS, seed=0)
    assert [len(group) for group in drawn] == [2, 2, 2]
    for draw in sum(drawn, []):
        assert len(draw.token_ids) == len(draw.entropy) <= PARAMS.max_new_tokens
        assert draw.text == "".join(engine.pieces(draw.token_ids)) and (np.asarray(draw.entropy) >= 0).all()
        assert draw.finished == (engine.pieces(draw.token_ids[-1:]) == [""])


def test_a_draw_depends_on_seed_key_and_index_alone(engine, asked):
    keys = ["a", "b", "c"]
    whole = engine.sample(asked, 2, PARAMS, 0, keys)
    (alone,) = engine.sample(asked[1:2], 1, PARAMS, 0, keys[1:2])
    assert alone[0].token_ids == whole[1][0].token_ids
    assert engine.sample(asked, 2, PARAMS, 1, keys)[1][0].token_ids != alone[0].token_ids


def test_scores_have_the_shapes_of_the_protocol_and_repeat_the_draws_entropies(engine, asked):
    drawn = [group[0] for group in engine.sample(asked, 1, PARAMS, seed=0)]
    said = [draw.token_ids for draw in drawn]
    for draw, score in zip(drawn, engine.score(asked, said), strict=True):
        assert {len(part) for part in dataclasses.astuple(score)} == {len(draw.token_ids)}
        np.testing.assert_allclose(score.entropy, draw.entropy, atol=1e-3)
    ends, tails = [[0, len(ids)] for ids in said], [[5, 6, 7]] * 3
    assert [found.shape for found in engine.tail_nll(asked, said, ends, tails)] == [(2, 3)] * 3


def test_an_engine_s_words_are_its_model_s(engine):
    text = worlds.get("paths").problems("test", 1, 0, "easy")[0].question
    assert "".join(engine.pieces(engine.encode(text))) == text
    assert engine.vocabulary == choose.engine("student").vocabulary
    assert engine.encode(text) == embedded.load("student")[1].encode(text, add_special_tokens=False)
