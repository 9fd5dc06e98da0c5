"""The sliders of notebooks 02 and 03: what is drawn follows the knob, without a model."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from heal_lib import scales
from heal_lib.plots import live


@pytest.fixture
def cfg():
    yield scales.get("smoke", worlds=["equations", "paths"])
    plt.close("all")


@pytest.fixture
def found():
    return [{"world": "equations", "entropy": np.array([0, 1, 0, 5, 0, 0.0]), "lengths": np.array([4, 2, 2, 2, 5, 5])},
            {"world": "equations", "entropy": np.ones(1), "lengths": np.array([3])}]


@pytest.fixture
def pairs():
    def pair(genuine, ppl, u):
        return ({"genuine": genuine, "source": "hinted", "problem_id": "p"},
                {"ppl": np.array([ppl]), "uncertainty": np.array([u, u]), "n_steps": 1})

    return [pair(1, 1.0, 1.0), pair(1, 1.0, 2.0), pair(0, 9.0, 0.01), pair(1, 2.0, 1.0), pair(0, 1.0, 5.0)]


def test_a_wider_window_moves_the_breakpoint_and_a_back_off_keeps_less(found):
    assert live.cuts(found, 1 / 3, 0, "difference") == [("equations", 1 / 6, 4 / 20)]
    assert live.cuts(found, 1.0, 0, "difference") == [("equations", 3 / 6, 8 / 20)]
    assert live.cuts(found, 1.0, 1, "difference") == [("equations", 3 / 6, 6 / 20)]


def test_lambda_drops_the_largest_ratios_first(pairs, cfg):
    told = live.kept(pairs, cfg, 0.2, 0.01)
    assert (told["all"], told["genuine"], told["spurious_kept"]) == (0.8, 1.0, 0.5)
    assert live.kept(pairs, cfg, 0.0, 0.01)["all"] == 1
    assert np.argmax(told["scores"]) == 2 and live.kept(pairs, cfg, 0.2, 50.0)["scores"].max() < 1


def test_figures_follow_and_worlds_may_be_empty(found, pairs, cfg):
    titles = [ax.get_title() for ax in live.draw_breakpoints(found, cfg, 1.0, 0).axes]
    assert titles == ["equations\n40% of tokens kept", "paths\nnone"]
    assert "keeps 80%" in live.draw_filter({"equations": pairs, "paths": []}, cfg, 0.2, 0.01).axes[0].get_title()
    live.draw_filter({}, cfg, 0.2, 0.01)


def test_the_driver_gets_one_figure_and_a_reader_sliders(found, cfg, monkeypatch):
    drawn = []
    monkeypatch.setattr(live, "draw_breakpoints", lambda *values: drawn.append(values[2:]))
    monkeypatch.setattr(plt, "show", lambda: None)
    monkeypatch.setenv("HEAL_RESULTS", "somewhere")  # which a reader may set as well
    monkeypatch.setenv("HEAL_EVENTS", "log")
    live.breakpoints(found, cfg)
    assert drawn == [(cfg.window, cfg.backoff)]
    monkeypatch.delenv("HEAL_EVENTS")
    widgets, made = pytest.importorskip("ipywidgets"), {}
    monkeypatch.setattr(widgets, "interact", lambda draw, **sliders: made.update(sliders, draw=draw))
    live.breakpoints(found, cfg)
    assert (made["window"].value, made["window"].max, made["backoff"].value) == (pytest.approx(1 / 3), 1, 1)
    made["draw"](window=0.5, backoff=2)
    assert drawn[-1] == (0.5, 2)
