# SPDX-License-Identifier: MIT
"""The examples in docstrings, run on the package as it is installed.

Not by ``--doctest-modules``: that would import store/ and codecs/ by their place in the tree,
where codecs is the standard library's.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import pagestep

MODULES = [
    found.name
    for found in pkgutil.walk_packages(pagestep.__path__, "pagestep.")
    if not found.name.endswith("_core")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        test
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        if test.examples
    ]
    assert len(examples) >= 5
    assert {test.name.split(".")[1] for test in examples} >= {"codecs", "store"}
