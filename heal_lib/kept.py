"""What students answered in an earlier sitting, found in results/<scale>/per_sample by what it was made with.

A long study is made in sittings, each of whole seeds, perhaps on another machine: the cache does not come along, the
results do. With HEAL_KEPT (`heal reproduce --keep`) what they hold is not made again if its *recipe* is the same:

    recipe(stage)   hash of name, code, settings, models and versions, and of the recipes of the stages before it

A key in the cache knows the content of what came before, and so the kind of CPU that rounded it; a recipe does not. So
seeds of several sittings differ by rounding as well, as those of several readers would [R]."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from heal_lib.files import hash_of
from heal_lib.places import ROOT
from heal_lib.stage import Keyed, Stage, determined

if TYPE_CHECKING:
    import pandas as pd

ASKED = "HEAL_KEPT"  # the variable that says so


class Kept:
    """Rows of `evaluation.SAMPLE` in a scale's per-sample files, by the recipe of the stage that they stand for."""

    def __init__(self, scale: str):
        self.folder = ROOT / "results" / scale / "per_sample" if os.environ.get(ASKED) else None
        self.models: dict[str, Stage] = {}  # by folder: models that are stages themselves, and have recipes
        self._recipes: dict[Stage, str] = {}
        self._found: dict[str, pd.DataFrame] | None = None

    def recipe(self, stage: Stage) -> str:
        """What a stage is made of, whatever machine makes it."""
        if stage not in self._recipes:
            self._recipes[stage] = hash_of(determined(stage, self._of))[:16]
        return self._recipes[stage]

    def rows(self, stage: Stage) -> pd.DataFrame | None:
        """The rows of an evaluation, with `world` and `difficulty`; None where they are not kept, or not all are."""
        found = self._all().get(self.recipe(stage)) if self.folder else None
        asked = {f"{world.value}-{level.value}": (world.value, level.value)
                 for world, level in stage.inputs.get("benchmarks", ())}
        if found is None or len(found) != len(asked) * stage.inputs["n_problems"] * stage.inputs["n"]:
            return None
        found = found.sort_values("benchmark", key=lambda of: of.map(list(asked).index), kind="stable")
        world, level = zip(*map(asked.__getitem__, found["benchmark"]), strict=True)
        return found.assign(world=world, difficulty=level)

    def _of(self, value: Any) -> Any:
        """What of an input counts."""
        if isinstance(value, Keyed):
            value = self.models.get(value.value, value.by) if isinstance(value.value, str) else value.by
        return self.recipe(value) if isinstance(value, Stage) else value

    def _all(self):
        """All rows that are kept; files of before they had recipes hold none."""
        import pandas as pd
        import pyarrow.parquet as parquet

        if self._found is None:
            assert self.folder is not None
            parts = [pd.read_parquet(file) for file in sorted(self.folder.glob("*.parquet"))
                     if "recipe" in parquet.read_schema(file).names]
            rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"recipe": []})
            one = [name for name in ("recipe", "benchmark", "problem_id", "sample") if name in rows]
            self._found = dict(iter(rows.drop_duplicates(one).groupby("recipe", sort=False)))
        return self._found
