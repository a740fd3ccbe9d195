# SPDX-License-Identifier: MIT
"""Whether a 32-bit ARM file holds ARM or Thumb code.

An ELF header has one number for both. The entry's lowest bit tells them apart only where there
is an entry: object files have none, and a linker that misses ``_start`` takes an even address.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
from elftools.elf.sections import ARMAttributesSection
from elftools.elf.structs import ELFStructs
from numpy.typing import NDArray

from pagestep.codecs.errors import BadImage

from ._elf import SHF_EXECINSTR, Elf
from ._symbols import read_strings, read_table

_ATTRIBUTES_MAX = 1 << 16  # bytes; compilers write fewer than 100
_ENTRIES_MAX = 256  # a damaged section may have one that takes no bytes, for ever
_FUNC = 2


def with_arm_state(elf: Elf) -> Elf:
    """Return an ELF with ``arch`` ``"arm"`` or ``"thumb"`` by what most of its code is.

    What is asked, in this order: the build attributes (profile M has only Thumb), the bytes
    behind mapping symbols, the lowest bits of functions' addresses, that of the entry.

    Args:
        elf: The headers; other architectures are returned as they are.
    """
    if elf.arch not in ("arm", "thumb"):
        return elf
    if _is_profile_m(elf):
        return replace(elf, arch="thumb")
    try:
        is_thumb = _by_symbols(elf)
    except BadImage:  # whoever asks for the symbols is told
        is_thumb = None
    return elf if is_thumb is None else replace(elf, arch="thumb" if is_thumb else "arm")


def _is_profile_m(elf: Elf) -> bool:
    section = next((each for each in elf.sections if each.type == "SHT_ARM_ATTRIBUTES"), None)
    if section is None or section.size > _ATTRIBUTES_MAX:
        return False
    data = elf.source.read(section.offset, section.size)
    try:
        return any(
            each.tag == "TAG_CPU_ARCH_PROFILE" and each.value in (ord("M"), "M")
            for each in _attributes(elf, data)
        )
    # Whatever pyelftools raises on a damaged section, as in _elf.read_elf: it says nothing then.
    except Exception:
        return False


def _attributes(elf: Elf, data: bytes) -> Iterator[Any]:
    """Yield the attributes of the whole file."""
    structs: Any = ELFStructs(elf.byteorder == "little", elf.bits)
    structs.create_basic_structs()
    structs.create_advanced_structs("ET_EXEC", "EM_ARM", "ELFOSABI_SYSV")
    # The library sees the section's bytes and nothing else of the file.
    file: Any = SimpleNamespace(stream=BytesIO(data), structs=structs)
    header: Any = {"sh_offset": 0, "sh_size": len(data), "sh_flags": 0, "sh_addralign": 1}
    section: Any = ARMAttributesSection(header, ".ARM.attributes", file)
    for part in islice(section.iter_subsections(), _ENTRIES_MAX):
        for scope in islice(part.iter_subsubsections("TAG_FILE"), _ENTRIES_MAX):
            yield from islice(scope.iter_attributes(), _ENTRIES_MAX)


def _by_symbols(elf: Elf) -> bool | None:
    """Return whether most of the code that symbols tell of is Thumb; None: they tell nothing."""
    table = next((each for each in elf.sections if each.type == "SHT_SYMTAB"), None)
    if table is None or not table.size:
        return None
    rows = read_table(elf, table, "<" if elf.byteorder == "little" else ">")
    code = [each.index for each in elf.sections if each.flags & SHF_EXECINSTR]
    rows = rows[np.isin(rows["shndx"], code)]
    strings = np.frombuffer(read_strings(elf, table) + b"\0\0\0", np.uint8)
    starts = rows["name"].astype(np.int64)
    rows, starts = rows[starts < len(strings) - 3], starts[starts < len(strings) - 3]
    letters = np.where(strings[starts] == ord("$"), strings[starts + 1], 0)
    ends = np.isin(strings[starts + 2], np.frombuffer(b"\0.", np.uint8))
    marks = ends & np.isin(letters, np.frombuffer(b"atd", np.uint8))
    arm, thumb = _marked_bytes(elf, rows[marks], letters[marks])
    if arm or thumb:
        return thumb > arm
    functions = rows["value"][(rows["info"] & 15) == _FUNC]
    odd = int(np.count_nonzero(functions & 1))
    return 2 * odd > len(functions) if len(functions) else None


def _marked_bytes(elf: Elf, rows: NDArray[np.void], letters: NDArray[Any]) -> tuple[int, int]:
    """Return how many bytes mapping symbols say to be ARM code, and Thumb code."""
    order = np.lexsort((rows["value"], rows["shndx"]))
    rows, letters = rows[order], letters[order]
    places = rows["value"].astype(np.int64)
    numbers = rows["shndx"].astype(np.int64)
    section_ends = np.array(
        [(0 if elf.relocatable else each.address) + each.size for each in elf.sections], np.int64
    )
    ends = section_ends[numbers]
    if len(rows):
        same = numbers[1:] == numbers[:-1]
        ends[:-1][same] = places[1:][same]
    sizes = np.maximum(ends - places, 0)
    return int(sizes[letters == ord("a")].sum()), int(sizes[letters == ord("t")].sum())
