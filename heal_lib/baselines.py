"""What is compared (docs/method.md, section 5): a method is a choice of data, filter, order; all else is equal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from heal_lib import pure, sampling, trajectory, worlds
from heal_lib.engines import choose
from heal_lib.errors import HealError
from heal_lib.trajectory import problem_of, rng_of, seed_of

if TYPE_CHECKING:
    from datasets import Dataset

    from heal_lib.engines.words import Words
    from heal_lib.scales import Scale


@dataclass(frozen=True)
class Method:
    """One row of the tables. `label` is for readers; `cut`, `filter` and `order` are the three modules."""

    label: str
    base: str | Callable[..., Any] = "correct"  # what Base holds; see `_base`
    hint: bool = False  # hinted samples, for problems below the share correct
    cut: str | None = None  # GEAR's cut rule, or None for no repair
    # of hints and repairs: pure | pure+ | nll | entropy | regex | random | oracle | oracle-share | None
    filter: str | None = None
    order: str = "mixed"
    restart: bool = True  # a learning-rate schedule for each stage, rather than one for all
    loss: str = "tokens"  # or "logits": the teacher's distribution at each of them
    passes: str = ""  # of this method: as many passes over the own rows as it makes, rather than as many tokens
    early: bool = False  # the weights of the least loss on held-out rows, rather than the last
    trained: bool = True
    switches: tuple[tuple[str, Any], ...] = ()  # ((switch, value), ...): assumption switches other than the run's


def _heal(label: str, *, hint=True, cut="entropy", filter="pure", order="staged", **other) -> Method:
    """HEAL, with what is named changed."""
    return Method(label, "correct", hint, cut, filter, order, **other)


METHODS = {
    "teacher": Method("teacher, unhinted", trained=False),
    "student": Method("student before distillation", trained=False),
    "answers": Method("answers only, no reasoning", "answers"),
    "sft-rs": Method("rejection sampling"),
    "sft-rs-matched": Method("rejection sampling, as many teacher tokens as HEAL", "matched"),
    "sft-rs-passes": Method("rejection sampling, as many passes as HEAL, stopped early", passes="heal", early=True),
    "sft-rs-early": Method("rejection sampling, stopped early", early=True),
    "limo": Method("LIMO: few, hard, clean, stopped early", "limo", early=True),
    "paced": Method("PACED: weighted by p(1-p) of the student", "paced"),
    "logits": Method("logit distillation on verified samples", loss="logits"),
    "star": Method("STaR rationalisation: hints from the start, unfiltered", hint=True),
    "star-pure": Method("STaR rationalisation, filtered by PURE", hint=True, filter="pure"),
    "heal": _heal("HEAL"),
    "heal-no-gear": _heal("without GEAR (hint only)", cut=None),
    "heal-no-pure": _heal("without PURE", filter=None),
    "heal-no-pace": _heal("without PACE (one mixed stage)", order="mixed"),
    "heal-random-cut": _heal("GEAR: random cut", cut="random"),
    "heal-middle-cut": _heal("GEAR: cut at the middle", cut="middle"),
    "heal-value-cut": _heal("GEAR: cut at the largest entropy", cut="value"),
    "heal-start-cut": _heal("GEAR: cut at 0", cut="start"),
    "heal-fixed-cut": _heal("GEAR: cut at the median of its breakpoints, in every text", cut="fixed"),
    "heal-permuted-cut": _heal("GEAR: cut at another trajectory's breakpoint", cut="permuted"),
    "heal-oracle-cut": _heal("GEAR: cut before the oracle's first false step", cut="oracle"),
    "heal-backoff-0": _heal("GEAR: no back-off", switches=(("backoff", 0),)),
    "heal-backoff-2": _heal("GEAR: back-off 2", switches=(("backoff", 2),)),
    "heal-window-half": _heal("GEAR: window 1/2", switches=(("window", 0.5),)),
    "heal-window-all": _heal("GEAR: window 1", switches=(("window", 1.0),)),
    "heal-first-step": _heal("GEAR: told the first step only", switches=(("hint", "first_step"),)),
    "heal-random-drop": _heal("PURE: random drop", filter="random"),
    "heal-nll": _heal("PURE: mean NLL instead", filter="nll"),
    "heal-entropy": _heal("PURE: token entropy instead", filter="entropy"),
    "heal-pure-plus": _heal("PURE: pure+ instead", filter="pure+"),
    "heal-regex": _heal("PURE: a regular expression for the shortcut instead", filter="regex"),
    "heal-oracle": _heal("PURE: the oracle instead", filter="oracle"),
    "heal-oracle-share": _heal("PURE: the oracle instead, dropping as many", filter="oracle-share"),
    "heal-drop-more": _heal("PURE: two fifths dropped", switches=(("pure_rule", "quantile"), ("pure_lambda", 0.4))),
    "heal-reversed": _heal("PACE: reversed stages", order="reversed"),
    "heal-interleaved": _heal("PACE: interleaved, sources weighted alike", order="interleaved"),
    "heal-one-schedule": _heal("PACE: one learning-rate schedule", restart=False),
    "heal-separate": _heal("PACE: stages, each of its own source alone", order="separate"),
}
SAMPLING = ("sft-rs", "sft-rs-matched", "sft-rs-passes", "sft-rs-early")  # all that rejection sampling can be
MAIN = ("teacher", "student", "answers", "logits", *SAMPLING, "limo", "paced", "star", "star-pure", "heal")
# What a scale compares by default.
CORE = ("teacher", "student", *SAMPLING[:3], "star", "star-pure", "heal", "heal-no-gear", "heal-no-pure",
        "heal-no-pace", "heal-random-cut", "heal-fixed-cut", "heal-permuted-cut", "heal-start-cut", "heal-oracle-cut",
        "heal-first-step", "heal-nll", "heal-pure-plus", "heal-regex", "heal-oracle", "heal-oracle-share")
HEADLINE = ("teacher", "student", "sft-rs", "sft-rs-matched", "star", "star-pure", "heal")  # README's columns
MODULES = ("heal", "heal-no-gear", "heal-no-pure", "heal-no-pace")
# Controls that cut where GEAR might, without what it reads: what GEAR may claim is decided by the strongest of them.
POSITIONS = ("heal-random-cut", "heal-fixed-cut", "heal-permuted-cut")
CUTS = ("heal", *POSITIONS, "heal-middle-cut", "heal-value-cut", "heal-start-cut", "heal-oracle-cut", "heal-backoff-0",
        "heal-backoff-2", "heal-window-half", "heal-window-all", "heal-first-step")
FILTERS = ("heal", "heal-no-pure", "heal-random-drop", "heal-nll", "heal-entropy", "heal-pure-plus", "heal-regex",
           "heal-oracle", "heal-oracle-share", "heal-drop-more")
ORDERS = ("heal", "heal-no-pace", "heal-reversed", "heal-interleaved", "heal-one-schedule", "heal-separate")
ABLATIONS = tuple(dict.fromkeys([*MODULES, *CUTS, *FILTERS, *ORDERS]))
COMPARED = {"core": CORE, "rivals": tuple(name for name in MAIN if name != "sft-rs-early"),
            "parts": (*HEADLINE, *ABLATIONS), "all": tuple(METHODS)}
# Variants of a part, which say something only where cut, hint and filter can be told apart.
CONTROLS = tuple(name for name in ABLATIONS if name not in MODULES)
LIMO_SHARE = 0.25  # of the solved problems, the hardest
SOURCES = 3  # of a problem's rows in HEAL: base, hint, repair


def chosen(names: Iterable[str], cfg: Scale) -> tuple[str, ...]:
    """Those of the methods that the scale compares."""
    return tuple(name for name in names if name in COMPARED[cfg.compared])


def get(name: str) -> Method:
    """The method of that name. Raises HealError naming the known ones."""
    if name not in METHODS:
        raise HealError(f"unknown method '{name}'; choose one of {', '.join(METHODS)}")
    return METHODS[name]


# --- a method's training data
TRAINED = {"stage": "string", "input_ids": "list<int64>", "completion_mask": "list<int64>"}  # besides the COLUMNS


def training_rows(*, of: Any, base: str | Callable[..., Any], filter: str | None, pool: Sequence[Dataset],
                  hinted: Sequence[Dataset], repairs: Sequence[Dataset], readings: Mapping[str, Sequence[Dataset]],
                  rivals: Sequence[Dataset], settings: Mapping[str, Any], seed: int, teacher: str,
                  student: str) -> Dataset:
    """A method's training data: trajectories with the `stage` that they are for (base, hint or repair), and their
    tokens for the student. Only verified samples get in, Base included.

    pool, hinted, repairs: data sets (of one world and difficulty each), lists that are empty where the method draws
    none; of: their worlds; readings: {"hint", "repair"}, PURE's, in the order of the accepted rows; rivals: what `base`
    reads besides. settings: the switches of the filter, cap and duplicates."""
    sources = {"base": [row for part in _base(base, pool, rivals, settings, seed, student) for row in part],
               "hint": _accepted(hinted), "repair": _accepted(repairs)}
    read = {name: _readings(readings.get(name, ()), rows) for name, rows in sources.items()}
    if settings["deduplicate"] and base != "paced":
        sources = dict(zip(sources, unique(*sources.values()), strict=True))
    for name, which in (("hint", "hinted"), ("repair", "repairs")):
        if filter and name in settings["pure_pool"]:
            sources[name] = filtered(sources[name], read[name], which, filter, settings, seed)
        sources[name] = capped(sources[name], settings["per_problem_cap"], seed)
    writer, reader = choose.words(student), choose.words(teacher)
    return trajectory.to_dataset([{**row, "stage": name, **tokens(row, writer, reader)}
                                  for name, rows in sources.items() for row in rows], TRAINED)


def unique(*sources: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The sources without texts that stand earlier, in the same source or one before it; a text of another problem is
    another text [R]."""
    seen: set[tuple] = set()

    def new(row):
        key = row["problem_id"], row["text"]
        return not (key in seen or seen.add(key))

    return [[row for row in rows if new(row)] for rows in sources]


