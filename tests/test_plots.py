"""Figures take numbers and draw; model text is always escaped, and nothing to draw is no error."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from heal_lib import baselines, plots
from heal_lib.plots import results
from heal_lib.plots import trajectories as figures


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


EVIL = "<script>alert(1)</script>"


def test_token_html_escapes_tokens_hints_and_titles():
    html = figures.show([EVIL, "&"], [0.1, 0.2], [(0, "hint", EVIL), (1, EVIL), (1, "cut", "\"><b>")], title=EVIL).data
    assert "<script>" not in html and "<b>\"" not in html and html.count("&lt;script&gt;") == 4


def test_token_html_sets_marks_before_their_token_and_keeps_the_text():
    marks = [(1, "breakpoint"), (9, "repair"), (0, "hint", "hint 7\n\n")]
    html = figures.token_html(["a", "b\n\n", ""], [0, 1, 2], marks)
    places = [html.index(part) for part in ("teacher only: hint 7", ">a<", "breakpoint", ">b↵\n<", "repaired")]
    assert places == sorted(places)


def test_token_colour_deepens_with_entropy_and_stops_at_the_top():
    assert figures._heat(0) == figures._heat(None) == figures._heat(np.nan) != figures._heat(1)
    assert figures._heat(figures.TOP) == figures._heat(99) and sum(figures._heat(2)) < sum(figures._heat(1))
    assert "no entropy" in figures.token_html(["a"], [float("nan")])
    assert "1.25 nats" in figures.token_html(["a"], [1.25])


def test_dark_text_stays_readable_on_the_deepest_colour():
    weights, (low, dark) = (0.2126, 0.7152, 0.0722), (0x11 / 255 / 12.92 * 1.0, figures._heat(99))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in dark]
    assert (sum(w * c for w, c in zip(weights, linear, strict=True)) + 0.05) / (low + 0.05) > 4.5


def test_token_figure_draws_one_line_per_step_and_mark():
    lines = figures._lines(["a", "\n\n", "b", ""], [0, 0, 1, 1], [(2, "cut"), (2, "hint", "hint 7\n\n")])
    assert [[text for text, _, _ in line] for line in lines] == [["a", "↵"], ["✂ cut"], ["teacher only: hint 7"], ["b"]]
    figure = figures.token_figure([("one", ["$a", "$b"], [0, 3], []), ("none", [], [], [])])
    figure.canvas.draw()
    assert len(figure.axes) == 3


def test_every_figure_survives_having_nothing_to_draw():
    empty, (_, ax) = np.zeros(0), plt.subplots()
    figures.position_histogram(ax, [], 1 / 3, "equations")
    figures.ppl_against_u(plt.subplots(2)[1], empty, empty, empty.astype(bool), 0.01, "paths")
    figures.roc_curve(ax, empty, empty, "mean NLL")
    figures.interval_points(ax, pd.DataFrame({"mean": [], "ci_low": [], "ci_high": []}), "none")
    table = pd.DataFrame({"mean": [np.nan, 1], "ci_low": [np.nan, 0], "ci_high": [np.nan, np.inf]})
    figures.interval_points(ax, table, "some")
    figures.reading_bars(plt.subplots(1, 3)[1], empty, empty, empty, [], "no steps")
    figures.surge_bars(ax, np.ones(1), np.array([np.nan]), 1, None, 0)
    figures.entropy_curve(ax, np.arange(2), *np.full((3, 2), np.nan), "failed")
    for figure in map(plt.figure, plt.get_fignums()):
        figure.canvas.draw()
        assert all(np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all() for ax in figure.axes)


def test_verdicts_are_drawn_apart_on_the_same_limits():
    upper, lower = plt.subplots(2)[1]
    u, ppl, spurious = np.array([0.5, 1.0, 2.0]), np.array([1.0, 3.0, 9.0]), np.array([False, True, True])
    figures.ppl_against_u((upper, lower), u, ppl, spurious, 0.01, "paths")
    assert upper.get_xlim() == lower.get_xlim() and upper.get_ylim() == lower.get_ylim()
    assert len(upper.lines[0].get_xdata()) == 1 and len(lower.lines[0].get_xdata()) == 2
    assert (upper.get_title(), lower.get_title()) == ("paths\ngenuine:\n1 steps", "spurious:\n2 steps")


@pytest.mark.parametrize("n", [1, 2, 3, 10, 30])
def test_ranges_of_c_cover_each_count_once(n):
    counts = [c for first, last in figures.count_groups(n) for c in range(first, last + 1)]
    assert counts == list(range(n + 1)) and figures.count_groups(30)[0] == (0, 0)
    ax = plt.subplots()[1]
    figures.count_bars(ax, np.full(n + 1, 1 / (n + 1)), "paths")
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)


@pytest.mark.parametrize("worlds", [1, 2, 4, 6])
def test_bars_of_all_worlds_stand_within_their_category_and_beside_each_other(worlds):
    ax = plt.subplots()[1]
    for place in range(worlds):
        figures.count_bars(ax, np.full(31, 1 / 31), "paths", place, worlds)
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches)
    assert all(low >= round((low + high) / 2) - 0.45 and high <= round((low + high) / 2) + 0.45 for low, high in edges)
    assert all(after[0] > before[1] - 1e-9 for before, after in zip(edges, edges[1:], strict=False))


def differences(*rows):
    return pd.DataFrame(rows, columns=["against", "benchmark", "difference", "ci_low", "ci_high"])


def test_a_line_of_the_forest_is_drawn_once_and_filled_where_the_interval_excludes_zero():
    table = differences(["heal-no-pure", "a", 0.1, 0.05, 0.2], ["heal-no-gear", "a", 0.1, -0.05, 0.2])
    groups = [("modules", ["heal-no-gear", "heal-no-pure"]), ("PURE", ["heal-no-pure"])]
    figure = results.forest(table, [], ["a"], groups=groups)
    (ax,) = figure.axes
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert labels == ["modules", "without GEAR (hint only)", "without PURE"]
    faces = [line.get_markerfacecolor() for line in ax.lines if line.get_marker() not in ("None", None)]
    assert [face == "white" for face in faces] == [True, False]


def test_the_forest_can_have_benchmarks_for_lines():
    figure = results.forest(differences(["heal-no-pace", "a", 0.1, 0.0, 0.2], ["heal-no-pace", "b", 0.1, 0.0, 0.2]),
                            ["a", "b"], ["heal-no-pace"], line="benchmark", panel="against")
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a", "b"] and len(figure.axes) == 1


def test_a_saved_figure_says_what_it_shows_except_in_a_paper(tmp_path):
    (tmp_path / "tables").mkdir()
    figure, _ = plt.subplots(figsize=(plots.DOUBLE, 2))
    plots.save(figure, tmp_path, "one", "What it shows, at length. And more.")
    assert figure.get_suptitle() == "What it shows, at length" and figure.get_figheight() > 2
    assert sorted(path.suffix for path in (tmp_path / "figures").iterdir()) == [".pdf", ".png", ".svg", ".txt"]


def test_roc_curve_crosses_ties_straight():
    _, ax = plt.subplots()
    figures.roc_curve(ax, np.array([2.0, 1, 1, 0]), np.array([1, 1, 0, 0]), "ratio")
    figures.roc_curve(ax, np.array([2.0, 1]), np.array([1, 1]), "one kind only")
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[0, 0], [0, 0.5], [0.5, 1], [1, 1]], []]
    figures.roc_curve(ax, np.array([np.inf, np.inf, 1]), np.array([1, 0, 0]), "infinite")
    assert ax.lines[-1].get_xydata().tolist() == [[0, 0], [0.5, 1], [1, 1]]


@pytest.mark.parametrize("name", ["ratio mean, U before", "ratio top3, U after", "mean NLL", "random", "unheard of"])
def test_every_reading_has_a_look(name):
    look = figures.reading_style(name, "ratio mean, U before")
    assert (look["lw"] > 2) == (name == "ratio mean, U before")
    plt.plot([0, 1], [0, 1], **look)


def test_losses_of_two_families_are_no_single_line():
    """Each family has students of its own, whose tokens begin at 0."""
    logs = pd.DataFrame([["heal", family, 0, 1, tokens, loss] for family, end in (("a+b", 900), ("c", 300))
                         for tokens, loss in ((0, 1.0), (end, 0.5))],
                        columns=["method", "family", "seed", "stage", "tokens", "loss"])
    axes = results.loss_curves(logs, ["heal"]).axes
    assert [[line.get_xdata().tolist() for line in ax.get_lines()] for ax in axes] == [[[0, 0.9]], [[0, 0.3]]]
    assert [ax.get_ylabel() for ax in axes] == ["a\nb", "c"]


def test_losses_have_no_panel_where_a_method_has_no_students_and_a_scale_for_each_family():
    """At scale full most orders are trained on one family alone, whose loss is a tenth of the other's."""
    there = (("heal", "a+b", 2.0), ("heal", "c", 0.2), ("heal-reversed", "c", 0.1))
    logs = pd.DataFrame([[*where, 0, 1, tokens, loss / (1 + tokens)] for *where, loss in there for tokens in (0, 900)],
                        columns=["method", "family", "seed", "stage", "tokens", "loss"])
    axes = results.loss_curves(logs, ["heal", "heal-reversed"]).axes
    assert [ax.get_visible() for ax in axes] == [True, False, True, True]
    assert [ax.get_title() for ax in axes] == ["HEAL", "", "", "reversed stages"]
    assert axes[2].get_ylim() == axes[3].get_ylim() and axes[2].get_ylim()[1] < 0.3 < axes[0].get_ylim()[1]


