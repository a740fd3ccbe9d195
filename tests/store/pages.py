# SPDX-License-Identifier: MIT
"""Pages to fill stores with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pages = npt.NDArray[np.uint8]


def make_pages(page_count: int, page_size: int = 4096, seed: int = 1) -> Pages:
    """Return pages of every kind: zeros, one word, text-like, noise; shape (pages, page_size)."""
    chance = np.random.default_rng(seed)
    words = chance.integers(0, 256, (64, 16), np.uint8)
    pages = words[chance.integers(0, 64, (page_count, page_size // 16))]
    pages = pages.reshape(page_count, page_size)
    kinds = chance.integers(0, 8, page_count)
    pages[kinds == 0] = 0
    pages[kinds == 1] = 0xA5
    noise = np.flatnonzero(kinds == 2)
    pages[noise] = chance.integers(0, 256, (len(noise), page_size), np.uint8)
    return pages
