"""The tables and sentences of notebook 08 and `heal distil`, by hand; 08's first cell where nothing is installed."""

import json
import os
import runpy
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_packaging import wheel_of

from heal_lib import llm, notebooks, plan, scales, tables
from heal_lib.files import ROOT


def rows(problem, corrects, genuine=-1, level="one", **more):
    return [{"problem_id": problem, "world": "stories", "difficulty": level, "correct": bool(right), "finished": True,
             "genuine": genuine, "n_generated": 10, "n_kept": 2, "text": f"{problem} {i}", **more}
            for i, right in enumerate(corrects)]


class Run:
    """An experiment whose data are given: `data` maps (source, hint) to rows."""

    def __init__(self, data, hint="answer"):
        self.given, self.hint, self.cfg = data, hint, scales.get("smoke", n_samples=4)

    def _data(self, which):
        from datasets import Dataset

        return Dataset.from_list(self.given[which, self.hint])

    def pool(self):
        return self._data("pool")

    def repairs(self, rule="entropy"):
        return self._data(f"repairs {rule}")

    def variant(self, switches):
        return Run(self.given, **switches)

    def stages(self, which):
        return []

    def have(self, stages):
        assert list(stages) == []


def test_the_ceiling_by_hand():
    pool = rows("a", [1, 1, 0, 0], 1) + rows("b", [0, 0, 0, 0]) + rows("c", [1, 0, 0, 0], 0, "two")
    one, two = llm.ceiling(Run({("pool", "answer"): pool})).to_dict("records")
    assert (one["benchmark"], one["unsolved"], one["pass_1"], one["pass_n"]) == ("stories-one", 0.5, 0.25, 0.5)
    assert one["right_genuine"] == 1 and two["right_genuine"] == 0 and two["unsolved"] == 0
    assert one["unsolved_low"] <= 0.5 <= one["unsolved_high"]
    said = llm.said_ceiling(pd.DataFrame([one, {**two, "right_genuine": np.nan}]))
    assert "**stories-one**: 50.0 [" in said[0] and "100 % of these genuine." in said[0]
    assert said[1].endswith("% of samples right.")


def repaired(share, genuine=1):
    return [row for key in "abcd" for row in rows(key, [i < 10 * share for i in range(10)], genuine)]


def cuts(oracle=1, **shares):
    data = {("pool", "answer"): repaired(0.1, oracle)}
    data |= {(f"repairs {rule}", "answer"): repaired(shares.get(rule, 0.5), oracle) for rule in llm.RULES}
    data |= {(f"repairs {rule}", told): repaired(shares.get(told, 0.0), oracle) for rule, told in llm.TOLD}
    return llm.cuts(Run(data))


def test_every_control_stands_beside_gear_whichever_way_it_falls():
    table = cuts(random=0.2, start=0.9)
    assert list(table["cut"][:6]) == list(llm.RULES) and len(table) == 6 + len(llm.TOLD)
    assert set(zip(table["cut"], table["told"], strict=True)) >= {("entropy", "none"), ("start", "wrong")}
    by = table[table["told"] == "answer"].set_index("cut")
    assert by.loc["entropy", "verified"] == by.loc["entropy", "genuine"] == 0.5
    gains = [by.loc[rule, "genuine_gain"] for rule in ("random", "start")]
    assert gains == pytest.approx([0.3, -0.4])
    assert by.loc["fixed", "genuine_gain"] == 0 and by.loc["entropy", "tokens_per_genuine"] == 20
    ends = [f"tokens_per_genuine{end}" for end in ("_low", "_high")]
    assert (by.loc["entropy", ends] == 20).all()  # every problem alike
    none = table[table["told"] == "none"].iloc[0]
    assert none["tokens_per_genuine"] == none[ends[1]] == np.inf and 10 < none[ends[0]] < np.inf
    assert by.loc["entropy", "genuine_texts"] == 20 and by.loc["entropy", "tokens_kept"] == 2
    said = "\n".join(llm.said_cuts(table))
    for words in ("minus cut `random`: +30.0 [+30.0, +30.0] points: above zero",
                  "minus cut `start`: -40.0 [-40.0, -40.0] points: below zero", "minus cut `fixed`: +0.0",
                  "minus cut `entropy` with none hint"):
        assert words in said, said


def test_without_an_oracle_what_verifies_is_compared_and_no_cut_is_the_oracle_s():
    table = cuts(oracle=-1)
    assert "genuine" not in table and "oracle" not in set(table["cut"])
    assert table.filter(like="tokens_per_genuine").isna().all(axis=None)
    assert llm.said_cuts(table)[1].startswith("verified, minus cut `start`")


def test_what_could_not_be_measured_is_said():
    empty = pd.DataFrame([{"n_candidates": 0}])
    assert llm.said_cuts(empty) == ["No problem was eligible, so nothing was repaired."]
    assert "could not be judged" in llm.said_filters(pd.DataFrame({"auroc": [np.nan]}))[0]
    assert llm.said_breaks(pd.DataFrame()) == ["No oracle says where the failed texts go wrong."]
    assert llm.bullets(["a"], ["b"]) == "- a\n- b"
    gains = pd.DataFrame(columns=["method", "against", "benchmark", "difference", "ci_low", "ci_high", "interval"])
    assert llm.said_students(gains) == ["No student was trained: no verified sample in any source."]


