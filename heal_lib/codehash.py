"""The code that a result rests on: a module, every module of its package or of this one that it imports, and so on.

    code_hash("heal_lib.gear") -> sha256 over the syntax of gear.py, entropy.py, trajectory.py, ...

Found in the import statements, those inside functions included, so that nobody keeps a list by hand. Comments,
docstrings and types do not count (but those of a class's fields, which dataclasses read). A module that is imported by
a computed name is not seen: whoever does that names it. A process runs what it has once imported: where a file has
changed since, its hash would be that of other code, and is refused."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from heal_lib.errors import HealError
from heal_lib.places import PACKAGE

TYPES = ("typing", "collections.abc", "__future__")  # what is imported from them does nothing by itself

# When files were last written: those of this package as this process, or the one it was forked from, began; of others
# as they were first asked for.
_began: dict[Path, int] = {path: path.stat().st_mtime_ns for path in PACKAGE.rglob("*.py") if path.is_file()}
_noted: dict[Path, str] = {}  # the syntax of those whose hash was asked for


def code_hash(*modules: str) -> str:
    """sha256 of these modules, given by name, and of all that they import (`closure`). Raises HealError where anything
    that this process was asked for has changed since it began."""
    digest, found = hashlib.sha256(), closure(*modules)
    unchanged(found.values())
    for name, path in sorted(found.items()):
        syntax = _noted.setdefault(path, _syntax(path, path.stat().st_mtime_ns))
        digest.update(f"{name}\0{syntax}\0".encode())
    return digest.hexdigest()


def unchanged(more: Iterable[Path] = ()) -> None:
    """Raises HealError, naming the file, if code whose hash was asked for, or some `more`, has changed since this
    process began; a file that was written anew and says the same has not."""
    for path in sorted({*_noted, *more}):
        now = path.stat().st_mtime_ns if path.is_file() else 0
        if _began.setdefault(path, now) == now:
            continue
        if now and path in _noted and _syntax(path, now) == _noted[path]:
            _began[path] = now
        else:
            file = path.relative_to(PACKAGE.parent) if path.is_relative_to(PACKAGE) else path.name
            raise HealError(f"{file}: changed while the work went on; run again, or restart the notebook's kernel")


def imported() -> list[Path]:
    """The files of this package that this process has imported."""
    here = [getattr(module, "__file__", None) for name, module in [*sys.modules.items()] if name.startswith("heal_lib")]
    return [path for file in here if file and (path := Path(file).resolve()) in _began]


def closure(*modules: str) -> dict[str, Path]:
    """{module: its file} of these modules and of all that they import, directly or not, from their own packages and
    from this one: a world of another package rests on the classes here that it is made of."""
    found: dict[str, Path] = {}
    left = list(modules)
    while left:
        name = left.pop()
        path = None if name in found else _file(name)
        if path is None:
            continue
        found[name] = path
        packages = name.partition(".")[0], PACKAGE.name
        if "." in name:
            left.append(name.rpartition(".")[0])  # importing it runs its packages' __init__
        left += [one for one in _imported(path, path.stat().st_mtime_ns, name) if one.partition(".")[0] in packages]
    return found


@functools.cache
def _file(name: str) -> Path | None:
    """The source of a module; None for what is no module (a function, say) or has no source. Nothing is imported for
    it, as `find_spec` would the packages above."""
    top, *below = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, AttributeError, ValueError):
        return None
    path = Path(spec.origin) if spec and spec.origin else None
    if path and below:
        inside = path.parent.joinpath(*below)
        path = inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")
    return path.resolve() if path and path.suffix == ".py" and path.is_file() else None


@functools.lru_cache(maxsize=4096)
def _imported(path: Path, changed: int, name: str) -> tuple[str, ...]:
    """Dotted names that a file imports; of `from a import b` both a and a.b, for b may be a module."""
    inside = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def names(tree: ast.AST) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), inside)
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)

    return tuple(names(_runs(path)))


@functools.lru_cache(maxsize=4096)
def _syntax(path: Path, changed: int) -> str:
    """sha256 of the syntax of what runs of a file."""
    return hashlib.sha256(ast.dump(_runs(path)).encode()).hexdigest()


def _runs(path: Path) -> ast.Module:
    return _Runs().visit(ast.parse(path.read_text()))


class _Runs(ast.NodeTransformer):
    """What runs: without docstrings, types, and what is imported for types alone."""

    def visit(self, node: ast.AST):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[ast.get_docstring(node, clean=False) is not None :]
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.ClassDef):  # dataclasses read the types of its fields
            node.body = [one if isinstance(one, ast.AnnAssign) else self.visit(one) for one in node.body]
            return node
        return super().visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.Assign | None:
        return ast.Assign([node.target], node.value) if node.value else None

    def visit_If(self, node: ast.If):
        for_types = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        self.generic_visit(node)
        return node.orelse if for_types else node

    def visit_ImportFrom(self, node: ast.ImportFrom):
        return None if node.module in TYPES else node
