"""Accuracy from samples (docs/method.md, section 1).

    pass@k = 1 - C(n-c, k) / C(n, k) = 1 - prod_(j<k) (n-c-j) / (n-j)
    avg@k  = mean correctness of k samples

pass@k is unbiased (Chen et al. 2021, arXiv 2107.03374). At k = n it is a bare yes/no (was any sample
right?), so the curriculum's gates look at the share c / n instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from heal_lib.errors import HealError, as_floats

if TYPE_CHECKING:
    import pandas as pd


def _whole(values, name):
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and (array.dtype.kind != "f" or (array != np.floor(array)).any()):
        raise HealError(
            f"pass_at_k: {name} must be whole numbers, not yes/no or shares; pass correct.sum(-1)"
        )
    return array.astype(np.int64)


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> float | np.ndarray:
    """Chance that at least one of k samples is right, from n samples with c right; unbiased.

    n, c, k: whole numbers or arrays that broadcast (c[:, None] against k = [1, 2, 4] gives every problem's
    curve). Returns a float, or an array of the common shape. HealError unless 1 <= k <= n and 0 <= c <= n.
    """
    n, c, k = np.broadcast_arrays(_whole(n, "n"), _whole(c, "c"), _whole(k, "k"))
    if (c < 0).any() or (c > n).any() or (k < 1).any():
        raise HealError("pass_at_k: needs 0 <= c <= n and k >= 1; c counts the right ones among n samples")
    if (k > n).any():
        raise HealError(f"pass_at_k: k={k.max()} needs n >= k, n={n.min()}; draw more samples or lower k")
    fail = np.ones(n.shape)
    for j in range(int(k.max(initial=0))):  # the product never overflows, binomials do
        fail = np.where(j < k, fail * np.maximum(n - c - j, 0.0) / np.where(j < k, n - j, 1), fail)
    return 1.0 - fail if fail.ndim else float(1.0 - fail)


def avg_at_k(correct: ArrayLike, k: int | None = None) -> np.ndarray:
    """Share right among the first k (default: all) samples: correct [..., n_samples] of 0/1 to [...]."""
    correct = as_floats(correct, "correct")
    n = correct.shape[-1] if correct.ndim else 0
    if not 1 <= (n if k is None else k) <= n:
        raise HealError(f"avg_at_k: k={k} of {n} samples; draw more samples or lower k")
    return correct[..., :k].mean(-1)


def score_matrix(samples: pd.DataFrame, method: str, benchmark: str, value: str = "correct",
                 reduce: Callable[..., Any] = avg_at_k) -> np.ndarray:
    """[n_problems, n_seeds] scores of one method on one benchmark, problems in a fixed order.

    `samples`: the DataFrame of `Experiment.evaluations`. `reduce`: [..., n_samples] to [...]. HealError if a
    seed lacks problems or samples that another has: a missing cell must not pass for a zero."""
    part = samples[(samples["method"] == method) & (samples["benchmark"] == benchmark)]
    if part.empty:
        raise HealError(f"no samples of '{method}' on '{benchmark}'; evaluate it first")
    cells = part.groupby(["problem_id", "seed"])[value].apply(lambda v: v.to_numpy(float)).unstack("seed")
    if cells.isna().to_numpy().any() or len({len(v) for v in cells.to_numpy().ravel()}) > 1:
        raise HealError(f"'{method}' on '{benchmark}': seeds differ in problems or samples; evaluate all of them")
    return reduce(np.stack([np.stack(row) for row in cells.to_numpy()]))


def results_table(samples: pd.DataFrame, *, temperature: float, n_boot: int = 2000, baseline: str = "sft-rs",
                  k: int = 2) -> pd.DataFrame:
    """One row per method, benchmark and metric: mean, 95 % interval, and the paired difference to `baseline`.

    Metrics: avg@n of n samples, pass@k (unbiased), truncated (share cut by the length limit). Intervals
    resample problems and seeds; a difference is missing (NaN) where the baseline was not evaluated."""
    import pandas as pd

    from heal_lib.stats import bootstrap_mean, paired_bootstrap

    n = int(samples.groupby(["method", "benchmark", "seed", "problem_id"]).size().iloc[0])
    metrics = {
        f"avg@{n}": ("correct", avg_at_k),
        f"pass@{k}": ("correct", lambda x: pass_at_k(n, x.sum(-1).astype(int), k)),
        "truncated": ("finished", lambda x: 1 - x.mean(-1)),
    }
    rows = []
    for benchmark in samples["benchmark"].unique():
        for metric, (value, reduce) in metrics.items():
            of = {m: score_matrix(samples, m, benchmark, value, reduce) for m in samples["method"].unique()}
            for method, x in of.items():
                mean, low, high = bootstrap_mean(x, n_boot=n_boot)
                diff = ((0.0,) * 3 if method == baseline else (np.nan,) * 3 if baseline not in of
                        else paired_bootstrap(x, of[baseline], n_boot=n_boot))
                rows.append([method, benchmark, metric, mean, low, high, *diff, *x.shape, n, temperature])
    return pd.DataFrame(rows, columns=[
        "method", "benchmark", "metric", "mean", "ci_low", "ci_high", "diff_vs_sft_rs", "diff_low", "diff_high",
        "n_problems", "n_seeds", "n_samples", "temperature"])


SAMPLE = ["method", "seed", "benchmark", "problem_id", "sample", "correct", "finished", "genuine", "n_generated",
          "text", "recipe"]


def save_samples(samples: pd.DataFrame, folder: Path, file: str = "") -> None:
    """One parquet file per method, or one `file`, with every sample's id, verdict and length (`n_generated`, tokens),
    of hard problems its text, and what it was made with (`kept`): any cell of any table can be computed again from
    `folder`/per_sample. What the last run wrote of methods that a notebook no longer compares, the driver removes
    (`run.Run`), which knows whose it is."""
    from heal_lib.files import atomic

    for method, part in [(file, samples)] if file else samples.groupby("method", sort=False):
        with atomic(folder / "per_sample" / f"{method}.parquet") as path:
            sampled(part).sort_values(SAMPLE[:5]).to_parquet(path, index=False, compression="zstd")


def sampled(samples: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """The columns `more` and SAMPLE, with the texts of hard problems alone."""
    hard = samples["benchmark"].str.endswith("-hard")
    return samples[[*more, *SAMPLE]].assign(text=samples["text"].where(hard, ""))


def write_trajectories(sources: Mapping[str, Sequence[dict[str, Any]]], folder: Path, n: int = 200,
                       seed: int = 0) -> None:
    """A sample of the teacher's trajectories to read, `folder`/per_sample/trajectories/<source>.parquet: at most n rows
    of each source with all columns of `trajectory.COLUMNS`, in their order; the choice is the seed's.

    `sources`: name -> data set (or list) of rows. A source without rows gives no file."""
    import pandas as pd

    from heal_lib.files import atomic
    from heal_lib.trajectory import COLUMNS, rng_of

    for name, rows in sources.items():
        chosen = sorted(rng_of(seed, "trajectories", name).sample(range(len(rows)), min(n, len(rows))))
        if chosen:
            frame = pd.DataFrame([rows[i] for i in chosen])[list(COLUMNS)]
            with atomic(folder / "per_sample" / "trajectories" / f"{name}.parquet") as path:
                frame.to_parquet(path, index=False, compression="zstd")
