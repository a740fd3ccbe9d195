# SPDX-License-Identifier: MIT
"""Small ELF files and kernels, made byte by byte for tests."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import zstandard

_lz4_block: Any = import_module("lz4.block")
_lz4_frames: Any = import_module("lz4.frame")

EM_386, EM_MIPS, EM_PPC, EM_ARM, EM_X86_64, EM_AARCH64, EM_RISCV = 3, 8, 20, 40, 62, 183, 243
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
PROGBITS, SYMTAB, STRTAB, NOTE, NOBITS = 1, 2, 3, 7, 8
W, A, X = 1, 2, 4
FUNC, OBJECT, FILE = 2, 1, 4


@dataclass
class Load:
    vaddr: int
    data: bytes
    paddr: int | None = None
    flags: int = 5
    memory: int | None = None


@dataclass
class Section:
    name: str
    address: int
    size: int
    flags: int = A
    type: int = PROGBITS
    load: int | None = 0  # None: the bytes in `data` are put behind the loads
    data: bytes = b""
    align: int = 1
    link: int = 0


@dataclass
class Symbol:
    name: str
    value: int
    size: int = 0
    kind: int = FUNC
    section: int = 1


def elf(
    loads: Sequence[Load] = (),
    sections: Sequence[Section] = (),
    symbols: Sequence[Symbol] = (),
    *,
    bits: int = 64,
    order: str = "<",
    machine: int = EM_X86_64,
    kind: int = ET_EXEC,
    entry: int = 0,
) -> bytes:
    """Return an ELF file; its sections follow the null section in the order given."""
    wide = bits == 64
    body = bytearray(64 + 56 * len(loads))
    offsets: list[int] = []
    for load in loads:
        body += bytes(-len(body) % 4096 + load.vaddr % 4096)
        offsets.append(len(body))
        body += load.data
    rows = [Section("", 0, 0, 0, 0)]
    places = [0]
    for section in sections:
        rows.append(section)
        if section.load is None or not loads:
            places.append(len(body))
            body += section.data
        else:
            places.append(offsets[section.load] + section.address - loads[section.load].vaddr)
    if symbols:
        names, table = _symbol_table(symbols, wide, order)
        rows.append(Section(".symtab", 0, len(table), 0, SYMTAB, link=len(rows) + 1))
        places.append(len(body))
        body += table
        rows.append(Section(".strtab", 0, len(names), 0, STRTAB))
        places.append(len(body))
        body += names
    strings = b"\0" + b"\0".join(row.name.encode() for row in rows) + b"\0.shstrtab\0"
    rows.append(Section(".shstrtab", 0, len(strings), 0, STRTAB))
    places.append(len(body))
    body += strings
    section_table = len(body)
    for row, place in zip(rows, places, strict=True):
        name = strings.index(b"\0" + row.name.encode() + b"\0") + 1 if row.name else 0
        entry_size = (24 if wide else 16) if row.type == SYMTAB else 0
        fields = (name, row.type, row.flags, row.address, place, row.size, row.link, 0, row.align)
        body += struct.pack(order + ("IIQQQQIIQQ" if wide else "10I"), *fields, entry_size)
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    header: tuple[int, ...] = (kind, machine, 1, entry, 64, section_table, 0, 64 if wide else 52)
    header += (56 if wide else 32, len(loads), 64 if wide else 40, len(rows), len(rows) - 1)
    packed = struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), *header)
    body[: 16 + len(packed)] = ident + packed
    at = 64
    for load, offset in zip(loads, offsets, strict=True):
        paddr = load.vaddr if load.paddr is None else load.paddr
        size, memory = len(load.data), load.memory or len(load.data)
        if wide:
            row_bytes = struct.pack(
                order + "IIQQQQQQ", 1, load.flags, offset, load.vaddr, paddr, size, memory, 4096
            )
        else:
            row_bytes = struct.pack(
                order + "8I", 1, offset, load.vaddr, paddr, size, memory, load.flags, 4096
            )
        body[at : at + len(row_bytes)] = row_bytes
        at += len(row_bytes)
    return bytes(body)


def _symbol_table(symbols: Sequence[Symbol], wide: bool, order: str) -> tuple[bytes, bytes]:
    names, table = bytearray(b"\0"), bytearray(24 if wide else 16)
    for symbol in symbols:
        name, info = len(names), 16 + symbol.kind
        names += symbol.name.encode() + b"\0"
        if wide:
            row = (name, info, 0, symbol.section, symbol.value, symbol.size)
            table += struct.pack(order + "IBBHQQ", *row)
        else:
            row = (name, symbol.value, symbol.size, info, 0, symbol.section)
            table += struct.pack(order + "IIIBBH", *row)
    return bytes(names), bytes(table)


def small_elf(text: bytes) -> bytes:
    """Return a kernel of one load, with a section and a symbol."""
    return elf(
        [Load(0xFFFFFFFF81000000, text, 0x1000000)],
        [Section(".text", 0xFFFFFFFF81000000, len(text), A | X)],
        [Symbol("start_kernel", 0xFFFFFFFF81000010, 64)],
    )


# Compression as the tools write it


def lz4_legacy(data: bytes) -> bytes:
    out = bytearray(b"\x02\x21\x4c\x18")
    for at in range(0, len(data), 8 << 20):
        coded = _lz4_block.compress(data[at : at + (8 << 20)], store_size=False)
        out += struct.pack("<I", len(coded)) + coded
    return bytes(out)


def lzop_stored(data: bytes, *, flags: int = 0x03000001, block: int = 4096) -> bytes:
    """Return an lzop file whose blocks are stored as they are; it needs no LZO."""
    head = struct.pack(">HHHBBIIIIB", 0x1030, 0x20A0, 0x0940, 3, 9, flags, 0o644, 0, 0, 0)
    out = bytearray(b"\x89LZO\x00\r\n\x1a\n" + head + struct.pack(">I", zlib.adler32(head)))
    for at in range(0, len(data), block):
        piece = data[at : at + block]
        out += struct.pack(">III", len(piece), len(piece), zlib.adler32(piece)) + piece
    return bytes(out) + bytes(4)


def lzop(data: bytes) -> bytes:
    """Return what lzop makes, as kernels are packed; stored blocks where it is missing."""
    if shutil.which("lzop") is None:
        return lzop_stored(data)
    return subprocess.run(["lzop", "-9c"], input=data, capture_output=True, check=True).stdout


def xz_arm(data: bytes) -> bytes:
    filters = [{"id": lzma.FILTER_ARM}, {"id": lzma.FILTER_LZMA2, "preset": 6}]
    return lzma.compress(data, check=lzma.CHECK_CRC32, filters=filters)


def _lz4_frame(data: bytes) -> bytes:
    frame: bytes = _lz4_frames.compress(data)
    return frame


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "xz": xz_arm,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "lz4": _lz4_frame,
    "lz4-legacy": lz4_legacy,
    "zstd": lambda data: zstandard.compress(data, 3),
    "bzip2": bz2.compress,
    "lzo": lzop,
}
"""What each payload format is called, and what packs it."""


# Boot formats


def bzimage(packed: bytes, decoded_size: int | None, *, protocol: int = 0x020F) -> bytes:
    """Return an x86 bzImage around a payload; with a size appended unless it is None."""
    setup_sectors, code = 3, b"\x90" * 700
    payload = packed + (b"" if decoded_size is None else struct.pack("<I", decoded_size))
    head = bytearray((setup_sectors + 1) * 512)
    head[0x1F1] = setup_sectors
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, protocol)
    struct.pack_into("<II", head, 0x248, len(code), len(payload))
    body = code + payload + b"\x90" * 900
    struct.pack_into("<I", head, 0x1F4, -(-len(body) // 16))
    return bytes(head) + body


def zimage(
    packed: bytes,
    decoded_size: int,
    *,
    table: bool = True,
    gzipped: bool = False,
    decoy: bytes = b"",
) -> bytes:
    """Return an ARM zImage around a payload; a device tree follows it."""
    head = bytearray(0x400)
    head[0:32] = b"\0\0\xa0\xe1" * 8
    body = decoy + bytes(-len(decoy) % 4) + packed
    if not gzipped:
        body += struct.pack("<I", decoded_size)
    size = len(head) + len(body) + 128
    struct.pack_into("<IIII", head, 0x24, 0x016F2818, 0, size, 0x04030201)
    if table:
        struct.pack_into("<II", head, 0x34, 0x45454545, 0x100)
        at = len(head) + len(body) - 4
        struct.pack_into("<6I", head, 0x100, 6, 0x5A534C4B, at, 0x1000, 0x8000, 0x10000)
    return bytes(head) + body + b"\xa5" * 128 + b"\xd0\x0d\xfe\xed" + bytes(60)


def arm64_image(body: bytes, *, text_offset: int = 0, flags: int = 0xA) -> bytes:
    head = struct.pack("<IIQQQQQQ", 0x14000000, 0, text_offset, 0x100000, flags, 0, 0, 0)
    return head + b"ARM\x64" + struct.pack("<I", 0) + body


def riscv_image(body: bytes, *, text_offset: int = 0x200000) -> bytes:
    head = struct.pack("<IIQQQIIQ", 0x5A4D, 0, text_offset, 0x100000, 0, 2, 0, 0)
    return head + b"RISCV\0\0\0" + b"RSC\x05" + bytes(4) + body


def zboot(packed: bytes) -> bytes:
    head = bytearray(0x200)
    head[0:8] = b"MZ\0\0zimg"
    struct.pack_into("<II", head, 8, len(head), len(packed))
    head[24:29] = b"any\0\0"
    return bytes(head) + packed + bytes(100)
