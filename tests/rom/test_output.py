# SPDX-License-Identifier: MIT
"""Formats for flash tools and for compilers, each read back by something that is not ours."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pagestep.codecs.errors import InvalidArgument, Unsupported
from pagestep.store.rom.output import FORMATS, render

from .programs import READER, many_zeros, random_rom, run, tool

bincopy: Any = import_module("bincopy")  # which has no types

ROM = random_rom(1000)
END = 1 << 32
RECORDS = [("hex", "ihex"), ("srec", "srec")]
roms = st.integers(1, 5000).map(random_rom)
addresses = st.one_of(
    st.sampled_from([0, 0xFFF1, 0xFFFF, 0x8000000, END - 5000]), st.integers(0, END - 5000)
)


# -- every format ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_heeds_changes_it_and_nothing_else_does(name: str) -> None:
    # With an architecture throughout, which one format cannot do without.
    given_options: dict[str, Any] = {"arch": "arm"}
    plain = render(ROM, name, **given_options)
    changes: dict[str, Any] = {
        "name": "other",
        "load_address": 0x100,
        "arch": "arm64",
        "byteorder": "big",
        "align": 16,
        "uf2_family": 7,
        "elf_flags": 7,
    }
    heeded = {
        option
        for option, value in changes.items()
        if render(ROM, name, **{**given_options, option: value}) != plain
    }
    assert heeded == set(FORMATS[name].options)
    assert FORMATS[name].suffix.startswith(".")
    assert "\n" not in FORMATS[name].description


@pytest.mark.parametrize("name", FORMATS)
def test_another_process_on_another_day_makes_the_same_bytes(name: str, tmp_path: Path) -> None:
    code = (
        "import sys, hashlib; from pagestep.store.rom.output import render; "
        f"made = render(bytes(range(256)) * 5, {name!r}, arch='mips'); "
        "print(hashlib.sha256(made).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1", "TZ": "Asia/Tokyo"},
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=120,
    )
    made = render(bytes(range(256)) * 5, name, arch="mips")
    assert other.stdout.decode().strip() == hashlib.sha256(made).hexdigest()


@pytest.mark.parametrize("name", FORMATS)
def test_any_contiguous_buffer_will_do(name: str) -> None:
    plain = render(ROM, name, arch="arm")
    words = np.frombuffer(ROM, np.uint16)
    for same in (bytearray(ROM), memoryview(ROM), words, words.reshape(4, -1)):
        assert render(same, name, arch="arm") == plain


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_rom_image_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="no bytes"):
        render(b"", name, arch="arm")
    with pytest.raises(InvalidArgument, match="contiguous buffer"):
        render(memoryview(ROM)[::2], name, arch="arm")
    with pytest.raises(InvalidArgument, match="contiguous buffer"):
        render("text", name, arch="arm")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_a_format_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="'ihex' is none of bin, hex, srec, uf2, c, elf"):
        render(ROM, "ihex")


def test_bin_is_the_bytes() -> None:
    assert render(ROM, "bin") == ROM


# -- Intel HEX and S-records ----------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(rom=roms, address=addresses)
@example(rom=random_rom(5000), address=END - 5000)
def test_bincopy_reads_back_hex_and_srec(rom: bytes, address: int) -> None:
    for name, _ in RECORDS:
        file = bincopy.BinFile()
        file.add(render(rom, name, load_address=address).decode("ascii"))
        assert (file.minimum_address, file.as_binary()) == (address, rom)


@pytest.mark.parametrize("size", [1, 31, 32, 33, 70_000])
@pytest.mark.parametrize("address", [0, 1, 0xFFF1, 0x8000000, END - 70_000])
@pytest.mark.parametrize(("name", "bfd_name"), RECORDS)
def test_objcopy_reads_back_hex_and_srec(
    tmp_path: Path, size: int, address: int, name: str, bfd_name: str
) -> None:
    rom = random_rom(size)
    source, target = tmp_path / "rom.txt", tmp_path / "rom.bin"
    source.write_bytes(render(rom, name, load_address=address))
    objcopy = tool("objcopy", "binutils")
    run(objcopy, "-I", bfd_name, "-O", "binary", source, target)
    assert target.read_bytes() == rom
    listing = run(tool("objdump", "binutils"), "-h", "-b", bfd_name, source)
    assert f"{address:08x}" in listing


@given(address=addresses)
def test_no_hex_record_crosses_64_kib(address: int) -> None:
    for line in render(random_rom(300), "hex", load_address=address).split():
        size, low = int(line[1:3], 16), int(line[3:7], 16)
        assert low + size <= 0x10000


def test_srec_says_how_many_records_and_ends() -> None:
    *data, count, last = render(ROM, "srec").split()
    assert int(count[4:-2], 16) == len(data)
    assert (count[:2], last[:2]) == (b"S5", b"S7")


# -- UF2 ------------------------------------------------------------------------------------


def uf2_bytes(file: bytes, family: int | None) -> tuple[int, bytes]:
    """Return the address and the bytes of UF2, as the published description has it."""
    assert len(file) % 512 == 0
    whole, start = bytearray(), 0
    for number, at in enumerate(range(0, len(file), 512)):
        first, second, flags, address, size, block_no, count, family_id = struct.unpack_from(
            "<8I", file, at
        )
        (last,) = struct.unpack_from("<I", file, at + 508)
        assert (first, second, last) == (0x0A324655, 0x9E5D5157, 0x0AB16F30)
        assert (block_no, count) == (number, len(file) // 512)
        assert flags == (0 if family is None else 0x2000)
        assert family_id == (family or 0)
        assert size == 256
        start = address if number == 0 else start
        assert address == start + len(whole)
        assert file[at + 32 + size : at + 508] == b"\xff" * (476 - size)
        whole += file[at + 32 : at + 32 + size]
    return start, bytes(whole)


@settings(max_examples=200, deadline=None)
@given(
    rom=roms,
    page=st.one_of(st.just(0), st.just((END >> 8) - 20), st.integers(0, (END >> 8) - 20)),
    family=st.one_of(st.none(), st.sampled_from([0, 0xE48BFF56, END - 1])),
)
@example(rom=random_rom(20 * 256), page=(END >> 8) - 20, family=None)
def test_uf2_reads_back(rom: bytes, page: int, family: int | None) -> None:
    file = render(rom, "uf2", load_address=page << 8, uf2_family=family)
    assert len(file) == -(-len(rom) // 256) * 512
    start, whole = uf2_bytes(file, family)
    assert start == page << 8
    assert whole == rom + b"\xff" * (-len(rom) % 256), "a spare byte is an erased one"


@pytest.mark.parametrize("address", [1, 4, 128, 0x10000004])
def test_uf2_off_a_page_of_flash_is_refused(address: int) -> None:
    with pytest.raises(InvalidArgument, match=f"load_address={address:#x}: .* multiple of 256"):
        render(ROM, "uf2", load_address=address)


@pytest.mark.parametrize("family", [-1, END])
def test_a_family_beyond_its_word_is_refused(family: int) -> None:
    with pytest.raises(InvalidArgument, match="uf2_family"):
        render(ROM, "uf2", uf2_family=family)


# -- addresses ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hex", "srec", "uf2"])
def test_an_address_beyond_32_bits_is_refused(name: str) -> None:
    rom = random_rom(512)
    render(rom, name, load_address=END - 512)
    for address in (-1, END - 511, END - 256, END, 1 << 64):
        with pytest.raises(InvalidArgument, match=r"load_address=.*: must be from 0 to 0xfffffe00"):
            render(rom, name, load_address=address)


@pytest.mark.parametrize("name", ["hex", "srec", "uf2"])
def test_more_than_32_bits_address_is_refused(name: str) -> None:
    says = "4294967297 bytes has no room in 32-bit addresses"
    with many_zeros() as rom, pytest.raises(Unsupported, match=says):
        render(rom, name)


def test_more_than_s_records_count_is_refused() -> None:
    says = "S-records hold 536870880 at most"
    with many_zeros() as rom, rom[:536870881] as part, pytest.raises(Unsupported, match=says):
        render(part, "srec")


# -- C --------------------------------------------------------------------------------------

STRICT = ["-pedantic", "-Wall", "-Wextra", "-Wmissing-declarations", "-Wundef", "-Werror"]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("standard", ["c99", "c11"])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 5000])
def test_a_program_has_the_bytes_of_the_c_source(
    tmp_path: Path, compiler: str, standard: str, size: int
) -> None:
    rom = random_rom(size)
    source, main, program = tmp_path / "rom.c", tmp_path / "main.c", tmp_path / "program"
    source.write_bytes(render(rom, "c", name="the_rom", align=4096))
    main.write_text(READER)
    strict = [*STRICT, "-Wmissing-variable-declarations"] if compiler == "clang" else STRICT
    run(tool(compiler, compiler), f"-std={standard}", *strict, source, main, "-o", program)
    assert subprocess.run([program], capture_output=True, check=True, timeout=60).stdout == rom


def test_c_source_needs_no_extension(tmp_path: Path) -> None:
    source = tmp_path / "rom.c"
    source.write_bytes(render(ROM, "c"))
    compiler = tool("gcc", "gcc")
    # A compiler that is neither of C11 nor GNU's.
    run(compiler, "-std=c99", "-U__GNUC__", *STRICT, "-c", source, "-o", tmp_path / "rom.o")


@settings(max_examples=100, deadline=None)
@given(rom=roms)
def test_the_array_of_the_c_source_is_the_rom(rom: bytes) -> None:
    text = render(rom, "c").decode("ascii")
    body = text[text.rindex("= {") + 3 : text.index("};")]
    assert bytes(int(value, 16) for value in body.split(",")[:-1]) == rom


def test_the_c_source_of_a_large_rom_is_whole() -> None:
    # More rows than are made at once, and a short last one.
    rom = random_rom((1 << 20) + 16 * 3 + 5)
    lines = render(rom, "c").splitlines()
    rows = [line for line in lines if line.startswith(b"0x")]
    assert b"".join(rows) == b"".join(b"0x%02x," % value for value in rom)
    assert {row.count(b",") for row in rows} == {16, 5}


@pytest.mark.parametrize("name", ["c", "elf"])
@pytest.mark.parametrize(
    "symbol",
    ["", "1rom", "my-rom", "my rom", "rom\n", "röm", "_rom", "__rom", "int", "restrict", "bool"],
)
def test_a_name_that_is_no_identifier_is_refused(name: str, symbol: str) -> None:
    with pytest.raises(InvalidArgument, match="no C identifier"):
        render(ROM, name, name=symbol, arch="arm")


@pytest.mark.parametrize("align", [0, 3, 1 << 21])
def test_a_c_alignment_that_is_none_is_refused(align: int) -> None:
    with pytest.raises(InvalidArgument, match="align="):
        render(ROM, "c", align=align)
