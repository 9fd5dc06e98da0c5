"""Figures of the maps over a teacher's knobs (notebook 09): where the breakpoint is the break, what cutting there
yields, and where HEAL and each of its parts helps a student. Every cell is written out with its interval, so no colour
has to be told from another; one whose interval includes "no difference" is hatched and has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from heal_lib import claims
from heal_lib.plots import DOUBLE, hide
from heal_lib.plots.results import label
from heal_lib.plots.trajectories import band, source_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DARK = 0.18  # luminance below which white text stands out more than black
# name: (title, value that says "no difference", factor, format of it, of its interval)
PANELS = {"gain": ("breakpoint is the break:\nminus chance, points", 0, 100, "{:+.0f}", "{:+.0f}, {:+.0f}"),
          "over_start": ("genuine per token:\nentropy / start", 1, 1, "{:.2f}", "{:.2f}–{:.2f}"),
          "over_permuted": ("genuine per token:\nentropy / permuted", 1, 1, "{:.2f}", "{:.2f}–{:.2f}")}


def claim_maps(table: pd.DataFrame, rows: str, columns: str, words: Mapping[str, str]) -> Figure:
    """A panel per question of `Sweep.table`, all on one colour scale: HEAL minus what answers it, in points, in every
    cell; a frame marks what is shown, or contradicted, after Holm's correction. `words`: what rows and columns are."""
    asked = list(dict.fromkeys(table["question"]))
    n_columns = min(2, len(asked))
    shape = -(-len(asked) // n_columns), n_columns
    height = 0.9 + shape[0] * (0.5 + max(1.0, 0.38 * table[rows].nunique()))
    figure, axes = plt.subplots(*shape, figsize=(DOUBLE, height), sharex=True, sharey=True, squeeze=False)
    seen = table[(table["ci_low"] > 0) | (table["ci_high"] < 0)]
    reach = max(1.0, 100 * seen["difference"].abs().max()) if len(seen) else 1.0
    for ax, question in zip(axes.flat, asked, strict=False):
        part = table[table["question"] == question]
        *points, verdicts = (part.pivot(index=rows, columns=columns, values=name).sort_index(ascending=False)
                             for name in ("difference", "ci_low", "ci_high", "verdict"))
        _cells(ax, [100 * each for each in points], 0, reach, ("{:+.1f}", "[{:+.1f}, {:+.1f}]"))
        for i, j in zip(*np.nonzero(verdicts.isin([claims.SHOWN, claims.CONTRADICTED]).to_numpy()), strict=True):
            ax.add_patch(plt.Rectangle((j + 0.02, i + 0.03), 0.96, 0.94, fill=False, edgecolor="black", lw=2))
        shown = (part["verdict"] == claims.SHOWN).sum() or "none"
        other = part["against"].iloc[0]
        ax.set_title(f"{question}: shown in {shown} of {len(part)}\n"
                     f"minus {'HEAL ' * other.startswith('heal')}{label(other)}")
        ax.set(xlabel="", ylabel="")
    hide(axes, len(asked))
    figure.supxlabel(words[columns])
    figure.supylabel(words[rows])
    figure.colorbar(axes[0, 0].collections[0], ax=axes, label="points", aspect=30)
    return figure


def knob_maps(tables: Sequence[pd.DataFrame], knobs: Sequence[tuple[str, str]], words: Mapping[str, str]) -> Figure:
    """A row of panels for each table of cells (`knobs.table`), whose pair of knobs is in `knobs`."""
    figure, axes = plt.subplots(len(tables), len(PANELS), figsize=(DOUBLE, 0.9 + 2.1 * len(tables)), sharey="row",
                                squeeze=False)
    for first, line, table, (x, y) in zip((True, *[False] * len(tables)), axes, tables, knobs, strict=False):
        for ax, (name, (title, none, factor, *forms)) in zip(line, PANELS.items(), strict=True):
            parts = [factor * table.pivot(index=y, columns=x, values=name + end).sort_index(ascending=False)
                     for end in ("", "_low", "_high")]
            _cells(ax, parts, none, 0.4 if none else 50, forms)
            ax.set(xlabel=words[x], ylabel=words[y] if ax is line[0] else "")
            ax.set_title(title if first else "", fontsize="medium")
    return figure


def _cells(ax, parts, none, reach, forms):
    """A heat map of differences from `none`; `parts`: the numbers, low and high ends of their intervals, all written
    out in the two `forms`. Hatched where an interval includes it."""
    grid, low, high = parts
    said = [["\n".join((forms[0].format(m), forms[1].format(a, b))) for m, a, b in zip(*line, strict=True)]
            for line in zip(*(part.to_numpy() for part in parts), strict=True)]
    blank = ((low <= none) & (none <= high)).to_numpy()
    sns.heatmap((grid - none).mask(blank, 0), annot=np.array(said), fmt="", cmap="PuOr_r", vmin=-reach, vmax=reach,
                ax=ax, linewidths=1, cbar=False, annot_kws={"fontsize": 7})
    for i, j in zip(*np.nonzero(blank), strict=True):
        ax.add_patch(plt.Rectangle((j + 0.01, i + 0.01), 0.98, 0.98, facecolor="0.94", edgecolor="0.85", hatch="////",
                                   lw=0, zorder=1.5))
    colours = ax.collections[0].get_facecolors().reshape(*grid.shape, 4)
    for text in ax.texts:
        x, y = (int(at) for at in text.get_position())
        text.set_color("white" if sns.utils.relative_luminance(colours[y, x]) < DARK else "0.1")
    if pd.api.types.is_integer_dtype(grid.columns):  # millions of parameters
        ax.set_xticklabels([f"{value:,}" for value in grid.columns])
    ax.tick_params(axis="y", rotation=0)


def knob_lines(cells: pd.DataFrame, words: Mapping[str, str]) -> Figure:
    """One panel per knob, the others at their defaults: share of breakpoints that are the break, and its chance by
    position alone. `cells`: from `knobs.alone`."""
    names = list(dict.fromkeys(cells["knob"]))
    figure, axes = plt.subplots(1, len(names), figsize=(DOUBLE, 2.5), sharey=True, squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        part = cells[cells["knob"] == name].sort_values("value")
        band(ax, part["value"], 100 * part["hit"], 100 * part["hit_low"], 100 * part["hit_high"],
             label="entropy's breakpoint", **source_style("failed"))
        ax.plot(part["value"], 100 * part["chance"], "k:", label="another text's breakpoint (chance)")
        ax.set_xlabel(words[name])
    axes[0, 0].set(ylabel="is the first break (%)", ylim=(0, 1.05 * 100 * cells["hit_high"].max()))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure
