# SPDX-License-Identifier: MIT
"""Rules: which level, lifecycle, codec and lowest tier an engineer wants for what."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagestep.codecs.errors import BadRules

from ._level import CODEC_NAMES, Level, Tier
from ._rules_check import Document

__all__ = ["Indirect", "Rule", "RuleSet"]

_FILE_SIZE_MAX = 64 << 20
_FILES_MAX = 1000
_DEPTH_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is wanted for what all its matchers match; later rules go before earlier ones.

    Attributes:
        file: Where it stands.
        line: The line of its header, from 1.
        section: Globs of sections' names; none: any. One must match, as for the next three.
        symbol: Globs of symbols' names.
        module: Globs of kernel modules' names.
        source: Globs of source files' paths.
        address: First virtual address, and the one behind the last; None: any.
        level: None: as it would be without this rule; so for the next three.
        once: Whether it is dropped for good when start-up ends.
        codec: Its number in CODEC_NAMES.
        lowest_tier: The deepest tier that it may sink to.
    """

    file: str
    line: int
    section: tuple[str, ...] = ()
    symbol: tuple[str, ...] = ()
    module: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    address: tuple[int, int] | None = None
    level: Level | None = None
    once: bool | None = None
    codec: int | None = None
    lowest_tier: Tier | None = None

    @property
    def place(self) -> str:
        """File and line, as messages name it."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Indirect:
    """Indirect calls that are declared, for ``check``.

    Attributes:
        file: Where it stands.
        line: The line of its header, from 1.
        callers: Globs of the functions that call; none: any.
        targets: Globs of the functions that may be called.
        prototype: ``"struct.member"`` or the name of a type; None: any.
    """

    file: str
    line: int
    callers: tuple[str, ...]
    targets: tuple[str, ...]
    prototype: str | None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Parsed rules. Made by ``load`` or ``parse``.

    Attributes:
        rules: In order, those of an included file before those of the file that includes it.
        indirect: Declared indirect calls.
        roots: Globs of functions from which ``check`` starts, beside its own.
        cuts: Globs of functions into which ``check`` does not go.
    """

    rules: tuple[Rule, ...] = ()
    indirect: tuple[Indirect, ...] = ()
    roots: tuple[str, ...] = ()
    cuts: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RuleSet:
        """Read a file of rules, and the files that it includes.

        Raises:
            BadRules: The file cannot be read, or not as rules.
        """
        return _joined(_Reader().file(Path(path), str(path)))

    @classmethod
    def parse(
        cls, text: str, *, name: str = "rules", folder: str | os.PathLike[str] | None = None
    ) -> RuleSet:
        """Read rules from text.

        Args:
            text: TOML.
            name: What to call it in messages.
            folder: Where the files are that it includes; None: in the current folder.

        Raises:
            BadRules: It cannot be read as rules.

        >>> rules = RuleSet.parse('rule = [{symbol = "e1000_*", level = "EAGER"}]')
        >>> rules.rules[0].level.name
        'EAGER'
        """
        return _joined(_Reader().text(text, name, Path(folder or ".")))


def _joined(parts: Iterator[RuleSet]) -> RuleSet:
    found = tuple(parts)
    return RuleSet(
        tuple(rule for part in found for rule in part.rules),
        tuple(each for part in found for each in part.indirect),
        tuple(root for part in found for root in part.roots),
        tuple(cut for part in found for cut in part.cuts),
    )


class _Reader:
    """Reads a file and what it includes, and knows what is being read."""

    def __init__(self) -> None:
        self._open: list[tuple[str, str]] = []
        self._files = 0

    def file(self, path: Path, name: str, asked_by: str = "") -> Iterator[RuleSet]:
        real = os.path.realpath(path)
        where = asked_by or f"{name}: "
        if real in [each for each, _ in self._open]:
            chain = " includes ".join([*(each for _, each in self._open), name])
            raise BadRules(f"{where}a cycle: {chain}: take one of the includes out")
        self._files += 1
        if self._files > _FILES_MAX:
            raise BadRules(f"{where}more than {_FILES_MAX} files are included: include fewer")
        try:
            text = _content(path, f"{where}{name}").decode("utf-8")
        except OSError as error:
            raise BadRules(f"{where}cannot read {name}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise BadRules(f"{where}{name} is not UTF-8 text: give a file of rules") from error
        if len(self._open) == _DEPTH_MAX:
            raise BadRules(f"{where}files include each other {_DEPTH_MAX} deep: include fewer")
        self._open.append((real, name))
        yield from self.text(text, name, path.parent)
        self._open.pop()

    def text(self, text: str, name: str, folder: Path) -> Iterator[RuleSet]:
        text = text.removeprefix("\ufeff")  # editors of Windows begin a file so; TOML knows it not
        document = Document(name, text, _toml(text, name))
        for line, included in document.includes():
            path = folder / included
            yield from self.file(path, str(path), f"{name}:{line}: ")
        yield RuleSet(
            tuple(_rule(name, line, values) for line, values in document.rules()),
            tuple(_indirect(name, line, values) for line, values in document.indirect()),
            document.check_list("roots"),
            document.check_list("cuts"),
        )


def _content(path: Path, called: str) -> bytes:
    # What is no file may never end, and to open a pipe may wait for ever.
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise BadRules(f"{called} is a device or a pipe: give a file of rules")
    with path.open("rb") as file:
        content = file.read(_FILE_SIZE_MAX + 1)
    if len(content) > _FILE_SIZE_MAX:
        raise BadRules(f"{called} has more than 64 MiB: give a file of rules")
    return content


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # "Invalid value (at line 3, column 9)", or "(at end of document)"
        what, _, place = str(error).rpartition(" (at ")
        line, _, column = place.rstrip(")").removeprefix("line ").partition(", ")
        if not line.isdigit():
            line, column = str(max(1, len(text.splitlines()))), "at the end"
        raise BadRules(f"{name}:{line}: {what} ({column}): not TOML") from error
    except RecursionError as error:
        raise BadRules(f"{name}: too deeply nested: give a file of rules") from error
    except ValueError as error:  # a decimal number of thousands of digits
        raise BadRules(f"{name}: {error}: not a file of rules") from error


def _rule(file: str, line: int, values: dict[str, Any]) -> Rule:
    codec, tier, level = values.get("codec"), values.get("lowest_tier"), values.get("level")
    return Rule(
        file=file,
        line=line,
        section=values.get("section", ()),
        symbol=values.get("symbol", ()),
        module=values.get("module", ()),
        source=values.get("source", ()),
        address=values.get("address"),
        level=None if level is None else Level[level],
        once=values["lifecycle"] == "once" if "lifecycle" in values else None,
        codec=None if codec is None else CODEC_NAMES.index(codec),
        lowest_tier=None if tier is None else Tier[tier.upper()],
    )


def _indirect(file: str, line: int, values: dict[str, Any]) -> Indirect:
    return Indirect(
        file, line, values.get("callers", ()), values["targets"], values.get("prototype")
    )
