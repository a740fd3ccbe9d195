# SPDX-License-Identifier: MIT
"""Who owns which bytes of an image: symbols, and what sections hold beside them.

The image is cut into **pieces**, at every place where a symbol, a section, or something else that
a rule speaks of begins or ends. Each piece is all one owner's or nobody's, and gets one decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pagestep.store.image import without_filling

from ._padding import Fill

if TYPE_CHECKING:
    from pagestep.store.image import Image

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
NOBODY = -1


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """Pieces of an image, and the symbols that lie in its sections.

    Attributes:
        start: Image offset of each piece, ascending, shape (pieces,).
        end: Offset behind each; between pieces there may be gaps.
        section: Number in ``Image.segments`` that each lies in, -1: in none.
        is_fill: Pieces that are alignment fill, and so nobody's.
        symbol_no: Number in ``Image.symbols`` of the innermost that each belongs to, -1: none.
        numbers: Of the symbols that lie in a section, in ``Image.symbols``; shape (symbols,).
        symbol_start: Image offset of each of them.
        symbol_end: Offset behind each; of one without a size the next symbol's.
        symbol_section: The section of each.
    """

    start: Ints
    end: Ints
    section: Ints
    is_fill: Mask
    symbol_no: Ints
    numbers: Ints
    symbol_start: Ints
    symbol_end: Ints
    symbol_section: Ints

    def pieces_of(self, starts: Ints, ends: Ints) -> Ints:
        """Return the pieces that lie in ranges of image offsets at which pieces begin and end.

        Args:
            starts: Shape (n,).
            ends: Shape (n,).

        Returns:
            Numbers of pieces, ascending, each once.
        """
        first = np.searchsorted(self.start, starts)
        counts = np.maximum(np.searchsorted(self.start, ends) - first, 0)
        before = np.cumsum(counts) - counts
        return np.unique(np.repeat(first - before, counts) + np.arange(int(counts.sum())))


def find_owners(image: Image, cuts: Iterable[int] = ()) -> Owners:
    """Cut an image into pieces.

    Args:
        image: With symbols or without.
        cuts: Image offsets where a piece must end as well.

    Raises:
        BadImage: The symbols cannot be read.
    """
    starts = np.array([segment.offset for segment in image.segments], np.int64)
    ends = np.array([segment.offset + segment.size for segment in image.segments], np.int64)
    numbers, section, at = _located(image)
    symbol_end = _ends(image, numbers, at, ends[section])
    _trim(image, section, at, symbol_end)
    edges = _edges(image, starts, ends, at, symbol_end, cuts)
    left, right = edges[:-1], edges[1:]
    holder = _holders(starts, ends, left)
    used = (holder >= 0) | _in_file(image, left)
    left, right, holder = left[used], right[used], holder[used]
    innermost = _innermost(left, at, symbol_end, numbers)
    return Owners(
        start=left,
        end=right,
        section=holder,
        is_fill=_fill(image, left, right, holder, innermost),
        symbol_no=innermost,
        numbers=numbers,
        symbol_start=at,
        symbol_end=symbol_end,
        symbol_section=section,
    )


def _located(image: Image) -> tuple[Ints, Ints, Ints]:
    """Return number, section and image offset of each symbol that lies in a section."""
    addresses = image.symbols.addresses
    order = sorted(range(len(image.segments)), key=lambda i: image.segments[i].address)
    if not order or not len(addresses):
        none = np.empty(0, np.int64)
        return none, none, none
    first = np.array([image.segments[i].address for i in order], np.uint64)
    size = np.array([image.segments[i].size for i in order], np.uint64)
    offset = np.array([image.segments[i].offset for i in order], np.int64)
    index = np.searchsorted(first, addresses, side="right") - 1
    below = index < 0
    index[below] = 0
    distance = addresses - first[index]
    held = ~below & (distance < size[index])
    at = offset[index] + distance.astype(np.int64)
    numbers = np.flatnonzero(held)
    # By offset, as pieces are; of those at one offset the largest stays last.
    numbers = numbers[np.argsort(at[numbers], kind="stable")]
    return numbers, np.array(order, np.int64)[index[numbers]], at[numbers]


def _ends(image: Image, numbers: Ints, at: Ints, section_end: Ints) -> Ints:
    """Return where symbols end: by their size, else where the next one begins."""
    size = image.symbols.sizes[numbers]
    following = np.searchsorted(at, at, side="right")
    next_at = np.append(at, np.iinfo(np.int64).max)[following]
    room = section_end - at
    sized = at + np.minimum(size, room.astype(np.uint64)).astype(np.int64)
    return np.where(size > 0, sized, np.minimum(next_at, section_end))


def _trim(image: Image, section: Ints, at: Ints, symbol_end: Ints) -> None:
    """Take from long functions the filling behind them, where they reach up to the next symbol."""
    is_code = np.array(["x" in segment.flags for segment in image.segments], np.bool_)
    flat = image.flat().reshape(-1)
    long = symbol_end - at > image.page_size
    for place in np.flatnonzero(is_code[section] & long).tolist() if len(is_code) else ():
        code = flat[at[place] : symbol_end[place]].tobytes()
        symbol_end[place] = at[place] + without_filling(code)


def _edges(
    image: Image, starts: Ints, ends: Ints, at: Ints, symbol_end: Ints, cuts: Iterable[int]
) -> Ints:
    bounds: list[int] = []
    for extent in image.extents:
        bounds += [extent.image_offset, extent.image_offset + extent.size]
    more = np.array([*bounds, *cuts], np.int64)
    # Between sections each page is looked at by itself, for whether it holds anything.
    pages = np.arange(image.page_count, dtype=np.int64) * image.page_size
    pages = pages[_holders(starts, ends, pages) < 0]
    edges: Ints = np.unique(np.concatenate([starts, ends, at, symbol_end, more, pages]))
    return edges


def _holders(starts: Ints, ends: Ints, offsets: Ints) -> Ints:
    """Return which of some ranges, ascending and apart, holds each offset; NOBODY where none."""
    if not len(starts):
        return np.full(len(offsets), NOBODY, np.int64)
    index = np.searchsorted(starts, offsets, side="right") - 1
    return np.where((index >= 0) & (offsets < ends[index]), index, NOBODY)


def _in_file(image: Image, left: Ints) -> Mask:
    """Return which pieces have bytes in the file; the others are zeros between what is loaded."""
    starts = np.array([extent.image_offset for extent in image.extents], np.int64)
    ends = np.array([extent.image_offset + extent.size for extent in image.extents], np.int64)
    return _holders(starts, ends, left) >= 0


def _innermost(left: Ints, at: Ints, symbol_end: Ints, numbers: Ints) -> Ints:
    """Return the symbol of each piece: of those that reach it, the last to begin."""
    found = np.full(len(left), NOBODY, np.int64)
    open_: list[int] = []
    starts, ends = at.tolist(), symbol_end.tolist()
    following = 0
    for piece, place in enumerate(left.tolist()):
        while following < len(starts) and starts[following] <= place:
            open_.append(following)
            following += 1
        while open_ and ends[open_[-1]] <= place:
            open_.pop()
        if open_:
            found[piece] = numbers[open_[-1]]
    return found


def _fill(image: Image, left: Ints, right: Ints, section: Ints, symbol_no: Ints) -> Mask:
    """Return which pieces are alignment fill, of those that no symbol covers."""
    is_fill = np.zeros(len(left), np.bool_)
    fill = Fill(image.arch)
    data = image.flat().reshape(-1)
    for index in np.flatnonzero(symbol_no < 0).tolist():
        start, end, number = int(left[index]), int(right[index]), int(section[index])
        piece = data[start:end]
        if number == NOBODY:
            is_fill[index] = not piece.any()  # between sections
        elif end - start < image.page_size:
            is_code = "x" in image.segments[number].flags
            is_fill[index] = fill.is_fill(piece.tobytes(), end, is_code)
    return is_fill
