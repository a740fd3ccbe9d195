# SPDX-License-Identifier: MIT
"""Which pieces of an image a rule matches."""

from __future__ import annotations

import fnmatch
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ._owners import Ints, Owners, find_owners

if TYPE_CHECKING:
    from pagestep.store.image import Image, SourceRanges

    from ._rules import Rule

_SHOWN_MAX = 3  # names of a list that are shown in a message
_WILD = re.compile(r"[*?[]")


class Names:
    """Many names, to be looked through by many globs."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take names; their numbers are their places."""
        self._numbers: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            self._numbers.setdefault(name, []).append(number)
        self._sorted = sorted(self._numbers)

    def select(self, globs: Iterable[str]) -> tuple[Ints, list[str]]:
        """Return the numbers of the names that match one of the globs, and the globs without any.

        A glob is looked for among the names that begin as it does; a plain name is looked up.
        """
        found: set[str] = set()
        barren: list[str] = []
        for glob in globs:
            names = self._matching(glob)
            found.update(names)
            if not names:
                barren.append(glob)
        numbers = [number for name in found for number in self._numbers[name]]
        return np.array(sorted(numbers), np.int64), barren

    def _matching(self, glob: str) -> list[str]:
        wild = _WILD.search(glob)
        if wild is None:
            return [glob] if glob in self._numbers else []
        prefix = glob[: wild.start()]
        first = bisect_left(self._sorted, prefix)
        # No name that begins with the prefix is behind it and the last of all letters.
        end = bisect_left(self._sorted, prefix + "\U0010ffff") if prefix else len(self._sorted)
        names = self._sorted[first:end]
        if glob == prefix + "*":
            return names
        matches = re.compile(fnmatch.translate(glob)).match
        return [name for name in names if matches(name)]


def offsets_of_addresses(image: Image, first: int, end: int) -> list[tuple[int, int]]:
    """Return the image offsets that a range of virtual addresses has in its sections."""
    found: list[tuple[int, int]] = []
    for segment in image.segments:
        low, high = max(first, segment.address), min(end, segment.address + segment.size)
        if low < high:
            shift = segment.offset - segment.address
            found.append((low + shift, high + shift))
    return found


class Matcher:
    """Finds what rules match in one image."""

    def __init__(self, image: Image, rules: Sequence[Rule]) -> None:
        """Take the image, and all rules that will be asked for.

        Raises:
            BadImage: Its debug information is wanted and cannot be read.
        """
        self._image = image
        self._by_source: SourceRanges = (
            image.source_ranges() if any(rule.source for rule in rules) else ()
        )
        self._sources = Names([path for path, _ in self._by_source])
        self._sections = Names([segment.name for segment in image.segments])

    def cuts(self, rules: Iterable[Rule]) -> list[int]:
        """Return the image offsets at which rules begin or end to match within a symbol."""
        ranges: list[tuple[int, int]] = []
        for rule in rules:
            if rule.address is not None:
                ranges += offsets_of_addresses(self._image, *rule.address)
            if rule.source:
                ranges += self._source_ranges(rule)
        return [each for pair in ranges for each in pair]

    def _source_ranges(self, rule: Rule) -> list[tuple[int, int]]:
        numbers: list[int] = self._sources.select(rule.source)[0].tolist()
        return [
            place
            for number in numbers
            for first, end in self._by_source[number][1]
            for place in offsets_of_addresses(self._image, first, end)
        ]

    def bind(self, owners: Owners) -> BoundMatcher:
        """Return a matcher that knows the pieces, which must end at the cuts."""
        return BoundMatcher(self, self._image, owners)

    def sections(self, rule: Rule) -> Ints:
        """Return the numbers of the sections that a rule matches."""
        return self._sections.select(rule.section)[0]

    def pieces_of_sources(self, rule: Rule, owners: Owners) -> Ints:
        """Return the pieces whose source a rule matches."""
        return _pieces(owners, self._source_ranges(rule))

    @property
    def has_sources(self) -> bool:
        """Whether there is debug information."""
        return bool(self._by_source)


