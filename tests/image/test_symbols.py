# SPDX-License-Identifier: MIT
"""Symbols from ELF tables and from System.map."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from pagestep.codecs.errors import BadImage
from pagestep.store.image import Image, Symbol

from . import builders as b

BASE = 0xFFFFFFFF81000000
TEXT = b"\x90" * 8192
SECTIONS = [b.Section(".text", BASE, len(TEXT), b.A | b.X)]
LOADS = [b.Load(BASE, TEXT, 0x1000000)]

MAP = b"""\
0000000000000000 A absolute
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff81000100 t helper
ffffffff81001000 D table
                 U undefined
ffffffff81001800 b counters
"""


def open_with(symbols: list[b.Symbol], **header: int | str) -> Image:
    return Image.open(b.elf(LOADS, SECTIONS, symbols, **header))  # type: ignore[arg-type]


def test_elf_symbols_are_sorted_and_those_without_an_address_left_out() -> None:
    image = open_with(
        [
            b.Symbol("late", BASE + 0x800, 16),
            b.Symbol("early", BASE + 0x10, 32),
            b.Symbol("alias", BASE + 0x10, 8, b.OBJECT),
            b.Symbol("undefined", 0, section=0),
            b.Symbol("absolute", 5, section=0xFFF1),
            b.Symbol("file.c", 0, kind=b.FILE),
            b.Symbol("$x", BASE + 0x20, kind=0),
            b.Symbol("", BASE + 0x30),
        ]
    )
    with image:
        assert [s.name for s in image.symbols] == ["alias", "early", "late"]
        assert image.symbols.addresses.dtype == np.uint64
        assert (np.diff(image.symbols.addresses.astype(np.int64)) >= 0).all()
        assert image.symbols[0] == Symbol("alias", BASE + 0x10, 8, "object")
        assert image.symbols.find("late") == image.symbols[-1]
        assert image.symbols.find("nothing") is None
        assert image.symbols[1:] == [image.symbols[1], image.symbols[2]]


def test_an_address_belongs_to_the_innermost_symbol_that_covers_it() -> None:
    image = open_with(
        [
            b.Symbol("outer", BASE, 0x100),
            b.Symbol("inner", BASE + 0x40, 0x10),
            b.Symbol("label", BASE + 0x60, 0),
            b.Symbol("far", BASE + 0x800, 0),
        ]
    )
    with image:

        def name(offset: int) -> str | None:
            symbol = image.symbol_at(BASE + offset)
            return symbol.name if symbol else None

        assert [name(n) for n in (0, 0x3F, 0x40, 0x4F, 0x50, 0x60, 0xFF)] == [
            "outer", "outer", "inner", "inner", "outer", "outer", "outer",
        ]  # fmt: skip
        assert name(0x7FF) == "label", "a label of no size lasts to the next symbol"
        assert name(0x900) == "far"
        assert [name(-1), name(len(TEXT))] == [None, None], "outside the image"


def test_nothing_is_claimed_behind_a_symbol_of_known_size() -> None:
    with open_with([b.Symbol("label", BASE, 0), b.Symbol("f", BASE + 0x10, 0x10)]) as image:
        assert image.symbol_at(BASE + 0x20) is None


def test_thumb_functions_lose_the_mark_in_their_address() -> None:
    loads, sections = [b.Load(0x8000, TEXT)], [b.Section(".text", 0x8000, 8192, b.A | b.X)]
    symbols = [b.Symbol("f", 0x8101, 8), b.Symbol("odd", 0x8201, 1, b.OBJECT)]
    data = b.elf(loads, sections, symbols, bits=32, machine=b.EM_ARM, entry=0x8001)
    with Image.open(data) as image:
        assert [(s.name, s.address) for s in image.symbols] == [("f", 0x8100), ("odd", 0x8201)]


def test_big_endian_tables() -> None:
    loads, sections = [b.Load(0x8000, TEXT)], [b.Section(".text", 0x8000, 8192, b.A | b.X)]
    symbols = [b.Symbol("f", 0x8100, 8)]
    for bits, machine in ((32, b.EM_PPC), (64, 21)):
        data = b.elf(loads, sections, symbols, bits=bits, order=">", machine=machine)
        with Image.open(data) as image:
            assert image.symbols[0] == Symbol("f", 0x8100, 8, "func")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_a_system_map(tmp_path: Path, pack: type[bytes]) -> None:
    path = tmp_path / "System.map"
    path.write_bytes(pack(MAP.replace(b"                 U undefined\n", b"")))
    with Image.open(b.elf(LOADS), system_map=path) as image:
        assert [(s.name, s.address - BASE, s.kind) for s in image.symbols] == [
            ("_text", 0, "func"),
            ("startup_64", 0, "func"),
            ("helper", 0x100, "func"),
            ("table", 0x1000, "object"),
            ("counters", 0x1800, "object"),
        ]
        helper = image.symbol_at(BASE + 0x345)
        assert helper is not None
        assert helper.name == "helper"


def test_an_elf_can_stand_in_for_a_system_map(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux.debug"
    path.write_bytes(b.elf([], SECTIONS, [b.Symbol("start", BASE, 16)]))  # .text is not in it
    with Image.open(b.elf(LOADS), system_map=path) as image:
        assert [s.name for s in image.symbols] == ["start"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MAP + b"ffffffff81002000 T\n", "line 8 is no line of a System.map"),
        (b"\n\nnonsense here too\n", "line 3 .*'nonsense here too'"),
        (b"fffffffff81002000 T too_long\n", "line 1"),
        (b"10 TT wide\n", "line 1"),
        (b"\x00\xff\x1b[2J", "line 1"),
        (b"ffff B The real System.map is in the linux-image-<version>-dbg package\n", "-dbg"),
        (gzip.compress(MAP)[:-9], "gzip data"),
        (b"\x1f\x8b" + b"\xff" * 30, "gzip data"),
    ],
)
def test_a_bad_system_map_is_one_clear_line(tmp_path: Path, text: bytes, says: str) -> None:
    path = tmp_path / "System.map"
    path.write_bytes(text.replace(b"                 U undefined", b"0 U undefined"))
    with Image.open(b.elf(LOADS), system_map=path) as image:
        with pytest.raises(BadImage, match=says) as caught:
            _ = image.symbols
        assert str(caught.value).isprintable()


def test_tables_outside_the_file_are_refused() -> None:
    data = b.elf(LOADS, SECTIONS, [b.Symbol("f", BASE, 8)])
    at = int.from_bytes(data[40:48], "little")
    symtab, strtab = at + 2 * 64, at + 3 * 64
    for offset, value, says in (
        (symtab + 32, 1 << 44, "symbol table .symtab"),
        (symtab + 24, 1 << 44, "cut off"),
        (symtab + 40, 999, "section 999, which does not exist"),
        (symtab + 56, 7, "entries of 7"),
        (strtab + 32, 1 << 50, "do not fit"),
    ):
        width = 4 if offset == symtab + 40 else 8
        changed = data[:offset] + value.to_bytes(width, "little") + data[offset + width :]
        with Image.open(changed) as image, pytest.raises(BadImage, match=says):
            _ = image.symbols
