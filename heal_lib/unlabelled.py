"""Judging PURE's readings with the oracle's labels, and by what a user has without any (notebook 03) [R].

    bare:  AUROC of hinted rows over right rows that the teacher wrote unprompted, on the problems that have both

If unprompted right text is genuine, and genuine hinted text reads like it, this is 1/2 + the spurious share x (the
AUROC by labels - 1/2): readings come in the same order. `bare_genuine` says how far the first holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from heal_lib import detection, sampling

JUDGED = ("reading", "auroc", "ci_low", "ci_high", "bare_auroc", "bare_low", "bare_high", "n_hinted", "n_bare",
          "bare_genuine", "u_first", "u_most", "u_last")


def judged(rows: Sequence[dict[str, Any]], readings: Sequence[dict[str, Any]], names: Iterable[str], eps: float = 0.01,
           *, n_boot: int = 2000) -> list[dict[str, Any]]:
    """One dict of JUDGED per reading of `names` (of `detection.anomaly_scores`), from hinted rows and unprompted right
    ones. Mean U of genuine hinted rows, in nats: `u_first` before any step, `u_most` at its largest, `u_last` before
    the answer. NaN where there is nothing to compare."""
    hinted = np.array([row["source"] in sampling.HINTED for row in rows], dtype=bool)
    spurious = np.array([row["genuine"] == 0 for row in rows], dtype=bool)
    problems = np.array([row["problem_id"] for row in rows], dtype=str)
    shared = np.isin(problems, np.intersect1d(problems[hinted], problems[~hinted]))
    bare = shared & ~hinted
    curves = [r["uncertainty"] for r, of in zip(readings, hinted & ~spurious, strict=True) if of] or [[np.nan]]
    u = np.mean([(curve[0], np.max(curve), curve[-1]) for curve in curves], axis=0)
    counted = hinted.sum(), bare.sum(), (~spurious[bare]).mean() if bare.any() else np.nan
    scores, lines = detection.anomaly_scores(rows, readings, eps), []
    for name in names:
        parts = ((hinted, spurious), (shared, hinted))
        found = [detection.bootstrap_auroc(scores[name][some], labels[some], problems[some], n_boot=n_boot)
                 if some.any() else (np.nan,) * 3 for some, labels in parts]
        lines.append(dict(zip(JUDGED, (name, *found[0], *found[1], *counted, *u), strict=True)))
    return lines
