# SPDX-License-Identifier: MIT
"""Symbols: names of addresses, from an ELF's table or from a System.map."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pagestep.codecs.errors import BadImage

from ._elf import Elf, Section, printable
from ._source import Source

NAME_MAX = 4096
MAP_SIZE_MAX = 256 << 20
ALIASES_MAX = 256  # symbols looked through below an address for one that covers it

_FUNC, _OBJECT, _NOTYPE = 2, 1, 0
_KINDS = {_FUNC: "func", _OBJECT: "object", _NOTYPE: "notype"}


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name of an address.

    Attributes:
        name: As in the table.
        address: Virtual address.
        size: In bytes, 0 where it is not known.
        kind: ``"func"``, ``"object"`` or ``"notype"``.
    """

    name: str
    address: int
    size: int
    kind: str


class Symbols(Sequence[Symbol]):
    """Symbols sorted by address; at one address the largest comes last.

    Names stay one block of bytes until they are asked for: a kernel has 100,000.

    Attributes:
        addresses: Virtual addresses, shape (n,), dtype uint64.
        sizes: Bytes of each, 0 where not known, shape (n,), dtype uint64.
        kinds: ELF symbol types, 2 for a function, shape (n,), dtype uint8.
    """

    def __init__(
        self,
        addresses: NDArray[np.uint64],
        sizes: NDArray[np.uint64],
        kinds: NDArray[np.uint8],
        names: bytes,
        name_starts: NDArray[np.int64],
        name_end: bytes,
    ) -> None:
        """Take a table in any order.

        Args:
            addresses: Shape (n,), dtype uint64.
            sizes: Shape (n,), dtype uint64.
            kinds: ELF symbol types, shape (n,), dtype uint8.
            names: All names.
            name_starts: Where in ``names`` each begins, shape (n,), dtype int64.
            name_end: The byte that ends each.
        """
        order = np.lexsort((sizes, addresses))
        self.addresses = addresses[order]
        self.sizes = sizes[order]
        self.kinds = kinds[order]
        self._names = names
        self._starts = name_starts[order]
        self._end = name_end
        self._by_name: dict[str, int] | None = None
        for array in (self.addresses, self.sizes, self.kinds):
            array.flags.writeable = False

    @classmethod
    def none(cls) -> Symbols:
        """Return an empty table."""
        no = np.empty(0, np.uint64)
        return cls(no, no, np.empty(0, np.uint8), b"", np.empty(0, np.int64), b"\0")

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.addresses)

    @overload
    def __getitem__(self, index: int) -> Symbol: ...
    @overload
    def __getitem__(self, index: slice) -> list[Symbol]: ...
    def __getitem__(self, index: int | slice) -> Symbol | list[Symbol]:
        """Return one symbol, or several."""
        if isinstance(index, slice):
            return [self._symbol(i) for i in range(*index.indices(len(self)))]
        return self._symbol(range(len(self))[index])

    def __iter__(self) -> Iterator[Symbol]:
        """Yield all, by address."""
        return map(self._symbol, range(len(self)))

    def name(self, index: int) -> str:
        """Return the name of a symbol by its index."""
        start = int(self._starts[index])
        end = self._names.find(self._end, start, start + NAME_MAX)
        return printable(self._names[start : end if end >= 0 else start + NAME_MAX].rstrip())

    def _symbol(self, index: int) -> Symbol:
        return Symbol(
            name=self.name(index),
            address=int(self.addresses[index]),
            size=int(self.sizes[index]),
            kind=_KINDS.get(int(self.kinds[index]), "notype"),
        )

    def find(self, name: str) -> Symbol | None:
        """Return the symbol of a name, the lowest where there are several, or None."""
        if self._by_name is None:
            names = map(self.name, reversed(range(len(self))))
            self._by_name = dict(zip(names, reversed(range(len(self))), strict=True))
        index = self._by_name.get(name)
        return None if index is None else self._symbol(index)

    def symbol_at(self, address: int) -> Symbol | None:
        """Return the symbol that an address belongs to, or None.

        The innermost one that covers it; where none does, the last at or below it if the
        size of that one is not known.
        """
        if not 0 <= address < 1 << 64:
            return None
        last = int(np.searchsorted(self.addresses, np.uint64(address), side="right")) - 1
        for index in range(last, max(-1, last - ALIASES_MAX), -1):
            if address - int(self.addresses[index]) < int(self.sizes[index]):
                return self._symbol(index)
        return self._symbol(last) if last >= 0 and not self.sizes[last] else None


def elf_symbols(elf: Elf, section_addresses: NDArray[np.uint64]) -> Symbols:
    """Read an ELF's symbols.

    Undefined, absolute, file and section symbols are left out, and so are assemblers'
    mapping symbols (``$a``, ``$d``, ``$x``).

    Args:
        elf: The headers.
        section_addresses: Where each section is, 0 where it is not in the image. A
            relocatable's symbols count from their section, others move with them.

    Returns:
        The symbols of .symtab, or without one of .dynsym; none where both are missing.

    Raises:
        BadImage: The table or its names lie outside the file.
    """
    tables = {section.type: section for section in reversed(elf.sections)}
    table = tables.get("SHT_SYMTAB") or tables.get("SHT_DYNSYM")
    if table is None or not table.size:
        return Symbols.none()
    order = "<" if elf.byteorder == "little" else ">"
    raw = read_table(elf, table, order)
    strings = read_strings(elf, table)
    sections = raw["shndx"].astype(np.int64)
    kinds = raw["info"] & 15
    starts = raw["name"].astype(np.int64)
    keep = (sections > 0) & ((sections < 0xFF00) | (sections == 0xFFFF)) & (kinds <= _FUNC)
    keep &= (starts > 0) & (starts < len(strings))
    firsts = np.frombuffer(strings, np.uint8)[starts[keep]]
    keep[keep] = (firsts != 0) & (firsts != ord("$"))
    addresses = raw["value"].astype(np.uint64)
    if elf.relocatable:
        keep &= sections < len(section_addresses)
        addresses[keep] += section_addresses[sections[keep]]
    else:
        addresses += np.uint64(moved_by(elf, section_addresses) % (1 << 64))
    if elf.arch in ("arm", "armeb", "thumb"):
        addresses[kinds == _FUNC] &= ~np.uint64(1)  # the mark of Thumb code
    return Symbols(
        addresses[keep],
        raw["size"].astype(np.uint64)[keep],
        kinds[keep].astype(np.uint8),
        strings,
        starts[keep],
        b"\0",
    )


