"""The benchmarks' own arithmetic, and that what they time does what it says; no timings."""

import numpy as np
import pandas as pd
import pytest

from heal_lib import notebooks, scaling, timing


def test_the_median_of_laps_leaves_out_the_first(monkeypatch):
    clock = iter([9, 0, 1, 0, 5, 0, 2])  # the first lap warms up and is not timed; then 1, 5 and 2 seconds
    monkeypatch.setattr(timing, "REPEATS", 3)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.in_turn(it=lambda: None) == {"it": 2}


def test_memory_is_what_a_function_gains():
    assert 60 < timing.peak(lambda: np.ones(2**23).sum()) < 80  # 64 MiB


def test_powers_are_found_again_in_the_upper_half():
    values = np.array([1, 2, 4, 8, 16, 32])
    table = pd.DataFrame({"curve": "c", "knob": "k", "value": values, "seconds": np.maximum(3 * values**1.5, 20.0)})
    two = pd.DataFrame({"curve": "jobs", "knob": "workers", "value": [1, 2], "seconds": [8.0, 4.0]})
    fits = scaling.exponents(pd.concat([table, two]))
    assert fits["exponent"].tolist() == pytest.approx([1.5, -1]) and fits["factor"].tolist() == pytest.approx([3, 8])
    assert fits["least"].tolist() == [8, 1] and fits["standard_error"][0] == pytest.approx(0, abs=1e-9)
    assert np.isnan(fits["standard_error"][1])


def test_what_is_timed_is_what_is_said():
    made = scaling.model(64, 1)
    assert [len(s.token_ids) for group in scaling.draw(made, 2, 3, 5)() for s in group] == [5] * 6
    assert len(scaling.train(made, rows=6, length=20, batch=2)()) == 3  # updates
    scaling.read(made, 64)()
    assert scaling.weights(made[0]) == 16 * 64**2 + 2 * 64 + 64 + 2 * 32  # and norms: 2, the last, heads'


def test_speed_runs_after_the_bench_only():
    stems = {scale: {path.stem for path in notebooks.select(None, scale)} for scale in ("smoke", "llm")}
    assert not any("10_speed" in found for found in stems.values())
    assert [path.stem for path in notebooks.select(["10"], "smoke")] == ["10_speed"]
