"""The code that a result rests on: a module, and every module of its package that this imports, and so on.

    code_hash("heal_lib.gear") -> sha256 over the syntax of gear.py, entropy.py, trajectory.py, ...

Found in the import statements, those inside functions included, so that nobody keeps a list by hand. Comments and
docstrings do not count. A module that is imported by a computed name is not seen: whoever does that names it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path


def code_hash(*modules: str) -> str:
    """sha256 of these modules, given by name, and of all that they import from their packages."""
    digest = hashlib.sha256()
    for name, path in sorted(closure(*modules).items()):
        digest.update(f"{name}\0{_syntax(path, path.stat().st_mtime_ns)}\0".encode())
    return digest.hexdigest()


def closure(*modules: str) -> dict[str, Path]:
    """{module: its file} of these modules and of all that they import, directly or not, from their own packages."""
    found: dict[str, Path] = {}
    left = list(modules)
    while left:
        name = left.pop()
        path = None if name in found else _file(name)
        if path is None:
            continue
        found[name] = path
        package = name.partition(".")[0]
        if "." in name:
            left.append(name.rpartition(".")[0])  # importing it runs its packages' __init__
        left += [one for one in _imported(path, path.stat().st_mtime_ns, name) if one.partition(".")[0] == package]
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
    return path if path and path.suffix == ".py" and path.is_file() else None


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

    return tuple(names(ast.parse(path.read_text())))


@functools.lru_cache(maxsize=4096)
def _syntax(path: Path, changed: int) -> str:
    """sha256 of a file's syntax without comments and docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[ast.get_docstring(node, clean=False) is not None :]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
