# SPDX-License-Identifier: MIT
"""Small images whose sections and symbols are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pagestep import Image

from ..image import builders
from ..image.builders import FUNC, A, Load, Section, Symbol, W, X

BASE = 0x40000000
PAGE = 512
CONTENT = 0x55  # neither zero nor a no-operation, and so no fill


@dataclass(frozen=True)
class Named:
    """A symbol: its distance from the image's base, and its size, 0 for none."""

    name: str
    at: int
    size: int = 0


def image_of(
    sections: Sequence[tuple[str, int, int]],
    symbols: Sequence[Named] = (),
    *,
    size: int | None = None,
    fills: Sequence[tuple[int, bytes]] = (),
    page_size: int = PAGE,
    machine: int = builders.EM_X86_64,
) -> Image:
    """Return an image of sections (name, distance, size), and zeros outside them.

    Args:
        sections: Ascending, not overlapping; of code where the name begins with .text.
        symbols: Each lies in a section.
        size: Of the whole image; None: to the last section's end.
        fills: Distance, and bytes to put there.
        page_size: Bytes of a page.
        machine: The ELF machine.
    """
    end = max(at + length for _, at, length in sections)
    data = bytearray(end if size is None else size)
    for _, at, length in sections:
        data[at : at + length] = bytes([CONTENT]) * length
    for at, fill in fills:
        data[at : at + len(fill)] = fill
    return Image.open(
        builders.elf(
            [Load(BASE, bytes(data), flags=7)],
            [
                Section(name, BASE + at, length, A | (X if name.startswith(".text") else W))
                for name, at, length in sections
            ],
            [Symbol(each.name, BASE + each.at, each.size, FUNC) for each in symbols],
            machine=machine,
        ),
        page_size=page_size,
    )
