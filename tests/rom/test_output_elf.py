# SPDX-License-Identifier: MIT
"""The ELF object, read by pyelftools and linked by GNU ld and LLD."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep.codecs.errors import InvalidArgument, Unsupported
from pagestep.store.rom.output import render

from .programs import HOST_ARCH, READER, many_zeros, random_rom, run, tool

HEADERS = [
    # arch, byteorder, EI_CLASS, EI_DATA, e_machine, e_flags
    ("arm", None, 32, "ELFDATA2LSB", "EM_ARM", 0x5000000),
    ("thumb", None, 32, "ELFDATA2LSB", "EM_ARM", 0x5000000),
    ("armeb", None, 32, "ELFDATA2MSB", "EM_ARM", 0x5000000),
    ("thumbeb", None, 32, "ELFDATA2MSB", "EM_ARM", 0x5000000),
    ("arm", "big", 32, "ELFDATA2MSB", "EM_ARM", 0x5000000),
    ("arm64", None, 64, "ELFDATA2LSB", "EM_AARCH64", 0),
    ("arm64eb", "big", 64, "ELFDATA2MSB", "EM_AARCH64", 0),
    ("riscv32", None, 32, "ELFDATA2LSB", "EM_RISCV", 0),
    ("riscv64", None, 64, "ELFDATA2LSB", "EM_RISCV", 0),
    ("riscv32eb", None, 32, "ELFDATA2MSB", "EM_RISCV", 0),
    ("riscv64eb", None, 64, "ELFDATA2MSB", "EM_RISCV", 0),
    ("x86", None, 32, "ELFDATA2LSB", "EM_386", 0),
    ("x86_64", "little", 64, "ELFDATA2LSB", "EM_X86_64", 0),
    ("mips", None, 32, "ELFDATA2LSB", "EM_MIPS", 0x1000),
    ("mips", "big", 32, "ELFDATA2MSB", "EM_MIPS", 0x1000),
    ("mips64", "little", 64, "ELFDATA2LSB", "EM_MIPS", 0x20000000),
    ("mips64", "big", 64, "ELFDATA2MSB", "EM_MIPS", 0x20000000),
]


def parsed(rom: bytes, **options: Any) -> Any:
    return ELFFile(io.BytesIO(render(rom, "elf", **options)))


def check_object(elf: Any, rom: bytes, name: str, align: int) -> None:
    sections = {section.name: section for section in elf.iter_sections()}
    assert list(sections) == [
        "",
        f".rodata.{name}",
        f".rodata.{name}_size",
        ".note.GNU-stack",
        ".symtab",
        ".strtab",
        ".shstrtab",
    ]
    data, stack = sections[f".rodata.{name}"], sections[".note.GNU-stack"]
    assert data.data() == rom
    assert data["sh_type"] == "SHT_PROGBITS"
    assert data["sh_flags"] == 2, "allocated, neither writable nor code"
    assert data["sh_addralign"] == align
    assert data["sh_offset"] % align == 0
    size, long = sections[f".rodata.{name}_size"], elf.elfclass // 8
    assert size.data() == len(rom).to_bytes(long, "little" if elf.little_endian else "big")
    assert (size["sh_flags"], size["sh_addralign"]) == (2, long)
    assert size["sh_offset"] % long == 0
    assert (stack["sh_type"], stack["sh_flags"], stack["sh_size"]) == ("SHT_PROGBITS", 0, 0)
    assert sections[".symtab"]["sh_info"] == 1, "the first global symbol"
    symbols = {symbol.name: symbol.entry for symbol in sections[".symtab"].iter_symbols()}
    assert list(symbols) == ["", name, f"{name}_start", f"{name}_end", f"{name}_size"]
    assert [(s["st_value"], s["st_size"], s["st_shndx"]) for s in symbols.values()] == [
        (0, 0, "SHN_UNDEF"),
        (0, len(rom), 1),
        (0, len(rom), 1),
        (len(rom), 0, 1),
        (0, long, 2),
    ]
    assert {s["st_info"]["bind"] for key, s in symbols.items() if key} == {"STB_GLOBAL"}


@pytest.mark.parametrize(
    ("arch", "byteorder", "bits", "encoding", "machine", "flags"),
    HEADERS,
    ids=lambda value: str(value),
)
def test_the_header_says_the_architecture(
    arch: str, byteorder: str | None, bits: int, encoding: str, machine: str, flags: int
) -> None:
    rom = random_rom(1000)
    elf = parsed(rom, arch=arch, byteorder=byteorder, align=64)
    header = elf.header
    assert (elf.elfclass, header["e_ident"]["EI_DATA"]) == (bits, encoding)
    assert (header["e_machine"], header["e_flags"]) == (machine, flags)
    assert (header["e_type"], header["e_version"]) == ("ET_REL", "EV_CURRENT")
    check_object(elf, rom, "pagestep_rom", 64)


@settings(max_examples=100, deadline=None)
@given(
    rom=st.binary(min_size=1, max_size=5000),
    arch=st.sampled_from(["arm", "armeb", "x86_64", "riscv64eb"]),
    align=st.sampled_from([1, 2, 8, 4096]),
    name=st.from_regex(r"[A-Z][a-zA-Z0-9_]{0,40}", fullmatch=True),
)
def test_any_bytes_any_name(rom: bytes, arch: str, align: int, name: str) -> None:
    check_object(parsed(rom, arch=arch, align=align, name=name), rom, name, align)


# -- linked ---------------------------------------------------------------------------------


class Link(NamedTuple):
    """How to link for a target: clang's options, and a linker."""

    arch: str
    byteorder: str
    pointer: int
    clang: str
    linker: str
    package: str

    def __str__(self) -> str:
        return f"{self.arch}-{self.byteorder}-{self.linker.split()[0]}"