def grey(colour):
    return float(np.dot(colour, (0.2126, 0.7152, 0.0722)))


def test_rationalisation_with_and_without_pure_are_told_apart_without_colour():
    star, filtered = (plots.COLOURS[name] for name in ("star", "star-pure"))
    assert abs(grey(star) - grey(filtered)) > 0.2 and plots.MARKERS["star"] != plots.MARKERS["star-pure"]


def test_stages_have_a_scale_for_each_row_of_panels():
    means = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.02}
    table = pd.DataFrame([[stage, name, mean, mean, mean] for name, mean in means.items() for stage in (0, 1)],
                         columns=["stage", "benchmark", "mean", "ci_low", "ci_high"])
    axes = results.stage_accuracy(table, ["untrained", "+ base"]).axes
    assert axes[0].get_ylim() == axes[2].get_ylim() and axes[3].get_ylim()[1] < 10


def drawn(ax):
    """(x, hollow or not) of every marker with an interval, by its label."""
    return {bar.get_label(): (bar.lines[0].get_xdata()[0], bar.lines[0].get_markerfacecolor() in ("none", "white"))
            for bar in ax.containers}


def test_methods_of_one_cost_stand_side_by_side_and_those_that_draw_nothing_are_lines_across():
    """At scale full ten methods cost two to three million tokens: beside one of no cost they would be one heap."""
    cost = {"student": 0, "answers": 0, "sft-rs": 2.25e6, "logits": 2.25e6, "paced": 2.25e6, "star": 2.76e6,
            "sft-rs-early": 2.85e6, "limo": 2.85e6, "heal": 3.03e6}
    table = pd.DataFrame([[name, place, tokens, 0.2, 0.1, 0.3] for name, tokens in cost.items()
                          for place in ("a-hard", "b-hard", "c-hard")],
                         columns=["method", "benchmark", "teacher_tokens", "mean", "ci_low", "ci_high"])
    figure = results.accuracy_per_token(table, ["a-hard", "b-hard", "c-hard"])
    found = {name: x * 1e6 for name, (x, _) in drawn(figure.axes[0]).items()}
    assert found == {name: pytest.approx(tokens, abs=3e4) for name, tokens in cost.items() if tokens}
    figure.canvas.draw()  # what stands apart on paper: nearly a marker's width, 5.5 points
    at = np.sort(figure.axes[0].transData.transform([(x / 1e6, 0) for x in found.values()])[:, 0])
    assert np.diff(at).min() > 4 * figure.dpi / 72
    lines = {line.get_label(): line for line in figure.axes[0].lines if line.get_label() in ("student", "answers")}
    assert len({line.get_linestyle() for line in lines.values()}) == 2
    assert all(line.get_ydata() == pytest.approx([20, 20]) for line in lines.values())
    assert [ax.get_xlabel() != "" for ax in figure.axes if ax.get_visible()] == [False, True, True]


