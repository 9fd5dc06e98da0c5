"""The hf engine on a tiny random model, against plain forwards and transformers' own `generate`."""

import numpy as np
import pytest
import torch

from heal_lib import engines
from heal_lib.engines import Sample, SamplingParams, reading
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError

TEXTS = ["equation x*3+2=23\n\n", "path F>Z A>C A>E C>F C>G: A to Z\n\ngoal Z\n\n", "countdown 3 4 6 to 27\n\n",
         "facts\n\n"]
LONG = SamplingParams(max_new_tokens=80)


@pytest.fixture(scope="module")
def prompts(real):
    return [real.encode(text) for text in TEXTS]


@pytest.fixture(scope="module")
def ending(tiny, words):
    """The tiny model again, but one token in twelve ends a text: rows of all lengths."""
    out = HFEngine(tiny, words)
    out.eos = set(range(1, len(words), 12))
    return out


@pytest.fixture(scope="module")
def endless(tiny, words):
    """The tiny model, going on until the length limit."""
    out = HFEngine(tiny, words)
    out.eos = {-1}
    return out


@pytest.fixture(scope="module")
def drawn(ending, prompts):
    return ending.sample(prompts, 6, LONG, seed=3)


def same(a: Sample, b: Sample):
    assert a.token_ids == b.token_ids and a.finished == b.finished and a.text == b.text
    np.testing.assert_allclose(a.entropy, b.entropy, atol=1e-4)


def entropy_by_hand(model, ids):
    """[T] nats after each token of `ids`, in float64, from the definition."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return -(p * np.log(p)).sum(-1)


# --- what a draw holds

def test_shapes_text_and_endings(ending, drawn):
    lengths = set()
    for group in drawn:
        for draw in group:
            assert len(draw.entropy) == len(draw.token_ids) <= 80
            assert draw.finished == (draw.token_ids[-1] in ending.eos)
            assert draw.finished or len(draw.token_ids) == 80
            assert not ending.eos & set(draw.token_ids[:-1])  # nothing after the end
            assert draw.text == "".join(ending.pieces(draw.token_ids))
            assert ((draw.entropy > 0) & (draw.entropy <= np.log(len(ending.tokenizer)))).all()
            lengths.add(len(draw.token_ids))
    assert len(lengths) > 8 and min(lengths) < 10  # rows left the batch at different times


def test_the_length_limit_leaves_a_text_unfinished(real, prompts):
    for draw in real.sample(prompts[:1], 3, SamplingParams(1), seed=0)[0]:
        assert len(draw.token_ids) == 1 and draw.finished == (draw.token_ids[0] in real.eos)


def test_pieces_join_to_the_text_and_special_tokens_are_silent(real, words):
    text = "equation x*3+4=19\n\n19-4=15\n\n\\boxed{5}"
    ids = [words.pad_token_id, *real.encode(text), words.eos_token_id]
    pieces = real.pieces(ids)
    assert "".join(pieces) == text == words.decode(ids, skip_special_tokens=True)
    assert len(pieces) == len(ids) and pieces[0] == pieces[-1] == ""


# --- entropy

def test_sampled_and_rescored_entropies_agree(ending, prompts, drawn):
    for prompt, group in zip(prompts, drawn, strict=True):
        scores = ending.score([prompt] * len(group), [d.token_ids for d in group])
        for draw, score in zip(group, scores, strict=True):
            np.testing.assert_allclose(draw.entropy, score.entropy, atol=1e-4)


@pytest.mark.parametrize("params", [SamplingParams(12, 0.5), SamplingParams(12, 2.0), SamplingParams(12, top_k=3),
                                    SamplingParams(12, 0.7, top_p=0.5)])
def test_entropy_is_raw_and_over_the_full_vocabulary(real, prompts, tiny, params):
    """Whatever is done to the distribution before drawing; and no surprisal (docs/method.md, section 8)."""
    for prompt, (draw,) in zip(prompts, real.sample(prompts, 1, params, seed=1), strict=True):
        by_hand = entropy_by_hand(tiny, [*prompt, *draw.token_ids])[len(prompt) - 1 : -1]
        np.testing.assert_allclose(draw.entropy, by_hand, atol=1e-4)
        (score,) = real.score([prompt], [draw.token_ids])
        np.testing.assert_allclose(score.entropy, by_hand, atol=1e-4)
        assert abs(score.nll - by_hand).max() > 0.1


def test_warping_narrows_what_is_drawn(real, prompts, tiny):
    with torch.inference_mode():
        logits = tiny(input_ids=torch.tensor([prompts[0]])).logits[0, -1]
    best = logits.topk(3).indices.tolist()
    first = [d.token_ids[0] for d in real.sample(prompts[:1], 64, SamplingParams(1, top_k=3), seed=0)[0]]
    assert set(first) <= set(best) and len(set(first)) > 1
    cold = real.sample(prompts[:1], 8, SamplingParams(1, temperature=1e-3), seed=0)[0]
    assert {d.token_ids[0] for d in cold} == {best[0]}


def test_draws_follow_the_model_s_distribution(real, prompts, tiny):
    with torch.inference_mode():
        p = torch.softmax(tiny(input_ids=torch.tensor([prompts[0]])).logits[0, -1].double(), -1).numpy()
    draws = [d.token_ids[0] for d in real.sample(prompts[:1], 4000, SamplingParams(1), seed=0)[0]]
    share = np.bincount(draws, minlength=len(p)) / 4000
    assert abs(share - p).max() < 5 * np.sqrt(p.max() / 4000)


# --- what a draw depends on

@pytest.mark.parametrize("batch_rows", [1, 7, 13])
def test_draws_do_not_depend_on_the_batch_size(tiny, words, ending, prompts, drawn, batch_rows):
    other = HFEngine(tiny, words, batch_rows=batch_rows)
    other.eos = ending.eos
    for a, b in zip(drawn, other.sample(prompts, 6, LONG, seed=3), strict=True):
        for x, y in zip(a, b, strict=True):
            same(x, y)


def test_draws_do_not_depend_on_other_prompts_or_on_n(ending, prompts, drawn):
    for i in (0, 3):
        alone = ending.sample([prompts[i]], 2, LONG, seed=3, keys=[str(i)])[0]
        for x, y in zip(alone, drawn[i], strict=False):
            same(x, y)


def test_draws_differ_by_key_seed_and_index(real, prompts):
    def ids(seed, key, n=2):
        return [tuple(d.token_ids) for d in real.sample(prompts[:1], n, SamplingParams(24), seed, [key])[0]]

    assert ids(0, "a") == ids(0, "a")
    assert len({*ids(0, "a"), *ids(1, "a"), *ids(0, "b")}) == 6


def test_no_prompts_give_no_draws(real):
    assert real.sample([], 3, LONG, seed=0) == [] and real.score([], []) == []


# --- the cache

def test_greedy_tokens_are_those_of_generate(endless, prompts, tiny, words):
    """The block cache against transformers' own, over three blocks, with and without left padding."""
    draws = endless.sample(prompts[1:3], 1, SamplingParams(140, top_k=1), seed=0)
    for prompt, (draw,) in zip(prompts[1:3], draws, strict=True):
        ids = torch.tensor([prompt])
        out = tiny.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=140, do_sample=False,
                            eos_token_id=-1, pad_token_id=words.pad_token_id)
        assert draw.token_ids == out[0, len(prompt):].tolist()
        assert len(draw.token_ids) == 140 and len(set(draw.token_ids)) > 10


