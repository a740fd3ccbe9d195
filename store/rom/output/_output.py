# SPDX-License-Identifier: MIT
"""The formats by name, and the one function that makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from pagestep.codecs.errors import InvalidArgument

from ._c_source import c_source
from ._elf_object import elf_object
from ._options import Options
from ._records import intel_hex, srec
from ._uf2 import uf2

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pagestep.codecs.buffers import AnyBuffer


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A format that ``render`` makes.

    Attributes:
        suffix: What a file's name ends in, with the dot.
        description: One line for people.
        options: Which options of ``render`` it heeds; to the others it is blind.
    """

    suffix: str
    description: str
    options: tuple[str, ...]
    _make: Callable[[memoryview, Options], bytes] = field(repr=False)


def _binary(rom: memoryview, _: Options) -> bytes:
    return rom.tobytes()


FORMATS: Mapping[str, OutputFormat] = MappingProxyType(
    {
        "bin": OutputFormat(".bin", "the bytes as they are", (), _binary),
        "hex": OutputFormat(".hex", "Intel HEX, 32-bit addresses", ("load_address",), intel_hex),
        "srec": OutputFormat(
            ".srec", "Motorola S-records, 32-bit addresses", ("load_address",), srec
        ),
        "uf2": OutputFormat(
            ".uf2", "UF2, for boards that appear as a drive", ("load_address", "uf2_family"), uf2
        ),
        "c": OutputFormat(
            ".c", "C99 source of a constant array and its size", ("name", "align"), c_source
        ),
        "elf": OutputFormat(
            ".o",
            "ELF object to link: the same array and size, start and end",
            ("name", "align", "arch", "byteorder", "elf_flags"),
            elf_object,
        ),
    }
)


def render(
    rom: AnyBuffer,
    format_name: str,
    *,
    name: str = "pagestep_rom",
    load_address: int = 0,
    arch: str = "unknown",
    byteorder: str | None = None,
    align: int = 8,
    uf2_family: int | None = None,
    elf_flags: int | None = None,
) -> bytes:
    """Return a ROM image as a file of a format; the same arguments give the same bytes.

    Args:
        rom: The ROM image, a contiguous buffer of at least one byte.
        format_name: A key of ``FORMATS``.
        name: Of the symbols of ``c`` and ``elf``, a C identifier. A program that links either
            declares ``extern const unsigned char NAME[];`` and
            ``extern const unsigned long NAME_size;``. The object also has ``NAME_start`` and
            ``NAME_end``, declared like ``NAME``: its first byte, and the place behind its last.
            On MIPS compile what uses the object with ``-mno-extern-sdata`` or ``-G 0`` unless it
            is position-independent: ``NAME_size`` is in no small data section.
        load_address: Of the first byte, for ``hex``, ``srec`` and ``uf2``, which hold addresses
            below 2**32. For ``uf2`` a multiple of 256.
        arch: What the object of ``elf`` is linked into, named as ``Image.arch`` names it.
        byteorder: ``"little"`` or ``"big"``, for ``elf``; None for what the name of ``arch``
            says, and little-endian where it says nothing, as with ``"mips"``.
        align: Bytes that the start of ``c`` and ``elf`` is a multiple of, a power of two from
            1 to 2**20.
        uf2_family: The board's family in ``uf2``, 32 bits; None to leave it out.
        elf_flags: ``e_flags`` of the ELF header, 32 bits. None suits code without hardware
            floating point; LLD demands of RISC-V and MIPS objects that all have one ABI, and
            ``readelf -h`` shows what the others have.

    Returns:
        The file's bytes.

    Raises:
        InvalidArgument: No such format, or an option that the format heeds is not in its range.
        Unsupported: The format cannot hold so many bytes.

    >>> render(b"pagestep", "hex", load_address=0x8000000).split()
    [b':020000040800F2', b':0800000070616765737465709F', b':00000001FF']
    """
    chosen = FORMATS.get(format_name)
    if chosen is None:
        raise InvalidArgument(f"format {format_name!r} is none of {', '.join(FORMATS)}")
    try:
        view = memoryview(cast("Buffer", rom)).cast("B")
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"rom must be a contiguous buffer of bytes: {error}") from None
    if not view:
        raise InvalidArgument("rom has no bytes: build the ROM image first")
    options = Options(name, load_address, arch, byteorder, align, uf2_family, elf_flags)
    return chosen._make(view, options)  # pyright: ignore[reportPrivateUsage]
