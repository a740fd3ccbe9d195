# SPDX-License-Identifier: MIT
"""In which line of a TOML file each table and key stands: ``tomllib`` does not say."""

from __future__ import annotations

import re
from collections.abc import Iterator

_Part = str | int
Path = tuple[_Part, ...]
"""Of a table or key: ``("rule", 3, "level")`` is key ``level`` of the fourth ``[[rule]]``."""

# What a line can begin with or hold; strings and comments hide brackets and ends of lines.
_TOKEN = re.compile(
    r"""
    (?P<string> \"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*' )
  | (?P<comment> \#[^\n]* )
  | (?P<newline> \n )
  | (?P<open> [\[{] )
  | (?P<close> [\]}] )
  | (?P<equals> = )
  | (?P<word> [^\s\[\]{}="'\#]+ )
  | (?P<space> [^\S\n]+ )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_KEY_PART = re.compile(r'"((?:\\.|[^"\\])*)"|\'([^\']*)\'|([^\s."\']+)')


def line_numbers(text: str) -> dict[Path, int]:
    """Return the line, from 1, of each table's header and of each key before an equals sign.

    Keys inside inline tables and arrays have none of their own.

    Args:
        text: A document that ``tomllib`` accepts.
    """
    found: dict[Path, int] = {}
    counts: dict[str, int] = {}
    table: Path = ()
    for line, statement in _statements(text):
        if not statement.startswith("["):
            found.setdefault((*table, *_parts(statement)), line)
            continue
        is_array = statement.startswith("[[")
        parts = _parts(statement.strip("[] \t\r"))
        if is_array and len(parts) == 1:
            name = str(parts[0])
            table = (name, counts.get(name, 0))
            counts[name] = counts.get(name, 0) + 1
            found.setdefault((name,), line)
        else:
            # [rule.x] belongs to the last [[rule]].
            first = str(parts[0])
            inside: Path = (first, counts[first] - 1) if first in counts else (first,)
            table = (*inside, *parts[1:])
        found.setdefault(table, line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each header, and of each key as far as its equals sign."""
    line, depth = 1, 0
    start, begun, is_value = 1, "", False
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match[0]
        if kind == "newline" and depth == 0:
            if begun.startswith("["):
                yield start, begun
            begun, is_value = "", False
        elif kind == "equals" and depth == 0 and not is_value:
            yield start, begun
            begun, is_value = "", True
        elif kind != "comment":
            # Brackets of a header do not span lines; those of a value do.
            if is_value:
                depth += (kind == "open") - (kind == "close")
            elif begun or kind != "space":
                start = start if begun else line
                begun += token if kind != "newline" else ""
        line += token.count("\n")
    if begun.startswith("["):
        yield start, begun


def _parts(key: str) -> Path:
    """Return the parts of a dotted key."""
    return tuple(next(filter(None, match.groups()), "") for match in _KEY_PART.finditer(key))
