# SPDX-License-Identifier: MIT
"""An image's bytes by virtual address."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from pagestep.store.image import Image, Segment

_WORDS = {"x86_64": 8, "arm64": 8, "riscv64": 8}


def code_segments(image: Image) -> list[Segment]:
    """Return the segments that hold code."""
    return [segment for segment in image.segments if "x" in segment.flags]


class Memory:
    """The segments' bytes; an address in none has no bytes.

    Attributes:
        word: Bytes of a pointer.
    """

    def __init__(self, image: Image) -> None:
        """Take an image; its bytes are held meanwhile."""
        self._flat = image.flat().reshape(-1)
        self._segments = sorted(image.segments, key=lambda segment: segment.address)
        self._starts = [segment.address for segment in self._segments]
        self._code = code_segments(image)
        self.word = _WORDS.get(image.arch, 4)

    def read(self, address: int, size: int) -> bytes:
        """Return bytes, fewer where the segment ends before."""
        place = bisect_right(self._starts, address) - 1
        if place < 0:
            return b""
        segment = self._segments[place]
        inside = address - segment.address
        size = min(size, segment.size - inside)
        if size <= 0:
            return b""
        at = segment.offset + inside
        return self._flat[at : at + size].tobytes()

    def pointer(self, address: int) -> int:
        """Return the pointer at an address; 0 where there is none."""
        data = self.read(address, self.word)
        return int.from_bytes(data, "little") if len(data) == self.word else 0

    def pointers(self) -> NDArray[np.uint64]:
        """Return every aligned word of the image."""
        whole = len(self._flat) // self.word * self.word
        return self._flat[:whole].view(f"<u{self.word}").astype(np.uint64)

    def is_code(self, addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which addresses lie in a segment of code."""
        found = np.zeros(len(addresses), bool)
        for segment in self._code:
            inside = addresses >= np.uint64(segment.address)
            inside &= addresses - np.uint64(segment.address) < np.uint64(segment.size)
            found |= inside
        return found
