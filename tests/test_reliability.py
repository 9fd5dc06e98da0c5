"""RELIABILITY.md is what the figures say, and the tests that it names exist."""

import re

import pytest
import reliability


def test_the_page_shows_the_committed_figures():
    assert reliability.PAGE.read_text() == reliability.page()  # else: python tests/reliability.py


@pytest.mark.parametrize("test", [test for _, tests, _ in reliability.PROMISES for test in tests
                                  if "::" in test])
def test_every_promise_has_its_test(test):
    file, name = test.split("::")
    assert re.search(rf"^def {name}\(", (reliability.ROOT / "tests" / f"{file}.py").read_text(), re.M)
