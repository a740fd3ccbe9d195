# SPDX-License-Identifier: MIT
"""Run the command, and hold what it prints against docs/JSON.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from pagestep.cli import main

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "JSON.md"

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "string or null": (str, type(None)),
    "boolean": (bool,),
    "integer": (int,),
    "integer or null": (int, type(None)),
    "number": (int, float),
    "number or null": (int, float, type(None)),
    "list": (list,),
    "object": (dict,),
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run_json(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found  # pyright: ignore[reportUnknownVariableType] - JSON may be anything


def assert_refused(result: Result, *words: str) -> None:
    """The command said in one line what is wrong, and nothing else."""
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("pagestep: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("\n")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def documented(command: str) -> dict[str, str]:
    """Return key to type, from the command's table."""
    text = DOCUMENT.read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    [section] = [part for part in sections if part.startswith(f"`pagestep {command} ")]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", section, flags=re.MULTILINE)
    keys = {key: kind.strip() for key, kind in rows}
    assert len(keys) == len(rows), "a key is documented twice"
    return keys


def printed(value: Any, documented_keys: dict[str, str], path: str = "") -> dict[str, list[Any]]:
    """Return key, written as in the document, to the values it had."""
    found: dict[str, list[Any]] = {}
    if isinstance(value, dict):
        below: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType] - JSON
        for name, item in below.items():
            star = f"{path}.*" if path else "*"
            is_star = any(key.startswith(star) for key in documented_keys)
            key = star if is_star else f"{path}.{name}" if path else name
            if not (is_star and isinstance(item, dict)):
                found.setdefault(key, []).append(item)
            for more, values in printed(item, documented_keys, key).items():
                found.setdefault(more, []).extend(values)
    elif isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType] - JSON
        for item in items:
            for more, values in printed(item, documented_keys, f"{path}[]").items():
                found.setdefault(more, []).extend(values)
    return found


def assert_documented(command: str, value: dict[str, Any]) -> None:
    """Every key that is printed is documented, and the other way round, with its type.

    Of what an empty list would hold nothing can be printed.
    """
    keys = documented(command)
    found = printed(value, keys)
    empty = tuple(f"{key}[]" for key, values in found.items() if not any(values))
    assert set(found) <= set(keys)
    assert not [key for key in set(keys) - set(found) if not key.startswith(empty)]
    for key, values in found.items():
        for item in values:
            assert type(item) in _TYPES[keys[key]], (key, item)
