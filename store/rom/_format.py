# SPDX-License-Identifier: MIT
"""The bytes of a ROM image's header block, as docs/FORMAT.md says them: packed and unpacked."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pagestep.codecs import xxh32
from pagestep.codecs.errors import BadRom

MAGIC: Final = b"\x89PGSROM\n"
FORMAT_VERSION: Final = 1
CHECKSUM_STRIDE: Final = 16
GROUP_SLOTS: Final = 64
NO_DICT: Final = 255
CODING_COUNT_MAX: Final = 16
DICT_COUNT_MAX: Final = 4
DICT_SIZE_MAX: Final = 1 << 20
ROM_SIZE_MAX: Final = (1 << 32) - 1
SIGNATURE_SIZE: Final = 96
KEY_SIZE: Final = 32  # the public key, with which it begins
ARCH_SIZE: Final = 16

TABLES: Final = (
    "codings",
    "dicts",
    "segments",
    "names",
    "signature",
    "words",
    "checksums",
    "groups",
    "pages",
    "slots",
    "dict_bytes",
    "data",
)
"""The tables, in the order in which they stand."""

_FIXED = struct.Struct("<8sHBBBB2xIIIIQQ16s32s32s")
_TABLE = struct.Struct("<II")
_CODING = struct.Struct("<BBBx")
_DICT = struct.Struct("<IIIII")
_SEGMENT = struct.Struct("<QQQIHBB")
FIXED_SIZE: Final = _FIXED.size + _TABLE.size * len(TABLES)

_KINDS = ("text", "rodata", "data", "raw")
_FLAGS = "rwx"


@dataclass(frozen=True, slots=True)
class Coding:
    """How a slot's bytes are decoded: ids of codec and filter, number of a dictionary."""

    codec_id: int
    filter_id: int
    dict_no: int = NO_DICT


@dataclass(frozen=True, slots=True)
class DictEntry:
    """A dictionary: where its bytes are in the table of their bytes, and what they become."""

    offset: int
    stored_size: int
    size: int
    checksum: int
    codec_id: int


@dataclass(frozen=True, slots=True)
class RomSegment:
    """A named run of the image, as `Segment`, and the level that its pages were given."""

    name: str
    address: int
    size: int
    offset: int
    flags: str
    kind: str
    level: int


