# SPDX-License-Identifier: MIT
"""The headers of an ELF file as plain numbers, checked against the file's size.

This module, ``_arm`` and ``_debug`` are all that call pyelftools. It uses that library's
structures and not its section and segment objects, which read what they describe as they are
made: a hostile file could steer them. Whatever it raises becomes ``BadImage`` here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

from elftools.common.utils import struct_parse
from elftools.elf.structs import ELFStructs

from pagestep.codecs.errors import BadImage, PageStepError

from ._source import Source

HEADERS_MAX = 1 << 17  # the largest objects built with a section a function have about 60,000
STRINGS_MAX = 64 << 20
NOTES_MAX = 1 << 20
NAME_MAX = 512

SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS = 0x1, 0x2, 0x4, 0x400
SHF_COMPRESSED = 0x800
PF_X, PF_W, PF_R = 1, 2, 4

_ARCHES = {
    "EM_386": "x86",
    "EM_X86_64": "x86_64",
    "EM_ARM": "arm",
    "EM_AARCH64": "arm64",
    "EM_RISCV": "riscv",
    "EM_MIPS": "mips",
    "EM_PPC": "ppc",
    "EM_PPC64": "ppc64",
    "EM_S390": "s390",
    "EM_SPARC": "sparc",
    "EM_SPARCV9": "sparc64",
    "EM_LOONGARCH": "loongarch",
    "EM_XTENSA": "xtensa",
    "EM_SH": "sh",
    "EM_PARISC": "parisc",
    "EM_68K": "m68k",
    "EM_AVR": "avr",
}
_NAMED_BY_CLASS = ("riscv", "loongarch")
_LITTLE_ENDIAN_FIRST = ("arm", "arm64", "riscv32", "riscv64")
ARCHES = (
    *(name for name in _ARCHES.values() if name not in _NAMED_BY_CLASS),
    *(name + bits for name in _NAMED_BY_CLASS for bits in ("32", "64")),
    *("thumb", "mips64"),
    *(name + "eb" for name in (*_LITTLE_ENDIAN_FIRST, "thumb")),
)
"""The names that ``Image.arch`` can have, beside "unknown"."""


@dataclass(frozen=True, slots=True)
class Load:
    """A PT_LOAD with bytes: where they are in the file, and where they go.

    Attributes:
        name: ``"PT_LOAD 2"``, for messages.
        offset: Of its first byte in the file.
        size: Bytes in the file.
        vaddr: Virtual address of its first byte.
        paddr: Physical (load) address of its first byte.
        flags: PF_R, PF_W and PF_X.
    """

    name: str
    offset: int
    size: int
    vaddr: int
    paddr: int
    flags: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section header.

    Attributes:
        index: Its number.
        name: Printable text.
        type: ``"SHT_PROGBITS"`` and so on, or a number where it is unknown.
        flags: SHF_ALLOC and so on.
        address: Virtual address.
        offset: Of its bytes in the file.
        size: In bytes.
        link: The section it refers to.
        info: Another number; of relocations, the section that they change.
        align: Alignment of its address, at least 1.
        entry_size: Bytes of one entry, for a table.
    """

    index: int
    name: str
    type: str | int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int

    @property
    def allocated(self) -> bool:
        """It takes memory at run time."""
        return bool(self.flags & SHF_ALLOC)

    @property
    def has_bytes(self) -> bool:
        """The file holds bytes for it."""
        return self.size > 0 and self.type not in ("SHT_NOBITS", "SHT_NULL")


@dataclass(frozen=True, slots=True)
class Elf:
    """What the rest of the package needs of an ELF file.

    Attributes:
        source: The file.
        arch: The architecture, see ``Image.arch``.
        byteorder: ``"little"`` or ``"big"``.
        bits: 32 or 64.
        relocatable: ET_REL: addresses are not given yet.
        movable: ET_REL or ET_DYN: may be put anywhere.
        loads: In the order of the file.
        sections: In the order of the file, the null section included.
        notes: Offset, size and alignment of each run of notes.
    """

    source: Source
    arch: str
    byteorder: str
    bits: int
    relocatable: bool
    movable: bool
    loads: tuple[Load, ...]
    sections: tuple[Section, ...]
    notes: tuple[tuple[int, int, int], ...]

    @property
    def build_id(self) -> str | None:
        """The build-id in hex, or None."""
        for offset, size, align in self.notes[:64]:
            data = self.source.read(offset, min(size, NOTES_MAX))
            found = _build_id(data, align, self.byteorder)
            if found:
                return found
        return None


