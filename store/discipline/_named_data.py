# SPDX-License-Identifier: MIT
"""Data that code names, as what must be resident of it: a whole small object, or a page."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagestep.store.image import Image

from ._references import References

_NOBODY = -1
# Linker scripts put such at the first object of a section, whichever that is.
_LABEL = re.compile(r"_*(start|stop|begin|end|sdata|edata)_\w+|\w+_(start|begin|end)|_[se]\w+")
_FUNCTION, _SECTION, _FILE = 2, 3, 4  # ELF symbol types that name no object


@dataclass(frozen=True, slots=True)
class Named:
    """Data that an instruction names.

    Attributes:
        site: Address of the instruction.
        symbol: The object's name; where that symbol has no size, the nearest one before;
            None where there is none.
        address: The object's first byte; where it does not count as a whole, the one named.
        offset: Bytes from the symbol to the address.
        size: The object's bytes; 0 where it does not count as a whole.
        pages: Its pages that are not PINNED.
    """

    site: int
    symbol: str | None
    address: int
    offset: int
    size: int
    pages: tuple[int, ...]


class NamedData:
    """What references mean: each is of one datum, and one datum of many references.

    A datum is an object that is at most a page long, or one page of what is longer or has
    no symbol. Where a symbol has no size its object reaches up to the next.

    Attributes:
        references: The references.
        data: The datum that each means, shape (references,), dtype int64.
        symbols: Index of each datum's symbol, -1 where there is none, shape (data,), dtype
            int64.
        starts: The whole object's first byte, else the lowest address named, shape (data,),
            dtype uint64.
        sizes: Bytes of a whole object, else 0, shape (data,), dtype int64.
        by_name: Whether its symbol says that it is part of the object, which it does not
            where that has no size and would be longer than a page, shape (data,), dtype bool.
        first: Its first page, shape (data,), dtype int64.
        last: Its last page, the same or the next.
    """

    def __init__(self, image: Image, references: References) -> None:
        """Find what each address belongs to."""
        self._image = image
        self.references = references
        addresses = references.addresses
        symbols, starts, ends, sized = _objects(image, addresses)
        length = (ends - starts).astype(np.int64)
        whole = (symbols != _NOBODY) & (length <= image.page_size)
        starts = np.where(whole, starts, addresses)
        first = image.pages_of(starts)
        last = np.where(whole, image.pages_of(np.where(whole, ends - np.uint64(1), starts)), first)
        # The lowest address of each comes first, and stands for it.
        order = np.lexsort((starts, first, symbols))
        new = np.ones(len(order), bool)
        new[1:] = (symbols[order][1:] != symbols[order][:-1]) | (
            first[order][1:] != first[order][:-1]
        )
        self.data = np.empty(len(order), np.int64)
        self.data[order] = np.cumsum(new) - 1
        chosen = order[new]
        self.symbols = symbols[chosen]
        self.starts = starts[chosen]
        self.sizes = np.where(whole, length, 0)[chosen]
        self.by_name = (whole | (sized & (symbols != _NOBODY)))[chosen]
        self.first = first[chosen]
        self.last = last[chosen]

    def of(self, functions: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which data any of the functions names, shape (data,), dtype bool."""
        mask = np.zeros(len(self.symbols), bool)
        mask[self.data[functions[self.references.sources]]] = True
        return mask

    def touching(self, pages: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which data has a byte on any of the pages."""
        mask: NDArray[np.bool_] = pages[self.first] | pages[self.last]
        return mask

    def pages(self, data: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which pages hold a byte of any of the data."""
        mask = np.zeros(self._image.page_count, bool)
        mask[self.first[data]] = mask[self.last[data]] = True
        return mask

    def naming(self, data: NDArray[np.bool_], function_count: int) -> NDArray[np.bool_]:
        """Return which functions name any of the data, shape (functions,), dtype bool."""
        mask = np.zeros(function_count, bool)
        mask[self.references.sources[data[self.data]]] = True
        return mask

    def name(self, symbol: int) -> str:
        """Return what to call the object of a symbol: a name of its own before a label."""
        symbols = self._image.symbols
        same = [symbol]
        while same[-1] and (
            symbols.addresses[same[-1] - 1] == symbols.addresses[symbol]
            and symbols.sizes[same[-1] - 1] == symbols.sizes[symbol]
        ):
            same.append(same[-1] - 1)
        names = map(symbols.name, same)
        return min(names, key=lambda name: (bool(_LABEL.fullmatch(name)), len(name), name))

    def named(self, reference: int, loose: NDArray[np.bool_]) -> Named:
        """Return what one reference means; of its pages those that ``loose`` says."""
        datum = int(self.data[reference])
        span = range(int(self.first[datum]), int(self.last[datum]) + 1)
        symbol, size = int(self.symbols[datum]), int(self.sizes[datum])
        address = self.starts[datum] if size else self.references.addresses[reference]
        known = symbol != _NOBODY
        return Named(
            site=int(self.references.sites[reference]),
            symbol=self.name(symbol) if known else None,
            address=int(address),
            offset=int(address - self._image.symbols.addresses[symbol]) if known else 0,
            size=size,
            pages=tuple(page for page in span if loose[page]),
        )


def _objects(
    image: Image, addresses: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the symbol of each address, its object's first byte and end, and if it has a size.

    Objects end where their section does.
    """
    symbols = image.symbols
    numbers = np.full(len(addresses), _NOBODY, np.int64)
    starts, ends = addresses.copy(), addresses.copy()
    sized = np.zeros(len(addresses), bool)
    for segment in image.segments:
        low, high = np.uint64(segment.address), np.uint64(segment.address + segment.size)
        inside = np.flatnonzero((addresses >= low) & (addresses < high))
        held = (symbols.addresses >= low) & (symbols.addresses < high)
        held &= (symbols.kinds != _FILE) & (symbols.kinds != _SECTION)
        chosen = np.flatnonzero(held)
        if not len(inside) or not len(chosen):
            continue
        # Of several at one address the largest comes last, and counts.
        at = symbols.addresses[chosen]
        chosen = chosen[np.append(at[1:] != at[:-1], True)]
        at, size = symbols.addresses[chosen], symbols.sizes[chosen]
        behind = np.where(size > 0, at + size, np.append(at[1:], high))
        behind = np.minimum(behind, high)
        place = np.searchsorted(at, addresses[inside], side="right") - 1
        place = np.where(place < 0, 0, place)
        # Where the nearest does not cover it, the one that reaches furthest may.
        furthest = _furthest(behind)[place]
        place = np.where(addresses[inside] < behind[place], place, furthest)
        covered = (at[place] <= addresses[inside]) & (addresses[inside] < behind[place])
        covered &= symbols.kinds[chosen[place]] != _FUNCTION
        inside, place = inside[covered], place[covered]
        numbers[inside], sized[inside] = chosen[place], size[place] > 0
        starts[inside], ends[inside] = at[place], behind[place]
    return numbers, starts, ends, sized


def _furthest(ends: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return, for each place, which of those up to it has the furthest end."""
    reach = np.maximum.accumulate(ends)
    leads = np.where(ends == reach, np.arange(len(ends)), 0)
    return np.maximum.accumulate(leads).astype(np.int64)
