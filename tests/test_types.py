"""py.typed is a promise: every public function says what it takes and gives, in full."""

import ast
import re

import pytest

from heal_lib.places import PACKAGE

BARE = re.compile(r"\b(dict|list|set|tuple|Callable|Iterable|Iterator|Mapping)\b(?!\[)")  # of what, it does not say


def _public(body):
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public(node.body)
        if isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
            yield node


def untyped(source):
    """Names of the public functions and methods that lack a type, or have one such as a bare `dict`."""
    for function in _public(ast.parse(source).body):
        a = function.args
        given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
        types = [each.annotation for each in given if each.arg not in ("self", "cls")]
        types += [function.returns] * (function.name != "__init__")
        if any(kind is None or BARE.search(ast.unparse(kind)) for kind in types):
            yield function.name


def test_public_functions_are_typed_in_full():
    found = [f"{path.relative_to(PACKAGE)}: {name}" for path in sorted(PACKAGE.rglob("*.py"))
             for name in untyped(path.read_text())]
    assert not found


@pytest.mark.parametrize("line", ["def f(a) -> int: ...", "def f(a: int): ...", "def f(a: dict) -> int: ...",
                                  "def f(*, a: list[tuple]) -> int: ...", "def f(**a) -> int: ...",
                                  "class A:\n    def f(self, a: int) -> dict: ..."])
def test_what_lacks_a_type_is_found(line):
    assert list(untyped(line)) == ["f"]
    assert not list(untyped(line.replace("def f", "def _f")))
