import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heal_lib.entropy import self_certainty, step_means, step_perplexity, surge, token_entropy, token_nll
from heal_lib.errors import HealError

logit_rows = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(-50, 50)
)


def test_token_entropy_by_hand():
    p = np.array([[0.5, 0.5, 0.0], [0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    with np.errstate(divide="ignore"):
        h = token_entropy(np.log(p))
    assert h == pytest.approx([math.log(2), 1.5 * math.log(2), 0.0])
    assert token_entropy(np.zeros((2, 3, 100))) == pytest.approx(np.full((2, 3), math.log(100)))


@given(logit_rows)
def test_token_entropy_bounds_shift_and_definition(x):
    h = token_entropy(x)
    assert h.shape == x.shape[:-1]
    assert (h >= 0).all() and (h <= math.log(x.shape[-1]) + 1e-12).all()
    assert token_entropy(x + 1000) == pytest.approx(h, abs=1e-9)
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    assert h == pytest.approx(-(p * np.log(p)).sum(-1), abs=1e-9)


def test_token_entropy_extreme_logits():
    assert token_entropy([1e30, -1e30, 0.0]) == 0
    assert token_entropy([-1e30, -1e30]) == pytest.approx(math.log(2))
    assert token_entropy([-np.inf, 3.0, 3.0]) == pytest.approx(math.log(2))


@pytest.mark.parametrize("dtype, tolerance", [(np.float16, 2e-6), (np.float32, 2e-6), (np.float64, 1e-13)])
def test_token_entropy_keeps_precision_over_a_large_vocabulary(dtype, tolerance):
    x = np.random.default_rng(0).normal(0, 4, (3, 50_000)).astype(dtype)
    h = token_entropy(x)
    assert h.dtype == (np.float64 if dtype is np.float64 else np.float32)
    p = np.exp(x.astype(np.longdouble))
    p /= p.sum(-1, keepdims=True)
    assert h == pytest.approx(-(p * np.log(p)).sum(-1).astype(float), rel=tolerance)


@pytest.mark.parametrize(
    "bad", [np.zeros((3, 0)), 1.0, [np.nan, 0], [np.inf, 0], [-np.inf, -np.inf], ["a", "b"], [1j, 2j]]
)
def test_token_entropy_refuses(bad):
    with pytest.raises(HealError, match="logits"):
        token_entropy(bad)


def test_token_entropy_of_an_empty_batch():
    assert token_entropy(np.zeros((0, 5))).shape == (0,)


def test_entropy_is_not_surprisal():
    """Known wrong turn: -ln p(token drawn) under the name of entropy."""
    x = np.log([0.98, 0.01, 0.01])
    nll = [token_nll(x, i) for i in range(3)]
    assert token_entropy(x) == pytest.approx(-(0.98 * math.log(0.98) + 0.02 * math.log(0.01)))
    assert nll == pytest.approx([-math.log(0.98), -math.log(0.01), -math.log(0.01)])
    # Entropy is the surprisal expected over draws; a rare draw is surprising where the model was sure.
    assert token_entropy(x) == pytest.approx(np.dot(np.exp(x), nll))
    assert nll[1] > 40 * token_entropy(x)


def test_entropy_of_the_top_few_is_only_a_bound():
    x = np.zeros(1000)
    assert token_entropy(x) - token_entropy(x[:20]) == pytest.approx(math.log(50))


def test_token_nll_shapes_and_impossible_tokens():
    x = np.random.default_rng(1).normal(size=(2, 3, 5)) * 100
    ids = np.array([[0, 1, 2], [3, 4, 0]])
    expected = [[np.logaddexp.reduce(x[i, j]) - x[i, j, ids[i, j]] for j in range(3)] for i in range(2)]
    assert token_nll(x, ids) == pytest.approx(np.array(expected))
    assert token_nll([0.0, -np.inf], 1) == np.inf


@pytest.mark.parametrize("ids", [[0, -100], [0, 2], [0.0, 1.0], [True, False], [0], [[0], [1]]])
def test_token_nll_refuses_ids(ids):
    with pytest.raises(HealError, match="ids"):
        token_nll(np.zeros((2, 2)), ids)


def test_torch_agrees_with_numpy():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(2).normal(0, 5, (2, 4, 300))
    x[0, 0, :150] = -np.inf
    ids = np.random.default_rng(3).integers(150, 300, (2, 4))
    for dtype, tolerance in [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)]:
        tensor = torch.tensor(x).to(dtype)
        h, nll = token_entropy(tensor), token_nll(tensor, torch.tensor(ids))
        assert isinstance(h, torch.Tensor) and h.shape == (2, 4)
        assert h.dtype == nll.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
        assert h.numpy() == pytest.approx(token_entropy(x), rel=tolerance)
        assert nll.numpy() == pytest.approx(token_nll(x, ids), rel=tolerance)
    for bad in [
        torch.zeros(3, 0),
        torch.tensor(1.0),
        torch.tensor([math.nan, 0]),
        torch.full((2,), -math.inf),
    ]:
        with pytest.raises(HealError, match="logits"):
            token_entropy(bad)
    for bad in ([0, -100], [0.0, 1.0], [0]):
        with pytest.raises(HealError, match="ids"):
            token_nll(torch.zeros(2, 2), bad)


def test_numpy_path_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from heal_lib.entropy import token_entropy\n"
        "assert abs(token_entropy([0., 0.]) - 0.6931471805599453) < 1e-12"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_step_means_and_perplexity_by_hand():
    assert step_means([1, 2, 3, 4, 5], [(0, 2), (2, 5)]) == pytest.approx([1.5, 4])
    assert step_means([1, 2, 3, 4, 5], [(1, 2), (4, 5)]) == pytest.approx([2, 5])
    nll = np.log([2, 8, 3])
    assert step_perplexity(nll, [(0, 2), (2, 3)]) == pytest.approx([4, 3])
    assert step_perplexity([np.inf, 0], [(0, 1), (1, 2)]).tolist() == [np.inf, 1]


@pytest.mark.parametrize("spans", [[], [(0, 0)], [(0, 2), (2, 4)], [(-1, 2)], [(2, 1)]])
def test_step_means_refuses_spans(spans):
    with pytest.raises(HealError, match="spans"):
        step_means([1, 2, 3], spans)


def test_step_means_refuses_padding():
    with pytest.raises(HealError, match="padding"):
        step_means([1, np.nan], [(0, 1)])
    with pytest.raises(HealError, match="one trajectory"):
        step_means(np.ones((2, 3)), [(0, 1)])


def test_surge_kinds():
    d = surge([1.0, 3.0, 2.5])
    assert math.isnan(d[0]) and d[1:] == pytest.approx([2, -0.5])
    assert surge([1.0, 3.0], "value").tolist() == [1, 3]
    assert len(surge([])) == 0
    with pytest.raises(HealError, match="kind"):
        surge([1.0], "ratio")


def test_self_certainty_is_the_divergence_of_the_uniform_distribution():
    import torch

    p = np.array([[0.25] * 4, [0.7, 0.1, 0.1, 0.1]])
    by_hand = [0, -math.log(4) - (math.log(0.7) + 3 * math.log(0.1)) / 4]
    assert self_certainty(np.log(p)) == pytest.approx(by_hand, abs=1e-12)
    assert self_certainty(torch.tensor(np.log(p))).numpy() == pytest.approx(by_hand, abs=1e-12)
    assert self_certainty([0.0, -np.inf]) == np.inf
    deep = np.log(p)[None, :, None]
    for x in (deep, torch.tensor(deep)):
        assert np.asarray(self_certainty(x)) == pytest.approx(np.array(by_hand)[None, :, None], abs=1e-12)