LLD = ("ld.lld --fatal-warnings", "lld")
ARM_LD = ("arm-none-eabi-ld --fatal-warnings", "binutils-arm-none-eabi")
RISCV_LD = ("riscv64-unknown-elf-ld --fatal-warnings", "binutils-riscv64-unknown-elf")
HOST_LD = "ld --fatal-warnings"
_MIPS = "-mno-abicalls -fno-pic -mno-extern-sdata"
_RISCV32 = "--target=riscv32-unknown-elf -march=rv32imac -mabi=ilp32"
_RISCV64 = "--target=riscv64-unknown-elf -march=rv64imac -mabi=lp64 -mcmodel=medany"
_ARM_BIG = "--target=armeb-none-eabi -mcpu=cortex-r4"
LINKS = [
    Link("arm", "little", 4, "--target=armv7a-none-eabi", *LLD),
    Link("thumb", "little", 4, "--target=thumbv7m-none-eabi", *LLD),
    Link("arm64", "little", 8, "--target=aarch64-none-elf", *LLD),
    Link("riscv32", "little", 4, _RISCV32, *LLD),
    Link("riscv64", "little", 8, _RISCV64, *LLD),
    Link("x86", "little", 4, "--target=i686-none-elf", *LLD),
    Link("x86_64", "little", 8, "--target=x86_64-none-elf", *LLD),
    Link("mips", "little", 4, f"--target=mipsel-linux-gnu {_MIPS}", *LLD),
    Link("mips", "big", 4, f"--target=mips-linux-gnu {_MIPS}", *LLD),
    Link("mips64", "little", 8, f"--target=mips64el-linux-gnuabi64 {_MIPS}", *LLD),
    Link("mips64", "big", 8, f"--target=mips64-linux-gnuabi64 {_MIPS}", *LLD),
    Link("x86_64", "little", 8, "--target=x86_64-none-elf", HOST_LD, "binutils"),
    Link("x86", "little", 4, "--target=i686-none-elf", f"{HOST_LD} -m elf_i386", "binutils"),
    Link("arm", "little", 4, "--target=armv7a-none-eabi", *ARM_LD),
    Link("thumb", "little", 4, "--target=thumbv7m-none-eabi", *ARM_LD),
    Link("armeb", "big", 4, _ARM_BIG, f"{ARM_LD[0]} -EB --be8", ARM_LD[1]),
    Link("riscv32", "little", 4, _RISCV32, f"{RISCV_LD[0]} -m elf32lriscv", RISCV_LD[1]),
    Link("riscv64", "little", 8, _RISCV64, f"{RISCV_LD[0]} -m elf64lriscv", RISCV_LD[1]),
]

