# SPDX-License-Identifier: MIT
"""A linkable ELF object that holds a ROM image (System V ABI, chapter 4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pagestep.codecs.errors import InvalidArgument, Unsupported

from ._options import Options, word

_ET_REL = 1
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB = 1, 2, 3
_SHF_ALLOC = 2
_STB_GLOBAL, _STT_OBJECT = 1, 1
_LONG = {4: "I", 8: "Q"}  # in struct formats


@dataclass(frozen=True, slots=True)
class _Machine:
    """An instruction set, as ELF headers name it.

    Attributes:
        number: ``e_machine``.
        bits: 32 or 64: the class.
        byteorders: Those it comes in.
        flags: ``e_flags`` of an object without code, for soft-float code.
    """

    number: int
    bits: int
    byteorders: tuple[str, ...] = ("little", "big")
    flags: int = 0


_ARM = _Machine(40, 32, flags=0x05000000)  # EF_ARM_EABI_VER5
_MACHINES = {
    "arm": _ARM,
    "thumb": _ARM,
    "arm64": _Machine(183, 64),
    "riscv32": _Machine(243, 32),
    "riscv64": _Machine(243, 64),
    "x86": _Machine(3, 32, ("little",)),
    "x86_64": _Machine(62, 64, ("little",)),
    # The oldest instruction set of each ABI, which links with all that came before release 6.
    "mips": _Machine(8, 32, flags=0x1000),  # EF_MIPS_ABI_O32, EF_MIPS_ARCH_1
    "mips64": _Machine(8, 64, flags=0x20000000),  # N64, EF_MIPS_ARCH_3
}
_BIG_ENDIAN = "eb"  # how Image.arch ends where both orders have a name
_NAMED_IN_BOTH = ("arm", "thumb", "arm64", "riscv32", "riscv64")


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    data: bytes | memoryview
    flags: int = 0
    link: int = 0
    info: int = 0
    align: int = 1
    entry_size: int = 0


def elf_object(rom: memoryview, options: Options) -> bytes:
    """Return an object with two read-only sections and four global symbols.

    ``NAME`` and ``NAME_size`` are what the C source defines, in sections named as compilers name
    them under ``-fdata-sections``; ``NAME_start`` and ``NAME_end`` bound the bytes.
    """
    machine, order = _machine(options)
    name = options.symbol()
    if machine.bits == 32 and len(rom) >= 1 << 31:
        raise Unsupported(
            f"a ROM image of {len(rom)} bytes: an object for {options.arch} holds 2 GiB at most; "
            "take format bin"
        )
    long = machine.bits // 8  # bytes of the target's unsigned long
    symbols, strings = _symbols(name, len(rom), long, order)
    return _file(
        [
            _Section(
                f".rodata.{name}", _SHT_PROGBITS, rom, flags=_SHF_ALLOC, align=options.alignment()
            ),
            # Not an absolute symbol, which has another declaration, and which a program that may be
            # loaded anywhere cannot refer to.
            _Section(
                f".rodata.{name}_size",
                _SHT_PROGBITS,
                struct.pack(order + _LONG[long], len(rom)),
                flags=_SHF_ALLOC,
                align=long,
            ),
            # Without it GNU ld would make the program's stack executable.
            _Section(".note.GNU-stack", _SHT_PROGBITS, b""),
            _Section(
                ".symtab",
                _SHT_SYMTAB,
                symbols,
                link=5,
                info=1,  # the first global symbol
                align=long,
                entry_size=_symbol_size(long),
            ),
            _Section(".strtab", _SHT_STRTAB, strings),
        ],
        machine,
        order,
        machine.flags if options.elf_flags is None else word(options.elf_flags, "elf_flags"),
    )


def _machine(options: Options) -> tuple[_Machine, str]:
    """Return what an architecture is called in ELF, and its sign in ``struct`` formats."""
    arch = options.arch
    base = arch.removesuffix(_BIG_ENDIAN)
    says_big = base != arch and base in _NAMED_IN_BOTH
    machine = _MACHINES.get(base if says_big else arch)
    if machine is None:
        known = [*_MACHINES, *(each + _BIG_ENDIAN for each in _NAMED_IN_BOTH)]
        raise InvalidArgument(f"arch {arch!r} has no ELF object: give one of {', '.join(known)}")
    byteorder = options.byteorder or ("big" if says_big else "little")
    if byteorder not in machine.byteorders or (says_big and byteorder != "big"):
        raise InvalidArgument(
            f"byteorder {options.byteorder!r} is none of {arch}'s: give "
            f"{'big' if says_big else ' or '.join(machine.byteorders)}, or None"
        )
    return machine, "<" if byteorder == "little" else ">"


def _symbol_size(long: int) -> int:
    return 16 if long == 4 else 24


def _symbols(name: str, size: int, long: int, order: str) -> tuple[bytes, bytes]:
    """Return symbol table and string table."""
    table, strings = bytearray(_symbol_size(long)), bytearray(1)
    for suffix, value, kind, extent, section in (
        ("", 0, _STT_OBJECT, size, 1),
        ("_start", 0, _STT_OBJECT, size, 1),
        ("_end", size, 0, 0, 1),
        ("_size", 0, _STT_OBJECT, long, 2),
    ):
        info = _STB_GLOBAL << 4 | kind
        if long == 4:
            entry = struct.pack(order + "IIIBBH", len(strings), value, extent, info, 0, section)
        else:
            entry = struct.pack(order + "IBBHQQ", len(strings), info, 0, section, value, extent)
        table += entry
        strings += f"{name}{suffix}".encode("ascii") + b"\0"
    return bytes(table), bytes(strings)


def _file(sections: list[_Section], machine: _Machine, order: str, flags: int) -> bytes:
    """Return header, sections and section headers, the last section being their names."""
    names = b"\0" + b"".join(each.name.encode("ascii") + b"\0" for each in sections)
    own = ".shstrtab"
    sections = [*sections, _Section(own, _SHT_STRTAB, names + own.encode("ascii") + b"\0")]
    address, header_size, entry_size = ("I", 52, 40) if machine.bits == 32 else ("Q", 64, 64)
    entry = struct.Struct(f"{order}II{address * 4}II{address * 2}")

    pieces: list[bytes | memoryview] = []
    headers = [bytes(entry_size)]  # section 0 is none
    at, name_at = header_size, 1
    for each in sections:
        gap, size = -at % each.align, len(each.data)
        pieces += [bytes(gap), each.data]
        at += gap
        place = (each.flags, 0, at, size)  # an object has no addresses yet
        rest = (each.link, each.info, each.align, each.entry_size)
        headers.append(entry.pack(name_at, each.kind, *place, *rest))
        at += size
        name_at += len(each.name) + 1
    pieces.append(bytes(-at % (machine.bits // 8)))
    at += len(pieces[-1])

    identity = b"\x7fELF" + bytes([machine.bits // 32, 1 if order == "<" else 2, 1])
    what = (_ET_REL, machine.number, 1)
    where = (0, 0, at)  # no entry point, no program headers
    sizes = (header_size, 0, 0, entry_size, len(headers), len(sections))
    header = struct.pack(
        f"{order}16sHHI{address * 3}IHHHHHH", identity, *what, *where, flags, *sizes
    )
    return b"".join([header, *pieces, *headers])
