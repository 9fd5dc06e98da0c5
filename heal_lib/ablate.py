"""A sweep over one switch: `make ablate SWITCH=window VALUES=0.33,0.5,1.0 SCALE=smoke`.

HEAL is run at each value and at the scale's own, on the same problems and seeds; a value re-makes only what depends on
it, and the log says what was reused. Tables and figure go to results/<scale>+<switch>=sweep/."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heal_lib import console, notebooks, scales, tables
from heal_lib.errors import HealError
from heal_lib.files import ROOT, write_table
from heal_lib.places import check_folder, default_root
from heal_lib.run import alone
from heal_lib.scales import Scale

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE = "make ablate SWITCH=window VALUES=0.33,0.5,1.0"


def values(switch: str, text: str) -> list[Any]:
    """Comma-separated values of a switch as Python data; HealError if there is none."""
    found = [notebooks.typed(switch, part.strip()) for part in text.split(",") if part.strip()]
    if not found:
        raise HealError(f"VALUES is empty; give at least one, such as {EXAMPLE}")
    return found


def settings(scale: str, switch: str, tried: list[Any]) -> dict[str, Scale]:
    """{"switch=value": Scale} of a sweep, the scale's own value first and marked, all checked before anything runs;
    HealError names what cannot be."""
    if switch not in tables.SWITCHES:
        raise HealError(f"unknown switch {switch!r}; {notebooks.nearest(switch, list(tables.SWITCHES))}")
    usual, others = scales.get(scale), [(value, scales.get(scale, **{switch: value})) for value in tried]
    own = getattr(usual, switch)
    shown = f"{own:.4g}" if isinstance(own, float) else own
    return {f"{switch}={shown} (default)": usual, **{f"{switch}={value}": cfg for value, cfg in others if cfg != usual}}


def sweep(configs: dict[str, Scale]) -> pd.DataFrame:
    """All samples of HEAL at each setting, the setting in the column `method`."""
    import pandas as pd

    from heal_lib.experiment import Experiment

    frames = [Experiment(cfg).evaluations(["heal"], cfg.ablation_seeds).assign(method=name)
              for name, cfg in configs.items()]
    return pd.concat(frames, ignore_index=True)


def given(configs: dict[str, Scale]) -> pd.DataFrame:
    """One row per setting: tokens drawn from the teacher, verified repairs, rows that HEAL's students are given from
    each source, and the share of the hinted and repaired ones that are genuine. Small scales show a switch here, where
    accuracy does not tell."""
    import pandas as pd

    from heal_lib.experiment import Experiment

    rows = []
    for name, cfg in configs.items():
        run = Experiment(cfg)
        found = run.training_sources("heal")
        drawn = sum(sum(run.data(which)["n_generated"]) for which in ("pool", "hinted", "repairs"))
        told = [row["genuine"] for source in ("hint", "repair") for row in found[source]]
        rows.append([name, drawn, len(run.accepted("repairs")), *map(len, found.values()),
                     sum(told) / len(told) if told else float("nan")])
    return pd.DataFrame(rows, columns=["setting", "teacher tokens", "verified repairs",
                                       *(f"{name} rows" for name in found), "genuine share"])


def run(scale: str, switch: str, tried: list[Any]) -> tuple[Path, pd.DataFrame, pd.DataFrame]:
    """Runs a sweep and writes its tables and figure; returns their folder, accuracies, and what students are given."""
    configs = settings(scale, switch, tried)
    folder = ROOT / "results" / f"{scale}+{switch}=sweep"
    check_folder(folder, "results")
    check_folder(default_root(), "HEAL_CACHE")
    with alone(folder):
        return folder, *_run(configs, switch, folder)


def _run(configs, switch, folder):
    from heal_lib import llm

    samples, n_boot = sweep(configs), next(iter(configs.values())).n_boot
    hard = samples["benchmark"].str.endswith("-hard").any()  # else there is one level, or levels of other names
    suffix, pooled = ("-hard", tables.POOLED) if hard else ("", llm.POOLED)
    table = tables.beside_default(tables.with_pooled(samples, suffix, pooled), list(configs), n_boot=n_boot)
    write_table(table, folder / "tables" / f"ablate_{switch}.csv")
    draw(table, folder, switch)
    rows = given(configs)
    write_table(rows, folder / "tables" / f"ablate_{switch}_data.csv")
    print(rows.round(2).to_string(index=False), end="\n\n")
    print(table[table["benchmark"] == pooled].round(3).to_string(index=False))
    return table, rows


def side_by_side(table: pd.DataFrame, default: str, tried: str) -> pd.DataFrame:
    """`tables.beside_default` of two settings for readers: one row per benchmark, in per cent."""
    import pandas as pd

    from heal_lib.report import interval

    parts = [table[table["method"] == name].set_index("benchmark") for name in (default, tried)]
    return pd.DataFrame([[at, *(interval(*part.loc[at, ["mean", "ci_low", "ci_high"]]) for part in parts),
                          interval(parts[1].loc[at, "minus_default"], parts[1].loc[at, "minus_low"],
                                   parts[1].loc[at, "minus_high"], "+")]
                         for at in parts[1].index], columns=["benchmark", default, tried, f"{tried} − {default}"])


def draw(table: pd.DataFrame, folder: Path, switch: str) -> None:
    """The figure of a sweep: accuracy at each value, one panel per benchmark."""
    import matplotlib.pyplot as plt

    from heal_lib import plots
    from heal_lib.plots.trajectories import interval_points

    plots.style()
    panels, names = list(table["benchmark"].unique()), list(table["method"].unique())
    figure, axes = plt.subplots(-(len(panels) // -3), 3, squeeze=False, sharex=True, sharey=True,
                                figsize=(plots.DOUBLE, -(len(panels) // -3) * (0.6 + 0.25 * len(names))))
    for ax, panel in zip(axes.flat, panels, strict=False):
        rows = table[table["benchmark"] == panel].set_index("method").reindex(names)
        interval_points(ax, 100 * rows[["mean", "ci_low", "ci_high"]], panel)
        ax.set(title=panel, xlim=(-5, 105), yticks=range(len(names)), yticklabels=names)
    plots.hide(axes, len(panels))
    figure.supxlabel("accuracy, avg@k (%)", fontsize="medium")
    plots.save(figure, folder, f"ablate_{switch}", f"HEAL's accuracy at each value of the switch {switch} on every "
               "benchmark, with 95 % intervals over problems and seeds.", data=f"ablate_{switch}")
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 done, 2 bad input."""
    it = console.Parser("ablate", __doc__.splitlines()[0])
    it.add_argument("switch", help="one of " + ", ".join(tables.SWITCHES))
    it.add_argument("values", help="comma-separated, such as 0.33,0.5,1.0")
    it.add_argument("--scale", default="demo")

    def command(args):
        if not args.switch.strip():
            raise HealError(f"SWITCH is empty; give a switch and values to try, such as {EXAMPLE}")
        notebooks.prepare_kernels(offline=args.scale != "llm")  # and no progress bars here
        folder, table, rows = run(args.scale, args.switch, values(args.switch, args.values))
        print(f"results are in {folder.relative_to(ROOT)}")
        return {"folder": folder, "switch": args.switch, "table": table, "given": rows}, 0

    return console.run(it, command, arguments)


if __name__ == "__main__":
    sys.exit(main())