USER = """
extern const unsigned char rom[], rom_start[], rom_end[];
extern const unsigned long rom_size;
const void *const bounds[4] = {rom, rom_start, rom_end, &rom_size};
unsigned long _start(void)
{
    unsigned long sum = rom_size;
    for (const unsigned char *at = rom_start; at != rom_end; at++)
        sum += *at;
    return sum;
}
"""
# Sections apart, so that each can be taken out of the program by name.
SCRIPT = """
SECTIONS {
    . = 0x10001;
    .text : { *(.text*) }
    .rom : { KEEP(*(.rodata.rom)) }
    .size : { *(.rodata.rom_size) }
    .bounds : { *(.rodata*) *(.data*) }
    /DISCARD/ : { *(.ARM.ex*) *(.comment) *(.eh_frame*) *(.pdr) *(.MIPS.*) *(.reginfo) }
}
"""


def compiled(folder: Path, options: str) -> Path:
    """Return an object whose code and data refer to the four symbols."""
    source, target = folder / "user.c", folder / "user.o"
    source.write_text(USER)
    flags = f"{options} -ffreestanding -O1 -fno-asynchronous-unwind-tables -Wall -Werror -c"
    run(tool("clang", "clang"), *flags.split(), source, "-o", target)
    return target


def linked(folder: Path, link: Link, rom: bytes, **options: Any) -> list[object]:
    """Return the command that links a program with the ROM image in it."""
    (folder / "script.ld").write_text(SCRIPT)
    made = render(rom, "elf", name="rom", arch=link.arch, byteorder=link.byteorder, **options)
    (folder / "rom.o").write_bytes(made)
    user = compiled(folder, link.clang)
    linker, *flags = link.linker.split()
    flags += ["-nostdlib", "-static", "-e", "_start", "-T"]
    program = folder / "program"
    return [
        tool(linker, link.package),
        *flags,
        folder / "script.ld",
        user,
        folder / "rom.o",
        "-o",
        program,
    ]


def section_of(program: Path, name: str) -> bytes:
    """Return a section's bytes, as llvm-objcopy takes them out."""
    target = program.with_name("section.bin")
    objcopy = tool("llvm-objcopy", "llvm")
    run(objcopy, "-O", "binary", f"--only-section={name}", program, target)
    return target.read_bytes()


@pytest.mark.parametrize("link", LINKS, ids=str)
def test_it_links_with_what_refers_to_it(tmp_path: Path, link: Link) -> None:
    rom = random_rom(4999)
    run(*linked(tmp_path, link, rom, align=256))
    program = tmp_path / "program"
    assert section_of(program, ".rom") == rom
    table = section_of(program, ".bounds")[: 4 * link.pointer]
    order: Any = link.byteorder
    name, start, end, size_at = (
        int.from_bytes(table[at : at + link.pointer], order)
        for at in range(0, len(table), link.pointer)
    )
    assert (name, end - start) == (start, len(rom))
    size = section_of(program, ".size")
    assert (len(size), int.from_bytes(size, order)) == (link.pointer, len(rom))
    assert size_at % link.pointer == 0
    assert start % 256 == 0
    with program.open("rb") as file:
        elf: Any = ELFFile(file)
        assert elf.get_section_by_name(".rom")["sh_addr"] == start
        assert elf.get_section_by_name(".size")["sh_addr"] == size_at


class Process(NamedTuple):
    """How to compile, link and run a program here, and ``render``'s options for it."""

    compiler: str
    package: str
    options: dict[str, Any]
    runner: str | None = None


