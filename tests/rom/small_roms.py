# SPDX-License-Identifier: MIT
"""Small ROM images with everything in them that the format has, which no builder would choose."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from pagestep.codecs import CODECS, FILTERS, Codec, xxh32
from pagestep.store.rom._format import (  # pyright: ignore[reportPrivateUsage]
    GROUP_SLOTS,
    NO_DICT,
    Coding,
    DictEntry,
    Header,
    RomSegment,
    Table,
)

from .slow_reader import tree_hash

BASE = 0xFFFFFFFF81000000


class Way(NamedTuple):
    """How pages are coded: names of codec and filter, and number of the dictionary."""

    codec: str
    filter: str = "none"
    dict_no: int = NO_DICT


class Dictionary(NamedTuple):
    """A dictionary, of 2^n bytes, and the codec that it is stored with."""

    content: bytes
    codec: str = "raw"


ALL_WAYS = (
    Way("raw"),
    Way("lz4"),
    Way("zstd"),
    *(Way("lz4", name, number % 2) for number, name in enumerate(FILTERS)),
    *(Way("zstd", name, 2 + number % 2) for number, name in enumerate(FILTERS)),
)
"""Raw pages, both codecs alone, and each filter with each codec and all four dictionaries."""

LZ4_WAYS = ALL_WAYS[:2] + ALL_WAYS[3:9]
"""Those that the smallest reader knows."""


def code_like(size: int, seed: int) -> bytes:
    """Return bytes with instructions that branch filters look for, which compress."""
    rng = random.Random(seed)
    common = random.Random(1).randbytes(64)
    out = b""
    while len(out) < size:
        at = rng.randrange(0, 56, 4)
        out += common[at : at + 8]
        if rng.random() < 0.4:
            call = rng.choice([0xEB000000, 0x94000000, 0xF800F000, 0x000000EF, 0x00000297])
            out += struct.pack("<I", call | rng.randrange(64) << 12)
            if call == 0x00000297:  # an AUIPC's pair
                out += struct.pack("<I", 0x00028067 | rng.randrange(64) << 20)
        elif rng.random() < 0.2:
            out += b"\xe8" + struct.pack("<i", rng.randrange(-4096, 4096)) + bytes(3)
    return out[:size]


def all_kinds_of_pages(count: int, page_size: int = 512) -> list[bytes | None]:
    """Return pages: same-filled, left out, equal to another, incompressible, like code."""
    pages: list[bytes | None] = [code_like(page_size, seed) for seed in range(count)]
    pages[1] = b"\x01\x02\x03\x04\x05\x06\x07\x08" * (page_size // 8)
    pages[2] = bytes(page_size)
    pages[3] = None
    pages[4] = random.Random(4).randbytes(page_size)
    pages[6] = pages[4]
    return pages


def dictionaries(*codecs: str, size: int = 1024) -> list[Dictionary]:
    """Return a dictionary stored with each of these codecs."""
    return [Dictionary(code_like(size, 100 + at), codec) for at, codec in enumerate(codecs)]


def make_rom(
    pages: Sequence[bytes | None],
    ways: Sequence[Way],
    dicts: Sequence[Dictionary] = (),
    *,
    wide: bool = False,
    align: int = 1,
) -> bytes:
    """Return a ROM image whose slots are coded in turn as ``ways`` says, from the second on.

    Args:
        pages: All of one size; None is left out.
        ways: At most 16, the first one raw: it takes what does not shrink.
        dicts: At most 4.
        wide: Whether entries of pages and slots have 4 bytes.
        align: What the page data is aligned to.
    """
    page_size = next(len(page) for page in pages if page is not None)
    index = _Index(page_size, 4 if wide else 2, 4 if wide or page_size > 4096 else 2)
    for page_no, page in enumerate(pages):
        index.add(page_no, page, ways, dicts)
    stored = [_stored(each) for each in dicts]
    entries = [
        DictEntry(
            sum(map(len, stored[:number])),
            len(stored[number]),
            len(each.content),
            xxh32(each.content) if each.codec != "raw" else 0,
            CODECS[each.codec].id,
        )
        for number, each in enumerate(dicts)
    ]
    flat = b"".join(page or bytes(page_size) for page in pages)
    leaves = [hashlib.sha256(b"\0" + (page or b"")).digest() for page in pages]
    half = len(flat) // 2
    header = Header(
        page_size=page_size,
        page_entry_size=index.page_entry_size,
        slot_entry_size=index.slot_entry_size,
        erased_value=0xFF,
        rom_size=0,
        base=BASE,
        image_size=len(flat),
        arch="x86_64",
        identity=hashlib.sha256(flat).digest(),
        root=tree_hash(leaves),
        codings=[Coding(CODECS[way.codec].id, FILTERS[way.filter], way.dict_no) for way in ways],
        dicts=entries,
        segments=[
            RomSegment(".text", BASE, half, 0, "r-x", "text", 3),
            RomSegment(".data", BASE + half, len(flat) - half, half, "rw-", "data", 1),
        ],
    )
    return _assemble(header, {**index.tables(), "dict_bytes": (1, b"".join(stored))}, align)


def _stored(dictionary: Dictionary) -> bytes:
    if dictionary.codec == "raw":
        return dictionary.content
    with Codec(dictionary.codec, page_size=len(dictionary.content)) as codec:
        coded = codec.encode(dictionary.content)
    assert coded is not None
    return coded


class _Index:
    """The index and the page data, as pages are added."""

    def __init__(self, page_size: int, page_entry_size: int, slot_entry_size: int) -> None:
        self.page_size = page_size
        self.page_entry_size, self.slot_entry_size = page_entry_size, slot_entry_size
        self.words, self.checksums, self.groups = b"", b"", b""
        self.pages, self.slots, self.data = b"", b"", b""
        self.slot_of: dict[bytes, int] = {}
        self.slot_count = 0

    def add(
        self, page_no: int, page: bytes | None, ways: Sequence[Way], dicts: Sequence[Dictionary]
    ) -> None:
        top_bit = 1 << (8 * self.page_entry_size - 1)
        if page is None:
            entry = 2 * top_bit - 1
        elif page == page[:8] * (self.page_size // 8):
            entry = top_bit | len(self.words) // 8
            self.words += page[:8]
        elif page in self.slot_of:
            entry = self.slot_of[page]
        else:
            entry = self._add_slot(page_no, page, ways, dicts)
        checksum = 0 if page is None else xxh32(page, seed=page_no)
        self.checksums += struct.pack("<I", checksum)
        self.pages += entry.to_bytes(self.page_entry_size, "little")

    def _add_slot(
        self, page_no: int, page: bytes, ways: Sequence[Way], dicts: Sequence[Dictionary]
    ) -> int:
        number = (self.slot_count + 1) % len(ways)
        way = ways[number]
        coded = None
        if way.codec != "raw":
            dictionary = b"" if way.dict_no == NO_DICT else dicts[way.dict_no].content
            with Codec(
                way.codec, filter=way.filter, dictionary=dictionary, page_size=self.page_size
            ) as codec:
                coded = codec.encode(page, address=BASE + page_no * self.page_size)
        if coded is None or len(coded) >= self.page_size:
            number, coded = 0, page
        if self.slot_count % GROUP_SLOTS == 0:
            self.groups += struct.pack("<I", len(self.data))
        size_bits = 8 * self.slot_entry_size - 4
        entry = number << size_bits | len(coded) - 1
        self.slots += entry.to_bytes(self.slot_entry_size, "little")
        self.data += coded
        if ways[number].filter == "none":
            self.slot_of[page] = self.slot_count
        self.slot_count += 1
        return self.slot_count - 1

    def tables(self) -> dict[str, tuple[int, bytes]]:
        """Return each table's size of an entry, and bytes."""
        return {
            "words": (8, self.words),
            "checksums": (4, self.checksums),
            "groups": (4, self.groups),
            "pages": (self.page_entry_size, self.pages),
            "slots": (self.slot_entry_size, self.slots),
            "data": (1, self.data),
        }


def _assemble(header: Header, parts: dict[str, tuple[int, bytes]], align: int) -> bytes:
    """Return a ROM image of these tables."""
    _, at = header.block_tables()
    at += 4
    body = b""
    tables = dict[str, Table]()
    order = ("signature", "words", "checksums", "groups", "pages", "slots", "dict_bytes", "data")
    for name in order:
        entry_size, part = parts.get(name, (1, b""))
        padding = -at % align if name == "data" else 0
        tables[name] = Table(at + padding, len(part) // entry_size)
        body += b"\xff" * padding + part
        at += padding + len(part)
    return replace(header, tables=tables, rom_size=at).pack() + body