def tokens(row: dict[str, Any], writer: Words, reader: Words) -> dict[str, Any]:
    """Prompt and completion ids of a row with the mask of what is learned; the hint is in neither. Text is tokenised
    again for a student (`writer`) with a vocabulary of its own; how a text ends, and where it thinks, is the student's
    own in any case."""
    prompt = writer.prompt(worlds.get(row["world"]).prompt(problem_of(row)))
    same, before = writer.vocabulary == reader.vocabulary, ""
    if writer.opens_thought != reader.opens_thought:
        before = "<think>\n" if reader.opens_thought else "\n</think>\n\n"
    ids = [*writer.encode(before), *(row["token_ids"][:-1] if same else writer.encode(row["text"])),
           writer.tokenizer.eos_token_id]
    return {"input_ids": [*prompt, *ids], "completion_mask": [0] * len(prompt) + [1] * len(ids)}


def _accepted(parts) -> list[dict]:
    return [row for part in parts for row in part if row["correct"]]


def _readings(parts, rows) -> dict[tuple, dict]:
    """What PURE read of each row, by problem and sample."""
    read = [reading for part in parts for reading in part]
    return {identity(row): reading for row, reading in zip(rows, read, strict=True)} if read else {}


def identity(row: Mapping[str, Any]) -> tuple[str, str, int]:
    """What tells an accepted row from all others of a run."""
    return row["problem_id"], row["source"], row["sample"]