def moved_by(elf: Elf, section_addresses: NDArray[np.uint64]) -> int:
    """Return how far from its own addresses a linked ELF was put."""
    for section in elf.sections:
        if section.index < len(section_addresses) and section_addresses[section.index]:
            return int(section_addresses[section.index]) - section.address
    return 0


def read_table(elf: Elf, table: Section, order: str) -> NDArray[np.void]:
    """Return the rows of a symbol table.

    Raises:
        BadImage: It lies outside the file.
    """
    # numpy and not pyelftools: 0.1 s for a kernel's 117,000 symbols instead of several.
    fields = ["name", "info", "other", "shndx", "value", "size"]
    formats = ["u4", "u1", "u1", "u2", "u8", "u8"]
    if elf.bits == 32:
        fields = ["name", "value", "size", "info", "other", "shndx"]
        formats = ["u4", "u4", "u4", "u1", "u1", "u2"]
    form = np.dtype([(f, order + code) for f, code in zip(fields, formats, strict=True)])
    if table.entry_size not in (0, form.itemsize) or table.size > elf.source.size:
        raise BadImage(
            f"{elf.source.name}: symbol table {table.name} of {table.size} bytes has entries of "
            f"{table.entry_size}, where ELF has {form.itemsize}: the file is damaged; "
            "fetch it again"
        )
    data = elf.source.read(table.offset, table.size)
    if len(data) < table.size:
        raise BadImage(
            f"{elf.source.name}: symbol table {table.name} claims {table.size} bytes at offset "
            f"{table.offset}, and the file has {elf.source.size}: it is cut off; fetch it again"
        )
    return np.frombuffer(data, form, len(data) // form.itemsize)


def read_strings(elf: Elf, table: Section) -> bytes:
    """Return the names of a symbol table.

    Raises:
        BadImage: They lie outside the file.
    """
    if not 0 < table.link < len(elf.sections):
        raise BadImage(
            f"{elf.source.name}: symbol table {table.name} takes its names from section "
            f"{table.link}, which does not exist: the file is damaged; fetch it again"
        )
    strings = elf.sections[table.link]
    if strings.type == "SHT_NOBITS":
        return b""
    data = elf.source.read(strings.offset, strings.size)
    if len(data) < strings.size:
        raise BadImage(
            f"{elf.source.name}: names of symbols, {strings.size} bytes at offset "
            f"{strings.offset}, do not fit in the file's {elf.source.size}: it is cut off; "
            "fetch it again"
        )
    return data


def map_symbols(source: Source) -> Symbols:
    """Read a System.map, plain or gzipped: lines of address, type letter and name.

    Absolute and undefined symbols are left out.

    Raises:
        BadImage: A line that is none, or Debian's stub in place of the map.
    """
    if source.size > MAP_SIZE_MAX:
        raise BadImage(f"{source.name}: {source.size} bytes are too many for a System.map")
    data = source.read(0, source.size)
    if data.startswith(b"\x1f\x8b"):
        data = _gunzip(source.name, data)
    addresses: list[int] = []
    kinds: list[int] = []
    starts: list[int] = []
    at = 0
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        fields = line.split(None, 2)
        if fields:
            address, letter = _map_line(source.name, number, fields, line)
            if letter not in b"AaUvw":
                addresses.append(address)
                kinds.append(_FUNC if letter in b"TtW" else _OBJECT)
                starts.append(at + line.index(fields[2], len(fields[0])) if fields[2:] else at)
        at += len(line)
    return Symbols(
        np.array(addresses, np.uint64),
        np.zeros(len(addresses), np.uint64),
        np.array(kinds, np.uint8),
        data,
        np.array(starts, np.int64),
        b"\n",
    )


def _map_line(name: str, number: int, fields: list[bytes], line: bytes) -> tuple[int, bytes]:
    if b"The real System.map is in the" in line:
        raise BadImage(
            f"{name}: a stub that Debian ships in place of System.map; the real one is in the "
            "kernel's -dbg package, below usr/lib/debug/boot"
        )
    try:
        address = int(fields[0], 16)
        if len(fields) == 3 and len(fields[1]) == 1 and 0 <= address < 1 << 64:
            return address, fields[1]
    except ValueError:
        pass
    raise BadImage(
        f"{name}: line {number} is no line of a System.map (address, letter, name): "
        f"{printable(line.strip()[:60])!r}"
    )


def _gunzip(name: str, data: bytes) -> bytes:
    decoder = zlib.decompressobj(wbits=31)
    try:
        text = decoder.decompress(data, MAP_SIZE_MAX)
    except zlib.error as error:
        raise BadImage(f"{name}: damaged gzip data: {error}; fetch it again") from error
    if not decoder.eof:
        raise BadImage(f"{name}: gzip data that ends early, or is too long for a System.map")
    return text
