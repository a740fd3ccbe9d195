# SPDX-License-Identifier: MIT
"""Rules that mend what a check found."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from pagestep.store.image import Image

from ._check import Check

_WILD = re.compile(r"([*?\[])")


def suggest_rules(image: Image, found: Check) -> str:
    """Return rules, as TOML, that pin all that must stay in RAM.

    Appended to the rules that were checked they make the check pass: a later rule goes
    before an earlier one, and what one owner of a page pins is pinned. Functions and data
    are named, so that the rules serve another build of the same source; addresses stand
    only for what has no symbol, or one whose name others have that need not stay, for pages of
    long objects, and for pages that a recording saw and on which nothing of these lies.

    What is marked to touch pageable memory cannot be mended by rules, and is not.
    """
    resident = _Resident(image, found)
    lines = [
        "# What must stay in RAM so that a fault never needs a page that can fault, as",
        f"# `pagestep check` found it for {json.dumps(image.name)[1:-1]}.",
        *_by_name(resident.functions, "names of functions that may run where no fault may happen"),
        *_by_name(resident.data - resident.functions, "names of data that these functions name"),
        *_by_address(
            image,
            resident.nameless_pages(),
            [
                "# Pages of such functions and data that no name stands for: they have none, or",
                "# one that others have too, or lie in a long object. They fit this build alone.",
            ],
        ),
        *_by_address(
            image,
            sorted({*found.resident_pages, *_unnamed_pages(image, found)}),
            [
                "# Pages in use in interrupt or fault context, by a recording, that hold nothing",
                "# of these functions and data.",
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


class _Resident:
    """What must stay, by names that mean nothing else, and by pages where there is no such."""

    def __init__(self, image: Image, found: Check) -> None:
        self._image, self._found = image, found
        symbols, functions, data = image.symbols, found.graph.functions, found.data
        self._functions = {
            number: functions.names[number] for number in np.flatnonzero(found.resident).tolist()
        }
        # Of an object that is longer than a page only pages are known to be needed.
        whole = found.resident_data & data.by_name & (data.sizes > 0)
        self._nameless = found.resident_data & ~whole
        self._data = {
            datum: data.name(int(data.symbols[datum])) for datum in np.flatnonzero(whole).tolist()
        }
        objects = {int(data.symbols[datum]): name for datum, name in self._data.items()}
        meant = Counter(self._functions.values()) + Counter(objects.values())
        said = Counter(map(symbols.name, range(len(symbols))))
        self._shared = {name for name, count in meant.items() if said[name] > count}
        self.functions = set(self._functions.values()) - self._shared
        self.data = set(self._data.values()) - self._shared

    def nameless_pages(self) -> list[int]:
        """Return the pages of what no name of its own stands for."""
        functions, data = self._found.graph.functions, self._found.data
        nameless = self._nameless.copy()
        for datum, name in self._data.items():
            nameless[datum] |= name in self._shared
        is_on = data.pages(nameless)
        for number, name in self._functions.items():
            if name in self._shared:
                first = self._image.page_of(int(functions.starts[number]))
                is_on[first : self._image.page_of(int(functions.ends[number]) - 1) + 1] = True
        found: list[int] = np.flatnonzero(is_on).tolist()
        return found


def _by_name(names: set[str], what: str) -> list[str]:
    if not names:
        return []
    lines = ["", f"# {len(names)} {what}.", "[[rule]]", 'level = "PINNED"', "symbol = ["]
    return [*lines, *(f"    {_glob(name)}," for name in sorted(names)), "]"]


def _by_address(image: Image, pages: list[int], why: list[str]) -> list[str]:
    lines = ["", *why] if pages else []
    for first, behind in _ranges(image, pages):
        lines += ["", "[[rule]]", 'level = "PINNED"', f"address = [{first:#x}, {behind:#x}]"]
    return lines


def _unnamed_pages(image: Image, found: Check) -> Iterator[int]:
    """Yield pages of functions that these have beyond the size of their symbols.

    Such are the bytes of one function behind another that begins within it.
    """
    symbols, functions = image.symbols, found.graph.functions
    for number in np.flatnonzero(found.resident).tolist():
        start, end = int(functions.starts[number]), int(functions.ends[number])
        last = int(np.searchsorted(symbols.addresses, np.uint64(start), side="right")) - 1
        size = int(symbols.sizes[last])
        if size and start + size < end:
            yield from range(image.page_of(start + size), image.page_of(end - 1) + 1)


def _glob(name: str) -> str:
    """Return a name as a TOML string that means only itself."""
    return json.dumps(_WILD.sub(r"[\1]", name))


def _ranges(image: Image, pages: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first address and the one behind the last of each run of pages."""
    size = image.page_size
    first = behind = None
    for page in pages:
        address = image.address_of(page)
        if behind != address:
            if first is not None and behind is not None:
                yield first, behind
            first = address
        behind = address + size
    if first is not None and behind is not None:
        yield first, behind