def test_a_long_draw_equals_a_plain_forward_at_every_position(endless, prompts, tiny):
    draw = endless.sample(prompts[:2], 2, SamplingParams(140), seed=5)[1][0]
    by_hand = entropy_by_hand(tiny, [*prompts[1], *draw.token_ids])[len(prompts[1]) - 1 : -1]
    np.testing.assert_allclose(draw.entropy, by_hand, atol=1e-4)


def test_continuing_from_a_prefix_is_teacher_forced(endless, prompts, tiny):
    """Repair: prompt + kept tokens + hint is just a longer prompt."""
    whole = endless.sample(prompts[:1], 1, SamplingParams(40, top_k=1), seed=0)[0][0]
    for kept in (1, 17, 39):
        longer = [*prompts[0], *whole.token_ids[:kept]]
        rest = endless.sample([longer], 1, SamplingParams(40 - kept, top_k=1), seed=9)[0][0]
        assert rest.token_ids == whole.token_ids[kept:]
        np.testing.assert_allclose(rest.entropy, whole.entropy[kept:], atol=1e-4)


# --- scoring

def test_scores_do_not_depend_on_padding_or_order(tiny, words, real, prompts, drawn):
    completions = [group[0].token_ids for group in drawn]
    together = real.score(prompts, completions)
    small = HFEngine(tiny, words, batch_tokens=1).score(prompts, completions)
    for prompt, completion, a, b in zip(prompts, completions, together, small, strict=True):
        np.testing.assert_allclose(a.nll, b.nll, atol=1e-4)
        with torch.inference_mode():
            logits = tiny(input_ids=torch.tensor([[*prompt, *completion]])).logits[0].double()
        nll = -torch.log_softmax(logits, -1)[range(len(prompt) - 1, len(prompt) + len(completion) - 1), completion]
        np.testing.assert_allclose(a.nll, nll.numpy(), atol=1e-4)
        assert a.nll.shape == a.entropy.shape == (len(completion),)