def test_the_ratio_minus_mean_nll_is_said_where_the_table_has_it():
    rows = [{"reading": name, "auroc": auroc, "ci_low": auroc - 0.1, "ci_high": auroc + 0.1, "n": 9, "n_problems": 7,
             "genuine_before": 0.5, "minus_nll": auroc - 0.7, "minus_nll_low": auroc - 0.8,
             "minus_nll_high": auroc - 0.6}
            for name, auroc in (("ratio", 0.25), ("mean NLL", 0.7))]
    (said,) = llm.said_filters(pd.DataFrame(rows))
    assert said.endswith("below chance (0.5); mean NLL 0.70 [0.60, 0.80], the ratio minus this -0.45 [-0.55, -0.35]: "
                         "below zero.")
    (said,) = llm.said_filters(pd.DataFrame(rows)[["reading", "auroc", "ci_low", "ci_high", "n", "n_problems",
                                                   "genuine_before"]])
    assert said.endswith("mean NLL 0.70 [0.60, 0.80].")


def hits(slack=1, permuted=(0.2, 0.1, 0.3), fixed=(0.25, 0.125, 0.375)):
    gains = {"window": (0.5, 0.5, 0.5), "permuted": permuted, "fixed": fixed}
    ends = {f"{end}_{name}": value for name, gain in gains.items()
            for end, value in zip(("gain", "gain_low", "gain_high"), gain, strict=True)}
    return {"world": "stories", "slack": slack, "n_trajectories": 5, "n_problems": 4, "mean": 0.5, "ci_low": 0.4,
            "ci_high": 0.6, **ends}


def test_hits_are_held_against_the_stronger_control_by_position():
    within, on = llm.said_breaks(pd.DataFrame([hits(), hits(0, fixed=(-0.25, -0.5, 0.0))]))
    assert within == (
        "**stories**: the breakpoint lies within a step of the first false step in 50.0 [40.0, 60.0] % (mean over 4 "
        "problems, 5 failed texts); minus chance by another text's breakpoint, the stronger of two controls, +20.0 "
        f"[+10.0, +30.0] points: {tables.verdict(0.1, 0.3)}.")
    assert "lies on the first" in on
    assert on.endswith("by the median breakpoint, the stronger of two controls, -25.0 [-50.0, +0.0] points: "
                       f"{tables.verdict(-0.5, 0)}.")


# --- notebook 08 elsewhere
def first_cell():
    (path,) = notebooks.FOLDER.glob("08_*.ipynb")
    cells = json.loads(path.read_text())["cells"]
    return "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])