def _base(kind: str | Callable, pool, rivals, settings, seed, student) -> list[list[dict]]:
    """The rows of Base: verified samples of problems, capped, or what a rival method makes of them.

    matched: from as many teacher tokens as HEAL draws in all, and as many rows of a problem as HEAL may hold. limo: the
    hardest quarter of each world's solved problems, of each the sample of lowest mean entropy. paced: drawn in
    proportion to p(1-p), p the student's smoothed pass rate on the problem. answers: every problem's answer, and no
    reasoning. A function is given the pool's rows, and what it returns is capped."""
    every, cap = [row for part in pool for row in part], settings["per_problem_cap"]
    if callable(kind):
        return [capped(kind(every), cap, seed)]
    if kind == "answers":
        return [[_answer(row, choose.words(student)) for row in {row["problem_id"]: row for row in every}.values()]]
    solved = [row for row in every if row["correct"]] + _accepted(rivals if kind == "matched" else ())
    if settings["deduplicate"] and kind != "limo":
        (solved,) = unique(solved)
    if kind == "limo":
        of = {row["world"] for row in solved}
        return [_limo([row for row in solved if row["world"] == name], seed) for name in sorted(of)]
    rows = capped(solved, cap * SOURCES if kind == "matched" else cap, seed)
    if kind == "paced" and rows:
        rates = {key: (c + 1) / (n + 2) for part in rivals for key, (c, n) in sampling.counts(part).items()}
        weights = [rates[row["problem_id"]] * (1 - rates[row["problem_id"]]) for row in rows]
        rows = rng_of(seed, "paced").choices(rows, weights, k=4 * len(rows))
    return [rows]


