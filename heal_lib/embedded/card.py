"""Model cards: what the embedded models can do, measured on development problems. `python -m heal_lib.embedded.card`.

The worlds' parameters are accepted by looking at the teacher alone, before any student is distilled: `GATES` for the
worlds that show the mechanism, those of `gates.py` for a world that is to judge GEAR."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heal_lib import embedded, worlds
from heal_lib.embedded import gates
from heal_lib.engines import SamplingParams
from heal_lib.files import file_hash, write_json
from heal_lib.trajectory import rng_of, split_steps

if TYPE_CHECKING:
    from heal_lib.engines import Engine

N_PROBLEMS, N_SAMPLES = 30, 30
# What the teacher must be on hard problems for the question to be worth asking: (low, high) shares.
GATES = {"unsolved_at_30": (0.10, 0.75), "hinted_verify": (0.80, 1.0), "hinted_spurious": (0.10, 0.40)}


def skills(engine: Engine, family: str = "", *, hinted: bool) -> dict[str, Any]:
    """world-difficulty -> shares measured on development problems: accuracy, unsolved, valid single steps, and
    for a model that reads hints how many hinted samples verify and how many of these are spurious."""
    out = {}
    for world in map(worlds.get, worlds.names(family)):
        for difficulty in world.difficulties:
            problems = world.problems("development", N_PROBLEMS, 1, difficulty)
            params = SamplingParams(world.max_new_tokens[difficulty])
            rows = gates.draw(engine, world, problems, params, N_SAMPLES)
            correct = np.array([r["correct"] for r in rows]).reshape(len(problems), -1)
            found = {"accuracy": correct.mean(), "unsolved_at_30": (correct.sum(1) == 0).mean(),
                     "finished": np.mean([r["finished"] for r in rows]),
                     "valid_steps": _valid_share(world, problems, rows)}
            if hinted:
                told = gates.draw(engine, world, problems, params, 10, "answer")
                kept = [r for r in told if r["correct"]]
                found |= {"hinted_verify": len(kept) / len(told),
                          "hinted_spurious": float(np.mean([1 - r["genuine"] for r in kept])) if kept else None}
            out[f"{world.name}-{difficulty}"] = {k: v if v is None else round(float(v), 4) for k, v in found.items()}
    return out


def drill_skill(engine: Engine, n: int = 150, of: tuple[str, ...] = ()) -> dict[str, float]:
    """world (all, or those named) -> share of isolated facts that are right when each is drawn once, the facts before
    it being right."""
    out = {}
    for world in map(worlds.get, of or worlds.names()):
        prompts, asked = [], []
        for i in range(n):
            head, *facts = split_steps(world.drill(rng_of("card", world.name, i)))
            for at, fact in enumerate(facts):
                opening = re.match(r"(into|from) [A-Z]|.*?(?=[=:])", fact).group(0)  # type: ignore[union-attr]  # it matches
                prompts.append(engine.encode("\n\n".join([head, *facts[:at], opening])))
                asked.append((head, fact, opening))
        draws = engine.sample(prompts, 1, SamplingParams(8), 1, [f"card/{world.name}/{i}" for i in range(len(asked))])
        told = [opening + draw.text for (_, _, opening), (draw,) in zip(asked, draws, strict=True)]
        right = [world.fact_right(head, fact, text.partition("\n\n")[0])
                 for (head, fact, _), text in zip(asked, told, strict=True)]
        out[world.name] = round(float(np.mean(right)), 4)
    return out


def gate(measured: dict[str, Any]) -> dict[str, list[Any]]:
    """Each gate for each world's hard problems: value and whether it lies within its bounds."""
    found = {world: measured[f"{world}-hard"] for world in worlds.names()}
    return {f"{world}-hard {name}": [found[world][name], low <= (found[world][name] or 0) <= high]
            for world in worlds.names() for name, (low, high) in GATES.items()}


def write(folder: Path) -> dict[str, Any]:
    """Measures the model in `folder` (named teacher or student) and writes its card.json there."""
    name, (family, _, role) = folder.name, folder.name.rpartition("-")
    (folder / "card.json").unlink(missing_ok=True)
    embedded.model_hash.cache_clear()
    from heal_lib.engines.hf import HFEngine

    engine = HFEngine(*embedded.load(str(folder)))
    card = {"model": name, "architecture": "Qwen3ForCausalLM", "sha256": file_hash(folder / "model.safetensors"),
            "files": embedded.besides(folder),
            "pretraining": json.loads((folder / "pretraining.json").read_text()),
            "skills": skills(engine, family, hinted=role == "teacher"),
            "known_facts": drill_skill(engine, of=tuple(worlds.names(family)))}
    if name == "teacher":
        card["gates"] = gate(card["skills"])
    elif role == "teacher":
        card["judges_gear"] = gates.measure(engine, worlds.get(family))
        card["gates"] = gates.verdict(card["judges_gear"].pop("gates"))
    write_json(card, folder / "card.json")
    return card


def _valid_share(world, problems, rows) -> float:
    """Share of valid steps, the answer step aside (it is wrong wherever the strategy failed), and in a family of its
    own the steps that derive, too: what these need is knowledge, no skill."""
    by_id, left_out = {p.id: p for p in problems}, ("answer", "derive") if world.family else ("answer",)
    steps = [s for r in rows for s in world.check_steps(by_id[r["problem_id"]], r["text"]).steps
             if s.kind not in left_out]
    return float(np.mean([s.valid for s in steps])) if steps else 0.0


def main(argv: list[str] | None = None) -> None:
    """Command line: measures the models in a folder and prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m heal_lib.embedded.card", description=__doc__)
    parser.add_argument("model", choices=embedded.SHIPPED)
    parser.add_argument("--out", type=Path, default=embedded.WEIGHTS, help="folder that holds the model's folder")
    args = parser.parse_args(argv)
    card = write(args.out / args.model)
    print(json.dumps({k: v for k, v in card.items() if k != "pretraining"}, indent=1))


if __name__ == "__main__":
    main()
