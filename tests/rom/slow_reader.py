# SPDX-License-Identifier: MIT
"""A second reader of ROM images: small, slow, in Python, made from docs/FORMAT.md alone.

It checks everything that the document calls valid, so it refuses some images that a reader on
a target would take. `Refused` says why in one word, and where.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import zstandard

HEADER_FIXED_SIZE = 224
M32 = 0xFFFFFFFF


class Refused(Exception):
    """A ROM image, or a page of it, that cannot be what was written.

    Attributes:
        reason: One of magic, feature, truncated, header, table, extent, dictionary, codec,
            segment, signature, range, absent, page, root.
    """

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the reason."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def demand(condition: bool, reason: str, detail: str) -> None:
    """Raise where a condition does not hold.

    Raises:
        Refused: It does not.
    """
    if not condition:
        raise Refused(reason, detail)


# -- Checksum, LZ4, zstd ------------------------------------------------------------------


def xxh32(data: bytes, seed: int = 0) -> int:
    """Return XXH32 of bytes whose number is a multiple of 16, and not 0."""

    def rotate(value: int, count: int) -> int:
        return (value << count | value >> (32 - count)) & M32

    p1, p2, p3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
    lanes = [seed + p1 + p2 & M32, seed + p2 & M32, seed, seed - p1 & M32]
    for number, (word,) in enumerate(struct.iter_unpack("<I", data)):
        lanes[number % 4] = rotate(lanes[number % 4] + word * p2 & M32, 13) * p1 & M32
    total = sum(map(rotate, lanes, (1, 7, 12, 18))) + len(data) & M32
    total = (total ^ total >> 15) * p2 & M32
    total = (total ^ total >> 13) * p3 & M32
    return total ^ total >> 16


def decode_lz4(block: bytes, dictionary: bytes, size: int) -> bytes:
    """Return what an LZ4 block decodes to.

    Raises:
        ValueError: It does not decode to exactly ``size`` bytes.
    """
    source = iter(block)
    out = bytearray(dictionary)
    end = len(dictionary) + size

    def length_of(field: int) -> int:
        length = field
        while field in (15, 255) and (length == 15 or field == 255):
            field = next(source)
            length += field
        return length

    try:
        for token in source:
            for _ in range(length_of(token >> 4)):
                out.append(next(source))
            if len(out) > end:
                raise ValueError("more literals than fit")
            low = next(source, None)
            if low is None:
                break
            distance = low | next(source) << 8
            length = length_of(token & 15) + 4
            if not 0 < distance <= len(out) or len(out) + length > end:
                raise ValueError("a match from outside, or more than fits")
            for _ in range(length):
                out.append(out[-distance])
    except (StopIteration, RuntimeError) as error:
        raise ValueError("the block ends early") from error
    if len(out) != end:
        raise ValueError("too few bytes")
    return bytes(out[len(dictionary) :])


def decode_zstd(frame: bytes, dictionary: bytes, size: int) -> bytes:
    """Return what a zstd frame without magic number decodes to.

    Raises:
        ValueError: It does not decode to exactly ``size`` bytes, or says more than the page.
    """
    if not frame or frame[0] != 0:
        raise ValueError("the frame's first byte is not zero")
    of = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    try:  # a dictionary's tables are looked at first
        decoder = zstandard.ZstdDecompressor(
            dict_data=of, format=zstandard.FORMAT_ZSTD1_MAGICLESS
        ).decompressobj()
        out = decoder.decompress(frame)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if not decoder.eof or decoder.unused_data or len(out) != size:
        raise ValueError("no frame, more than one, or of another size")
    return out


# -- Branch filters -----------------------------------------------------------------------


def undo_x86(page: bytearray, address: int) -> None:
    """Undo the x86 filter in place."""
    at = 0
    while at + 5 <= len(page):
        if page[at] not in (0xE8, 0xE9):
            at += 1
            continue
        value = int.from_bytes(page[at + 1 : at + 5], "little", signed=True)
        if -(1 << 24) <= value < 1 << 24:
            value = (value - (address + at + 5) + (1 << 24)) % (1 << 25) - (1 << 24)
            page[at + 1 : at + 5] = value.to_bytes(4, "little", signed=True)
        at += 5


def undo_words(page: bytearray, opcode: int, field: int, first: int) -> None:
    """Take the word's number, counted from ``first``, from a field of words with an opcode."""
    for at in range(0, len(page) - 3, 4):
        (word,) = struct.unpack_from("<I", page, at)
        if word & ~field & M32 == opcode:
            struct.pack_into("<I", page, at, opcode | (word - first - at // 4) & field)


def undo_arm(page: bytearray, address: int) -> None:
    """Undo the ARM filter in place."""
    undo_words(page, 0xEB000000, 0x00FFFFFF, (address + 8) // 4)


def undo_arm64(page: bytearray, address: int) -> None:
    """Undo the ARM64 filter in place."""
    undo_words(page, 0b100101 << 26, (1 << 26) - 1, address // 4)


def undo_thumb(page: bytearray, address: int) -> None:
    """Undo the Thumb filter in place."""
    at = 0
    while at + 4 <= len(page):
        a, b = struct.unpack_from("<HH", page, at)
        if a >> 11 != 0b11110 or b >> 14 != 0b11 or not b >> 12 & 1:
            at += 2
            continue
        s, j1, j2 = a >> 10 & 1, b >> 13 & 1, b >> 11 & 1
        i1, i2 = 1 - (j1 ^ s), 1 - (j2 ^ s)
        number = s << 23 | i1 << 22 | i2 << 21 | (a & 0x3FF) << 11 | b & 0x7FF
        number = (number - (address + at + 4) // 2) % (1 << 24)
        s, i1, i2 = number >> 23, number >> 22 & 1, number >> 21 & 1
        a = 0b11110 << 11 | s << 10 | number >> 11 & 0x3FF
        b = 0b11 << 14 | ((1 - i1) ^ s) << 13 | 1 << 12 | ((1 - i2) ^ s) << 11 | number & 0x7FF
        struct.pack_into("<HH", page, at, a, b)
        at += 4


def jal_offset(word: int) -> int:
    """Return the offset of a RISC-V JAL: imm[20|10:1|11|19:12] from bit 31 down."""
    return (
        (word >> 31) << 20
        | (word >> 12 & 0xFF) << 12
        | (word >> 20 & 1) << 11
        | (word >> 21 & 0x3FF) << 1
    )


def with_jal_offset(word: int, offset: int) -> int:
    """Return a JAL with another offset."""
    return (
        word & 0xFFF
        | (offset >> 20 & 1) << 31
        | (offset >> 12 & 0xFF) << 12
        | (offset >> 11 & 1) << 20
        | (offset >> 1 & 0x3FF) << 21
    )


def without_address(upper: int, lower: int, here: int) -> tuple[int, int]:
    """Return an AUIPC and the word behind it with their target's offset from ``here``."""
    is_store = lower & 0x7F in (0x23, 0x27)
    low = lower >> 25 << 5 | lower >> 7 & 0x1F if is_store else lower >> 20
    offset = (upper & 0xFFFFF000 | low) - here & M32
    upper = upper & 0xFFF | offset + 0x800 & 0xFFFFF000
    if is_store:
        return upper, lower & 0x01FFF07F | (offset >> 5 & 0x7F) << 25 | (offset & 0x1F) << 7
    return upper, lower & 0x000FFFFF | (offset & 0xFFF) << 20


def undo_riscv(page: bytearray, address: int) -> None:
    """Undo the RISC-V filter in place."""
    at = 0
    while at + 4 <= len(page):
        here = (address & ~1) + at
        (word,) = struct.unpack_from("<I", page, at)
        opcode, rd = word & 0x7F, word >> 7 & 0x1F
        if opcode == 0x6F and rd in (1, 5):
            struct.pack_into("<I", page, at, with_jal_offset(word, jal_offset(word) - here & M32))
            at += 4
        elif opcode == 0x17 and rd != 0 and at + 8 <= len(page):
            (lower,) = struct.unpack_from("<I", page, at + 4)
            is_pair = lower & 0x7F in (0x03, 0x07, 0x13, 0x23, 0x27, 0x67)
            if is_pair and lower >> 15 & 0x1F == rd:
                struct.pack_into("<II", page, at, *without_address(word, lower, here))
            at += 8 if is_pair else 4
        else:
            at += 2


def undo_none(page: bytearray, address: int) -> None:
    """Leave a page as it is."""


UNDO: dict[int, Callable[[bytearray, int], None]] = {
    0: undo_none,
    1: undo_x86,
    2: undo_arm,
    3: undo_thumb,
    4: undo_arm64,
    5: undo_riscv,
}
DECODE: dict[int, Callable[[bytes, bytes, int], bytes]] = {2: decode_lz4, 3: decode_zstd}


# -- The image ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Where a table is: its first byte, the entries it has, the bytes of one."""

    offset: int
    count: int
    entry_size: int

    @property
    def end(self) -> int:
        """Behind its last byte."""
        return self.offset + self.count * self.entry_size


class Coding(NamedTuple):
    """How slots are coded."""

    codec: int
    filter: int
    dict_no: int


@dataclass(frozen=True)
class Segment:
    """A named run of the image."""

    name: str
    address: int
    offset: int
    size: int
    flags: str
    kind: str
    level: int


class SlowRom:
    """A ROM image in memory, checked as a whole but for its pages.

    Attributes:
        page_size: In bytes.
        page_count: How many pages there are.
        base_address: Of page 0.
        image_size: In bytes.
        arch: Instruction set.
        identity: SHA-256 of all pages.
        root: Of the tree of pages.
        segments: By offset.
        codings: By number.
        dicts: Decoded, by number.
    """

    def __init__(self, data: bytes) -> None:
        """Check header, index and dictionaries.

        Raises:
            Refused: Something is not valid.
        """
        self.data = data
        self._check_block()
        self._read_header()
        self._read_tables()
        self.codings = [self._coding(number) for number in range(self.tables[0].count)]
        self._place_slots()
        self.dicts = [self._dictionary(number) for number in range(self.tables[1].count)]
        self.segments = [self._segment(number) for number in range(self.tables[2].count)]
        offsets = [segment.offset for segment in self.segments]
        demand(offsets == sorted(offsets), "segment", "they are not in order")
        demand(self.tables[4].count in (0, 96), "signature", "neither none nor 96 bytes")

    def u(self, offset: int, size: int) -> int:
        """Return a number of the image."""
        return int.from_bytes(self.data[offset : offset + size], "little")

    def entry(self, table_no: int, number: int) -> bytes:
        """Return an entry of a table."""
        table = self.tables[table_no]
        at = table.offset + number * table.entry_size
        return self.data[at : at + table.entry_size]

    def _check_block(self) -> None:
        data, u = self.data, self.u
        demand(data[:8] == bytes.fromhex("8950475352 4F4D0A"), "magic", "another magic number")
        demand(len(data) >= HEADER_FIXED_SIZE + 4, "magic", "shorter than a header")
        demand(u(8, 2) == 1, "feature", f"format version {u(8, 2)}")
        demand(u(24, 4) == 0, "feature", f"incompatible features {u(24, 4):#x}")
        self.header_size, self.rom_size = u(16, 4), u(20, 4)
        demand(self.rom_size <= len(data), "truncated", f"{len(data)} of {self.rom_size} bytes")
        demand(self.header_size + 4 <= self.rom_size, "truncated", "the header is not all there")
        demand(self.header_size % 16 == 0, "header", "its size is no multiple of 16")
        demand(self.header_size >= HEADER_FIXED_SIZE, "header", "it is too short")
        checksum = xxh32(data[: self.header_size])
        demand(checksum == u(self.header_size, 4), "header", "its checksum is wrong")

    def _read_header(self) -> None:
        u = self.u
        demand(9 <= u(10, 1) <= 16, "header", f"page shift {u(10, 1)}")
        demand(u(11, 1) in (2, 4), "header", f"page entries of {u(11, 1)} bytes")
        demand(u(12, 1) in (2, 4), "header", f"slot entries of {u(12, 1)} bytes")
        self.page_size = 1 << u(10, 1)
        self.erased_value = u(13, 1)
        self.base_address, self.image_size = u(32, 8), u(40, 8)
        arch = self.data[48:64].rstrip(b"\0")
        demand(all(0x20 <= byte < 0x7F for byte in arch), "header", "arch is not printable")
        self.arch = arch.decode("ascii")
        self.identity, self.root = self.data[64:96], self.data[96:128]

    def _read_tables(self) -> None:
        page_entry_size, slot_entry_size = self.u(11, 1), self.u(12, 1)
        sizes = (4, 20, 32, 1, 1, 8, 4, 4, page_entry_size, slot_entry_size, 1, 1)
        self.tables: list[Table] = []
        least, most = HEADER_FIXED_SIZE, self.header_size
        for number, entry_size in enumerate(sizes):
            if number == 4:
                least, most = self.header_size + 4, self.rom_size
            at = 128 + 8 * number
            table = Table(self.u(at, 4), self.u(at + 4, 4), entry_size)
            demand(least <= table.offset, "table", f"{number} overlaps what is before it")
            demand(table.end <= most, "table", f"{number} ends at {table.end} of {most}")
            self.tables.append(table)
            least = table.end
        demand(self.tables[0].count <= 16, "header", "more than 16 codings")
        demand(self.tables[1].count <= 4, "header", "more than 4 dictionaries")
        self.page_count = self.tables[8].count
        demand(self.tables[6].count == self.page_count, "header", "not a checksum for each page")
        demand(self.image_size <= self.page_count * self.page_size, "header", "image_size")

    def _coding(self, number: int) -> Coding:
        codec, filter_id, dict_no, _ = self.entry(0, number)
        demand(codec == 0 or codec in DECODE, "codec", f"codec {codec}")
        demand(filter_id in UNDO, "codec", f"filter {filter_id}")
        demand(codec != 0 or filter_id == 0, "codec", "a filter of raw pages")
        known = dict_no == 255 or dict_no < self.tables[1].count
        demand(known, "extent", f"coding {number} has dictionary {dict_no}")
        return Coding(codec, filter_id, dict_no)

    def _place_slots(self) -> None:
        """Find each slot's coding, place in the page data, and size."""
        count = self.tables[9].count
        demand(self.tables[7].count == -(-count // 64), "header", "not a group for 64 slots")
        self.slots: list[tuple[int, int, int]] = []
        at = 0
        for slot in range(count):
            if slot % 64 == 0:
                group_at = int.from_bytes(self.entry(7, slot // 64), "little")
                demand(group_at == at, "extent", f"group {slot // 64} begins elsewhere")
            entry = self.entry(9, slot)
            size_bits = 8 * len(entry) - 4
            coding_no, size = divmod(int.from_bytes(entry, "little"), 1 << size_bits)
            size += 1
            demand(coding_no < len(self.codings), "extent", f"slot {slot}: coding {coding_no}")
            whole = self.codings[coding_no].codec == 0
            fits = size == self.page_size if whole else size <= self.page_size
            demand(fits, "extent", f"slot {slot} has {size} bytes")
            self.slots.append((coding_no, at, size))
            at += size
        demand(at == self.tables[11].count, "extent", "the slots do not fill the page data")

    def _dictionary(self, number: int) -> bytes:
        offset, stored_size, size, checksum, codec = struct.unpack("<5I", self.entry(1, number))
        place = self.tables[10]
        demand(offset + stored_size <= place.count, "table", f"dictionary {number} lies outside")
        stored = self.data[place.offset + offset :][:stored_size]
        demand(size <= 1 << 20, "dictionary", f"{number} has {size} bytes")
        if codec == 0:
            demand(size == stored_size, "dictionary", f"{number} has two sizes")
            demand(checksum == 0, "dictionary", f"{number} is raw and has a checksum")
            return stored
        demand(codec in DECODE, "codec", f"dictionary {number} has codec {codec}")
        demand(size > 0 and size % 16 == 0, "dictionary", f"{number} has {size} bytes")
        try:
            decoded = DECODE[codec](stored, b"", size)
        except ValueError as error:
            raise Refused("dictionary", f"{number}: {error}") from error
        demand(xxh32(decoded) == checksum, "dictionary", f"{number}: its checksum is wrong")
        return decoded

    def _segment(self, number: int) -> Segment:
        entry = self.entry(2, number)
        address, offset, size, name_at, name_size, flags, level = struct.unpack("<QQQIHBB", entry)
        place = self.tables[3]
        demand(offset + size <= self.image_size, "segment", f"{number} lies outside the image")
        demand(name_at + name_size <= place.count, "segment", f"{number} has no name")
        demand(flags & 0x88 == 0 and flags >> 4 < 4, "segment", f"{number} has flags {flags:#x}")
        demand(level <= 5, "segment", f"{number} has level {level}")
        name = self.data[place.offset + name_at :][:name_size].decode("utf-8", "surrogateescape")
        letters = "".join(each if flags >> bit & 1 else "-" for bit, each in enumerate("rwx"))
        kind = ("text", "rodata", "data", "raw")[flags >> 4]
        return Segment(name, address, offset, size, letters, kind, level)

    def page(self, page_no: int) -> bytes:
        """Return one page.

        Raises:
            Refused: There is none, it is left out, or its bytes are not what was written.
        """
        demand(0 <= page_no < self.page_count, "range", f"page {page_no}")
        entry_bytes = self.entry(8, page_no)
        entry, top_bit = int.from_bytes(entry_bytes, "little"), 1 << (8 * len(entry_bytes) - 1)
        demand(entry != 2 * top_bit - 1, "absent", f"page {page_no} is left out")
        if entry & top_bit:
            word_no = entry - top_bit
            demand(word_no < self.tables[5].count, "page", f"{page_no} repeats word {word_no}")
            page = self.entry(5, word_no) * (self.page_size // 8)
        else:
            demand(entry < len(self.slots), "page", f"{page_no} has slot {entry}")
            page = self._decode_slot(page_no, *self.slots[entry])
        checksum = int.from_bytes(self.entry(6, page_no), "little")
        demand(xxh32(page, page_no) == checksum, "page", f"{page_no}: its checksum is wrong")
        return page

    def _decode_slot(self, page_no: int, coding_no: int, at: int, size: int) -> bytes:
        coding = self.codings[coding_no]
        stored = self.data[self.tables[11].offset + at :][:size]
        if coding.codec == 0:
            return stored
        dictionary = b"" if coding.dict_no == 255 else self.dicts[coding.dict_no]
        try:
            page = bytearray(DECODE[coding.codec](stored, dictionary, self.page_size))
        except ValueError as error:
            raise Refused("page", f"{page_no}: {error}") from error
        UNDO[coding.filter](page, (self.base_address + page_no * self.page_size) & M32)
        return bytes(page)

    def pages(self) -> list[bytes | None]:
        """Return all pages, None for those left out.

        Raises:
            Refused: A page's bytes are not what was written.
        """
        return [self._page_or_none(page_no) for page_no in range(self.page_count)]

    def _page_or_none(self, page_no: int) -> bytes | None:
        try:
            return self.page(page_no)
        except Refused as error:
            if error.reason != "absent":
                raise
        return None

    def verify(self) -> None:
        """Check all pages against the root and, where none is left out, the identity.

        Raises:
            Refused: They are not what was written.
        """
        pages = self.pages()
        leaves = [hashlib.sha256(b"\0" + (page or b"")).digest() for page in pages]
        demand(tree_hash(leaves) == self.root, "root", "the pages are not those of the root")
        whole = b"".join(page for page in pages if page is not None)
        if None not in pages:
            demand(hashlib.sha256(whole).digest() == self.identity, "root", "another identity")

    def in_place(self, page_no: int) -> bool:
        """Return whether a page can be used where it lies, if the image is placed for it."""
        entry_size = self.tables[8].entry_size
        entry = int.from_bytes(self.entry(8, page_no), "little")
        if entry >> (8 * entry_size - 1):
            return False
        coding_no, at, _ = self.slots[entry]
        aligned = (self.tables[11].offset + at) % self.page_size == 0
        return self.codings[coding_no].codec == 0 and aligned

    def check_signature(self, trusted: bytes | None = None) -> None:
        """Check the signature of the header block.

        Args:
            trusted: The public key, 32 bytes; None: the one that the image names.

        Raises:
            Refused: There is none, or it does not hold.
            ImportError: The package cryptography is not there.
        """
        errors: Any = import_module("cryptography.exceptions")
        ed25519: Any = import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
        table = self.tables[4]
        demand(table.count == 96, "signature", "the image is not signed")
        key, signature = self.data[table.offset :][:32], self.data[table.offset + 32 :][:64]
        demand(trusted is None or key == trusted, "signature", "another's")
        try:
            public = ed25519.Ed25519PublicKey.from_public_bytes(key)
            public.verify(signature, self.data[: self.header_size + 4])
        except errors.InvalidSignature as error:
            raise Refused("signature", "it does not hold") from error


def tree_hash(leaves: list[bytes]) -> bytes:
    """Return the Merkle tree hash of RFC 6962 over the hashes of leaves."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else hashlib.sha256().digest()
    left = 1 << (len(leaves) - 1).bit_length() - 1
    both = tree_hash(leaves[:left]) + tree_hash(leaves[left:])
    return hashlib.sha256(b"\1" + both).digest()
