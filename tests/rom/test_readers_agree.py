# SPDX-License-Identifier: MIT
"""The slow reader, made from the document alone, against the writer and the core's reader."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pagestep.codecs import FILTERS, Codec, xxh32
from pagestep.codecs.errors import BadRom, PageStepError, Unsupported
from pagestep.store import Image
from pagestep.store.rom import Rom, RomPlan, build_rom
from tests.image import builders

from . import slow_reader
from .slow_reader import Refused, SlowRom
from .small_roms import (
    ALL_WAYS,
    BASE,
    LZ4_WAYS,
    Way,
    all_kinds_of_pages,
    code_like,
    dictionaries,
    make_rom,
)

DICTIONARIES = dictionaries("raw", "lz4", "raw", "zstd")
SMALL = make_rom(all_kinds_of_pages(24), ALL_WAYS, DICTIONARIES)


# -- what is valid -------------------------------------------------------------------------


def read_by_core(data: bytes) -> list[bytes | None]:
    with Rom.open(data) as rom:
        return [
            None if entry is None else rom.read(page_no)
            for page_no, entry in enumerate(SlowRom(data).pages())
        ]


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 8192, 65536])
@pytest.mark.parametrize("wide", [False, True])
def test_everything_in_small(page_size: int, wide: bool) -> None:
    pages = all_kinds_of_pages(22, page_size)
    data = make_rom(pages, ALL_WAYS, DICTIONARIES, wide=wide)
    slow = SlowRom(data)
    assert slow.pages() == pages
    slow.verify()
    assert {coding for coding, _, _ in slow.slots} == set(range(len(ALL_WAYS)))
    assert read_by_core(data) == pages


def test_in_place() -> None:
    data = make_rom(all_kinds_of_pages(20), [Way("raw"), Way("lz4")], align=512)
    slow = SlowRom(data)
    found = [slow.in_place(page_no) for page_no in range(slow.page_count)]
    # Page 0 is coded, so that no raw one lies at a multiple of 512.
    assert not any(found)
    data = make_rom(all_kinds_of_pages(20), [Way("raw")], align=512)
    slow = SlowRom(data)
    found = [slow.in_place(page_no) for page_no in range(slow.page_count)]
    assert [page_no for page_no, lies_there in enumerate(found) if not lies_there] == [1, 2, 3]


PLANS = {
    "all": RomPlan(),
    "lz4 in place": RomPlan(codecs=("raw", "lz4"), dictionary="in-place"),
    "lz4 compressed": RomPlan(codecs=("raw", "lz4")),
    "zstd, aligned": RomPlan(codecs=("zstd",), align=4096, erased_value=0),
    "raw": RomPlan(codecs=("raw",)),
    "parts": RomPlan(leave_out=[".init"], in_place=[".text"]),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))
@pytest.mark.parametrize("page_size", [512, 8192])
def test_what_the_builder_makes(plan: RomPlan, page_size: int) -> None:
    parts = [code_like(150_000 // 8192 * 8192, seed) for seed in range(3)]
    names = (".text", ".init", ".data")
    starts = [BASE, *itertools.accumulate(map(len, parts), initial=BASE)][1:]
    sections = [
        builders.Section(name, start, len(part), builders.A)
        for name, start, part in zip(names, starts, parts, strict=False)
    ]
    file = builders.elf([builders.Load(BASE, b"".join(parts))], sections)
    with Image.open(file, page_size=page_size) as image:
        data = build_rom(image, plan).data
        flat = image.flat()
        slow = SlowRom(data)
        slow.verify()
        assert [(each.name, each.address) for each in slow.segments] == list(
            zip(names, starts, strict=False)
        )
        assert slow.identity.hex() == image.identity
        assert (slow.arch, slow.base_address, slow.page_count) == ("x86_64", BASE, len(flat))
        absent = 0
        for page_no, page in enumerate(slow.pages()):
            assert page is None or page == flat[page_no].tobytes()
            absent += page is None
        assert (absent > 0) == bool(plan.leave_out)
        assert sum(map(slow.in_place, range(slow.page_count))) >= (
            len(parts[0]) // page_size if plan.in_place else 0
        )
    assert read_by_core(data) == slow.pages()


@pytest.mark.kernel
def test_a_kernel(arm_kernel: Path) -> None:
    with Image.open(arm_kernel) as image:
        flat = image.flat()
        slow = SlowRom(build_rom(image, RomPlan(codecs=("raw", "zstd"))).data)
    for page_no in range(0, slow.page_count, 19):
        assert slow.page(page_no) == flat[page_no].tobytes()


# -- the slow reader's parts, each against the core's ----------------------------------------


@pytest.mark.parametrize("name", FILTERS)
def test_filters(name: str) -> None:
    page = code_like(4096, 7)
    for address in (0, 0x8000, 0xFFFFF000, 0xFFFFFFFF81234000, 0x1002, 0x1001):
        with Codec("lz4", filter=name, page_size=4096) as codec:
            coded = codec.encode(page, address=address)
        assert coded is not None
        decoded = bytearray(slow_reader.decode_lz4(coded, b"", 4096))
        assert (bytes(decoded) == page) == (name == "none")
        slow_reader.UNDO[FILTERS[name]](decoded, address & 0xFFFFFFFF)
        assert bytes(decoded) == page


def test_xxh32() -> None:
    for size, seed in itertools.product((16, 32, 4096), (0, 1, 0xFFFFFFFF)):
        data = code_like(size, seed & 3)
        assert slow_reader.xxh32(data, seed) == xxh32(data, seed=seed)


# -- what is not valid -----------------------------------------------------------------------


At = Callable[[SlowRom], list[tuple[int, int, int]]]


@dataclass
class Patch:
    """Numbers of a header block that are changed, and why it is then refused.

    ``at`` gives (offset, size, value) of each; core is whether the core must refuse it as well.
    """

    reason: str
    at: At
    core: bool = True


def table(number: int, offset: int | None = None, count: int | None = None) -> At:
    """Return a patch of a table's place; counts are added to what is there."""

    def at(slow: SlowRom) -> list[tuple[int, int, int]]:
        where = 128 + 8 * number
        patches: list[tuple[int, int, int]] = []
        if offset is not None:
            patches.append((where, 4, slow.u(where, 4) + offset))
        if count is not None:
            patches.append((where + 4, 4, slow.u(where + 4, 4) + count))
        return patches

    return at


