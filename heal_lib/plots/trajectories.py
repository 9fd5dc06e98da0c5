"""Figures of notebooks 00-03: trajectories as coloured tokens, ceilings, breakpoints, PURE's readings.

Entropy and U are in nats. A token's colour runs from white (0 nats) to deep orange (`TOP` nats and more)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from heal_lib.plots import DOUBLE, VERDICT_COLOURS

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOP = 2.5  # nats
POINTS, LARGEST = 500, 10  # steps of a verdict that are drawn: evenly spaced, and of largest ratio and perplexity
_PALETTE = sns.color_palette("colorblind", 10)
_HEAT = sns.light_palette(_PALETTE[1], as_cmap=True)
_WORLDS = {"equations": (_PALETTE[0], "o", "-"), "paths": (_PALETTE[1], "s", "--"),
           "countdown": (_PALETTE[4], "^", "-."), "registers": (_PALETTE[2], "D", ":")}
_HATCHES = {"paths": "///", "countdown": "...", "registers": "xx"}
_LINES = {"genuine": "-", "spurious": "--", "failed": "--", "correct": "-", "repaired": "-."}
_MARKS = {"genuine": "o", "spurious": "X", "failed": "v", "correct": "o", "repaired": "D"}
_FLAGS = {"breakpoint": "▼ breakpoint", "cut": "✂ cut", "repair": "▶ repaired from here"}
_BOX = "border-radius:3px;padding:0 3px;font-size:85%;"
_LOOKS = {"breakpoint": _BOX + "background:#222;color:#fff", "repair": _BOX + "background:#1b6e53;color:#fff",
          "cut": _BOX + "background:#fff;color:#222;border:1px solid #222",
          "hint": _BOX + "background:#fff;color:#0a5c8f;border:2px dashed #0a5c8f"}


def world_style(world: str) -> dict[str, Any]:
    """Colour, marker and line of a world, the same in every figure."""
    colour, marker, line = _WORLDS.get(world, (_PALETTE[7], "P", ":"))
    return {"color": colour, "marker": marker, "linestyle": line}


def source_style(source: str) -> dict[str, Any]:
    """Colour, marker and line of correct, failed and repaired trajectories, and of genuine and spurious ones."""
    colours = {**VERDICT_COLOURS, "correct": _PALETTE[0], "repaired": _PALETTE[2]}
    return {"color": colours[source], "marker": _MARKS[source], "linestyle": _LINES[source]}


# --- tokens
def _heat(nats: float | None) -> tuple[float, ...]:
    return _HEAT(0.0 if nats is None or np.isnan(nats) else min(max(nats / TOP, 0.0), 1.0))[:3]


def _by_place(marks, n_tokens: int) -> dict[int, list[tuple[str, str]]]:
    """Token index -> marks before that token; a mark past the end stands after the last one."""
    at: dict[int, list] = {}
    for place, kind, *text in marks:
        at.setdefault(min(max(int(place), 0), n_tokens), []).append((kind, text[0] if text else _FLAGS.get(kind, kind)))
    return at


def token_html(pieces: Sequence[str], entropy: Sequence[float | None] | np.ndarray,
               marks: Iterable[tuple[Any, ...]] = ()) -> str:
    """One trajectory as HTML, entropy [T] in nats as each token's background, with its value as the tooltip.

    pieces: text of each token. marks: (token index, kind, optional text), each set before that token: "breakpoint",
    "cut", "repair", or "hint" with the hint's text, which only the teacher sees. All text is escaped. The missing
    entropy of a token is None or NaN: no colour."""
    at, out = _by_place(marks, len(pieces)), []
    for i, piece in enumerate([*pieces, None]):
        out += [_mark_html(kind, text) for kind, text in at.get(i, ())]
        if not piece:
            continue
        h = entropy[i]
        red, green, blue = (round(255 * c) for c in _heat(h))
        tip = "no entropy" if h is None or np.isnan(h) else f"{h:.2f} nats"
        shown = escape(piece).replace("\n\n", "↵\n").replace("\t", "→")
        out.append(f'<span title="{tip}" style="background:rgb({red},{green},{blue})">{shown}</span>')
    frame = ("background:#fff;color:#111;border:1px solid #ccc;border-radius:4px;padding:8px;margin:4px 0;"
             "font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.6")
    return f'<div style="{frame}">{"".join(out)}</div>'


def _mark_html(kind: str, text: str) -> str:
    shown = f"teacher only: {text.strip()}" if kind == "hint" else text
    return f'<span style="{_LOOKS.get(kind, _LOOKS["cut"])}">{escape(shown)}</span> '


def scale_html() -> str:
    """The key to the colours."""
    stops = [tuple(round(255 * c) for c in _heat(TOP * x / 4)) for x in range(5)]
    bar = ("display:inline-block;width:10em;height:1em;vertical-align:middle;border:1px solid #ccc;"
           f"background:linear-gradient(90deg,{','.join(f'rgb{stop}' for stop in stops)})")
    return f'<div>token entropy: 0 nats <span style="{bar}"></span> {TOP:g} nats and more</div>'


def show(pieces: Sequence[str], entropy: Sequence[float | None] | np.ndarray, marks: Iterable[tuple[Any, ...]] = (),
         title: str = "") -> HTML:
    """`token_html` with a title and the key to the colours, as a notebook displays it."""
    from IPython.display import HTML

    head = f"<div><b>{escape(title)}</b></div>" if title else ""
    return HTML(head + token_html(pieces, entropy, marks) + scale_html())


def token_figure(columns: Sequence[tuple[Any, ...]], font: float = 8.5) -> Figure:
    """The same for paper: columns of (title, pieces, entropy, marks), one line per step; returns the figure.

    It is DOUBLE inches wide; `font`, in points, shrinks to 7 where the lines need it."""
    grids = [_lines(pieces, entropy, marks) for _, pieces, entropy, marks in columns]
    widths = [max([sum(len(text) for text, _, _ in line) for line in grid], default=1) + 1 for grid in grids]
    height, room = max(map(len, grids)), (DOUBLE - 1.4) * 72 / 0.66  # room: characters across, times their points
    font = min(font, max(7, room / sum(widths)))
    spare = max(1, room / font / sum(widths))  # a box stays as wide as its text
    figure, axes = plt.subplots(1, len(columns), squeeze=False, gridspec_kw={"width_ratios": widths},
                                figsize=(DOUBLE, 0.024 * font * height + 0.6))
    for ax, grid, width, (title, *_) in zip(axes[0], grids, widths, columns, strict=True):
        ax.set(xlim=(-0.4, width * spare), ylim=(height + 0.1, -0.1), title=title, xticks=[], yticks=[])
        ax.grid(False)
        for y, line in enumerate(grid):
            _draw_line(ax, y, line, font)
    heat = plt.cm.ScalarMappable(plt.Normalize(0, TOP), _HEAT)
    figure.colorbar(heat, ax=axes[0], label="token entropy, nats", extend="max", shrink=min(1.0, 12 / max(height, 1)))
    return figure


def _lines(pieces, entropy, marks) -> list[list[tuple]]:
    """Lines of (text, entropy or None, kind of mark or None); a new line after each delimiter and around marks."""
    at, lines = _by_place(marks, len(pieces)), [[]]
    for i, piece in enumerate([*pieces, ""]):
        for kind, text in at.get(i, ()):
            lines += [[(("teacher only: " if kind == "hint" else "") + text.strip(), None, kind)], []]
        if piece:
            lines[-1].append((piece.replace("\n\n", "↵").replace("\n", "↵"), entropy[i], None))
        if "\n" in piece:
            lines.append([])
    return [line for line in lines if line]


def _draw_line(ax, y, line, font) -> None:
    x = 0
    for text, nats, kind in line:
        look: dict = {"facecolor": _heat(nats) if kind is None else "white",
                      "edgecolor": "0.8" if kind is None else "black",
                      "linestyle": "--" if kind == "hint" else "-", "linewidth": 0.4 if kind is None else 0.9}
        ax.add_patch(Rectangle((x, y + 0.06), len(text), 0.88, **look))
        # A dollar sign would start mathematics.
        ax.text(x + len(text) / 2, y + 0.5, text.replace("$", r"\$"), ha="center", va="center", family="monospace",
                fontsize=font if kind is None else max(7, font - 1), weight="normal" if kind is None else "bold")
        x += len(text)


# --- one trajectory's steps
def surge_bars(ax: Axes, step_entropy: np.ndarray, surge: np.ndarray, stop: int, breakpoint: int | None,
               kept: int) -> None:
    """Step entropy (bars) and surge D_k (line) of one trajectory [K]; the window ends before step `stop`."""
    k = np.arange(1, len(step_entropy) + 1)
    ax.axvspan(1.5, stop + 0.5, color="0.9", label="window")
    ax.bar(k, step_entropy, color=_PALETTE[1], alpha=0.6, label="mean entropy of the step")
    ax.plot(k, surge, **source_style("failed"), label="surge")
    if breakpoint is not None:
        ax.plot(breakpoint + 1, surge[breakpoint], "k*", ms=13, label="breakpoint")
        ax.axvline(kept + 0.5, color="black", ls=":", label="cut")
    ax.set(xlabel="step", ylabel="nats", xticks=k[:: max(1, len(k) // 20)])
    ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))


def reading_bars(axes: Sequence[Axes] | np.ndarray, ppl: np.ndarray, u: np.ndarray, ratio: np.ndarray,
                 labels: Sequence[str], title: str) -> None:
    """PURE's reading of one trajectory on three axes: PPL, U and their ratio for each step [K]."""
    names = (("step PPL", ppl, "///"), ("U, nats per token", u, ""), ("ratio, 1/nats", ratio, "..."))
    for ax, (name, values, hatch), colour in zip(axes, names, (_PALETTE[0], _PALETTE[4], _PALETTE[3]), strict=True):
        ax.barh(range(len(values)), values, color=colour, hatch=hatch, edgecolor="white")
        ax.set(xlabel=name, ylim=(len(values) - 0.4, -0.6), yticks=range(len(values)), yticklabels=[])
    axes[0].set_yticklabels([label.replace("$", r"\$") for label in labels], family="monospace", fontsize="small")
    axes[0].set_title(title, loc="left")


