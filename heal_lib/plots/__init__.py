"""Figures. Numbers come in, axes go out; nothing here computes a result. One colour per method, everywhere."""

from __future__ import annotations

import matplotlib.pyplot as plt
import seaborn as sns

from heal_lib import baselines
from heal_lib.store import atomic

_PALETTE = sns.color_palette("colorblind", 10)
_MAIN_COLOURS = dict(zip(baselines.MAIN, (_PALETTE[i] for i in (7, 9, 8, 3, 0, 4, 5, 6, 1, 2)), strict=True))
COLOURS = {name: _MAIN_COLOURS.get(name, _PALETTE[3 + i % 4]) for i, name in enumerate(baselines.METHODS)}
_SHAPES = "s^hpoPdXvD<>8*H"  # readable in greyscale; the main methods each have their own
MARKERS = {name: _SHAPES[i % len(_SHAPES)] for i, name in enumerate(baselines.METHODS)}
VERDICT_COLOURS = {"genuine": _PALETTE[2], "spurious": _PALETTE[3], "failed": _PALETTE[7]}


def style() -> None:
    """The look of all figures: seaborn's white grid, a size that a page can take, fonts that embed."""
    sns.set_theme(context="paper", style="whitegrid", palette="colorblind", font_scale=1.1)
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 200, "savefig.bbox": "tight", "svg.fonttype": "path",
                         "svg.hashsalt": "heal", "figure.constrained_layout.use": True})


def save(figure, results_dir, name: str) -> None:
    """Writes results_dir/figures/name.png and .svg, each whole or not at all, the same bytes for the same figure."""
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        with atomic(results_dir / "figures" / f"{name}.{kind}") as path:
            figure.savefig(path, format=kind, metadata=metadata)