def number(offset: int, size: int, value: int) -> At:
    return lambda _: [(offset, size, value)]


def entry(table_no: int, index: int, offset: int, size: int, value: int) -> At:
    """Return a patch of an entry of a table."""

    def at(slow: SlowRom) -> list[tuple[int, int, int]]:
        found = slow.tables[table_no]
        return [(found.offset + index * found.entry_size + offset, size, value)]

    return at


PATCHES = {
    "another magic number": Patch("magic", number(0, 1, 0x88)),
    "version 2": Patch("feature", number(8, 2, 2)),
    "a feature": Patch("feature", number(24, 4, 1 << 31)),
    "more bytes than there are": Patch("truncated", number(20, 4, len(SMALL) + 1)),
    "pages of 256": Patch("header", number(10, 1, 8)),
    "page entries of 3": Patch("header", number(11, 1, 3)),
    "slot entries of 8": Patch("header", number(12, 1, 8)),
    "more pages than checksums": Patch("header", table(6, count=-1)),
    "a large image": Patch("header", number(40, 8, 1 << 40)),
    "arch of bytes": Patch("header", number(48, 1, 0x80), core=False),
    "a table too far": Patch("table", table(11, count=1)),
    "tables that overlap": Patch("table", table(7, offset=-1)),
    "names behind the block": Patch("table", table(3, count=64)),
    "a group too few": Patch("header", table(7, count=-1)),
    "a slot too few": Patch("extent", table(9, count=-1)),
    "page data too short": Patch("extent", table(11, count=-1)),
    "a coding too few": Patch("extent", table(0, count=-1)),
    "an unknown codec": Patch("codec", entry(0, 1, 0, 1, 4)),
    "an unknown filter": Patch("codec", entry(0, 1, 1, 1, 6)),
    "codec 1": Patch("codec", entry(0, 1, 0, 1, 1), core=False),
    "a filter of raw pages": Patch("codec", entry(0, 0, 1, 1, 1), core=False),
    "no such dictionary": Patch("extent", entry(0, 1, 2, 1, 4)),
    "a dictionary outside": Patch("table", entry(1, 0, 0, 4, 1 << 20)),
    "two sizes": Patch("dictionary", entry(1, 0, 8, 4, 1008)),
    "a dictionary too large": Patch("dictionary", entry(1, 1, 8, 4, (1 << 20) + 16)),
    "a dictionary that does not decode": Patch("dictionary", entry(1, 1, 8, 4, 1040)),
    "a dictionary's checksum": Patch("dictionary", entry(1, 3, 12, 4, 0)),
    "a dictionary of codec 1": Patch("codec", entry(1, 1, 16, 4, 1)),
    "a segment outside": Patch("segment", entry(2, 1, 16, 8, 1 << 30)),
    "a segment of another kind": Patch("segment", entry(2, 0, 30, 1, 0x45)),
    "a segment of level 6": Patch("segment", entry(2, 0, 31, 1, 6)),
    "a name outside": Patch("segment", entry(2, 1, 28, 2, 100)),
}