def test_tail_nll_is_one_forward_per_step(real, prompts, drawn):
    """Rows of different lengths, tails and numbers of ends share a batch and do not see each other."""
    completions = [max((d.token_ids for d in drawn[i]), key=len) for i in (0, 1)]
    ends = [[0, 1, len(completions[0]) // 2, len(completions[0])], [2, len(completions[1])]]
    tails = [real.encode("\\boxed{7}"), real.encode("\\boxed{12}x")]
    together = real.tail_nll(prompts[:2], completions, ends, tails)
    for prompt, completion, its_ends, tail, found in zip(prompts, completions, ends, tails, together, strict=False):
        naive = [real.score([[*prompt, *completion[:end]]], [tail])[0].nll for end in its_ends]
        np.testing.assert_allclose(found, naive, atol=1e-4)
        np.testing.assert_allclose(real.tail_nll([prompt], [completion], [its_ends], [tail])[0], found, atol=1e-4)


@pytest.mark.parametrize("tokens", [1, 7, 64])
def test_texts_read_in_slices_read_the_same(monkeypatch, real, prompts, drawn, tokens):
    """A large vocabulary is read some tokens at a time, tails too."""
    completions = [max((d.token_ids for d in group), key=len) for group in drawn]
    ends = [[0, len(c) // 3, len(c) // 2, len(c)] for c in completions[:-1]] + [[1]]
    tails = [real.encode("\\boxed{12}"), *[real.encode("\\boxed{7}")] * (len(ends) - 2), [5]]
    scores, nll = real.score(prompts, completions), real.tail_nll(prompts, completions, ends, tails)
    seen = []
    forward = real.model.forward
    monkeypatch.setattr(real.model, "forward", lambda *a, **k: seen.append(k["input_ids"].numel()) or forward(*a, **k))
    monkeypatch.setattr(reading, "SLICE", 4 * real.model.config.vocab_size * tokens)
    for a, b in zip(scores, real.score(prompts, completions), strict=True):
        for x, y in zip(vars(a).values(), vars(b).values(), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-4)
    for a, b in zip(nll, real.tail_nll(prompts, completions, ends, tails), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert max(seen) <= max(tokens, len(prompts) * max(map(len, tails)))


# --- bad input

def test_bad_input_is_named(real, prompts):
    with pytest.raises(HealError, match="empty prompt"):
        real.sample([prompts[0], []], 1, LONG, seed=0)
    for bad in (([[]], [[5]]), ([[5]], [[]])):
        with pytest.raises(HealError, match="nothing to score"):
            real.score(*bad)
    with pytest.raises(HealError, match="no tokens"):
        real.tail_nll([prompts[0]], [[5]], [[0]], [[]])
    with pytest.raises(HealError, match="empty prompt"):
        real.tail_nll([[]], [[5]], [[0]], [[5]])
    for text in ("hello", "equation x*400=1\n\n", "\u0663"):
        with pytest.raises(HealError, match="cannot write this text"):
            real.encode(text)


@pytest.mark.parametrize(("name", "said"), [("tpu", "use cpu or cuda"), ("cuda", "sees no CUDA GPU")])
def test_a_device_that_is_not_there_is_named(monkeypatch, name, said):
    monkeypatch.setenv("DEVICE", name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HealError, match=said):
        engines.device()


# --- memory

class Narrow(HFEngine):
    """Has room for so many rows, or tokens read, and no more."""

    rows, tokens = 2, 60

    def _decode(self, prompts, n, noise, params):
        if len(noise) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super()._decode(prompts, n, noise, params)

    def _in_batches(self, sizes, read):
        def narrow(chosen):
            if sum(sizes[i] for i in chosen) > self.tokens:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
            yield from read(chosen)

        return super()._in_batches(sizes, narrow)


def test_rows_that_do_not_fit_are_drawn_and_read_in_halves_all_the_same(tiny, words, ending, prompts, drawn):
    narrow = Narrow(tiny, words)
    narrow.eos = ending.eos
    with pytest.warns(UserWarning, match="rows are decoded together from now on"):
        found = narrow.sample(prompts, 6, LONG, seed=3)
    for x, y in zip(sum(drawn, []), sum(found, []), strict=True):
        same(x, y)
    texts = [[5, 6, 7]] * len(prompts)
    narrow.tokens = max(map(len, prompts)) + 3
    with pytest.warns(UserWarning, match="tokens are read together from now on"):
        scores = narrow.score(prompts, texts)
    for a, b in zip(scores, ending.score(prompts, texts), strict=True):
        np.testing.assert_allclose(a.nll, b.nll, atol=1e-4)


def test_one_row_that_does_not_fit_is_said(tiny, words, prompts):
    narrow = Narrow(tiny, words)
    narrow.rows = narrow.tokens = 0
    with pytest.warns(UserWarning), pytest.raises(HealError, match="one row of 5 new tokens does not fit into memory"):
        narrow.sample(prompts[:1], 2, SamplingParams(5), seed=0)
    with pytest.raises(HealError, match="does not fit into memory; lower max_new_tokens"):
        narrow.score(prompts[:1], [[5]])
    narrow._decode = lambda *_: (_ for _ in ()).throw(RuntimeError("another error"))
    with pytest.raises(RuntimeError, match="another error"):
        narrow.sample(prompts[:1], 1, SamplingParams(5), seed=0)
