# SPDX-License-Identifier: MIT
"""ROM images of a small kernel with three segments, to read from."""

from __future__ import annotations

from functools import cache

from pagestep import Image, Level
from pagestep.store.rom import RomPlan, build_rom

from ..image import builders
from ..image.builders import A, Load, Section, X
from ..store.pages import make_pages

BASE = 0xFFFFFFFF81000000
PAGES = make_pages(96)
PAGES[5] = PAGES[4] = make_pages(8, seed=9)[7]
COUNT, SIZE = PAGES.shape
TEXT, RODATA, INIT = range(48), range(48, 72), range(72, 96)


@cache
def kernel() -> bytes:
    """Return an ELF file of PAGES, with segments .text, .rodata and .init."""
    sections = [
        Section(name, BASE + pages.start * SIZE, len(pages) * SIZE, flags)
        for name, pages, flags in (
            (".text", TEXT, A | X),
            (".rodata", RODATA, A),
            (".init", INIT, A | X),
        )
    ]
    return builders.elf([Load(BASE, PAGES.tobytes(), 0x1000000)], sections)


@cache
def rom_bytes(
    *, codecs: tuple[str, ...] = ("raw", "lz4", "zstd"), leave_out: tuple[str, ...] = ()
) -> bytes:
    """Return a ROM image of it; .rodata is RELUCTANT, and so fast to decode."""
    plan = RomPlan(codecs=codecs, leave_out=leave_out, levels={".rodata": Level.RELUCTANT})
    with Image.open(kernel()) as image:
        return build_rom(image, plan).data
