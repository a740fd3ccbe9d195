# SPDX-License-Identifier: MIT
"""Images to make ROM images of: an ELF file whose pages are of every kind."""

from __future__ import annotations

import numpy as np

from pagestep import Image

from ..image import builders
from ..store.pages import Pages, make_pages

BASE = 0x40000000
PAGE = 512


def branchy(page_count: int, seed: int = 7, page_size: int = PAGE) -> Pages:
    """Return pages of x86 calls, all to a few targets: a branch filter makes them alike."""
    chance = np.random.default_rng(seed)
    pages = np.zeros((page_count, page_size), np.uint8)
    flat = pages.reshape(-1)
    targets = chance.integers(0, max(flat.size, 1), 16)
    for at in range(0, flat.size - 8, 8):
        distance = int(targets[chance.integers(0, 16)]) - at - 5
        flat[at : at + 5] = np.frombuffer(
            b"\xe8" + distance.to_bytes(4, "little", signed=True), np.uint8
        )
        flat[at + 5 : at + 8] = (0x48, 0x89, 0xC7)
    return pages


def elf_bytes(text: Pages, data: Pages, init: Pages) -> bytes:
    """Return an ELF file of three sections that follow each other, each of whole pages."""
    whole = np.concatenate([text, data, init])
    sizes = [text.nbytes, data.nbytes, init.nbytes]
    addresses = [BASE, BASE + sizes[0], BASE + sizes[0] + sizes[1]]
    flags = [builders.A | builders.X, builders.A | builders.W, builders.A | builders.X]
    return builders.elf(
        [builders.Load(BASE, whole.tobytes(), flags=7)],
        [
            builders.Section(name, address, size, flag)
            for name, address, size, flag in zip(
                (".text", ".data", ".init.text"), addresses, sizes, flags, strict=True
            )
        ],
    )


def open_image(
    text: int = 40, data: int = 40, init: int = 8, *, page_size: int = PAGE, seed: int = 1
) -> Image:
    """Return an image of so many pages of code, of data of every kind, and of code again."""
    file = elf_bytes(
        branchy(text, page_size=page_size),
        make_pages(data, page_size, seed),
        branchy(init, seed=8, page_size=page_size),
    )
    return Image.open(file, page_size=page_size)
