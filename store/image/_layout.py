# SPDX-License-Identifier: MIT
"""Where an image's bytes lie: in its pages, in memory, and in its file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagestep.codecs.errors import BadImage, InvalidArgument
from pagestep.store._size import show_size

from ._source import Source

ADDRESS_END = 1 << 64


@dataclass(frozen=True, slots=True)
class Segment:
    """A named run of an image with one origin.

    Attributes:
        name: The section's name, or ``"PT_LOAD 0"``, or ``"image"`` for a raw image.
        address: Virtual address of its first byte.
        size: In bytes.
        offset: Of its first byte in the image's byte space.
        pages: The page numbers that it touches; neighbours may share one.
        flags: Three letters, as in ``"r-x"``.
        kind: ``"text"``, ``"rodata"``, ``"data"`` by the flags; ``"raw"`` for a raw image.
    """

    name: str
    address: int
    size: int
    offset: int
    pages: range
    flags: str
    kind: str


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of image bytes that lie one after another in the file.

    Attributes:
        image_offset: In the image's byte space.
        file_offset: In ``Image.file``.
        size: In bytes.
    """

    image_offset: int
    file_offset: int
    size: int


class AddressMap:
    """Virtual addresses to image offsets and back, one piece per load."""

    def __init__(self, pieces: Sequence[tuple[int, int, int]], size: int) -> None:
        """Take the pieces.

        Args:
            pieces: Virtual address, image offset and size of each, sorted by offset,
                not overlapping in offsets.
            size: Of the image, in bytes, whole pages.
        """
        ends = [offset for _, offset, _ in pieces[1:]] + [size]
        self._offsets = [0] + [offset for _, offset, _ in pieces[1:]]
        self._addresses = [pieces[0][0] - pieces[0][1]] + [address for address, _, _ in pieces[1:]]
        # An address is looked up among the bytes of the pieces first, then with each piece
        # stretched over the gap behind it, so that every page has an address that leads back.
        stretched = [
            (address, offset, end - offset)
            for address, offset, end in zip(self._addresses, self._offsets, ends, strict=True)
        ]
        self._exact = _sorted_pieces(pieces)
        self._stretched = _sorted_pieces(stretched)

    def address_of(self, offset: int) -> int:
        """Return the virtual address of an image offset."""
        index = bisect_right(self._offsets, offset) - 1
        return (self._addresses[index] + offset - self._offsets[index]) % ADDRESS_END

    def offsets_of(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return image offsets of virtual addresses, -1 where an address has none."""
        offsets = _look_up(self._exact, addresses)
        missing = offsets < 0
        if missing.any():
            offsets[missing] = _look_up(self._stretched, addresses[missing])
        return offsets


_Pieces = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]


def _sorted_pieces(pieces: Sequence[tuple[int, int, int]]) -> _Pieces:
    inside = sorted(p for p in pieces if p[0] >= 0 and p[0] + p[2] <= ADDRESS_END and p[2])
    return (
        np.array([address for address, _, _ in inside], np.uint64),
        np.array([address + size - 1 for address, _, size in inside], np.uint64),
        np.array([offset for _, offset, _ in inside], np.int64),
    )


def _look_up(pieces: _Pieces, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
    firsts, lasts, offsets = pieces
    if not firsts.size:
        return np.full(addresses.shape, -1, np.int64)
    index = np.searchsorted(firsts, addresses, side="right") - 1
    outside = (index < 0) | (addresses > lasts[index])
    index[index < 0] = 0
    found = offsets[index] + (addresses - firsts[index]).astype(np.int64)
    return np.where(outside, -1, found)


@dataclass(frozen=True, slots=True)
class Layout:
    """An image's pages, and what they hold.

    Attributes:
        page_size: Bytes of a page.
        page_count: Number of pages.
        segments: Sorted by offset.
        extents: Sorted by image offset, not overlapping; what they leave out is zero.
        addresses: Virtual addresses to image offsets and back.
        section_addresses: Of an ELF's sections by index, the only place where a
            relocatable's are known; 0 where a section is not in the image.
    """

    page_size: int
    page_count: int
    segments: tuple[Segment, ...]
    extents: tuple[Extent, ...]
    addresses: AddressMap
    section_addresses: NDArray[np.uint64]


def pages_of_run(offset: int, size: int, page_size: int) -> range:
    """Return the numbers of the pages that a run of image bytes touches."""
    return range(offset // page_size, -(-(offset + size) // page_size))


def check_span(name: str, size: int, max_size: int) -> None:
    """Refuse an image of too many bytes, holes included.

    Raises:
        BadImage: It spans more than ``max_size``.
    """
    if size > max_size:
        raise BadImage(
            f"{name}: the image spans {show_size(size)}, more than max_size={show_size(max_size)}: "
            "if that is right, raise max_size="
        )


def raw_layout(source: Source, *, page_size: int, base: int, max_size: int) -> Layout:
    """Lay out a file that is its own memory image.

    Args:
        source: The file.
        page_size: Bytes of a page.
        base: Virtual address of the first byte.
        max_size: The largest image that is taken, in bytes.

    Raises:
        BadImage: The image is too large.
    """
    size = source.size
    check_span(source.name, size, max_size)
    pages = pages_of_run(0, size, page_size)
    if base + len(pages) * page_size > ADDRESS_END:
        raise InvalidArgument(
            f"base={base:#x}: {show_size(size)} from there pass the end of the address space"
        )
    return Layout(
        page_size=page_size,
        page_count=len(pages),
        segments=(Segment("image", base, size, 0, pages, "rwx", "raw"),),
        extents=(Extent(0, 0, size),),
        addresses=AddressMap([(base, 0, size)], len(pages) * page_size),
        section_addresses=np.empty(0, np.uint64),
    )
