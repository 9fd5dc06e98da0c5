"""README's two generated blocks: what is helped where, under the picture, and the results. No number is typed by hand:
they come from the tables of `shown()`, and CI fails where the two differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from heal_lib import baselines, evidence, llm, premises, provenance, scales, when, where
from heal_lib.errors import HealError
from heal_lib.files import ROOT, atomic
from heal_lib.progress import clock
from heal_lib.report import accuracy_table, markdown, origin, setting, took

README, RESULTS = ROOT / "README.md", ROOT / "results"
MARKS = "<!-- {}:begin -->", "<!-- {}:end -->"
LARGER = ("full", "parts", "orders")  # whose students README prefers to those of demo, in this order
EMPTY = "No results are committed yet: `make reproduce` makes them and fills this block."


def shown() -> list[Path]:
    """The results that README shows: those of `demo`, and before them of the larger studies of students, if made."""
    return [RESULTS / name for name in LARGER if (RESULTS / name / "run.json").is_file()] + [RESULTS / "demo"]


def block(folder: Path | None = None) -> str:
    """README's generated text for a results folder, by default for those of `shown()` and what stands beside them; says
    so if there is nothing yet."""
    folders = [Path(folder)] if folder else shown()
    main = evidence.first(folders, "main_results")
    if main is None:
        return EMPTY
    results, home = pd.read_csv(main), main.parent.parent
    of_it, claimed = f"results/{home.name}", evidence.claims_table(folders)
    claimed["table"] = [f"[{name}](results/{of}/tables/{name}.csv)"
                        for name, of in claimed[["table", "folder"]].itertuples(index=False)]
    pretrained = RESULTS / "gpu" / "llm", RESULTS / "llm"
    asked, draw = premises.measured(folders[-1]), evidence.one_draw(folders[-1])
    asked["table"] = [f"[{name}](results/{folders[-1].name}/tables/{name}.csv)" for name in asked["table"]]
    texts = ["What the teacher's texts show, before any student, in the world made to judge (one correction, against "
             f"the strongest control) and, not judged, in the others.{draw}", markdown(asked)] * bool(len(asked))
    twice = evidence.readings(folders)
    both = ["HEAL minus a method under two readings of PACE, and without its stages (points; each corrected apart; no "
            "claim rests on the second or the third):",
            markdown(twice)] * bool(len(twice))
    swept = when.first_page(RESULTS / "sweep-registers", RESULTS / "sweep")
    more = (*swept, *llm.first_page(*pretrained)) if folder is None else ()
    return "\n\n".join([
        f"![Accuracy on every benchmark, and minus rejection sampling]({of_it}/figures/main_results.png)",
        origin(home, of_it, "05_main_results"), setting(results, home), markdown(accuracy_table(results)),
        named([*baselines.HEADLINE, *claimed["minus"]]), evidence.CORRECTED,
        f"Part by part:\n\n{evidence.parts(folders)}", *both, *texts, markdown(claimed.drop(columns="folder")), *more,
        *(line for each in folders for line in took(each, f"results/{each.name}")), markdown(sizes(folders[-1].name))])


def named(methods: Iterable[str]) -> str:
    """What the names of methods mean, in one line; those of none are left out."""
    known = [name for name in dict.fromkeys(methods) if name in baselines.METHODS]
    return "; ".join(f"`{name}`: {baselines.get(name).label}" for name in known) + "."


def sizes(above: str) -> pd.DataFrame:
    """The scales that need no GPU: command, use, student seeds, and how much of everything. `above`: the one above."""
    uses = {"smoke": "a check that everything runs, in minutes; its intervals are wide",
            "demo": "fewer rivals, problems and seeds, in two or three hours",
            "full": "every rival at a learning rate of its own, HEAL without each part",
            "parts": "every switch and control of GEAR, PURE and PACE, in `registers`",
            "orders": "orders and schedules of PACE, in the other worlds",
            "sweep": "when HEAL helps: other teachers, other sizes of students",
            "sweep-registers": "when HEAL helps, where its parts can be told apart: other teachers"}
    rows = []
    for name, use in uses.items():
        cfg, option = scales.SCALES[name], "" if name == "demo" else f" SCALE={name}"
        record = provenance.record(RESULTS / name)
        use = "the results above, but for what the larger studies have of students" if name == above else use
        if name in scales.STUDIES:
            use += f" ({f'`results/{name}`' if record else 'not run yet; hours'})"
        if whole := record.get("from_nothing"):
            use += f"; from nothing in {clock(whole['seconds'])} here"
        was = asdict(cfg) | record.get("config", {})  # what is committed was run with
        seeds, fewer = len(was["seeds"]), was["n_ablation_seeds"]
        rows.append([f"`{name}`", f"`make reproduce{option}`", use,
                     f"{seeds}" + f" ({fewer} for parts)" * (fewer < seeds), was["n_test"], was["n_samples"],
                     f"{was['n_failed']} × {was['n_candidates']}", f"{was['train_tokens']:,}"])
    return pd.DataFrame(rows, columns=["scale", "command", "for", "student seeds", "test problems", "teacher samples",
                                       "repairs", "training tokens"])


def blocks(folder: Path | None = None) -> dict[str, str]:
    """{name of a block: its text} of a folder, which alone has no picture, or by default of `shown()`."""
    told = {} if folder else {"where": "\n\n".join(where.first_page(shown()))}
    return told | {"results": block(folder)}


def _parts(text, name):
    """README's text before, in, and after a block, its marks not in it."""
    begin, end = (mark.format(name) for mark in MARKS)
    before, begun, rest = text.partition(begin)
    inside, ended, after = rest.partition(end)
    if not begun or not ended:
        raise HealError(f"README.md: the lines {begin} and {end} are missing; put them where this block should stand")
    return before + begin, inside, end + after


def is_current(readme: Path = README, folder: Path | None = None) -> bool:
    """Whether README's blocks are what `folder` gives, by default `shown()`, of which the picture is then, too."""
    text, drawn = Path(readme).read_text(), folder is not None or where.is_current(shown(), RESULTS)
    return drawn and all(_parts(text, name)[1].strip() == said for name, said in blocks(folder).items())


def write(readme: Path = README, folder: Path | None = None) -> None:
    """Puts the blocks of `folder`, by default of `shown()` and their picture, into README; leaves the rest alone."""
    text = Path(readme).read_text()
    for name, said in blocks(folder).items():
        before, _, after = _parts(text, name)
        text = f"{before}\n{said}\n{after}"
    if folder is None:
        where.draw(shown(), RESULTS)
    with atomic(readme) as temporary:
        temporary.write_text(text)


def fills(cfg: scales.Scale) -> bool:
    """Whether a run may write README: it is `demo`, and no switch was changed."""
    home = RESULTS / "demo"
    return README.is_file() and cfg == scales.SCALES[home.name] and Path(cfg.results_dir).resolve() == home.resolve()
