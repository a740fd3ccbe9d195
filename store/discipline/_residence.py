# SPDX-License-Identifier: MIT
"""Which pages functions lie on, and how much of the text a set of them is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagestep.store.image import Image

from ._functions import Functions


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the text is in a set.

    Attributes:
        functions: Functions of which a byte is in it.
        bytes: Bytes of functions.
        pages: Pages that hold them.
    """

    functions: int
    bytes: int
    pages: int


class Residence:
    """Functions in pieces, each of one function on one page.

    Attributes:
        first: Page of each function's first byte, shape (functions,), dtype int64.
        last: Page of its last byte.
    """

    def __init__(self, image: Image, functions: Functions) -> None:
        """Find where each function lies."""
        self.first = image.pages_of(functions.starts)
        self.last = image.pages_of(functions.ends - np.uint64(1))
        counts = self.last - self.first + 1
        self._functions = np.repeat(np.arange(len(functions)), counts)
        steps = np.arange(len(self._functions)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._pages = np.repeat(self.first, counts) + steps
        size = image.page_size
        starts = functions.starts.astype(np.int64) % size + self.first * size
        ends = starts + functions.sizes()
        low = np.maximum(starts[self._functions], self._pages * size)
        high = np.minimum(ends[self._functions], (self._pages + 1) * size)
        self._bytes = high - low
        self.page_count = image.page_count

    def touching(self, pages: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which functions have a byte on any of the pages."""
        mask = np.zeros(len(self.first), bool)
        mask[self._functions[pages[self._pages]]] = True
        return mask

    def pages(self, functions: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which pages hold a byte of any of the functions."""
        mask = np.zeros(self.page_count, bool)
        mask[self._pages[functions[self._functions]]] = True
        return mask

    def on(self, page: int) -> NDArray[np.int64]:
        """Return the functions that have a byte on a page."""
        found: NDArray[np.int64] = self._functions[self._pages == page]
        return found

    def share(
        self,
        functions: NDArray[np.bool_] | None = None,
        pages: NDArray[np.bool_] | None = None,
    ) -> Share:
        """Return how much some functions and all that lies on some pages are together."""
        chosen = np.zeros(len(self._pages), bool)
        if functions is not None:
            chosen |= functions[self._functions]
        if pages is not None:
            chosen |= pages[self._pages]
        return Share(
            functions=len(np.unique(self._functions[chosen])),
            bytes=int(self._bytes[chosen].sum()),
            pages=len(np.unique(self._pages[chosen])),
        )