class BoundMatcher:
    """Finds what rules match among the pieces of one image."""

    def __init__(self, matcher: Matcher, image: Image, owners: Owners) -> None:
        """Made by ``Matcher.bind``."""
        self._matcher, self._image, self._owners = matcher, image, owners

    @cached_property
    def _symbols(self) -> Names:
        name = self._image.symbols.name
        return Names([name(number) for number in self._owners.numbers.tolist()])

    def match(self, rule: Rule) -> tuple[Ints, str]:
        """Return the pieces that a rule matches, and what of it matches nothing, or "".

        All matchers of a rule must match.
        """
        barren: list[str] = []
        if rule.symbol:
            selected, barren = self._symbols.select(rule.symbol)
            if not len(selected):
                return selected, self._no_symbol(rule)
            if rule.section:
                of = self._owners.symbol_section[selected]
                selected = selected[np.isin(of, self._matcher.sections(rule))]
            found = self._owners.pieces_of(
                self._owners.symbol_start[selected], self._owners.symbol_end[selected]
            )
        elif rule.section:
            found = self._of_sections(self._matcher.sections(rule))
        else:
            found = np.arange(len(self._owners.start))
        if rule.address is not None:
            ranges = offsets_of_addresses(self._image, *rule.address)
            found = np.intersect1d(found, _pieces(self._owners, ranges))
        if rule.source:
            found = np.intersect1d(found, self._matcher.pieces_of_sources(rule, self._owners))
        if rule.module and not self._is_module(rule.module):
            found = found[:0]
        found = found[~self._owners.is_fill[found]]
        if not len(found):
            return found, self._why_nothing(rule)
        return found, _some(barren, len(rule.symbol), "symbol globs") if barren else ""

    def _of_sections(self, sections: Ints) -> Ints:
        numbers: list[int] = sections.tolist()
        segments = [self._image.segments[number] for number in numbers]
        return _pieces(self._owners, [(each.offset, each.offset + each.size) for each in segments])

    def _is_module(self, globs: Sequence[str]) -> bool:
        """Return whether the image is a kernel module of such a name; - and _ are one letter."""
        name = self._image.module_name
        if name is None:
            return False
        name = name.replace("-", "_")
        return any(fnmatch.fnmatchcase(name, glob.replace("-", "_")) for glob in globs)

    def _no_symbol(self, rule: Rule) -> str:
        if not len(self._image.symbols):
            return "the image has no symbols: give --system-map, or a file that is not stripped"
        return f"no symbol is called {_list(rule.symbol)}"

    def _why_nothing(self, rule: Rule) -> str:
        if rule.section and not len(self._matcher.sections(rule)):
            return f"no section is called {_list(rule.section)}"
        if rule.module and not self._is_module(rule.module):
            name = self._image.module_name
            what = "no kernel module" if name is None else f"the module {name}"
            return f"the image is {what}, not {_list(rule.module)}"
        if rule.source and not self._matcher.has_sources:
            return "there is no debug information that says what comes from which source"
        if rule.source and not len(self._matcher.pieces_of_sources(rule, self._owners)):
            return f"no source is called {_list(rule.source)}"
        if rule.address is not None and not offsets_of_addresses(self._image, *rule.address):
            first, end = rule.address
            return f"the image has no section from {first:#x} to {end:#x}"
        return "nothing is matched by all its matchers together"


def pages_matching(image: Image, rule: Rule) -> tuple[Ints, str]:
    """Return the pages on which a rule matches anything, and what of it matches nothing, or "".

    Raises:
        BadImage: Its symbols or its debug information cannot be read.
    """
    matcher = Matcher(image, [rule])
    owners = find_owners(image, matcher.cuts([rule]))
    pieces, reason = matcher.bind(owners).match(rule)
    is_on = np.zeros(image.page_count, np.bool_)
    first = owners.start[pieces] // image.page_size
    last = (owners.end[pieces] - 1) // image.page_size
    for start, stop in zip(first.tolist(), last.tolist(), strict=True):
        is_on[start : stop + 1] = True
    return np.flatnonzero(is_on), reason


def _pieces(owners: Owners, ranges: Sequence[tuple[int, int]]) -> Ints:
    starts = np.array([first for first, _ in ranges], np.int64)
    return owners.pieces_of(starts, np.array([end for _, end in ranges], np.int64))


def _list(globs: Sequence[str]) -> str:
    shown = " or ".join(repr(glob) for glob in globs[:_SHOWN_MAX])
    return shown + (f" or {len(globs) - _SHOWN_MAX:,} more" if len(globs) > _SHOWN_MAX else "")


def _some(barren: Sequence[str], count: int, what: str) -> str:
    shown = ", ".join(barren[:_SHOWN_MAX])
    more = f" and {len(barren) - _SHOWN_MAX:,} more" if len(barren) > _SHOWN_MAX else ""
    return f"{len(barren):,} of its {count:,} {what} match nothing: {shown}{more}"
