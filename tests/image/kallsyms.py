# SPDX-License-Identifier: MIT
"""A kernel's own table of symbols, made as scripts/kallsyms.c makes it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from . import builders as b

BASE = {64: 0xFFFFFFFF81000000, 32: 0xC0008000}
TOKENS = [bytes([n]) for n in range(256)]
TOKENS[0:9] = [b"work", b"sched", b"_task", b"irq_", b"page", b"_init", b"do_", b"lock", b"__"]


@dataclass
class Entry:
    address: int
    letter: str
    name: str


@dataclass
class Table:
    """How to write the table.

    Attributes:
        bits: 32 or 64.
        order: ``"<"`` or ``">"``.
        layout: ``"6.1"``, ``"6.2"`` (order by name behind the markers) or ``"6.4"``.
        relative: Offsets from a base, rather than addresses.
        percpu: What is below 1 << 30 is absolute, and offsets of the rest are negative.
        base: What offsets count from, where the file should say another.
        marker_bytes: 4, or 8 before Linux 4.20.
    """

    bits: int = 64
    order: str = "<"
    layout: str = "6.1"
    relative: bool = True
    percpu: bool = False
    base: int | None = None
    marker_bytes: int = 4


def some_entries(count: int = 700, *, bits: int = 64, percpu: bool = False) -> list[Entry]:
    base = BASE[bits]
    found = [Entry(0x1000 * n, "D", f"percpu_{n}") for n in range(5 if percpu else 0)]
    found += [Entry(base, "T", "_text"), Entry(base, "T", "_stext"), Entry(0, "a", "absolute")]
    found += [
        Entry(base + 16 * n, "tTdD"[n % 4], f"do_sched_irq_page_{n}_init" + "x" * (n % 7))
        for n in range(1, count)
    ]
    found.append(Entry(base + 16 * count, "T", "long_" + "name_" * 40))
    return sorted(found, key=lambda entry: entry.address)


def encode_name(name: str) -> bytes:
    """Spell a name in tokens, the longest that fits first."""
    data, out = name.encode(), bytearray()
    while data:
        longer = [n for n in range(10) if data.startswith(TOKENS[n])]
        code = max(longer, key=lambda n: len(TOKENS[n])) if longer else data[0]
        out.append(code)
        data = data[len(TOKENS[code]) :]
    if len(out) >= 0x80:
        return bytes([len(out) & 0x7F | 0x80, len(out) >> 7]) + out
    return bytes([len(out)]) + out


def blob(entries: list[Entry], table: Table) -> bytes:
    """Return the bytes of all tables, one behind the other, each aligned."""
    word = table.bits // 8
    code = table.order + ("Q" if word == 8 else "I")
    names = bytearray()
    markers: list[int] = []
    for number, entry in enumerate(entries):
        if number % 256 == 0:
            markers.append(len(names))
        names += encode_name(entry.letter + entry.name)
    letter = "Q" if table.marker_bytes == 8 else "I"
    coded_markers = struct.pack(f"{table.order}{len(markers)}{letter}", *markers)
    strings = b"\0".join(TOKENS) + b"\0"
    starts = [0]
    for token in TOKENS[:-1]:
        starts.append(starts[-1] + len(token) + 1)
    index = struct.pack(f"{table.order}256H", *starts)
    count = struct.pack(table.order + "I", len(entries))
    by_name = bytes(3 * len(entries))
    if table.relative:
        addresses = [_offsets(entries, table), struct.pack(code, _base(table))]
    else:
        packed = b"".join(struct.pack(code, entry.address) for entry in entries)
        addresses = [packed]
    parts = {
        "6.1": [*addresses, count, bytes(names), coded_markers, strings, index],
        "6.2": [*addresses, count, bytes(names), coded_markers, by_name, strings, index],
        "6.4": [count, bytes(names), coded_markers, strings, index, *addresses, by_name],
    }[table.layout]
    out = bytearray()
    for part in parts:
        out += bytes(-len(out) % word) + part
    return bytes(out)


def _base(table: Table) -> int:
    return BASE[table.bits] if table.base is None else table.base


def _offsets(entries: list[Entry], table: Table) -> bytes:
    base = BASE[table.bits]
    out = bytearray()
    for entry in entries:
        if not table.percpu:
            out += struct.pack(table.order + "I", max(0, entry.address - base))
        elif entry.address < 1 << 30:
            out += struct.pack(table.order + "i", entry.address)
        else:
            out += struct.pack(table.order + "i", base - 1 - entry.address)
    return bytes(out)


def kernel(entries: list[Entry], table: Table) -> bytes:
    """Return an ELF kernel without a symbol table that carries its own."""
    base = BASE[table.bits]
    text = b"\x90" * 0x4000
    data = b"\x5a" * 1021 + bytes(3) + blob(entries, table) + b"\xa5" * 900
    machine = b.EM_X86_64 if table.bits == 64 else b.EM_ARM
    return b.elf(
        [b.Load(base, text + data)],
        [
            b.Section(".text", base, len(text), b.A | b.X),
            b.Section(".rodata", base + len(text), len(data), b.A),
        ],
        bits=table.bits,
        order=table.order,
        machine=machine,
    )