def by_benchmark(methods, benchmarks):
    rows = [[name, place, "avg@4", *(0.1 * (i + 1) * np.array([2, 1, 3])), 0.0, 0.0, 0.0]
            for name in methods for i, place in enumerate(benchmarks)]
    return pd.DataFrame(rows, columns=["method", "benchmark", "metric", "mean", "ci_low", "ci_high", "diff_vs_sft_rs",
                                       "diff_low", "diff_high"])


def test_many_methods_on_many_benchmarks_have_two_rows_of_panels():
    benchmarks = list("abc")
    few = results.main_results(by_benchmark(baselines.HEADLINE, benchmarks), baselines.HEADLINE).axes
    assert len(few) == 2 and [tick.get_text() for tick in few[1].get_xticklabels()] == benchmarks
    many = list("abcdefghi")
    figure = results.main_results(by_benchmark(baselines.MAIN, many), baselines.MAIN)
    assert [len(drawn(ax)) for ax in figure.axes] == [13, 12, 13, 12]
    shown = [[tick.get_text() for tick in ax.get_xticklabels()] for ax in figure.axes[1::2]]
    assert sum(shown, []) == many and [len(each) for each in shown] == [5, 4]
    assert figure.axes[0].get_ylim()[1] < figure.axes[2].get_ylim()[1]
    assert figure.axes[0].get_legend() and not figure.axes[2].get_legend()


