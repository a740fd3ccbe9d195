# SPDX-License-Identifier: MIT
"""ELF files as pages: placement, segments, extents, addresses, architectures."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pagestep.codecs.errors import BadImage, InvalidArgument, NoSuchPage
from pagestep.store.image import Extent, Image

from . import builders as b

TEXT = bytes(range(1, 256)) * 40


def test_physical_addresses_place_the_pages() -> None:
    # As in x86 kernels: per-CPU data is linked at 0 and loaded in line.
    data = b.elf(
        [
            b.Load(0xFFFFFFFF81000000, TEXT, 0x1000000),
            b.Load(0, b"percpu" * 100, 0x1005000),
            b.Load(0xFFFFFFFF81006000, b"data" * 2000, 0x1006000, flags=6),
        ]
    )
    with Image.open(data) as image:
        assert image.base == 0xFFFFFFFF81000000
        assert image.page_count == 8
        flat = image.flat().tobytes()
        assert flat[: len(TEXT)] == TEXT
        assert flat[0x5000:0x5258] == b"percpu" * 100
        assert flat[0x6000:0x6004] == b"data"
        assert not any(flat[len(TEXT) : 0x5000])
        assert image.page_of(0) == 5
        assert image.address_of(5) == 0
        assert image.page_of(0xFFFFFFFF81004000) == 4, "a hole has pages too"
        assert [s.name for s in image.segments] == ["PT_LOAD 0", "PT_LOAD 1", "PT_LOAD 2"]
        assert [s.kind for s in image.segments] == ["text", "text", "data"]


@pytest.mark.parametrize(
    "paddrs",
    [(0, 0), (0x1000, 0x1800), (0, 1 << 40)],
    ids=["all zero", "overlapping", "too far apart"],
)
def test_implausible_physical_addresses_give_way_to_virtual_ones(paddrs: tuple[int, int]) -> None:
    loads = [b.Load(0x400000, TEXT, paddrs[0]), b.Load(0x405000, TEXT, paddrs[1])]
    with Image.open(b.elf(loads)) as image:
        assert (image.base, image.page_count) == (0x400000, 8)
        assert image.flat().tobytes()[0x5000 : 0x5000 + len(TEXT)] == TEXT


def test_extents_and_pages_agree_for_unaligned_loads() -> None:
    loads = [b.Load(0x10123, TEXT, None), b.Load(0x13F00, b"\xee" * 0x300, None)]
    data = b.elf(loads, machine=b.EM_386, bits=32)
    with Image.open(data) as image:
        assert image.base == 0x10000
        assert image.page_of(0x10000) == 0, "the start of page 0, before the first byte"
        assert image.arch == "x86"
        assert [e.image_offset for e in image.extents] == [0x123, 0x3F00]
        expected = bytearray(5 * 4096)
        expected[0x123 : 0x123 + len(TEXT)] = TEXT
        expected[0x3F00:0x4200] = b"\xee" * 0x300
        assert b"".join(map(image.read, range(image.page_count))) == expected
        assert b"".join(page.tobytes() for page in image.pages()) == expected
        for extent in image.extents:
            assert data[extent.file_offset :].startswith(
                expected[extent.image_offset : extent.image_offset + extent.size]
            )


def test_segments_are_allocated_sections_with_bytes_and_may_share_a_page() -> None:
    loads = [b.Load(0x8000, TEXT[:0x1800], flags=5, memory=0x4000)]
    sections = [
        b.Section(".text", 0x8000, 0x900, b.A | b.X),
        b.Section(".rodata", 0x8900, 0x500),
        b.Section(".data", 0x8E00, 0xA00, b.A | b.W),
        b.Section(".bss", 0x9800, 0x2000, b.A | b.W, b.NOBITS),
        b.Section(".comment", 0, 20, 0, load=None, data=b"x" * 20),
        b.Section(".empty", 0x8000, 0),
    ]
    with Image.open(b.elf(loads, sections)) as image:
        found = [(s.name, s.address, s.size, s.pages, s.flags, s.kind) for s in image.segments]
        assert found == [
            (".text", 0x8000, 0x900, range(0, 1), "r-x", "text"),
            (".rodata", 0x8900, 0x500, range(0, 1), "r--", "rodata"),
            (".data", 0x8E00, 0xA00, range(0, 2), "rw-", "data"),
        ]
        assert image.page_count == 2
        assert image.page_of(0x9801) == 1, "the part of .bss that shares a page with .data"
        with pytest.raises(NoSuchPage):
            image.page_of(0xA000)


def test_the_image_ends_at_the_bss_with_nothing_but_zeros_behind() -> None:
    body = TEXT[:4096] + bytes(0x3000)
    sections = [
        b.Section(".text", 0x10000, 4096, b.A | b.X),
        b.Section(".data_nosave", 0x11000, 0x1000, b.A | b.W),
        b.Section(".bss", 0x12000, 0x1000, b.A | b.W, b.NOBITS),
        b.Section(".init.scratch", 0x13000, 0x1000, b.A | b.W),
    ]
    with Image.open(b.elf([b.Load(0x10000, body)], sections)) as image:
        assert image.page_count == 2
        assert [s.name for s in image.segments] == [".text", ".data_nosave"]
        assert image.extents == (Extent(0, image.extents[0].file_offset, 0x2000),)
    with Image.open(b.elf([b.Load(0x10000, body[:-1] + b"\x01")], sections)) as image:
        assert image.page_count == 4, "what is not zero is kept"


def test_a_module_has_its_sections_one_after_another() -> None:
    sections = [
        b.Section(".text", 0, 100, b.A | b.X, data=b"T" * 100, align=16),
        b.Section(".modinfo", 0, 50, b.A, data=b"M" * 50, align=1),
        b.Section(".data", 0, 5000, b.A | b.W, data=b"D" * 5000, align=4096),
        b.Section(".bss", 0, 64, b.A | b.W, b.NOBITS),
        b.Section(".debug", 0, 64, 0, data=b"X" * 64),
    ]
    symbols = [b.Symbol("init_module", 4, 8, section=1), b.Symbol("state", 10, 4, b.OBJECT, 3)]
    module = b.elf(sections=sections, symbols=symbols, kind=b.ET_REL, machine=b.EM_AARCH64)
    with Image.open(module) as image:
        assert [(s.name, s.address) for s in image.segments] == [
            (".text", 0),
            (".modinfo", 100),
            (".data", 4096),
        ]
        assert image.flat().tobytes()[:150] == b"T" * 100 + b"M" * 50
        assert [(s.name, s.address) for s in image.symbols] == [("init_module", 4), ("state", 4106)]
    with Image.open(module, base=0xFFFF800008000000) as image:
        assert image.base == 0xFFFF800008000000
        assert image.segments[2].address == 0xFFFF800008001000
        state = image.symbols.find("state")
        assert state is not None
        assert state.address == 0xFFFF80000800100A
        assert image.page_of(state.address) == 1


def test_a_base_moves_what_can_be_moved() -> None:
    data = b.elf([b.Load(0x1000, TEXT)], kind=b.ET_DYN)
    with Image.open(data, base=0x7F0000000000) as image:
        assert image.base == 0x7F0000000000
        assert image.page_of(0x7F0000001000) == 1
    with pytest.raises(InvalidArgument, match="linked at fixed addresses"):
        Image.open(b.elf([b.Load(0x1000, TEXT)]), base=0x2000)


@pytest.mark.parametrize(
    ("machine", "bits", "order", "entry", "arch"),
    [
        (b.EM_386, 32, "<", 0, "x86"),
        (b.EM_X86_64, 64, "<", 0, "x86_64"),
        (b.EM_ARM, 32, "<", 0x8000, "arm"),
        (b.EM_ARM, 32, "<", 0x8001, "thumb"),
        (b.EM_ARM, 32, ">", 0x8000, "armeb"),
        (b.EM_AARCH64, 64, "<", 0, "arm64"),
        (b.EM_AARCH64, 64, ">", 0, "arm64eb"),
        (b.EM_RISCV, 32, "<", 0, "riscv32"),
        (b.EM_RISCV, 64, "<", 0, "riscv64"),
        (b.EM_MIPS, 32, ">", 0, "mips"),
        (b.EM_PPC, 32, ">", 0, "ppc"),
        (0xBEEF, 64, "<", 0, "unknown"),
    ],
)
def test_the_architecture_comes_from_the_header(
    machine: int, bits: int, order: str, entry: int, arch: str
) -> None:
    data = b.elf([b.Load(0x8000, TEXT)], machine=machine, bits=bits, order=order, entry=entry)
    with Image.open(data) as image:
        assert image.arch == arch
        assert image.byteorder == ("little" if order == "<" else "big")
        assert image.read(0) == TEXT[:4096]
    with Image.open(data, arch="thumb") as image:
        assert image.arch == "thumb"


def test_the_build_id_is_found_in_the_notes() -> None:
    note = struct.pack("<III", 4, 20, 3) + b"GNU\0" + bytes(range(20))
    body = struct.pack("<III", 6, 3, 1) + b"Linux\0\0\0" + b"abc\0" + note
    loads = [b.Load(0x1000, body)]
    with Image.open(b.elf(loads, [b.Section(".notes", 0x1000, len(body), b.A, b.NOTE)])) as image:
        assert image.build_id == bytes(range(20)).hex()
    with Image.open(b.elf(loads)) as image:
        assert image.build_id is None


def test_this_interpreter_is_an_image() -> None:
    with Image.open(os.path.realpath(sys.executable)) as image:
        assert image.page_count > 1
        addresses = np.array([image.address_of(n) for n in range(image.page_count)], np.uint64)
        assert (image.pages_of(addresses) == np.arange(image.page_count)).all()
        text = next(s for s in image.segments if s.name == ".text")
        assert image.flat().reshape(-1)[text.offset : text.offset + 4].any()


def test_a_real_object_file_is_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int shared = 3; int twice(int x) { return 2 * x; }\n")
    try:
        subprocess.run(["cc", "-c", "a.c"], cwd=tmp_path, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C compiler")
    with Image.open(tmp_path / "a.o") as image:
        assert ".text" in [s.name for s in image.segments]
        twice = image.symbols.find("twice")
        assert twice is not None
        assert twice.size > 0
        assert image.symbol_at(twice.address) == twice


# Bad input


def header_field(data: bytes, offset: int, code: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into("<" + code, changed, offset, value)
    return bytes(changed)


GOOD = b.small_elf(TEXT)
SECTION_TABLE = struct.unpack_from("<Q", GOOD, 40)[0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (GOOD[:16], "ELF header"),
        (GOOD[:60], "ELF header"),
        (GOOD[: SECTION_TABLE + 100], "section headers"),
        (GOOD[:4] + b"\x07" + GOOD[5:], "class"),
        (GOOD[:5] + b"\x00" + GOOD[6:], "byte order"),
        (header_field(GOOD, 60, "H", 60000), "60000 section headers"),
        (header_field(GOOD, 56, "H", 60000), "60000 program headers"),
        (header_field(GOOD, 58, "H", 8), "headers of 8 bytes"),
        (header_field(GOOD, 32, "Q", 1 << 60), "program headers"),
        (header_field(GOOD, 40, "Q", (1 << 64) - 1), "section header"),
        (header_field(GOOD, 64 + 32, "Q", 1 << 42), "PT_LOAD 0 claims 4398046511104 bytes"),
        (header_field(GOOD, 64 + 16, "Q", (1 << 64) - 16), "address space"),
        (header_field(GOOD, SECTION_TABLE + 64 + 32, "Q", 1 << 42), "section .text claims"),
        (header_field(GOOD, SECTION_TABLE + 64 + 16, "Q", 0x1000), "claims address 0x1000"),
        (b.elf([]), "holds no bytes that are loaded"),
        (
            b.elf([b.Load(0x1000, TEXT, 0), b.Load(0x1800, TEXT, 0)]),
            "PT_LOAD 0 .* and PT_LOAD 1 .* overlap",
        ),
        (
            b.elf(
                [b.Load(0x1000, TEXT)],
                [b.Section(".a", 0x1000, 0x100), b.Section(".b", 0x10FF, 0x100)],
            ),
            r"\.a .* and \.b .* overlap",
        ),
        (b.elf([b.Load(0x1000, TEXT, 0), b.Load(1 << 40, TEXT, 0)]), "raise max_size="),
    ],
)
def test_bad_headers_are_one_clear_line(data: bytes, says: str) -> None:
    with pytest.raises(BadImage, match=says) as caught:
        Image.open(data)
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).startswith("buffer: ")


def test_more_headers_than_any_linker_writes_are_refused() -> None:
    many = header_field(GOOD, 60, "H", 0)  # the count is then in the null section's size
    many = header_field(many, SECTION_TABLE + 32, "Q", 200_000)
    with pytest.raises(BadImage, match="200000 section headers; 131072 is the most"):
        Image.open(many + bytes(64 * 200_000))


def test_names_are_printed_on_one_line() -> None:
    data = b.elf(
        [b.Load(0x1000, TEXT)],
        [b.Section(".a\nb\x1b[31m", 0x1000, 16)],
    )
    with Image.open(data) as image:
        assert image.segments[0].name == r".a\nb\x1b[31m"
    with Image.open(data.replace(b".a\nb", b".\xff\nb")) as image:
        assert image.segments[0].name.isprintable()
