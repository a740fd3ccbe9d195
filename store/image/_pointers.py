# SPDX-License-Identifier: MIT
"""Sections that hold addresses, such as a table of functions, as their linker would leave them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pagestep.codecs.errors import BadImage

from ._elf import Elf, Section
from ._symbols import moved_by, read_table

_SIZE_MAX = 64 << 20


def pointers_of(elf: Elf, section_addresses: NDArray[np.uint64], name: str) -> list[int]:
    """Return the addresses in all sections of a name, none where there is no such section.

    In an object file they are what its relocations say, in a position-independent one what the
    loader's do, else the section's bytes.

    Args:
        elf: The headers.
        section_addresses: Where each section is, 0 where it is not in the image.
        name: The sections' name.

    Raises:
        BadImage: A section, or relocations, that lie outside the file or make no sense.
    """
    order = "<" if elf.byteorder == "little" else ">"
    word = elf.bits // 8
    shift = 0 if elf.relocatable else moved_by(elf, section_addresses)
    found: list[int] = []
    for section in elf.sections:
        if section.name != name or not section.has_bytes:
            continue
        if section.size % word or section.size > _SIZE_MAX:
            raise _damaged(elf, section, f"{section.size} bytes are no addresses of {word}")
        values = np.frombuffer(_read(elf, section), f"{order}u{word}").astype(np.uint64)
        for at, value in _relocated(elf, section, section_addresses, values, order):
            values[at // word] = value
        found += [(int(value) + shift) % (1 << elf.bits) for value in values]
    return found


def _relocated(
    elf: Elf,
    section: Section,
    section_addresses: NDArray[np.uint64],
    values: NDArray[np.uint64],
    order: str,
) -> Iterator[tuple[int, int]]:
    """Yield place and value of what relocations of a section set."""
    for table in elf.sections:
        if table.type not in ("SHT_RELA", "SHT_REL"):
            continue
        if elf.relocatable and table.info != section.index:
            continue
        if not elf.relocatable and not (table.allocated and section.allocated):
            continue  # what --emit-relocs keeps is done already
        rows = _relocations(elf, table, order)
        base = 0 if elf.relocatable else section.address
        at = rows["offset"].astype(np.int64) - base
        inside = (at >= 0) & (at < section.size)
        rows, at = rows[inside], at[inside]
        symbols = (rows["info"] >> (32 if elf.bits == 64 else 8)).astype(np.int64)
        target = _symbol_values(elf, table, section_addresses, symbols, order)
        stored = values[at // (elf.bits // 8)]
        addend = rows["addend"].astype(np.uint64) if table.type == "SHT_RELA" else stored
        yield from zip(at.tolist(), (target + addend).tolist(), strict=True)


def _relocations(elf: Elf, table: Section, order: str) -> NDArray[np.void]:
    word = elf.bits // 8
    fields = [("offset", f"{order}u{word}"), ("info", f"{order}u{word}")]
    if table.type == "SHT_RELA":
        fields.append(("addend", f"{order}i{word}"))
    form = np.dtype(fields)
    data = _read(elf, table)
    return np.frombuffer(data[: len(data) // form.itemsize * form.itemsize], form)


def _symbol_values(
    elf: Elf,
    table: Section,
    section_addresses: NDArray[np.uint64],
    symbols: NDArray[np.int64],
    order: str,
) -> NDArray[np.uint64]:
    """Return the addresses of symbols that relocations name, 0 for symbol 0."""
    values = np.zeros(len(symbols), np.uint64)
    named = symbols > 0
    if not named.any():
        return values
    if not 0 < table.link < len(elf.sections):
        raise _damaged(elf, table, "its symbol table is missing")
    raw = read_table(elf, elf.sections[table.link], order)
    if int(symbols.max()) >= len(raw):
        raise _damaged(elf, table, f"it names symbol {int(symbols.max())} of {len(raw)}")
    rows = raw[symbols[named]]
    found = rows["value"].astype(np.uint64)
    if elf.relocatable:
        section = rows["shndx"].astype(np.int64)
        if (section >= len(section_addresses)).any() or not section.all():
            raise _damaged(elf, table, "it names a symbol that is in no section of this file")
        found += section_addresses[section]
    values[named] = found
    return values


def _read(elf: Elf, section: Section) -> bytes:
    data = elf.source.read(section.offset, section.size)
    if len(data) < section.size:
        raise _damaged(elf, section, "it is cut off")
    return data


def _damaged(elf: Elf, section: Section, why: str) -> BadImage:
    return BadImage(f"{elf.source.name}: section {section.name}: {why}: link the file again")