def test_every_seed_is_a_dot_between_its_interval_and_the_next():
    table = pd.DataFrame([[name, "a", "avg@4", 0.2, 0.1, 0.3, 0.0, 0.0, 0.0] for name in ("star", "heal")], columns=[
        "method", "benchmark", "metric", "mean", "ci_low", "ci_high", "diff_vs_sft_rs", "diff_low", "diff_high"])
    seeds = pd.DataFrame([[place, name, seed, mean] for name in ("star", "heal") for place in ("a", "hard, pooled")
                          for seed, mean in enumerate((0.1, 0.3))], columns=["benchmark", "method", "seed", "mean"])
    top = results.main_results(table, ["star", "heal"], seeds=seeds).axes[0]
    (star, _), (heal, _) = drawn(top).values()
    dots = [line.get_xydata() for line in top.lines if line.get_markersize() < 2 and line.get_marker() == "o"]
    assert [dot[:, 1].tolist() for dot in dots] == [pytest.approx([10, 30])] * 2
    assert star < dots[0][0, 0] < heal < dots[1][0, 0] < 0.5
    assert len(results.main_results(table, ["star", "heal"]).axes[0].lines) == len(top.lines) - 2


def test_methods_of_one_cost_stand_side_by_side_at_their_budget():
    cost = {"sft-rs": 2e6, "star": 2.4e6, "heal-no-gear": 2.4e6, "heal": 3e6}
    table = pd.DataFrame([[name, "a-hard", share, share * tokens, 0.2, 0.1, 0.3] for name, tokens in cost.items()
                          for share in ([1.0] if name == "heal-no-gear" else [1 / 3, 1.0])],
                         columns=["method", "benchmark", "share", "teacher_tokens", "mean", "ci_low", "ci_high"])
    ax = results.at_budgets(table, ["a-hard"]).axes[0]
    at = [bar.lines[0].get_xdata().tolist() for bar in ax.containers]
    assert at[0] == pytest.approx([2 / 3, 2]) and at[3] == pytest.approx([1, 3])  # alone, in their place
    assert ax.get_ylim()[0] < 0  # so that a marker at zero is whole
    assert at[1][0] == pytest.approx(0.8) and at[1][1] < 2.4 < at[2][0] and at[2][0] - at[1][1] == pytest.approx(0.06)


def test_worlds_of_the_same_gain_are_all_seen():
    table = pd.DataFrame([[name, 0.3, 0.1, 0.0, 0.2] for name in ("equations", "paths", "cell 0")],
                         columns=["name", "unsolved", "difference", "ci_low", "ci_high"])
    found = drawn(results.gain_against(table, "unsolved", "x", ["equations", "paths"]).axes[0])
    assert found == dict.fromkeys(("sweep", "equations", "paths"), (pytest.approx(30), True))


def labelled(ax):
    return any(tick.label1.get_visible() and tick.label1.get_text() for tick in ax.xaxis.get_major_ticks())


@pytest.mark.parametrize("n", [1, 3, 4, 5, 6, 7])
def test_the_lowest_panel_of_each_column_has_tick_labels_and_no_other(n):
    figure, axes = plt.subplots(-(-n // 3), 3, sharex=True)
    plots.hide(axes := np.atleast_2d(axes), n)
    figure.canvas.draw()
    seen = [ax for ax in axes.flat if ax.get_visible()]
    assert len(seen) == n and [labelled(ax) for ax in seen] == [i + 3 >= n for i in range(n)]


def test_names_on_an_axis_are_short_and_still_one_method_each():
    names = [results.label(name) for name in baselines.ABLATIONS]
    assert len(set(names)) == len(names) and max(map(len, names)) <= 52
    assert results.label("heal-fixed-cut").startswith("GEAR: cut at the median") and results.label("hard") == "hard"
