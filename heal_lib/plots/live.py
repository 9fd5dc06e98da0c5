"""Sliders over what is already scored: GEAR's window and back-off, PURE's lambda and eps. No model is asked.

Each function draws one figure from plain values; `controls` puts sliders to it in a notebook, or draws it once where
nobody is there to move them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import matplotlib.pyplot as plt
import numpy as np

from heal_lib import entropy, gear, pure, worlds
from heal_lib.plots import DOUBLE
from heal_lib.plots.trajectories import position_histogram, reading_style, roc_curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from heal_lib.engines import Engine
    from heal_lib.scales import Scale

Row: TypeAlias = dict[str, Any]
Pairs: TypeAlias = Sequence[tuple[Row, Row]]  # data-set row, PURE's reading of it


def controls(draw: Callable[..., Any], **sliders: tuple[Any, Any, Any, Any]) -> None:
    """draw(**values) with a slider for each (value, low, high, step); the driver's runs get the first figure only."""
    if os.environ.get("HEAL_EVENTS"):  # which nobody but the driver sets
        draw(**{name: value for name, (value, *_) in sliders.items()})
        plt.show()
        return
    import ipywidgets

    def redraw(**values):
        draw(**values)
        plt.show()

    kinds = {name: ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
             for name, (*_, step) in sliders.items()}
    look = {"continuous_update": False, "style": {"description_width": "initial"}}  # or long names are cut
    ipywidgets.interact(redraw, **{name: kinds[name](value, min=low, max=high, step=step, **look,
                                                     **({"readout_format": ".3f"} if isinstance(step, float) else {}))
                                   for name, (value, low, high, step) in sliders.items()})


def steps(engine: Engine, rows: Iterable[Row], cfg: Scale) -> list[Row]:
    """Of each trajectory its world, and per step its mean entropy (nats) and its tokens, [K] each."""
    found = []
    for row in rows:
        spans = worlds.get(row["world"]).spans(engine.pieces(row["token_ids"]), cfg.step_delimiter)
        found.append({"world": row["world"], "entropy": entropy.step_means(row["entropy"], spans),
                      "lengths": np.array([end - start for start, end in spans])})
    return found


def cuts(found: Iterable[Row], window: float, backoff: int, surge: str,
         unit: str = "steps") -> list[tuple[str, float, float]]:
    """(world, share of steps before the breakpoint, share of tokens kept) of trajectories of two steps or more."""
    out = []
    for f in found:
        at = gear.find_breakpoint(f["entropy"], window, surge=surge, window_unit=unit, step_lengths=f["lengths"])
        if at is not None:
            kept = f["lengths"][: gear.kept_steps(at, backoff)].sum() / f["lengths"].sum()
            out.append((f["world"], at / len(f["lengths"]), kept))
    return out


def draw_breakpoints(found: Iterable[Row], cfg: Scale, window: float, backoff: int) -> Figure:
    """Where breakpoints lie under a window, and the mean share of tokens kept, one panel per world."""
    placed = cuts(found, window, backoff, cfg.surge, cfg.window_unit)
    figure, axes = plt.subplots(1, len(cfg.worlds), figsize=(DOUBLE, 2.3), sharey=True, squeeze=False)
    for ax, world in zip(axes[0], cfg.worlds, strict=True):
        mine = [(at, kept) for where, at, kept in placed if where == world]
        position_histogram(ax, [at for at, _ in mine], window if cfg.window_unit == "steps" else 0, world)
        ax.set_title(f"{world}\n{np.mean([kept for _, kept in mine]):.0%} of tokens kept" if mine else f"{world}\nnone")
    axes[0, 0].set_ylabel("share of trajectories")
    return figure


def breakpoints(found: Iterable[Row], cfg: Scale) -> None:
    """`draw_breakpoints` with sliders for window (share, above 0 to 1) and back-off (steps). `found`: from `steps`."""
    controls(lambda window, backoff: draw_breakpoints(found, cfg, window, backoff),
             window=(cfg.window, 0.05, 1.0, 0.01), backoff=(cfg.backoff, 0, 5, 1))


def kept(pairs: Pairs, cfg: Scale, lam: float, eps: float) -> Row:
    """PURE on (row, reading) pairs: `scores`, `spurious`, and the shares kept of `all`, `genuine`, `spurious_kept`."""
    scores = np.array([pure.anomaly(reading, cfg.pure_aggregate, cfg.pure_uncertainty, eps) for _, reading in pairs])
    spurious = np.array([row["genuine"] == 0 for row, _ in pairs], dtype=bool)
    pools = [f"{row['source']} {row['problem_id']}" for row, _ in pairs]
    stays = pure.keep(scores, lam, cfg.pure_rule, pools)
    shares = {name: stays[some].mean() if some.any() else np.nan
              for name, some in (("all", np.ones_like(spurious)), ("genuine", ~spurious), ("spurious_kept", spurious))}
    return {"scores": scores, "spurious": spurious, **shares}


def draw_filter(in_world: Mapping[str, Pairs], cfg: Scale, lam: float, eps: float) -> Figure:
    """The ROC of PURE's reading and what the filter keeps, one panel per world with rows."""
    told = {world: kept(pairs, cfg, lam, eps) for world, pairs in in_world.items() if pairs}
    figure, axes = plt.subplots(1, max(1, len(told)), figsize=(DOUBLE, 1 + 6.2 / max(1, len(told))), sharey=True,
                                squeeze=False)  # panels are square
    name = f"ratio {cfg.pure_aggregate}, U {cfg.pure_uncertainty}"
    for ax, (world, it) in zip(axes[0], told.items(), strict=False):
        ax.plot([0, 1], [0, 1], color="0.6", lw=0.8)
        roc_curve(ax, it["scores"], it["spurious"], name, **reading_style(name, name))
        ax.plot(1 - it["genuine"], 1 - it["spurious_kept"], "k*", ms=11, label="this lambda")
        ax.set_title(f"{world}: keeps {it['all']:.0%},\n{it['genuine']:.0%} of the genuine")
    axes[0, 0].set_ylabel("spurious flagged, share")
    return figure


def filter(in_world: Mapping[str, Pairs], cfg: Scale) -> None:
    """`draw_filter` with sliders for lambda and eps (nats per token). `in_world`: world -> (row, reading) pairs."""
    top = 1.0 if cfg.pure_rule == "quantile" else max(1.0, 4 * cfg.pure_lambda)
    controls(lambda pure_lambda, pure_eps: draw_filter(in_world, cfg, pure_lambda, pure_eps),
             pure_lambda=(cfg.pure_lambda, 0.0, top, 0.01),
             pure_eps=(cfg.pure_eps, 0.001, max(1.0, cfg.pure_eps), 0.001))