@dataclass(frozen=True, slots=True)
class Table:
    """Where a table is, and how many entries it has."""

    offset: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A ROM image's header block.

    Attributes:
        page_size: A power of two, 512 to 65536.
        page_entry_size: 2 or 4.
        slot_entry_size: 2 or 4.
        erased_value: What padding is filled with.
        rom_size: Bytes of the ROM image.
        base: Virtual address of page 0.
        image_size: Bytes of the image.
        arch: As ``Image.arch``.
        identity: SHA-256 of all pages.
        root: Of the tree of pages.
        codings: At most 16.
        dicts: At most 4.
        segments: By offset.
        tables: By name; `layout` makes those of the header block.
        features_compatible: Bits that a reader may ignore.
        features_incompatible: Bits that it must know.
        block_size: Bytes of the block as it was read; `pack` computes its own.
    """

    page_size: int
    page_entry_size: int
    slot_entry_size: int
    erased_value: int
    rom_size: int
    base: int
    image_size: int
    arch: str
    identity: bytes
    root: bytes
    codings: Sequence[Coding]
    dicts: Sequence[DictEntry]
    segments: Sequence[RomSegment]
    tables: dict[str, Table] = field(default_factory=dict[str, Table])
    features_compatible: int = 0
    features_incompatible: int = 0
    block_size: int = 0

    def block_tables(self) -> tuple[dict[str, Table], int]:
        """Return the tables that stand in the header block, and the block's size."""
        names_size = sum(len(_name_bytes(segment)) for segment in self.segments)
        at, placed = FIXED_SIZE, dict[str, Table]()
        for name, size, count in (
            ("codings", _CODING.size, len(self.codings)),
            ("dicts", _DICT.size, len(self.dicts)),
            ("segments", _SEGMENT.size, len(self.segments)),
            ("names", 1, names_size),
        ):
            placed[name] = Table(at, count)
            at += size * count
        return placed, -(-at // CHECKSUM_STRIDE) * CHECKSUM_STRIDE

    def pack(self) -> bytes:
        """Return the header block and its checksum."""
        placed, block_size = self.block_tables()
        tables = {**self.tables, **placed}
        parts = [
            _FIXED.pack(
                MAGIC,
                FORMAT_VERSION,
                self.page_size.bit_length() - 1,
                self.page_entry_size,
                self.slot_entry_size,
                self.erased_value,
                block_size,
                self.rom_size,
                self.features_incompatible,
                self.features_compatible,
                self.base,
                self.image_size,
                self.arch.encode("ascii"),
                self.identity,
                self.root,
            )
        ]
        parts += [_TABLE.pack(tables[name].offset, tables[name].count) for name in TABLES]
        parts += [
            _CODING.pack(each.codec_id, each.filter_id, each.dict_no) for each in self.codings
        ]
        parts += [
            _DICT.pack(each.offset, each.stored_size, each.size, each.checksum, each.codec_id)
            for each in self.dicts
        ]
        parts += _pack_segments(self.segments)
        block = b"".join(parts).ljust(block_size, b"\0")
        return block + xxh32(block).to_bytes(4, "little")


def _name_bytes(segment: RomSegment) -> bytes:
    """Return a segment's name as it is stored; a name beyond 64 KiB is nobody's."""
    return segment.name.encode("utf-8", "surrogateescape")[:0xFFFF]


def _pack_segments(segments: Sequence[RomSegment]) -> list[bytes]:
    entries, names, at = list[bytes](), list[bytes](), 0
    for segment in segments:
        name = _name_bytes(segment)
        flags = sum(1 << bit for bit, letter in enumerate(_FLAGS) if letter in segment.flags)
        entries.append(
            _SEGMENT.pack(
                segment.address,
                segment.offset,
                segment.size,
                at,
                len(name),
                flags | _KINDS.index(segment.kind) << 4,
                segment.level,
            )
        )
        names.append(name)
        at += len(name)
    return entries + names


def unpack(rom: memoryview | bytes) -> Header:
    """Return the header block of a ROM image that the core's reader has accepted.

    The reader has checked magic number, version, features, checksum and the tables' places;
    here what only the host looks at is checked: that tables 0 to 3 lie in the block, and segments.

    Raises:
        BadRom: A segment or a table of the header block cannot be what was written.
    """
    (
        _,
        _,
        page_shift,
        page_entry_size,
        slot_entry_size,
        erased_value,
        block_size,
        rom_size,
        features_incompatible,
        features_compatible,
        base,
        image_size,
        arch,
        identity,
        root,
    ) = _FIXED.unpack_from(rom)
    tables = {
        name: Table(*_TABLE.unpack_from(rom, _FIXED.size + _TABLE.size * number))
        for number, name in enumerate(TABLES)
    }
    block = bytes(rom[:block_size])
    if tables["names"].offset + tables["names"].count > block_size:
        raise BadRom("the names of its segments lie outside the header block: it is damaged")
    return Header(
        page_size=1 << page_shift,
        page_entry_size=page_entry_size,
        slot_entry_size=slot_entry_size,
        erased_value=erased_value,
        rom_size=rom_size,
        base=base,
        image_size=image_size,
        arch=arch.rstrip(b"\0").decode("ascii", "replace"),
        identity=identity,
        root=root,
        codings=[Coding(*each) for each in _entries(_CODING, block, tables["codings"])],
        dicts=[DictEntry(*each) for each in _entries(_DICT, block, tables["dicts"])],
        segments=_unpack_segments(block, tables, image_size),
        tables=tables,
        features_compatible=features_compatible,
        features_incompatible=features_incompatible,
        block_size=block_size,
    )


def _entries(of: struct.Struct, block: bytes, table: Table) -> list[tuple[int, ...]]:
    return list(of.iter_unpack(block[table.offset : table.offset + of.size * table.count]))


def _unpack_segments(block: bytes, tables: dict[str, Table], image_size: int) -> list[RomSegment]:
    names = block[tables["names"].offset : tables["names"].offset + tables["names"].count]
    found: list[RomSegment] = []
    for number, entry in enumerate(_entries(_SEGMENT, block, tables["segments"])):
        address, offset, size, name_at, name_size, flags, level = entry
        if offset + size > image_size or name_at + name_size > len(names):
            raise BadRom(f"segment {number} lies outside the image or has no name: it is damaged")
        if flags >> 4 >= len(_KINDS) or level > 5:
            raise BadRom(f"segment {number} has no known kind or level: it is damaged")
        name = names[name_at : name_at + name_size].decode("utf-8", "surrogateescape")
        letters = "".join(letter if flags >> bit & 1 else "-" for bit, letter in enumerate(_FLAGS))
        found.append(RomSegment(name, address, size, offset, letters, _KINDS[flags >> 4], level))
    return found
