"""Figures of notebooks 04-07, 09 and 10, from the tables of `heal_lib.tables`: shares come in, per cent are drawn."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from heal_lib import baselines
from heal_lib.plots import COLOURS, DOUBLE, MARKERS, SINGLE, hide
from heal_lib.plots.trajectories import world_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CROWDED = 80  # methods times benchmarks that one row of panels holds
_SHORT = {"heal-fixed-cut": "GEAR: cut at the median breakpoint"}


def label(method: str) -> str:
    """A method's name for readers, as short as an axis needs it."""
    return _SHORT.get(method) or (baselines.METHODS[method].label if method in baselines.METHODS else str(method))


def _points(ax, x, mean, low, high, method, **more):
    """Points with interval bars, all in per cent."""
    mean, low, high = (100 * np.asarray(v, float) for v in (mean, low, high))
    bars = np.clip([mean - low, high - mean], 0, None)  # a percentile interval may miss the mean by a hair
    look = {"markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.5, "elinewidth": 1.3, "capsize": 2}
    look |= {"markersize": 9} if MARKERS[method] == "*" else {}  # a star's area is a third of its box
    return ax.errorbar(x, mean, yerr=bars, fmt=MARKERS[method], color=COLOURS[method], **{**look, **more})


def _dodge(n, width=0.72):
    return (np.arange(n) - (n - 1) / 2) * width / max(n, 1)


def main_results(table: pd.DataFrame, methods: Sequence[str], baseline: str = "sft-rs",
                 seeds: pd.DataFrame | None = None) -> Figure:
    """Accuracy per benchmark (above) and its paired difference to the baseline (below), methods by their short names;
    where these are too many for one row of benchmarks, in two such pairs of panels, each on a scale of its own.

    `table`: avg@k rows of `evaluation.results_table`; `seeds`: `tables.by_seed`, drawn as dots beside the intervals."""
    benchmarks, n = list(table["benchmark"].unique()), len(methods)
    n_rows = 2 if n * len(benchmarks) > CROWDED else 1
    fig, axes = plt.subplots(2 * n_rows, 1, figsize=(DOUBLE, 3.6 + 2.2 * n_rows), height_ratios=(2, 1) * n_rows)
    look = {"markersize": np.clip(34 * n_rows / n, 3.6, 5.5), "markeredgewidth": 0.3, "capsize": 1, "elinewidth": 1}
    most = -(-len(benchmarks) // n_rows)
    for i, (top, bottom) in enumerate(axes.reshape(-1, 2)):
        here = benchmarks[i * most : (i + 1) * most]
        part = table[table["benchmark"].isin(here)]
        for shift, method in zip(_dodge(n, 0.9), methods, strict=True):
            rows = part[part["method"] == method].set_index("benchmark").reindex(here)
            x = np.arange(len(here)) + shift
            _points(top, x, rows["mean"], rows["ci_low"], rows["ci_high"], method, label=method, **look)
            if seeds is not None:
                of = seeds[(seeds["method"] == method) & seeds["benchmark"].isin(here)]
                top.plot([x[here.index(name)] + 0.45 / n for name in of["benchmark"]], 100 * of["mean"], "o",
                         color=COLOURS[method], markersize=1.5, markeredgewidth=0)
            if method != baseline:
                _points(bottom, x, rows["diff_vs_sft_rs"], rows["diff_low"], rows["diff_high"], method, **look)
        _stripes((top, bottom), len(here))
        top.set(ylabel=f"accuracy, {table['metric'].iloc[0]} (%)", ylim=(-2, 105 * max(0.1, part["ci_high"].max())))
        bottom.axhline(0, color=COLOURS[baseline], linewidth=1.2)
        bottom.set(ylabel=f"minus {baseline}\n(points)")
        top.tick_params(labelbottom=False)
        turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(here) > 6 else {}
        for ax in (top, bottom):
            ax.set_xlim(-0.5, len(here) - 0.5)
            ax.set_xticks(range(len(here)), here, fontsize="small", **turned)
    axes[0].legend(ncols=min(4 if n < 9 else 5, n), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False,
                   fontsize="small")
    return fig


def _stripes(axes, n):
    for ax in axes:
        ax.grid(False, axis="x")
        for i in range(0, n, 2):
            ax.axvspan(i - 0.5, i + 0.5, color="0.95", zorder=0)


def forest(table: pd.DataFrame, lines: Sequence[str], panels: Sequence[str], *, line: str = "against",
           panel: str = "benchmark", columns: int | None = None, groups: Iterable[tuple[str, Sequence[str]]] = (),
           xlabel: str | None = None) -> Figure:
    """Differences with intervals: one panel per value of the column `panel`, one line per value of the column `line`,
    the first on top; filled where the interval excludes zero, and, of a `table` with a column `sure`, light where that
    says no. Lines have labels, so they need no colours.

    `table`: rows of `tables.differences`, with the varied method in the column `against`; drawn as it stands, so
    `xlabel` says what is subtracted. `groups`: (title, lines) pairs; a title stands above its lines."""
    columns, rows_of = columns or len(panels), table.assign(sure=table.get("sure", True)).set_index([panel, line])
    lines = _lines(lines, groups)
    n_rows = -(-len(panels) // columns)
    fig, axes = plt.subplots(n_rows, columns, figsize=(DOUBLE, 0.5 + n_rows * (0.45 + 0.2 * len(lines))), sharey=True,
                             sharex=True, squeeze=False)
    for ax, name in zip(axes.flat, panels, strict=False):
        ax.axvline(0, color="0.3", linewidth=1)
        for y, (key, _) in enumerate(lines):
            if key is not None and (name, key) in rows_of.index:
                mean, low, high = 100 * rows_of.loc[(name, key), ["difference", "ci_low", "ci_high"]].astype(float)
                told = tuple(c if rows_of.loc[(name, key), "sure"] else (1 + c) / 2 for c in COLOURS["heal"])
                ax.plot([low, high], [y, y], color=COLOURS["heal"], linewidth=1.6)
                ax.plot(mean, y, MARKERS["heal"], color=COLOURS["heal"], markersize=6, markeredgewidth=1.2,
                        markerfacecolor=told if low > 0 or high < 0 else "white")
        ax.set_title(textwrap.fill(label(name).removeprefix("PACE: "), 75 // columns), fontsize="medium")
        ax.grid(False, axis="y")
    axes[0, 0].set_ylim(len(lines) - 0.5, -0.5)
    for ax in axes[:, 0]:
        ax.set_yticks(range(len(lines)), [text for _, text in lines])
        for tick, (key, _) in zip(ax.get_yticklabels(), lines, strict=True):
            tick.set_fontweight("normal" if key else "bold")
    hide(axes, len(panels))
    axis = xlabel or "difference (percentage points), paired 95 % interval"
    filled = "after correction, light: before it" if "sure" in table else "it excludes zero"
    fig.supxlabel(f"{axis}; filled: {filled}", fontsize="medium")
    return fig


def _lines(lines, groups):
    """(line or None, text) from top to bottom, each line once; None marks a group's title."""
    if not groups:
        return [(name, label(name)) for name in lines]
    found, seen = [], set()
    for title, members in groups:
        new = [name for name in members if name not in seen]
        seen |= set(new)
        found += [(None, title)] * bool(new) + [(name, label(name).split(": ")[-1]) for name in new]
    return found


def stage_accuracy(table: pd.DataFrame, stages: Sequence[str], columns: int = 3) -> Figure:
    """Accuracy after each stage, one panel per benchmark; a row has its own scale. `stages`: their names, 0 first."""
    benchmarks = list(table["benchmark"].unique())
    n_rows = -(-len(benchmarks) // columns)
    fig, axes = plt.subplots(n_rows, columns, figsize=(DOUBLE, 1.7 * n_rows), sharex=True, sharey="row", squeeze=False)
    for ax, benchmark in zip(axes.flat, benchmarks, strict=False):
        rows = table[table["benchmark"] == benchmark].sort_values("stage")
        ax.plot(rows["stage"], 100 * rows["mean"], color=COLOURS["heal"], linewidth=1, zorder=1)
        _points(ax, rows["stage"], rows["mean"], rows["ci_low"], rows["ci_high"], "heal")
        ax.set_title(benchmark, fontsize="medium")
    axes[0, 0].set_xticks(range(len(stages)), stages)
    axes[0, 0].set_xlim(-0.4, len(stages) - 0.6)
    hide(axes, len(benchmarks))
    fig.supylabel("accuracy, avg@k (%)", fontsize="medium")
    fig.supxlabel("after the stage", fontsize="medium")
    return fig


def loss_curves(logs: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Training loss against tokens seen, one panel per family of worlds (each has students of its own) and method, one
    line per seed; stages are set apart. A family has a scale of its own, and no panel for a method that it lacks."""
    families, first = list(logs["family"].unique()), logs.groupby("method")["family"].first()
    fig, axes = plt.subplots(len(families), len(methods), figsize=(DOUBLE, 0.5 + 1.9 * len(families)), sharex="row",
                             sharey="row", squeeze=False)
    for ax, (family, method) in zip(axes.flat, itertools.product(families, methods), strict=True):
        part = logs[(logs["method"] == method) & (logs["family"] == family)]
        ax.set_visible(len(part) > 0)
        for seed, line in part.groupby("seed"):
            ax.plot(line["tokens"] / 1000, line["loss"], color=COLOURS[method], linewidth=1,
                    linestyle=("-", "--", ":", "-.")[list(part["seed"].unique()).index(seed) % 4], alpha=0.8)
        ends = part.groupby("stage")["tokens"].max().sort_index().iloc[:-1]
        for end in ends:
            ax.axvline(end / 1000, color="0.5", linewidth=0.8, linestyle=":")
        if family == first[method]:
            ax.set_title(textwrap.fill(label(method).removeprefix("PACE: "), 75 // len(methods)), fontsize="medium")
    fig.supxlabel("training tokens (thousands)", fontsize="medium")
    fig.supylabel("loss (nats per token)", fontsize="medium")
    for ax, family in zip(axes[:, 0], families, strict=True):
        ax.set_ylabel(family.replace("+", "\n"), fontsize="small")
    return fig


def accuracy_per_token(table: pd.DataFrame, benchmarks: Sequence[str]) -> Figure:
    """Accuracy against teacher tokens drawn, a panel per benchmark: methods that cost nearly the same side by side,
    those that draw nothing as lines across, with their intervals as bands. `table`: accuracies joined with
    `teacher_tokens` per method."""
    cost = table.groupby("method", sort=False)["teacher_tokens"].first()
    paid, free = cost[cost > 0], list(cost.index[cost == 0])
    at = (paid + _beside(paid, 1.5 * (paid.max() - paid.min()) or paid.max())) / 1e6
    columns = min(2, len(benchmarks))
    n_rows = -(-len(benchmarks) // columns)
    fig, axes = plt.subplots(n_rows, columns, figsize=(DOUBLE, 0.9 + 2.1 * n_rows), sharex=True, squeeze=False)
    for ax, benchmark in zip(axes.flat, benchmarks, strict=False):
        for _, row in table[table["benchmark"] == benchmark].iterrows():
            name = row["method"]
            if name in free:
                ax.axhspan(100 * row["ci_low"], 100 * row["ci_high"], color=COLOURS[name], alpha=0.15, linewidth=0)
                ax.axhline(100 * row["mean"], color=COLOURS[name], linestyle=("--", ":", "-.")[free.index(name) % 3],
                           label=name)
            else:
                _points(ax, at[name], [row["mean"]], [row["ci_low"]], [row["ci_high"]], name, label=name)
        ax.set_title(benchmark, fontsize="medium")
        ax.margins(x=0.06)
        ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    hide(axes, len(benchmarks))
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy, avg@k (%)")
    for ax in axes.flat[max(0, len(benchmarks) - columns) : len(benchmarks)]:
        ax.set_xlabel("teacher tokens drawn (millions)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=4, loc="outside lower center", frameon=False,
               fontsize="small")
    return fig


def at_budgets(table: pd.DataFrame, benchmarks: Sequence[str]) -> Figure:
    """Accuracy against teacher tokens, a line per method through its budgets; those that cost nearly the same are set
    side by side. `table`: `tables.at_budgets`."""
    cost = table.drop_duplicates(["method", "share"]).pivot(index="method", columns="share", values="teacher_tokens")
    cost = cost.reindex(table["method"].unique()).apply(lambda tokens: tokens + _beside(tokens, cost.max().max())) / 1e6
    fig, axes = plt.subplots(1, len(benchmarks), figsize=(DOUBLE, 3.2), sharex=True, sharey=True, squeeze=False)
    for ax, benchmark in zip(axes.flat, benchmarks, strict=True):
        for method, rows in table[table["benchmark"] == benchmark].groupby("method", sort=False):
            rows = rows.sort_values("share")
            x = cost.loc[method, rows["share"]]
            ax.plot(x, 100 * rows["mean"], color=COLOURS[method], linewidth=1)
            _points(ax, x, rows["mean"], rows["ci_low"], rows["ci_high"], method, label=label(method))
        ax.set(title=benchmark, xlabel="teacher tokens drawn (millions)")
        ax.margins(x=0.1)
    axes[0, 0].set_ylabel("accuracy, avg@k (%)")
    axes[0, 0].set_ylim(bottom=-0.03 * axes[0, 0].get_ylim()[1])  # a marker at zero is seen whole
    fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, loc="outside lower center", frameon=False,
               fontsize="small")
    return fig


def _beside(tokens, most):
    """What is added to each of these costs so that none within 2.5 % of `most` hides the next; in their order."""
    tokens = tokens.dropna().sort_values(kind="stable")
    near = (tokens.diff() > 0.025 * most).cumsum()
    return most * near.groupby(near).transform(lambda group: _dodge(len(group), 0.02 * len(group)))


def token_bars(costs: pd.DataFrame) -> Figure:
    """Teacher tokens per method, by source."""
    fig, ax = plt.subplots(figsize=(DOUBLE, 0.9 + 0.25 * len(costs)))
    styles = {"pool": ("0.75", ""), "matched": ("0.85", "xx"), "hinted": ("0.5", "//"), "repairs": ("0.25", ".."),
              "development": ("0.65", "--")}
    left = np.zeros(len(costs))
    for source in [name for name in styles if name in costs]:  # an older table may lack one
        shade, hatch = styles[source]
        width = costs[source].to_numpy() / 1e6
        ax.barh(range(len(costs)), width, left=left, color=shade, hatch=hatch, edgecolor="white", label=source)
        left = left + width
    for y, total in enumerate(left):
        ax.text(total, y, f" {total:.2f}", va="center", fontsize="small")
    ax.set_yticks(range(len(costs)), [label(m) for m in costs["method"]])
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.set(xlabel="teacher tokens drawn (millions)", xlim=(0, 1.12 * max(left, default=1)))
    ax.legend(frameon=False, ncols=5, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return fig


def gain_against(table: pd.DataFrame, x: str, xlabel: str, named: pd.DataFrame | Sequence[Any] = ()) -> Figure:
    """HEAL's gain against a property of its teacher: cells of the sweep in grey, the `named` rows (worlds) as ever.
    Markers are hollow, so that none hides another."""
    fig, ax = plt.subplots(figsize=(SINGLE, 2.9))
    grey = {"color": "0.55", "marker": "o"}
    looks = [("sweep", ~table["name"].isin(named), grey), *((n, table["name"] == n, world_style(n)) for n in named)]
    for name, which, look in looks:
        part, mean = table[which], 100 * table.loc[which, "difference"]
        bars = np.clip([mean - 100 * part["ci_low"], 100 * part["ci_high"] - mean], 0, None)
        if len(part):
            ax.errorbar(100 * part[x], mean, yerr=bars, capsize=2, elinewidth=1.2, markersize=7, label=name,
                        markerfacecolor="none", markeredgewidth=1.3, **{**look, "linestyle": ""})
    ax.axhline(0, color="0.3", linewidth=1)
    ax.margins(0.1)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    ax.set(xlabel=xlabel, ylabel="HEAL minus rejection\nsampling (points)")
    return fig


def growth(table: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    """Seconds against every knob of `scaling.curves`; lines are the fitted powers, over the values they rest on."""
    fig, axes = plt.subplots(-(-len(fits) // 3), 3, figsize=(DOUBLE, 1.9 * -(-len(fits) // 3)), squeeze=False)
    for ax, fit in zip(axes.flat, fits.itertuples(), strict=False):
        part = table[(table["curve"] == fit.curve) & (table["knob"] == fit.knob)]
        ax.loglog(part["value"], part["seconds"], "o", color=COLOURS["heal"], markersize=4)
        ends = np.array([fit.least, fit.most])
        ax.plot(ends, fit.factor * ends**fit.exponent, color="0.4", linewidth=1)
        ax.set_title(f"{fit.curve}: power {fit.exponent:.2f}", fontsize="medium")
        ax.set_xlabel(fit.knob)
        ax.grid(False, which="minor")
        for axis, values in ((ax.xaxis, part["value"]), (ax.yaxis, part["seconds"])):
            if values.max() > 10 * values.min():
                axis.set_minor_formatter(plt.NullFormatter())
            else:  # less than a decade has hardly a tick of its own
                for set_formatter in (axis.set_major_formatter, axis.set_minor_formatter):
                    set_formatter(plt.FuncFormatter(lambda value, _: f"{value:.3g}"))
                axis.set_minor_locator(plt.LogLocator(subs=(2, 5)))
    for ax in axes[:, 0]:
        ax.set_ylabel("seconds")
    hide(axes, len(fits))
    return fig