PROCESSES = {
    "host": Process("cc -no-pie -fno-pie", "gcc", {"arch": HOST_ARCH}),
    "host-pie": Process("cc -pie -fPIE", "gcc", {"arch": HOST_ARCH}),
    "host-shared": Process("cc -pie -fPIC", "gcc", {"arch": HOST_ARCH}),
    "host-32-pie": Process("cc -m32 -pie -fPIE", "gcc-12-multilib", {"arch": "x86"}),
    "mips": Process(
        "mips-linux-gnu-gcc -static",
        "gcc-mips-linux-gnu",
        # EF_MIPS_PIC and EF_MIPS_CPIC beside the others: code of Linux has them.
        {"arch": "mips", "byteorder": "big", "elf_flags": 0x1006},
        "qemu-mips",
    ),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_one_program_links_with_the_object_and_with_the_c_source(tmp_path: Path, name: str) -> None:
    process, rom = PROCESSES[name], random_rom(70_001)
    if process.options["arch"] == "unknown":
        pytest.skip("there is no object for this processor")
    compiler, *flags = process.compiler.split()
    compiler = tool(compiler, process.package)
    runner = [tool(process.runner, "qemu-user")] if process.runner else []
    main = tmp_path / "main.c"
    main.write_text(READER)
    try:
        run(compiler, *flags, "-c", main, "-o", tmp_path / "main.o")
    except AssertionError as error:
        if ".h: No such file" in str(error):
            pytest.skip(f"{name}: no C library")
        raise
    for form, file in (("elf", "rom.o"), ("c", "rom.c")):
        (tmp_path / file).write_bytes(
            render(rom, form, name="the_rom", align=4096, **process.options)
        )
        program = tmp_path / f"with-{form}"
        run(compiler, *flags, tmp_path / "main.o", tmp_path / file, "-o", program)
        done = subprocess.run([*runner, program], capture_output=True, timeout=60)
        assert (done.returncode, done.stdout == rom) == (0, True), form


def test_flags_of_another_abi_can_be_given(tmp_path: Path) -> None:
    clang = "--target=riscv64-unknown-elf -march=rv64gc -mabi=lp64d -mcmodel=medany"
    link = Link("riscv64", "little", 8, clang, *LLD)
    refused = subprocess.run(
        [str(part) for part in linked(tmp_path, link, b"rom")], capture_output=True, timeout=120
    )
    assert b"floating-point ABI" in refused.stderr, "what elf_flags is for"
    run(*linked(tmp_path, link, b"rom", elf_flags=0x5))
    assert section_of(tmp_path / "program", ".rom") == b"rom"


def test_ld_merges_it_into_another_object(tmp_path: Path) -> None:
    (tmp_path / "rom.o").write_bytes(render(b"rom" * 99, "elf", arch="x86_64", align=4096))
    merged = tmp_path / "merged.o"
    run(tool("ld", "binutils"), "-m", "elf_x86_64", "-r", tmp_path / "rom.o", "-o", merged)
    with merged.open("rb") as file:
        section: Any = ELFFile(file).get_section_by_name(".rodata.pagestep_rom")
        assert section.data() == b"rom" * 99
        assert section["sh_addralign"] == 4096


def test_readelf_has_nothing_to_complain_of(tmp_path: Path) -> None:
    readelf = tool("readelf", "binutils")
    for arch, byteorder, *_ in HEADERS:
        path = tmp_path / "rom.o"
        path.write_bytes(render(b"rom", "elf", arch=arch, byteorder=byteorder))
        assert "pagestep_rom_size" in run(readelf, "--wide", "--all", path)


# -- refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["unknown", "ppc", "", "x86eb", "mipseb", "ARM", "eb"])
def test_an_arch_without_an_object_is_refused(arch: str) -> None:
    with pytest.raises(InvalidArgument, match=r"give one of arm, thumb.* mips64, armeb"):
        render(b"rom", "elf", arch=arch)


@pytest.mark.parametrize(
    ("arch", "byteorder"),
    [("armeb", "little"), ("x86", "big"), ("x86_64", "big"), ("mips", "middle"), ("arm", "eb")],
)
def test_a_byteorder_that_the_arch_has_not_is_refused(arch: str, byteorder: str) -> None:
    with pytest.raises(InvalidArgument, match=f"byteorder '{byteorder}' is none of {arch}'s"):
        render(b"rom", "elf", arch=arch, byteorder=byteorder)


@pytest.mark.parametrize("align", [0, -8, 3, 1 << 21])
def test_an_alignment_that_is_none_is_refused(align: int) -> None:
    with pytest.raises(InvalidArgument, match=f"align={align}: must be a power of two"):
        render(b"rom", "elf", arch="arm", align=align)


@pytest.mark.parametrize("flags", [-1, 1 << 32])
def test_flags_beyond_their_word_are_refused(flags: int) -> None:
    with pytest.raises(InvalidArgument, match="elf_flags"):
        render(b"rom", "elf", arch="arm", elf_flags=flags)


def test_more_than_a_32_bit_object_holds_is_refused() -> None:
    says = "2 GiB at most"
    with many_zeros() as rom, rom[: 1 << 31] as part, pytest.raises(Unsupported, match=says):
        render(part, "elf", arch="arm")