def _limo(solved: list[dict], seed: int) -> list[dict]:
    """Of a world's hardest solved problems the sample of lowest mean entropy; equally hard ones in a seeded order."""
    counts: dict[str, int] = {}
    for row in solved:
        counts[row["problem_id"]] = counts.get(row["problem_id"], 0) + 1
    hardest = sorted(counts, key=lambda key: (counts[key], seed_of(seed, "limo", key)))
    hardest = hardest[: max(1, round(LIMO_SHARE * len(counts)))]
    best: dict[str, dict] = {}
    for row in sorted(solved, key=lambda row: np.mean(row["entropy"])):
        best.setdefault(row["problem_id"], row)
    return [best[key] for key in hardest]


def _answer(row: dict, writer) -> dict:
    """A row that states the answer and nothing else."""
    text = worlds.base.box(row["answer"])
    ids = [*writer.encode(text), writer.tokenizer.eos_token_id]
    return {**row, "source": "answer", "sample": 0, "parent": -1, "n_kept": 0, "breakpoint": -1, "token_ids": ids,
            "entropy": [], "text": text, "finished": True, "correct": True, "genuine": 0, "n_generated": 0}


def filtered(rows: Sequence[dict[str, Any]], readings: Mapping[tuple[str, str, int], Any], which: str, how: str,
             settings: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    """The rows that pass the filter; the share lambda is dropped within each problem's rows [R]. The oracle drops what
    is spurious, a regular expression what it finds, however many; "oracle-share" drops that share, spurious rows first.
    readings: PURE's, by `identity`; which: "hinted" or "repairs", for the draws of "random"."""
    if not rows or how == "oracle":
        return [row for row in rows if row["genuine"]]
    if how == "regex":
        return [row for row, found in zip(rows, surface(rows), strict=True) if not found]
    if how in ("random", "oracle-share"):
        scores = np.random.default_rng(seed_of(seed, "drop", which)).random(len(rows))
        scores += [how == "oracle-share" and not row["genuine"] for row in rows]
    else:
        scores = anomalies([readings[identity(row)] for row in rows], how, settings)
    lam, rule, pools = settings["pure_lambda"], settings["pure_rule"], [row["problem_id"] for row in rows]
    if rule == "threshold" and how != "pure":  # it is the ratio's: others drop as many
        ours = anomalies([readings[identity(row)] for row in rows], "pure", settings)
        lam, rule, pools = float(np.mean(ours > lam)), "quantile", [""] * len(rows)
    kept = pure.keep(scores, lam, rule, pools=pools)
    return [row for row, stays in zip(rows, kept, strict=True) if stays]


def surface(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """[n]: how often each row's text shows what its world's shortcuts look like (`World.shortcut_pattern`), 0 in worlds
    whose shortcuts have no look of their own; more is more suspect. What a reader sees without any model [R]."""
    return np.array([len(re.findall(worlds.get(row["world"]).shortcut_pattern, row["text"])) for row in rows], float)


def anomalies(readings: Iterable[dict[str, Any]], how: str, settings: Mapping[str, Any]) -> np.ndarray:
    """[n]: the score of a filter for each reading; more is more suspect. how: pure, pure+, nll or entropy."""
    if how == "pure":
        return np.array([pure.anomaly({**r, "ppl": np.array(r["ppl"]), "uncertainty": np.array(r["uncertainty"])},
                                      settings["pure_aggregate"], settings["pure_uncertainty"], settings["pure_eps"])
                         for r in readings])
    if how == "pure+":
        return np.array([pure.anomaly_plus(r) for r in readings])
    if how == "nll":
        return np.array([np.mean(r["nll"]) for r in readings])
    if how == "entropy":
        return np.array([r["entropy"] for r in readings])
    raise HealError(f"unknown filter '{how}'; choose pure, pure+, nll, entropy, regex, random, oracle or "
                    "oracle-share")


def capped(rows: Iterable[dict[str, Any]], cap: int, seed: int) -> list[dict[str, Any]]:
    """At most `cap` rows per problem, a seeded choice."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["problem_id"], []).append(row)
    for key, group in groups.items():
        rng_of(seed, "cap", key).shuffle(group)
    return [row for group in groups.values() for row in group[:cap]]