def test_the_first_cell_installs_the_package_where_it_is_missing_and_says_what_to_do_where_pip_cannot(tmp_path):
    """In an environment that has all but the package; pip is a stand-in that puts the code there."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    site = tmp_path / "site"
    site.mkdir()
    others = [path for path in sys.path if path and os.path.isdir(path) and not os.path.isdir(f"{path}/heal_lib")]
    fake = (f"import os, subprocess, sys\nsys.path[:] = {[str(site), *others]!r}\n"
            "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
            "def run(command):\n    print(command[1:])\n    if 'HEAL_OFFLINE' not in os.environ:\n"
            f"        os.symlink({str(ROOT / 'heal_lib')!r}, {str(site / 'heal_lib')!r})\n"
            "    return subprocess.CompletedProcess(command, int('HEAL_OFFLINE' in os.environ))\n"
            "subprocess.run = run\n")

    def ran(cell, **variables):
        usual = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HEAL_PACKAGE")}
        return subprocess.run([sys.executable, "-c", fake + cell], capture_output=True, text=True, cwd=tmp_path,
                              env={**usual, **variables})

    pip, cell = "['-m', 'pip', 'install', '-q', {!r}]\n", first_cell()
    asked = {"HEAL_OFFLINE": "1"}
    done = ran(cell, **asked)
    assert done.returncode and done.stdout == pip.format(f"heal-lib[gpu]=={version}")
    assert done.stderr.splitlines()[-1].startswith("RuntimeError: pip cannot install heal-lib[gpu]==")
    assert "set REPOSITORY above to the project's address, for pip install git+REPOSITORY" in done.stderr
    of_git = cell.replace('REPOSITORY = ""', 'REPOSITORY = "file:///some/project"')
    assert ran(of_git, **asked).stdout == pip.format("heal-lib[gpu] @ git+file:///some/project")
    assert ran(of_git, **asked, HEAL_PACKAGE="a.whl").stdout == pip.format("a.whl")
    done = ran(cell)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(pip.format(f"heal-lib[gpu]=={version}")) and "preset" in done.stdout


@pytest.mark.slow
def test_the_first_cell_installs_a_wheel_in_an_environment_of_its_own(tmp_path):
    """pip is the real one. What the package needs is gigabytes, and lent by this environment."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python, lent = tmp_path / "venv" / "bin" / "python", tmp_path / "lent"
    lent.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "heal" not in path.name:
            (lent / path.name).symlink_to(path)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(f"{lent}\n")
    usual = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HEAL_PACKAGE")}

    def ran(cell, **variables):
        return subprocess.run([python, "-c", cell], capture_output=True, text=True, cwd=tmp_path,
                              env={**usual, "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", **variables})

    cell = first_cell() + "\nprint(plan.__file__)"
    assert "pip cannot install heal-lib[gpu]==" in ran(cell).stderr  # it is nowhere yet
    done = ran(cell, HEAL_PACKAGE=str(wheel_of(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(site / "heal_lib" / "plan.py")
    assert ran(cell, HEAL_PACKAGE="nothing").stdout == done.stdout  # once is enough


def test_the_first_cell_takes_the_preset_of_the_card(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(plan, "here", lambda: plan.preset(24))
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.delenv("DEVICE", raising=False)
    (tmp_path / "cell.py").write_text(first_cell())
    found = runpy.run_path(str(tmp_path / "cell.py"))
    assert os.environ.pop("DEVICE") == "cuda" and found["preset"]["student"] == "Qwen/Qwen3-1.7B"
    assert "Qwen3-8B" in capsys.readouterr().out


def test_every_parameter_of_a_preset_is_declared_by_the_notebook():
    (path,) = notebooks.FOLDER.glob("08_*.ipynb")
    assert set(plan.preset(24)) <= set(notebooks.declared(path))


def test_the_first_page_has_a_paragraph_on_a_pretrained_model_from_the_files_of_its_run(tmp_path):
    assert llm.first_page(tmp_path / "llm") == []
    home = tmp_path / "llm"
    (home / "tables").mkdir(parents=True)
    share = {"verified_low": 0.0, "verified_high": 1.0, "genuine": 0.125, "genuine_low": 0.0, "genuine_high": 0.5,
             "genuine_gain": 0.25, "genuine_gain_low": 0.125, "genuine_gain_high": 0.5, "n_candidates": 8}
    cut = [{"cut": at, "told": told, "verified": verified, **share} for at, told, verified in (
        ("entropy", "answer", 0.75), ("start", "answer", 0.5), ("entropy", "none", 0.25), ("entropy", "wrong", 0.0))]
    given = {
        "ceiling": [{"benchmark": "stories-one", "n_problems": 7, "unsolved": 0.5, "unsolved_low": 0.25,
                     "unsolved_high": 0.75}],
        "cuts": cut, "filters": [{"reading": name, "auroc": 0.25, "ci_low": 0.125, "ci_high": 0.375, "n": 9,
                                  "n_problems": 7, "genuine_before": 0.5} for name in ("ratio", "mean NLL")],
        "breakpoints": [hits(0, permuted=(0.0, -0.5, 0.5))],
        "differences": [{"method": "heal", "against": "sft-rs", "benchmark": llm.POOLED, "difference": -0.25,
                         "ci_low": -0.5, "ci_high": -0.125, "interval": "below zero", "detectable": 0.125}]}
    for name, each in given.items():
        pd.DataFrame(each).to_csv(home / "tables" / f"llm_{name}.csv", index=False)
    stages = {"pool": {"seconds_to_make": 3000.0}, "hinted": {"seconds_to_make": 665.0}}
    (home / "run.json").write_text(json.dumps({"config": {"teacher": "some-model", "n_samples": 30,
                                                          "temperature": 0.7, "train_tokens": 30_000},
                                               "notebooks": {"08_llm_single_gpu": {"stages": stages}}}))
    (said,) = llm.first_page(tmp_path / "not made", home)
    samples = pd.DataFrame([{"method": method, "seed": seed, "benchmark": "stories-one", "problem_id": str(p),
                             "sample": 0, "correct": p % 2 if method == "heal" else seed}
                            for method in ("heal", "sft-rs") for seed in (0, 1) for p in range(8)])
    assert llm.gains(home)["difference"].tolist() == [-0.25]
    (home / "per_sample").mkdir()
    samples.to_parquet(home / "per_sample" / "both.parquet")
    anew = llm.gains(home).set_index("benchmark").loc[llm.POOLED]
    assert anew["difference"] == 0 and anew["ci_low"] < -0.4 < 0.4 < anew["ci_high"]  # two seeds that part say nothing
    for part in ("some-model as teacher", "at temperature 0.7, 30,000 training tokens a student",
                 "7 word problems", "1:01:05 of a core", "50.0 [25.0, 75.0] % of `stor",
                 "candidates 75.0 [0.0, 100.0] % verify, 25.0", "0.0 [0.0, 100.0] % with a wrong one",
                 "genuine are 12.5 [0.0, 50.0] %", "Genuine, minus cut `start`: +25.0 [+12.5, +50.0] points",
                 "by another text's breakpoint, the stronger of two controls, +0.0 [-50.0, +50.0] points",
                 "AUROC 0.25 [0.12, 0.38] over 9 rows", "-25.0 [-50.0, -12.5] points: below zero"):
        assert part in said
