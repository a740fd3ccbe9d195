# SPDX-License-Identifier: MIT
"""Which code comes from which source file, by DWARF's compilation units."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator
from typing import Any

from elftools.dwarf.ranges import BaseAddressEntry
from elftools.elf.elffile import ELFFile
from typing_extensions import Buffer

from pagestep.codecs.errors import BadImage, PageStepError

from ._source import Source

SourceRanges = tuple[tuple[str, tuple[tuple[int, int], ...]], ...]
"""Path of a source file, and first address and the one behind the last of each run of its code."""

_BUFFER_BYTES = 1 << 16
_UNITS_MAX = 1 << 18


class _Stream(io.RawIOBase):
    """A source as a file that can only be read."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source, self._at = source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        into = memoryview(buffer).cast("B")
        data = self._source.read(self._at, into.nbytes)
        into[: len(data)] = data
        self._at += len(data)
        return len(data)


def source_ranges(source: Source) -> SourceRanges:
    """Return the code of each source file, by its path as the compiler was given it, and whole.

    A file whose path is relative is there twice: as it is, and behind its compiler's folder.

    Args:
        source: An ELF file; without debug information nothing is found.

    Raises:
        BadImage: The debug information cannot be read.
    """
    try:
        elf = ELFFile(io.BufferedReader(_Stream(source), _BUFFER_BYTES))
        if not elf.has_dwarf_info() or elf["e_type"] == "ET_REL":
            return ()  # in an object file every section begins at address 0
        dwarf: Any = elf.get_dwarf_info(relocate_dwarf_sections=False)
        return tuple(_units(source, dwarf))
    except PageStepError:
        raise
    # Whatever pyelftools raises on damaged debug information, as in _elf.read_elf.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadImage(
            f"{source.name}: its debug information cannot be read: {reason}; build it again, or "
            "use no rules with source"
        ) from error


def _units(source: Source, dwarf: Any) -> Iterator[tuple[str, tuple[tuple[int, int], ...]]]:
    for number, unit in enumerate(dwarf.iter_CUs()):
        if number > _UNITS_MAX:
            raise BadImage(
                f"{source.name}: more than {_UNITS_MAX} compilation units: is it damaged?"
            )
        top = unit.get_top_DIE()
        if "DW_AT_name" not in top.attributes:
            continue
        path = posixpath.normpath(_text(top, "DW_AT_name"))
        ranges = tuple(_ranges(dwarf, unit, top))
        yield path, ranges
        folder = _text(top, "DW_AT_comp_dir")
        if folder and not posixpath.isabs(path):
            yield posixpath.normpath(posixpath.join(folder, path)), ranges


def _text(die: Any, name: str) -> str:
    found = die.attributes.get(name)
    return found.value.decode("utf-8", "backslashreplace") if found else ""


def _ranges(dwarf: Any, unit: Any, top: Any) -> Iterator[tuple[int, int]]:
    attributes = top.attributes
    low: int = attributes["DW_AT_low_pc"].value if "DW_AT_low_pc" in attributes else 0
    if "DW_AT_ranges" in attributes:
        base = low
        lists = dwarf.range_lists()
        for entry in lists.get_range_list_at_offset(attributes["DW_AT_ranges"].value, cu=unit):
            if isinstance(entry, BaseAddressEntry):
                base = entry.base_address
                continue
            first, end = int(entry.begin_offset), int(entry.end_offset)
            if not getattr(entry, "is_absolute", False):
                first, end = first + base, end + base
            if first < end:
                yield first, end
    elif "DW_AT_high_pc" in attributes:
        high = attributes["DW_AT_high_pc"]
        end = high.value if high.form == "DW_FORM_addr" else low + high.value
        if low < end:
            yield low, end
