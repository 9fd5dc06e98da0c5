"""What notebook 08 does, counted before it is done.

    pool, hints, repairs   drawn from the teacher; repairs by every cut and hint that 08 holds against each other
    readings               the teacher reads what PURE judges: each text, and the answer after each of its steps
    students               methods x seeds, each trained on all of `train_tokens`
    evaluation             drawn from the students, and from the untrained one under each seed

How many problems get hints and repairs is known once the pool is there; before, it has to be assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from heal_lib.scales import Scale


class Part(NamedTuple):
    """`who` (teacher, student) `does` (draws, reads, trains) `n` texts, or students; `product`: n in words."""

    name: str
    who: str
    does: str
    n: int
    product: str


def parts(cfg: Scale, problems: int, tested: int, hinted: float, repaired: float) -> list[Part]:
    """All parts, in 08's order. problems: that are distilled from; tested: of all benchmarks; hinted, repaired: shares
    (0 to 1) of the problems that get hints and repairs. For worlds without an oracle the cut at its break is too many,
    and readings are fewer: only texts that verify, each once."""
    from heal_lib import baselines, llm  # pandas and more

    seeds, methods, cuts = len(cfg.seeds), len(llm.METHODS), len(llm.RULES) + len(llm.TOLD)
    trained = sum(baselines.get(name).trained for name in llm.METHODS)
    hints = round(hinted * problems) * cfg.n_hinted
    repairs = round(repaired * problems) * cfg.n_failed * cfg.n_candidates
    return [
        Part("pool", "teacher", "draws", problems * cfg.n_samples, f"{problems} problems x {cfg.n_samples}"),
        Part("hints", "teacher", "draws", hints, f"{hinted:.0%} of the problems x {cfg.n_hinted}"),
        Part("repairs", "teacher", "draws", cuts * repairs, f"{repaired:.0%} of the problems x {cfg.n_failed} failed x "
             f"{cfg.n_candidates} x {cuts} cuts and hints"),
        Part("readings", "teacher", "reads", hints + repairs, "hints and GEAR's repairs, if all of them verify"),
        Part("students", "student", "trains", trained * seeds, f"{trained} methods x {seeds} seeds"),
        Part("evaluation", "student", "draws", methods * seeds * tested * cfg.k_eval,
             f"{methods} methods x {seeds} seeds x {tested} problems x {cfg.k_eval}")]
