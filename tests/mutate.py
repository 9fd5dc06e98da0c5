"""Mutation testing: does a test fail when the code is changed in one place?

    python tests/mutate.py --per-module 40 --out results/reliability/mutation.json

Each mutant is one changed operator, comparison, number or returned value, chosen by a seed; its tests run in a process
forked from this one, which has the libraries loaded but nothing of heal_lib. A mutant that makes them hang is found.
"""

import argparse
import ast
import copy
import importlib.machinery
import json
import multiprocessing
import os
import random
import signal
from pathlib import Path

import datasets  # noqa: F401  loaded once, before anything is forked
import hypothesis  # noqa: F401
import pytest
import reliability
import scipy.stats  # noqa: F401
import torch
import transformers  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
TESTS = {"entropy": "entropy", "gear": "gear repair hints", "pure": "pure repair readings", "pace": "pace rivals",
         "stats": "stats", "evaluation": "evaluation", "worlds/base": "worlds oracles hints steps",
         **{f"worlds/{name}": "worlds oracles hints steps" for name in ("equations", "paths", "countdown")},
         "worlds/programs": "registers worlds oracles hints", "worlds/registers": "registers worlds oracles hints"}
SWAPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
         ast.Mod: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
         ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
         ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
SECONDS = 60  # many times what the tests of a module take


def changed(node):
    """The node with one thing changed, or None where there is nothing to change."""
    new = copy.deepcopy(node)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        new.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
        new.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        new = new.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        new.value = not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        new.value += 1
    elif isinstance(node, ast.Return) and ast.unparse(node) not in ("return", "return None"):
        new.value = ast.Constant(None)
    else:
        return None
    return new


def places(tree):
    """Numbers of the nodes (in walking order) that can be changed; words of errors, annotations and `strict` of zip,
    which changes no result, cannot."""
    words = {id(inner) for node in ast.walk(tree) for part in (
        [node] if isinstance(node, ast.Raise) or isinstance(node, ast.keyword) and node.arg == "strict"
        else [getattr(node, "annotation", None), getattr(node, "returns", None)])
        if part is not None for inner in ast.walk(part)}
    return [i for i, node in enumerate(ast.walk(tree)) if id(node) not in words and changed(node) is not None]


def mutated(source, place):
    """(tree with the node of that number changed, line, what was there, what is now)."""
    tree = ast.parse(source)
    old = list(ast.walk(tree))[place]
    new = ast.copy_location(changed(old), old)
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if value is old:
                setattr(node, field, new)
            elif isinstance(value, list) and any(each is old for each in value):
                value[[each is old for each in value].index(True)] = new
    return ast.fix_missing_locations(tree), old.lineno, ast.unparse(old), ast.unparse(new)


def run_tests(path, tree, tests):
    """In a forked process: the tests with that file's code replaced. Exit code 0: all passed, the mutant survived."""
    usual = importlib.machinery.SourceFileLoader.get_code

    def get_code(self, name):
        return compile(tree, path, "exec") if self.path == path else usual(self, name)  # noqa: S102

    importlib.machinery.SourceFileLoader.get_code = get_code
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
    signal.alarm(SECONDS)
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)
    os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])))


def survives(path, tree, tests):
    """Whether no test fails."""
    process = multiprocessing.get_context("fork").Process(target=run_tests, args=(str(path), tree, tests))
    process.start()
    process.join()
    return process.exitcode == 0


def figures(per_module, seed=0, out=None):
    """Mutants and survivors of every module, written to `out` as they come."""
    modules = {}
    for module, names in TESTS.items():
        path = ROOT / "heal_lib" / f"{module}.py"
        tests = [str(ROOT / f"tests/test_{name}.py") for name in names.split()]
        source = path.read_text()
        if not survives(path, ast.parse(source), tests):
            raise SystemExit(f"{module}: its tests fail unchanged")
        can = places(ast.parse(source))
        chosen = sorted(random.Random(f"{seed} {module}").sample(can, min(per_module, len(can))))
        facts = modules[module] = {"places": len(can), "mutants": 0, "killed": 0, "survivors": []}
        for place in chosen:
            tree, line, old, new = mutated(source, place)
            alive = survives(path, tree, tests)
            facts["mutants"] += 1
            facts["killed"] += not alive
            if alive:
                facts["survivors"].append(f"{line}: {old[:90]} -> {new[:90]}")
            total, killed = (sum(each[what] for each in modules.values()) for what in ("mutants", "killed"))
            found = {**reliability.dated(), "seed": seed, "mutants": total, "killed": killed,
                     "score": round(killed / total, 3), "modules": modules}
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(found, indent=1) + "\n")
            print(module, "survived" if alive else "killed", f"{line}: {old[:60]} -> {new[:60]}", flush=True)


if __name__ == "__main__":
    it = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    it.add_argument("--per-module", type=int, default=40)
    it.add_argument("--seed", type=int, default=0)
    it.add_argument("--out", type=Path, default=ROOT / "results" / "reliability" / "mutation.json")
    args = it.parse_args()
    figures(args.per_module, args.seed, args.out)
