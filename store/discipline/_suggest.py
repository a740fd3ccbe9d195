# SPDX-License-Identifier: MIT
"""Rules that mend what a check found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np

from pagestep.store.image import Image

from ._check import Check

_WILD = re.compile(r"([*?\[])")


def suggest_rules(image: Image, found: Check) -> str:
    """Return rules, as TOML, that pin all that must stay in RAM.

    Appended to the rules that were checked they make the check pass: a later rule goes
    before an earlier one, and what one owner of a page pins is pinned. Functions are named,
    so that the rules serve another build of the same source; addresses stand only for pages
    that a recording saw and no such function lies on.

    What is marked to touch pageable memory cannot be mended by rules, and is not.
    """
    functions = found.graph.functions
    names = sorted({functions.names[number] for number in np.flatnonzero(found.resident)})
    lines = [
        "# What must stay in RAM so that a fault never needs a page that can fault, as",
        f"# `pagestep check` found it for {json.dumps(image.name)[1:-1]}.",
    ]
    if names:
        lines += [
            "",
            f"# {len(names)} names of functions that may run where no fault may happen.",
            "[[rule]]",
            'level = "PINNED"',
            "symbol = [",
        ]
        lines += [f"    {_glob(name)}," for name in names]
        lines += ["]"]
    pages = sorted({*found.resident_pages, *_unnamed_pages(image, found)})
    ranges = list(_ranges(image, pages))
    if ranges:
        lines += [
            "",
            "# Pages in use in interrupt or fault context, by a recording, that hold no",
            "# byte of these functions.",
        ]
    for first, behind in ranges:
        lines += ["", "[[rule]]", 'level = "PINNED"', f"address = [{first:#x}, {behind:#x}]"]
    return "\n".join(lines) + "\n"


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