def _structures(little_endian: bool, bits: int) -> Any:
    return ELFStructs(little_endian, bits)


class _Parser:
    """pyelftools' structures over a source, with every offset checked."""

    def __init__(self, source: Source) -> None:
        ident = source.read(0, 16)
        if len(ident) < 16 or ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise BadImage(
                f"{source.name}: an ELF header that is cut off or names no known class and byte "
                "order: the file is damaged; fetch it again"
            )
        self.source = source
        self.bits = 32 * ident[4]
        self.byteorder = "little" if ident[5] == 1 else "big"
        self.structs = _structures(self.byteorder == "little", self.bits)
        self.structs.create_basic_structs()
        self.header = self.parse(self.structs.Elf_Ehdr, 0, "ELF header")
        header = self.header
        self.structs.create_advanced_structs(
            header["e_type"], header["e_machine"], header["e_ident"]["EI_OSABI"]
        )

    def parse(self, form: Any, offset: int, what: str) -> dict[str, Any]:
        """Return one structure's fields."""
        data = self.source.read(offset, form.sizeof())
        if len(data) < form.sizeof():
            raise BadImage(
                f"{self.source.name}: the {what} lies at offset {offset}, and the file has "
                f"{self.source.size} bytes: it is cut off; fetch it again"
            )
        return cast("dict[str, Any]", struct_parse(form, BytesIO(data)))

    def table(self, what: str, form: Any, prefix: str, count: int) -> list[dict[str, Any]]:
        """Return the entries of the program or section header table."""
        offset: int = self.header[f"e_{prefix}off"]
        entry_size: int = self.header[f"e_{prefix}entsize"]
        if not offset or not count:
            return []
        if entry_size < form.sizeof():
            raise BadImage(
                f"{self.source.name}: {what} headers of {entry_size} bytes, where ELF has "
                f"{form.sizeof()}: the file is damaged; fetch it again"
            )
        if count > HEADERS_MAX:
            raise BadImage(
                f"{self.source.name}: claims {count} {what} headers; {HEADERS_MAX} is the most "
                "that is read: the file is damaged; fetch it again"
            )
        if offset + count * entry_size > self.source.size:
            raise BadImage(
                f"{self.source.name}: {count} {what} headers at offset {offset} do not fit in the "
                f"file's {self.source.size} bytes: it is cut off; fetch it again"
            )
        name = f"{what} header"
        return [self.parse(form, offset + index * entry_size, name) for index in range(count)]

    def counts(self) -> tuple[int, int, int]:
        """Return how many program and section headers there are, and the names' section."""
        segments: int = self.header["e_phnum"]
        sections: int = self.header["e_shnum"]
        names: int = self.header["e_shstrndx"]
        if self.header["e_shoff"] and (segments == 0xFFFF or not sections or names == 0xFFFF):
            # Numbers that do not fit are kept in the null section's header.
            null = self.parse(self.structs.Elf_Shdr, self.header["e_shoff"], "section header")
            segments = null["sh_info"] if segments == 0xFFFF else segments
            sections = sections or null["sh_size"]
            names = null["sh_link"] if names == 0xFFFF else names
        return segments, sections, names


def read_elf(source: Source, *, loadable: bool = True) -> Elf:
    """Read an ELF file's headers.

    Args:
        source: The file; it begins with ELF's magic number.
        loadable: Its bytes will be used. A separate debug file, which has only symbols,
            describes sections and segments that it does not hold.

    Returns:
        The headers; if ``loadable``, what is loaded lies inside the source.

    Raises:
        BadImage: The file is cut off or damaged.
    """
    try:
        return _read(source, loadable)
    except PageStepError:
        raise
    # Whatever pyelftools raises on a damaged file: ELFParseError, ELFError, ConstructError,
    # AssertionError, KeyError, UnicodeDecodeError, OverflowError, RecursionError and more.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadImage(
            f"{source.name}: its ELF headers cannot be read: {reason}; the file is damaged; "
            "fetch it again"
        ) from error


