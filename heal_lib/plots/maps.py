"""Figures of the map over a teacher's knobs (notebook 09): where the breakpoint is the break, and what cutting there
yields. Every cell is written out, so no colour has to be told from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from heal_lib.plots import DOUBLE
from heal_lib.plots.trajectories import band, source_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# name: (title, value that says "no difference", factor, format)
PANELS = {"gain": ("breakpoint is the break:\nminus chance, points", 0, 100, "{:+.0f}"),
          "over_start": ("genuine per token:\nentropy / start", 1, 1, "{:.2f}"),
          "over_permuted": ("genuine per token:\nentropy / permuted", 1, 1, "{:.2f}")}


def knob_maps(tables: Sequence[pd.DataFrame], knobs: Sequence[tuple[str, str]], words: Mapping[str, str]) -> Figure:
    """A row of panels for each table of cells (`knobs.table`), whose pair of knobs is in `knobs`; a frame marks a cell
    whose 95 % interval excludes "no difference"."""
    figure, axes = plt.subplots(len(tables), len(PANELS), figsize=(DOUBLE, 0.9 + 2.1 * len(tables)), squeeze=False)
    for first, line, table, (x, y) in zip((True, *[False] * len(tables)), axes, tables, knobs, strict=False):
        for ax, (name, (title, none, factor, form)) in zip(line, PANELS.items(), strict=True):
            grid, low, high = (table.pivot(index=y, columns=x, values=name + end).sort_index(ascending=False)
                               for end in ("", "_low", "_high"))
            said = [[form.format(factor * value) for value in row] for row in grid.to_numpy()]
            reach = 0.4 if none else 0.5
            sns.heatmap(grid - none, annot=np.array(said), fmt="", cmap="PuOr_r", vmin=-reach, vmax=reach, ax=ax,
                        linewidths=1, cbar=False, annot_kws={"fontsize": "medium"})
            for i, j in zip(*np.nonzero(((low > none) | (high < none)).to_numpy()), strict=True):
                ax.add_patch(plt.Rectangle((j + 0.03, i + 0.03), 0.94, 0.94, fill=False, edgecolor="black", lw=2))
            ax.set(xlabel=words[x], ylabel=words[y] if ax is line[0] else "")
            ax.tick_params(axis="y", rotation=0)
            ax.set_title(title if first else "", fontsize="medium")
    return figure


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
