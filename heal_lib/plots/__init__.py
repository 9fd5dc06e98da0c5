"""Figures. Numbers come in, axes go out; nothing here computes a result. One colour per method, everywhere."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import seaborn as sns

from heal_lib import baselines, console
from heal_lib.files import atomic
from heal_lib.plots import captions

if TYPE_CHECKING:
    import numpy as np
    from IPython.display import HTML
    from matplotlib.figure import Figure

_PALETTE = sns.color_palette("colorblind", 10)
_MAIN_COLOURS = {"teacher": 7, "student": 9, "answers": 8, "logits": 3, "sft-rs": 0, "sft-rs-matched": 4,
                 "sft-rs-passes": 0, "sft-rs-early": 4, "limo": 5, "paced": 6, "star": 1, "heal": 2,
                 "heal-no-gear": 3}  # stands beside `sft-rs-matched` in 07
COLOURS = {name: _PALETTE[_MAIN_COLOURS.get(name, 3 + i % 4)] for i, name in enumerate(baselines.METHODS)}
COLOURS["star-pure"] = tuple(c / 2 for c in COLOURS["star"])  # the palette's ten are taken; this is darker in grey, too
_SHAPES = "s^hpoPdXv<D>8*H"  # readable in greyscale; the main methods each have their own
MARKERS = {name: _SHAPES[i % len(_SHAPES)] for i, name in enumerate(baselines.METHODS)}
VERDICT_COLOURS = {"genuine": _PALETTE[2], "spurious": _PALETTE[3], "failed": _PALETTE[7]}


SINGLE, DOUBLE = 3.5, 7.2  # inches: one column of a paper, and both


def style() -> None:
    """The look of all figures: seaborn's white grid, text of 7 to 9 points at the size printed, fonts that embed. In a
    notebook, which begins with it, also that of errors (`console.in_notebook`)."""
    console.in_notebook()
    sns.set_theme(context="paper", style="whitegrid", palette="colorblind")
    plt.rcParams.update({
        "font.size": 8.5, "axes.titlesize": 8.5, "axes.labelsize": 8.5, "figure.labelsize": 8.5, "legend.fontsize": 7.5,
        "legend.title_fontsize": 7.5, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
        "figure.dpi": 110, "savefig.dpi": 200, "svg.fonttype": "path", "svg.hashsalt": "heal", "pdf.fonttype": 42,
        "figure.constrained_layout.use": True})


def save(figure: Figure, results_dir: Path, name: str, caption: str, *, data: str | Sequence[str] = "",
         seeds: Sequence[int] = (), width: float = DOUBLE) -> None:
    """Writes results_dir/figures/name.pdf, .png and .svg, and its caption as .txt, each whole or not at all.

    The same figure gives the same bytes. caption: one or two sentences, the first of which stands above the figure
    except in the PDF, which goes into papers; data: the table (its name) that is drawn, or several; seeds: those of
    what is drawn, where no table counts them; width: inches, SINGLE or DOUBLE."""
    figure.set_size_inches(width, figure.get_figheight())
    kinds = {"pdf": {"CreationDate": None}, "png": {"Software": None}, "svg": {"Date": None}}
    for kind, metadata in kinds.items():
        if kind == "png":
            _title(figure, caption, width)
        with atomic(results_dir / "figures" / f"{name}.{kind}") as path:
            figure.savefig(path, format=kind, metadata=metadata)
    with atomic(results_dir / "figures" / f"{name}.txt") as path:
        path.write_text(captions.text(results_dir, name, caption, data, seeds), encoding="utf-8")


def hide(axes: np.ndarray, used: int) -> None:
    """Hides the panels [rows, columns] after the first `used`; those above a hidden one get its tick labels."""
    for ax in list(axes.flat)[used:]:
        ax.set_visible(False)
    for i, ax in enumerate(list(axes.flat)[:used]):
        if i + axes.shape[1] >= used:
            ax.tick_params(axis="x", labelbottom=True)


def _title(figure, caption: str, width: float) -> None:
    """The caption's first sentence above a figure, which grows by as much."""
    lines = textwrap.wrap(caption.partition(". ")[0].rstrip("."), int(14 * width))
    figure.set_size_inches(width, figure.get_figheight() + 0.15 * len(lines) + 0.05)
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=8.5)


def show(*rows: dict[str, Any], **options: Any) -> HTML:
    """Trajectories (data-set rows) as a widget in a notebook; two stand side by side. See `explorer.show`."""
    from heal_lib.plots import explorer

    return explorer.show(*rows, **options)