def _read(source: Source, loadable: bool) -> Elf:
    parser = _Parser(source)
    segment_count, section_count, names_index = parser.counts()
    segments = parser.table("program", parser.structs.Elf_Phdr, "ph", segment_count)
    headers = parser.table("section", parser.structs.Elf_Shdr, "sh", section_count)
    strings = _strings(parser, headers, names_index)
    sections = [_section(index, header, strings) for index, header in enumerate(headers)]
    for section in sections if loadable else ():
        if section.allocated and section.has_bytes:
            _check_range(parser, f"section {section.name}", section.offset, section.size)
            _check_address(parser, f"section {section.name}", section.address, section.size)
    kind = parser.header["e_type"]
    return Elf(
        source=source,
        arch=_arch(parser),
        byteorder=parser.byteorder,
        bits=parser.bits,
        relocatable=kind == "ET_REL",
        movable=kind in ("ET_REL", "ET_DYN"),
        loads=tuple(_loads(parser, segments)) if loadable else (),
        sections=tuple(sections),
        notes=tuple(
            [(h["p_offset"], h["p_filesz"], h["p_align"]) for h in segments if _is_note(h)]
            + [(s.offset, s.size, s.align) for s in sections if s.type == "SHT_NOTE"]
        ),
    )


def _is_note(segment: dict[str, Any]) -> bool:
    return bool(segment["p_type"] == "PT_NOTE")


def _strings(parser: _Parser, headers: list[dict[str, Any]], index: int) -> bytes:
    if not 0 < index < len(headers):
        return b""
    table = headers[index]
    return parser.source.read(table["sh_offset"], min(table["sh_size"], STRINGS_MAX))


def _section(index: int, header: dict[str, Any], strings: bytes) -> Section:
    start = header["sh_name"]
    end = strings.find(b"\0", start, start + NAME_MAX)
    name = printable(strings[start : end if end >= 0 else start + NAME_MAX])
    return Section(
        index=index,
        name=name or f"section {index}",
        type=header["sh_type"],
        flags=header["sh_flags"],
        address=header["sh_addr"],
        offset=header["sh_offset"],
        size=header["sh_size"],
        link=header["sh_link"],
        info=header["sh_info"],
        align=max(1, header["sh_addralign"]),
        entry_size=header["sh_entsize"],
    )


def printable(name: bytes) -> str:
    """Return a name as text on one line, whatever its bytes."""
    text = name.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _loads(parser: _Parser, segments: list[dict[str, Any]]) -> list[Load]:
    loads: list[Load] = []
    for index, header in enumerate(segments):
        if header["p_type"] != "PT_LOAD" or not header["p_filesz"]:
            continue
        name = f"PT_LOAD {index}"
        _check_range(parser, name, header["p_offset"], header["p_filesz"])
        _check_address(parser, name, header["p_vaddr"], header["p_filesz"])
        load = Load(
            name=name,
            offset=header["p_offset"],
            size=header["p_filesz"],
            vaddr=header["p_vaddr"],
            paddr=header["p_paddr"],
            flags=header["p_flags"],
        )
        loads.append(load)
    return loads


def _check_range(parser: _Parser, what: str, offset: int, size: int) -> None:
    if offset + size > parser.source.size:
        raise BadImage(
            f"{parser.source.name}: {what} claims {size} bytes at offset {offset}, and the file "
            f"has {parser.source.size}: it is cut off, or a separate debug file; give the whole one"
        )


def _check_address(parser: _Parser, what: str, address: int, size: int) -> None:
    if address + size > 1 << parser.bits:
        raise BadImage(
            f"{parser.source.name}: {what} of {size} bytes at {address:#x} ends beyond the "
            f"{parser.bits}-bit address space: the file is damaged; fetch it again"
        )


def _arch(parser: _Parser) -> str:
    arch = _ARCHES.get(str(parser.header["e_machine"]), "unknown")
    if arch in _NAMED_BY_CLASS:
        arch += str(parser.bits)
    if arch == "mips" and parser.bits == 64:
        arch = "mips64"
    if arch in _LITTLE_ENDIAN_FIRST and parser.byteorder == "big":
        return arch + "eb"
    # Thumb code is entered at an odd address. A whole image of it is Cortex-M firmware, or a
    # kernel built for Thumb-2. Where there is no entry, _arm knows better.
    if arch == "arm" and parser.header["e_entry"] & 1:
        return "thumb"
    return arch


def _build_id(data: bytes, align: int, byteorder: str) -> str | None:
    step = 8 if align == 8 else 4
    header = struct.Struct(("<" if byteorder == "little" else ">") + "III")
    at = 0
    while at + header.size <= len(data):
        name_size, desc_size, kind = header.unpack_from(data, at)
        name = at + header.size
        desc = name + -(-name_size // step) * step
        if kind == 3 and data[name : name + name_size] == b"GNU\0" and 0 < desc_size <= 64:
            return data[desc : desc + desc_size].hex()
        at = desc + -(-desc_size // step) * step
    return None