@pytest.mark.parametrize("patch", PATCHES.values(), ids=list(PATCHES))
def test_each_refusal(patch: Patch) -> None:
    rom = bytearray(SMALL)
    for offset, size, value in patch.at(SlowRom(SMALL)):
        rom[offset : offset + size] = value.to_bytes(size, "little")
    header_size = struct.unpack_from("<I", rom, 16)[0]
    struct.pack_into("<I", rom, header_size, xxh32(rom[:header_size]))
    with pytest.raises(Refused) as caught:
        SlowRom(bytes(rom))
    assert caught.value.reason == patch.reason
    if patch.core:
        with pytest.raises((BadRom, Unsupported)):
            Rom.open(bytes(rom))


def test_a_wrong_header_checksum_is_refused() -> None:
    rom = bytearray(SMALL)
    rom[70] ^= 1
    with pytest.raises(Refused, match="header: its checksum"):
        SlowRom(bytes(rom))


@pytest.mark.parametrize("entry_value", [0x7FFF, 0x8010])
def test_a_page_entry_to_nowhere_is_refused(entry_value: int) -> None:
    rom = bytearray(SMALL)
    struct.pack_into("<H", rom, SlowRom(SMALL).tables[8].offset + 2 * 5, entry_value)
    with pytest.raises(Refused, match="page: 5"):
        SlowRom(bytes(rom)).page(5)
    with Rom.open(rom) as opened, pytest.raises(PageStepError, match="page 5 "):
        opened.read(5)


# -- signatures ------------------------------------------------------------------------------


def test_the_signature() -> None:
    pytest.importorskip("cryptography")
    ed25519: Any = import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = key.public_key().public_bytes_raw()
    with Image.open(code_like(2000, 1), raw=True, page_size=512, arch="arm") as image:
        data = build_rom(image, RomPlan(key=key)).data
    slow = SlowRom(data)
    slow.check_signature()
    slow.check_signature(public)
    with pytest.raises(Refused, match="another's"):
        slow.check_signature(bytes(32))
    with pytest.raises(Refused, match="not signed"):
        SlowRom(make_rom(all_kinds_of_pages(8), LZ4_WAYS[:2])).check_signature()
    # The header's checksum is put right again, as whoever changes it would.
    for at in (32, 64, 96, slow.tables[2].offset + 31, slow.tables[4].offset + 33):
        changed = bytearray(data)
        changed[at] ^= 1
        struct.pack_into("<I", changed, slow.header_size, xxh32(changed[: slow.header_size]))
        with pytest.raises(Refused, match="does not hold"):
            SlowRom(bytes(changed)).check_signature()
        with Rom.open(changed) as rom:
            assert rom.verify().signature_fault
