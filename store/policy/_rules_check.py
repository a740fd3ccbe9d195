# SPDX-License-Identifier: MIT
"""What a file of rules may say: every key and value is checked, and errors name their line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn, cast

from pagestep.codecs.errors import BadRules

from ._level import CODEC_NAMES, Level, Tier
from ._toml_lines import line_numbers

LIFECYCLES: Final = ("always", "once")
"""A page lives always, or once: until start-up ends."""
_ADDRESS_END: Final = 1 << 64
_Check = Callable[[Any], Any]


class _Wrong(Exception):
    """A value that cannot be; the message says why and what to write."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that was meant, or all of them."""
    names = list(known)
    folded = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(name.casefold(), folded, 1)
    if near:
        return f"did you mean {folded[near[0]]!r}?"
    return f"it can be {', '.join(names)}"


def _list_or_none(value: Any) -> list[Any] | None:
    # A list of TOML may hold anything, which pyright calls unknown and mypy Any.
    return value if isinstance(value, list) else None  # pyright: ignore[reportUnknownVariableType]


def _globs(value: Any) -> tuple[str, ...]:
    listed = _list_or_none(value)
    listed = [value] if listed is None else listed
    if not listed or not all(isinstance(each, str) and each for each in listed):
        raise _Wrong(f"{_shown(value)}: must be a glob or a list of globs, such as 'e1000_*'")
    return tuple(listed)


def _one_of(names: Iterable[str]) -> _Check:
    known = tuple(names)

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise _Wrong(f"{_shown(value)}: must be text, one of {', '.join(known)}")
        if value not in known:
            raise _Wrong(f"{value!r}: not known; {nearest(value, known)}")
        return value

    return check


def _address(value: Any) -> tuple[int, int]:
    """Check ``[from, to]``; an address behind 2**63 is not what every TOML writer can write."""
    numbers = [_number(each) for each in _list_or_none(value) or []]
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        raise _Wrong(
            f'{_shown(value)}: must be [from, to], two numbers or texts such as "0xc0008000"'
        )
    first, end = numbers[0], numbers[1]
    shown = _shown(value)
    if first < 0 or end < 0:
        raise _Wrong(f"{shown}: an address is not negative")
    if first >= _ADDRESS_END or end > _ADDRESS_END:
        raise _Wrong(f"{shown}: an address has at most 64 bits")
    if first >= end:
        raise _Wrong(f"{shown}: from must be below to, which is behind the last byte")
    return first, end


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            return int(value, 0)
        except ValueError:
            return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _Wrong(f"{_shown(value)}: must be text")
    return value


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not write numbers of so many digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


_MATCHERS: Final[dict[str, _Check]] = {
    **dict.fromkeys(("section", "symbol", "module", "source"), _globs),
    "address": _address,
}
_SETS: Final[dict[str, _Check]] = {
    "level": _one_of(Level.__members__),
    "lifecycle": _one_of(LIFECYCLES),
    "codec": _one_of(CODEC_NAMES[1:]),
    "lowest_tier": _one_of(tier.name.lower() for tier in Tier),
}
_INDIRECT: Final[dict[str, _Check]] = {"callers": _globs, "targets": _globs, "prototype": _text}
_CHECK: Final[dict[str, _Check]] = {"roots": _globs, "cuts": _globs}
_TABLES: Final = ("include", "rule", "indirect", "check")


class Document:
    """One file of rules, as TOML has it."""

    def __init__(self, name: str, text: str, values: dict[str, Any]) -> None:
        """Take what ``tomllib`` read.

        Raises:
            BadRules: A key at the top that is not known.
        """
        self._name, self._values = name, values
        self._lines = line_numbers(text)
        for key in values:
            if key not in _TABLES:
                self._fail((key,), f"unknown key {key!r}; {nearest(key, _TABLES)}")

    def includes(self) -> Iterator[tuple[int, str]]:
        """Yield line and path of each file that is included.

        Raises:
            BadRules: It is no list of paths.
        """
        value = self._values.get("include", [])
        listed = _list_or_none(value)
        for path in [value] if listed is None else listed:
            if not isinstance(path, str) or not path or "\0" in path:
                self._fail(("include",), f"include {_shown(path)}: must be the path of a file")
            yield self._line(("include",)), path

    def rules(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield line and checked values of each rule.

        Raises:
            BadRules: An unknown key or value, or a rule without matcher or without effect.
        """
        for path, values in self._tables("rule"):
            checked = self._checked(path, values, {**_MATCHERS, **_SETS})
            if not checked.keys() & _MATCHERS.keys():
                self._fail(
                    path, f"a rule that matches nothing: give it one of {', '.join(_MATCHERS)}"
                )
            if not checked.keys() & _SETS.keys():
                self._fail(path, f"a rule without effect: give it one of {', '.join(_SETS)}")
            level, tier = checked.get("level"), checked.get("lowest_tier")
            if level and tier and (level == "PINNED") != (tier == "hot"):
                self._fail(
                    (*path, "lowest_tier"),
                    f"contradiction: level {level} and lowest_tier {tier!r}: what is PINNED stays "
                    "hot, and nothing else does; leave one of them out",
                )
            yield self._line(path), checked

    def indirect(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield line and checked values of each declaration of indirect calls.

        Raises:
            BadRules: An unknown key or value, or one without targets.
        """
        for path, values in self._tables("indirect"):
            checked = self._checked(path, values, _INDIRECT)
            if "targets" not in checked:
                self._fail(path, "indirect calls without targets: give it targets")
            yield self._line(path), checked

    def check_list(self, name: str) -> tuple[str, ...]:
        """Return a list of globs of ``[check]``.

        Raises:
            BadRules: [check] has an unknown key, or a value that is no list of globs.
        """
        checked = self._checked(("check",), self._values.get("check", {}), _CHECK)
        found: tuple[str, ...] = checked.get(name, ())
        return found

    def _tables(self, name: str) -> Iterator[tuple[tuple[str | int, ...], Any]]:
        tables = _list_or_none(self._values.get(name, []))
        if tables is None:
            self._fail((name,), f"{name}: must be a list of tables: write [[{name}]]")
        for number, values in enumerate(tables):
            yield (name, number), values

    def _checked(
        self, path: tuple[str | int, ...], values: Any, known: dict[str, _Check]
    ) -> dict[str, Any]:
        if not isinstance(values, dict):
            self._fail(path, f"{path[0]}: must be a table of {', '.join(known)}")
        checked: dict[str, Any] = {}
        for key, value in cast("dict[str, Any]", values).items():
            if key not in known:
                self._fail((*path, key), f"unknown key {key!r}; {nearest(key, known)}")
            try:
                checked[key] = known[key](value)
            except _Wrong as error:
                self._fail((*path, key), f"{key} {error}")
        return checked

    def _line(self, path: tuple[str | int, ...]) -> int:
        """Return the line of a key, or of the nearest thing that holds it."""
        while path:
            if path in self._lines:
                return self._lines[path]
            # A dotted key has only its own line: its first part's is that of the first such key.
            for each, line in self._lines.items():
                if each[: len(path)] == path:
                    return line
            path = path[:-1]
        return 1

    def _fail(self, path: tuple[str | int, ...], message: str) -> NoReturn:
        raise BadRules(f"{self._name}:{self._line(path)}: {message}")
