# SPDX-License-Identifier: MIT
"""docs/FORMAT.md against the code: the C reader's numbers, the writer's, and the example."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from pagestep.codecs import CODECS, FILTERS
from pagestep.codecs.errors import AbsentPage
from pagestep.store import Level
from pagestep.store.rom import Rom
from pagestep.store.rom import (
    _format as written,  # pyright: ignore[reportPrivateUsage] # the tables are compared with it
)

from .slow_reader import SlowRom

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "FORMAT.md").read_text()

Field = tuple[int, int, str, str]


def section(title: str) -> str:
    """Return what the document says under a heading."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    assert found, title
    return found[1]


def fields(title: str) -> list[Field]:
    """Return offset, size, type and name of the fields under a heading."""
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([\w ]+) \| `(\w+)` \|", section(title), re.M)
    assert rows, title
    return [(int(offset), int(size), kind, name) for offset, size, kind, name in rows]


def constants(header: str) -> dict[str, int]:
    """Return the numbers of a C header's enums and macros."""
    text = re.sub(r"/\*.*?\*/", "", (ROOT / "csrc" / header).read_text(), flags=re.S)
    number = r"(0x[0-9a-f]+|\d+)(?: << (\d+))?"
    pattern = rf"\b((?:PGS|ROM)_\w+)(?: = | UINT32_C\(){number}"
    return {
        name: int(value, 0) << int(shift or 0) for name, value, shift in re.findall(pattern, text)
    }


LAYOUT = constants("rom/rom_layout.h")
PUBLIC = constants("include/pagestep/rom.h")
IDS = constants("include/pagestep/ids.h")

# Where each heading's fields are called in C, and the size of what they are fields of. No C reads
# segments and signatures; and nobody reads what is reserved.
PREFIXES = {
    "Header": ("ROM_", "ROM_FIXED_SIZE"),
    "Tables": ("ROM_TABLE_", "ROM_TABLE_SIZE"),
    "Codings": ("ROM_CODING_", "ROM_CODING_SIZE"),
    "Dictionaries": ("ROM_DICT_", "ROM_DICT_SIZE"),
}


@pytest.mark.parametrize("title", [*PREFIXES, "Segments", "Signature"])
def test_fields_follow_one_another(title: str) -> None:
    at = 0
    for offset, size, kind, name in fields(title):
        assert (name, offset) == (name, at)
        assert kind in ("bytes", "12 tables", f"u{8 * size}")
        at += size


def test_the_offsets_are_the_c_readers() -> None:
    documented = {
        f"{prefix}{name.upper()}_AT": offset
        for title, (prefix, _) in PREFIXES.items()
        for offset, _, _, name in fields(title)
        if name != "reserved"
    }
    coded = {name: value for name, value in LAYOUT.items() if name.endswith("_AT")}
    assert coded == documented


def test_the_sizes_are_the_c_readers() -> None:
    for title, (_, size_name) in PREFIXES.items():
        offset, size, _, _ = fields(title)[-1]
        assert LAYOUT[size_name] == offset + size
    offset, size, _, _ = fields("Segments")[-1]
    assert LAYOUT["ROM_SEGMENT_SIZE"] == offset + size


def struct_format(title: str) -> str:
    """Return the fields under a heading as the struct module writes them."""
    codes = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
    text = "<"
    for _, size, kind, name in fields(title):
        if name == "reserved":
            text += f"{size}x" if size > 1 else "x"
        elif kind != "12 tables":
            text += codes.get(kind, f"{size}s")
    return text


@pytest.mark.parametrize(
    ("title", "packed"),
    [
        ("Header", written._FIXED),  # pyright: ignore[reportPrivateUsage]
        ("Tables", written._TABLE),  # pyright: ignore[reportPrivateUsage]
        ("Codings", written._CODING),  # pyright: ignore[reportPrivateUsage]
        ("Dictionaries", written._DICT),  # pyright: ignore[reportPrivateUsage]
        ("Segments", written._SEGMENT),  # pyright: ignore[reportPrivateUsage]
    ],
)
def test_the_fields_are_the_writers(title: str, packed: struct.Struct) -> None:
    assert packed.format == struct_format(title)


