# SPDX-License-Identifier: MIT
"""The layers of docs' design, held against what the code imports and includes.

cli -> public interface, store -> codecs -> _core
csrc: store -> codec, pool, map, rom; codec -> rom
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINES_MAX = 800
FUNCTION_LINES_MAX = 70

PACKAGES = {"store": ROOT / "store", "codecs": ROOT / "codecs", "cli": ROOT / "src/pagestep/cli"}
# What each may import of pagestep, by the first name; "" is pagestep's own public names.
MAY_IMPORT = {"codecs": {"codecs", "_core"}, "store": {"store", "codecs", "_core"}}
MAY_IMPORT["cli"] = {"", "cli", "store", "codecs"}
MAY_IMPORT["face"] = {"store", "codecs"}
CORE_USERS = {"store/_binding.py", "codecs/_lib.py"}

# What each folder of csrc may include, by the path's first folder.
MAY_INCLUDE = {
    "include": {"pagestep"},
    "codec": {"pagestep", "codec", "rom"},
    "pool": {"pagestep", "pool"},
    "rom": {"pagestep", "rom"},
    "map": {"map"},
    "store": {"pagestep", "codec", "pool", "map", "rom", "store"},
}


def python_files() -> dict[str, Path]:
    """Return every Python file, by its path from the root."""
    folders = ("store", "codecs", "src/pagestep", "tests", "tools", "bench", "csrc")
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    # The symbolic links in src/ would show the same files again.
    return {
        str(path.relative_to(ROOT)): path
        for path in found
        if path.resolve().relative_to(ROOT) == path.relative_to(ROOT)
    }


def c_files() -> dict[str, Path]:
    return {
        str(path.relative_to(ROOT)): path
        for suffix in ("*.c", "*.h")
        for path in sorted((ROOT / "csrc").rglob(suffix))
    }


# -- Python -------------------------------------------------------------------------------


def layer_of(name: str) -> str:
    for layer, folder in PACKAGES.items():
        if (ROOT / name).is_relative_to(folder):
            return layer
    return "face" if name.startswith("src/") else "outside"


def imported(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """Yield what is imported, whole names: ``a.b.c`` for ``from a.b import c``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            if function.endswith(("import_module", "__import__")):
                yield ast.unparse(node.args[0]).strip("'\"")


def package_of(name: str) -> tuple[str, ...]:
    """Return the package that a file's relative imports start from."""
    parts = Path(name).with_suffix("").parts[:-1]
    return ("pagestep", *parts) if parts[0] != "src" else parts[1:]


def part_of_pagestep(name: str) -> str | None:
    """Return the part of pagestep that an import reaches, or None for what is not ours."""
    parts = name.split(".")
    if parts[0] != "pagestep":
        return None
    second = parts[1] if len(parts) > 1 else ""
    return second if second in ("store", "codecs", "cli", "_core") else ""


OURS = [name for name in python_files() if layer_of(name) != "outside"]


@pytest.mark.parametrize("name", OURS)
def test_python_imports_point_down(name: str) -> None:
    reached = {
        part_of_pagestep(found)
        for found in imported((ROOT / name).read_text(encoding="utf-8"), package_of(name))
    }
    allowed = MAY_IMPORT[layer_of(name)] - (set() if name in CORE_USERS else {"_core"})
    assert reached - {None} <= allowed


def test_both_doors_to_the_core_are_used() -> None:
    for name in CORE_USERS:
        found = imported((ROOT / name).read_text(encoding="utf-8"), package_of(name))
        assert "_core" in {part_of_pagestep(each) for each in found}


def test_the_folders_are_what_they_were_when_this_was_written() -> None:
    assert len(OURS) > 30
    assert {layer_of(name) for name in OURS} == {"store", "codecs", "cli", "face"}
    assert {Path(name).parts[1] for name in c_files()} >= MAY_INCLUDE.keys()


@pytest.mark.parametrize(
    ("source", "reached"),
    [
        ("import pagestep.store", "store"),
        ("from pagestep import store", "store"),
        ("from pagestep.store import PageStore", "store"),
        ("from ..store._level import Level", "store"),
        ("from .. import _core", "_core"),
        ("from pagestep._core import ffi", "_core"),
        ("from pagestep import PageStore", ""),
        ("def f():\n    from pagestep.cli import main", "cli"),
        ("import_module('pagestep.store')", "store"),
        ("from . import _lib", "codecs"),
        ("import codecs", None),
    ],
)
def test_imports_are_seen(source: str, reached: str | None) -> None:
    [found] = imported(source, ("pagestep", "codecs"))
    assert part_of_pagestep(found) == reached


# -- C ------------------------------------------------------------------------------------


def includes(source: str) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', source, flags=re.MULTILINE)


@pytest.mark.parametrize("name", c_files())
def test_c_includes_point_down(name: str) -> None:
    path = ROOT / name
    found = includes(path.read_text(encoding="utf-8"))
    assert not [each for each in found if "Python.h" in each or "cffi" in each]
    folder = Path(name).parts[1]
    if folder not in MAY_INCLUDE:
        return
    for each in found:
        ours = [
            base
            for base in (path.parent, ROOT / "csrc", ROOT / "csrc/include")
            if (base / each).is_file()
        ]
        if ours:
            reached = (ours[0] / each).resolve().relative_to(ROOT / "csrc").parts[0]
            reached = "pagestep" if reached == "include" else reached
            assert reached in MAY_INCLUDE[folder], each


def test_includes_are_seen() -> None:
    assert includes('#include <a.h>\n  # include "b/c.h" // d\n') == ["a.h", "b/c.h"]


# -- sizes --------------------------------------------------------------------------------


def python_functions(source: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - docstring


def c_functions(source: str) -> Iterator[tuple[str, int]]:
    """Yield name and lines of each function: from a brace in column 0 to its end in column 0."""
    heading, start = "", 0
    for number, line in enumerate(source.splitlines()):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start:
            yield heading, number - start + 1
            start = 0
        elif not start and (match := re.match(r"\w[\w\s*]*?(\w+)\(", line)):
            heading = match[1]


@pytest.mark.parametrize("name", [*python_files(), *c_files()])
def test_no_file_and_no_function_is_too_long(name: str) -> None:
    source = (ROOT / name).read_text(encoding="utf-8")
    assert source.count("\n") <= LINES_MAX
    functions = python_functions(source) if name.endswith(".py") else c_functions(source)
    assert [each for each in functions if each[1] > FUNCTION_LINES_MAX] == []


def test_functions_are_measured() -> None:
    body = "    x = 1;\n" * 80
    assert list(c_functions(f"struct s {{\n}};\nint f(int a,\n      int b)\n{{\n{body}}}\n")) == [
        ("f", 82)
    ]
    assert list(python_functions("def f():\n    'one'\n" + "    x = 1\n" * 80)) == [("f", 81)]
    with_functions = [
        name
        for name, path in c_files().items()
        if name.endswith(".c") and not list(c_functions(path.read_text(encoding="utf-8")))
    ]
    assert len(with_functions) <= 2, "the scan finds functions in nearly every C file"