# --- curves with intervals
def band(ax: Axes, x: np.ndarray, mean: np.ndarray, low: np.ndarray, high: np.ndarray, **look: Any) -> None:
    """A line with its interval as a band; NaN leaves a gap."""
    ax.plot(x, mean, **{"markersize": 4, **look})
    ax.fill_between(x, low, high, color=look["color"], alpha=0.18, lw=0)


def pass_curve(ax: Axes, k: np.ndarray, mean: np.ndarray, low: np.ndarray, high: np.ndarray, world: str) -> None:
    """pass@k [len(k)] of one world with its interval."""
    band(ax, k, mean, low, high, label=world, markevery=max(1, len(k) // 6), **world_style(world))
    ax.set(xlabel="k, samples per problem", ylim=(-0.02, 1.02), xlim=(0.5, len(k) + 0.5))


def count_groups(n: int) -> list[tuple[int, int]]:
    """Ranges of c, of n samples: none, one, quarters of the rest, all; each (first, last)."""
    ends = sorted({0, min(1, n), *(max(1, n * part // 4) for part in (1, 2, 3)), max(0, n - 1), n})
    return [(before + 1, end) for before, end in zip([-1, *ends], ends, strict=False)]


def count_bars(ax: Axes, shares: np.ndarray, world: str, place: int = 0, n_worlds: int = 1) -> None:
    """Bars of c: shares [N + 1] of the problems with c = 0..N correct samples, in the ranges of `count_groups`.

    The world stands at `place` of `n_worlds` side by side, which leave a gap before the next range."""
    groups = count_groups(len(shares) - 1)
    heights = [np.sum(shares[first : last + 1]) for first, last in groups]
    width = 0.8 / n_worlds
    ax.bar(np.arange(len(groups)) + (place - (n_worlds - 1) / 2) * width, heights, width, label=world,
           color=world_style(world)["color"], hatch=_HATCHES.get(world, ""), edgecolor="white")
    words = [f"{first}" if first == last else f"{first}–{last}" for first, last in groups]
    ax.set(xlabel="c, correct samples of N", xticks=range(len(groups)), xticklabels=words)
    ax.grid(False, axis="x")


def entropy_curve(ax: Axes, offsets: np.ndarray, mean: np.ndarray, low: np.ndarray, high: np.ndarray,
                  source: str) -> None:
    """Step entropy aligned at the breakpoint (offset 0), of one source."""
    band(ax, offsets, mean, low, high, label=source, **source_style(source))
    ax.axvline(0, color="black", lw=0.8, ls=":")
    ax.set(xlabel="step, counted\nfrom the breakpoint")


def position_histogram(ax: Axes, positions: Sequence[float] | np.ndarray, window: float, world: str,
                       unit: str = "steps") -> None:
    """What share of each trajectory, 0 to 1, stands before its breakpoint, with the window shaded."""
    ax.axvspan(0, window, color="0.9", label="window")
    ax.hist(positions, bins=np.linspace(0, 1, 21).tolist(), weights=np.full(len(positions), 1 / max(1, len(positions))),
            color=world_style(world)["color"], edgecolor="white")
    ax.set(title=world, xlim=(0, 1), xticks=(0, 0.5, 1), xlabel=f"share of the {unit}\nbefore the breakpoint")


def interval_points(ax: Axes, table: pd.DataFrame, label: str, shift: float = 0.0, **look: Any) -> None:
    """Rows of a table (mean, ci_low, ci_high) as horizontal intervals, one per line, in the table's order."""
    y, x = np.arange(len(table)) + shift, table["mean"].to_numpy(float)
    reach = np.abs(np.stack([x - table["ci_low"], table["ci_high"] - x]).astype(float))
    ax.errorbar(x, y, xerr=np.where(np.isfinite(reach), reach, 0), label=label, capsize=2, ms=5,
                **{"color": "black", "marker": "o", **look, "linestyle": "none"})
    ax.set(ylim=(max(1, len(table)) - 0.5, -0.5))


# --- PURE
def ppl_against_u(axes: Sequence[Axes] | np.ndarray, u: np.ndarray, ppl: np.ndarray, spurious: np.ndarray, eps: float,
                  title: str) -> None:
    """Steps as points: PPL against U (nats per token) on two axes of the same limits, those of genuine trajectories
    above, of spurious ones below (by the oracle); u, ppl [n]. Grey lines join equal ratios. Of each verdict are drawn
    at most POINTS steps, evenly spaced in the data, and the LARGEST ratios and perplexities, so that outliers show."""
    x, drawn = u + eps, []
    for ax, verdict, chosen in zip(axes, ("genuine", "spurious"), (~spurious, spurious), strict=True):
        every = np.flatnonzero(chosen)
        even = np.linspace(0, len(every) - 1, min(POINTS, len(every))).astype(int)
        most = [np.argsort(value[every])[-LARGEST:] for value in (ppl / x, ppl)]
        rows = every[np.unique(np.concatenate([even, *most]))]
        ax.plot(x[rows], ppl[rows], alpha=0.45, ms=4, mew=0, **{**source_style(verdict), "linestyle": "none"})
        many = f"{len(rows):,} of {len(every):,}" if len(rows) < len(every) else f"{len(rows)}"
        ax.set_title(f"{title}\n" * (verdict == "genuine") + f"{verdict}:\n{many} steps", fontsize="small")
        drawn.append(rows)
    axes[1].set(xlabel="U + eps,\nnats per token")
    x, y = (values[np.concatenate(drawn)] for values in (x, ppl))
    for ax in axes if len(x) else ():
        ax.set(xscale="log", yscale="log", xlim=(0.7 * x.min(), 1.4 * x.max()), ylim=(0.8 * y.min(), 1.25 * y.max()))
        for axis, values in ((ax.xaxis, x), (ax.yaxis, y)):
            subs = (1, 2, 5) if values.max() < 100 * values.min() else (1,)
            axis.set(major_locator=LogLocator(subs=subs), major_formatter="{x:g}", minor_formatter=NullFormatter())
        lines = np.outer(ax.get_xlim(), 10.0 ** np.arange(-2, 6))
        ax.plot(ax.get_xlim(), lines, color="0.75", lw=0.7, zorder=0, scalex=False, scaley=False)


def roc_curve(ax: Axes, scores: np.ndarray, labels: np.ndarray, label: str, **look: Any) -> None:
    """False against true positive share over all thresholds; labels 1 = spurious. Ties are crossed straight.

    Where one of the two kinds is missing there is no curve, only its entry in the legend."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(scores[order][1:] != scores[order][:-1], True)
    positive = np.asarray(labels)[order] == 1
    kinds = (positive, ~positive) if positive.any() and not positive.all() else (np.zeros(0), np.zeros(0))
    true, false = (np.append(0, np.cumsum(x)[last]) / x.sum() if len(x) else x for x in kinds)
    ax.plot(false, true, label=label, **look)
    ax.set(xlabel="genuine flagged, share", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")


def kind_style(kind: str) -> dict[str, Any]:
    """Colour and marker of a kind of spuriousness, one of `detection.KINDS`."""
    colour, marker = {"asserted": (4, "D"), "false step": (3, "X"), "uncalled step": (0, "^")}[kind]
    return {"color": _PALETTE[colour], "marker": marker}


def reading_style(name: str, chosen: str) -> dict[str, Any]:
    """A reading of PURE: ratios in green, solid for U before, dashed for U after, the one in use thick."""
    if name.startswith("ratio"):
        shade = {"mean": 1.0, "max": 0.55, "top3": 0.75}[name.split()[1].rstrip(",")]
        colour, width = tuple(shade * c + 0.9 * (1 - shade) for c in _PALETTE[2]), 2.6 if name == chosen else 1.0
        line = "-" if name.endswith("before") else "--"
        return {"color": colour, "lw": width, "linestyle": line, "zorder": width + 1}
    styles: dict[str, tuple[int, Any]] = {
        "mean NLL": (0, "-."), "max step PPL": (1, ":"), "length": (4, "-."), "random": (7, "-"),
        "certainty before": (7, (0, (1, 3))), "certainty after": (5, "--"), "min-token probability": (6, "--"),
        "token entropy": (9, "--"), "self-certainty": (9, ":"), "pure+": (3, (0, (5, 1)))}
    shade_of, line = styles.get(name, (7, "-"))
    return {"color": _PALETTE[shade_of], "linestyle": line, "lw": 2.6 if name == "pure+" else 1.2}