# What the document calls a table, the reader's enum, and the writer.
TABLES = {
    "codings": ("CODINGS", "codings"),
    "dictionaries": ("DICTS", "dicts"),
    "segments": ("SEGMENTS", "segments"),
    "names": ("NAMES", "names"),
    "signature": ("SIGNATURE", "signature"),
    "words": ("WORDS", "words"),
    "checksums": ("CHECKSUMS", "checksums"),
    "groups": ("GROUPS", "groups"),
    "page entries": ("PAGES", "pages"),
    "slot entries": ("SLOTS", "slots"),
    "dictionaries' bytes": ("DICT_BYTES", "dict_bytes"),
    "page data": ("DATA", "data"),
}


def test_the_tables_are_the_codes() -> None:
    rows = re.findall(r"^\| (\d+) \| ([\w' ]+) \| (\d+|`\w+`) \|", section("Tables"), re.M)
    rows = [row for row in rows if row[1] in TABLES]
    assert [int(number) for number, _, _ in rows] == list(range(PUBLIC["PGS_ROM_TABLE_COUNT"]))
    assert tuple(TABLES[name][1] for _, name, _ in rows) == written.TABLES
    sizes = {name: size for _, name, size in rows}
    for number, name, _ in rows:
        assert PUBLIC[f"PGS_ROM_{TABLES[name][0]}"] == int(number)
    entry_sizes = {
        "codings": LAYOUT["ROM_CODING_SIZE"],
        "dictionaries": LAYOUT["ROM_DICT_SIZE"],
        "segments": LAYOUT["ROM_SEGMENT_SIZE"],
        "words": LAYOUT["ROM_WORD_SIZE"],
        "checksums": LAYOUT["ROM_CHECKSUM_SIZE"],
        "groups": LAYOUT["ROM_GROUP_SIZE"],
    }
    for name, size in sizes.items():
        if name in ("page entries", "slot entries"):
            assert size == f"`{name.replace(' entries', '_entry_size')}`"
        else:
            assert int(size) == entry_sizes.get(name, 1)


def ids(title: str) -> dict[str, int]:
    rows = re.findall(r"^\| (\d+) \| ([A-Za-z][\w-]*) \|", section(title), re.M)
    return {name.lower().replace("-", ""): int(number) for number, name in rows}


def test_the_ids_are_the_codes() -> None:
    filters = {
        name.removeprefix("PGS_FILTER_").lower(): number
        for name, number in IDS.items()
        if name.startswith("PGS_FILTER")
    }
    codecs = {
        name.removeprefix("PGS_CODEC_").lower(): number
        for name, number in IDS.items()
        if name.startswith("PGS_CODEC")
    }
    assert "1 is never stored" in section("Codings")
    assert codecs.pop("same") == 1
    assert ids("Codings") == {**codecs, **filters}
    assert len(filters) == PUBLIC["PGS_ROM_FILTER_COUNT"]
    assert max(codecs.values()) + 1 == PUBLIC["PGS_ROM_CODEC_COUNT"]
    assert {name: CODECS[name].id for name in codecs} == codecs
    assert {name.replace("-", ""): FILTERS[name] for name in FILTERS} == filters


def test_the_limits_are_the_codes() -> None:
    assert f"Format version {LAYOUT['ROM_FORMAT_VERSION']}," in DOCUMENT
    assert LAYOUT["ROM_FORMAT_VERSION"] == written.FORMAT_VERSION
    magic = struct.pack("<II", LAYOUT["ROM_MAGIC_LOW"], LAYOUT["ROM_MAGIC_HIGH"])
    assert f"`{magic.hex(' ').upper()}`" in section("Header")
    assert magic == written.MAGIC
    shifts = f"| {LAYOUT['ROM_PAGE_SHIFT_MIN']} to {LAYOUT['ROM_PAGE_SHIFT_MAX']} |"
    assert shifts in section("Header")
    fixed_size = LAYOUT["ROM_FIXED_SIZE"]
    assert f"| fixed header, {fixed_size} bytes |" in DOCUMENT
    assert f"a multiple of {LAYOUT['ROM_CHECKSUM_STRIDE']}, {fixed_size} or more" in DOCUMENT
    assert (
        LAYOUT["ROM_CHECKSUM_STRIDE"],
        fixed_size,
    ) == (written.CHECKSUM_STRIDE, written.FIXED_SIZE)
    assert f"at most {PUBLIC['PGS_ROM_CODING_COUNT_MAX']} codings and" in section("Tables")
    assert f"and {PUBLIC['PGS_ROM_DICT_COUNT_MAX']} dictionaries" in section("Tables")
    assert PUBLIC["PGS_ROM_CODING_COUNT_MAX"] == written.CODING_COUNT_MAX
    assert PUBLIC["PGS_ROM_DICT_COUNT_MAX"] == written.DICT_COUNT_MAX
    assert PUBLIC["PGS_ROM_DICT_SIZE_MAX"] == written.DICT_SIZE_MAX == 1 << 20
    assert "at most 1 MiB" in section("Dictionaries")
    assert f"**group** is {LAYOUT['ROM_GROUP_SLOTS']} slots" in section("Index")
    assert LAYOUT["ROM_GROUP_SLOTS"] == written.GROUP_SLOTS
    assert f"or {LAYOUT['ROM_NO_DICT']} for none" in section("Codings")
    assert LAYOUT["ROM_NO_DICT"] == written.NO_DICT
    coding_bits = LAYOUT["ROM_SLOT_CODING_BITS"]
    assert f"the coding in bits {16 - coding_bits} to 15." in section("Index")
    assert f"the size less one in bits 0 to {31 - coding_bits} and" in section("Index")
    assert f"| {written.SIGNATURE_SIZE} bytes, or none |" in section("Tables")


def test_the_kinds_and_levels_are_the_codes() -> None:
    kinds = written._KINDS  # pyright: ignore[reportPrivateUsage]
    named = ", ".join(f"{number} {kind}" for number, kind in enumerate(kinds))
    assert f"kind {named}" in section("Segments")
    least, most = min(Level), max(Level)
    assert f"{least:d} {least.name} to {most:d} {most.name}" in section("Segments")


# -- the worked example --------------------------------------------------------------------

OPERAND = (0x1100 - (0x1200 + 5)).to_bytes(4, "little", signed=True)
EXAMPLE_PAGES = [
    bytes.fromhex("0f1f840000000000") * 64,
    b"\xe8" + OPERAND + b"\x90" * 507,
    (b"pagestep " * 57)[:512],
    (b"pagestep " * 57)[:512],
    None,
]


def example() -> bytes:
    """Return the bytes of the worked example."""
    rows = re.findall(
        r"^([0-9a-f]{4})  ([0-9a-f]{2}(?: [0-9a-f]{2})*)(?:  .*)?$", section("Worked example"), re.M
    )
    data = b""
    for offset, hexes in rows:
        assert int(offset, 16) == len(data)
        data += bytes.fromhex(hexes)
    return data


def test_the_example_is_what_it_says() -> None:
    rom = SlowRom(example())
    assert rom.pages() == EXAMPLE_PAGES
    rom.verify()
    assert len(rom.data) == rom.rom_size == 368
    assert (rom.page_size, rom.base_address, rom.arch) == (512, 0x1000, "x86_64")
    assert [segment.name for segment in rom.segments] == [".text"]
    with Rom.open(example()) as opened:
        by_core = [page and opened.read(page_no) for page_no, page in enumerate(EXAMPLE_PAGES)]
        assert by_core == EXAMPLE_PAGES
        assert opened.verify().is_good
        with pytest.raises(AbsentPage, match="page 4 "):
            opened.read(4)
    said = section("Worked example")
    for number, table in enumerate(rom.tables):
        assert re.search(rf"table {number}, .*: {table.count} at {table.offset:04x}$", said, re.M)


def test_the_writer_makes_the_examples_header() -> None:
    data = example()
    header = written.unpack(data)
    assert header.pack() == data[: SlowRom(data).header_size + 4]
