# SPDX-License-Identifier: MIT
"""The ROM reader where it is meant to run: examples/bare-metal in QEMU, and as a process.

A big-endian process, one of 32 bits, one under sanitizers. All read the same images, which
lie at odd addresses in the processes, and must say the same of them.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from make_rom_header import make_header
from pagestep.codecs import xxh32
from pagestep.store.image import Image
from pagestep.store.rom import RomPlan, build_rom

from .programs import tool

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "bare-metal"
PAGE_SIZE = 4096
BASE = 0x8000
RUN_TIMEOUT_S = 120  # against a hang; a run takes a second
TIMED_OUT = 124

CORRUPT, MAGIC, TRUNCATED, HEADER = -4, -11, -13, -14
EXTENT, DICT, CODEC = -16, -17, -18
TABLES = [
    *("codings", "dicts", "segments", "names", "signature", "words"),
    *("checksums", "groups", "pages", "slots", "dict_bytes", "data"),
]

ERRORS = {
    CORRUPT: "bytes differ from what was stored",
    MAGIC: "not a ROM image",
    TRUNCATED: "the ROM image is shorter than its header says",
    HEADER: "the ROM image's header is damaged",
    EXTENT: "the bytes of the ROM image's pages overlap, or lie outside it",
    DICT: "a dictionary of the ROM image is too large, or damaged",
    CODEC: "the ROM image needs a codec or branch filter that this reader lacks",
}

# Programs, and the packages that have them.
ARM_COMPILER = ("arm-none-eabi-gcc", "gcc-arm-none-eabi")
RISCV_COMPILER = ("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf")
TARGETS = {
    "cortex-m0": ("qemu-system-arm", "qemu-system-arm"),
    "cortex-m3": ("qemu-system-arm", "qemu-system-arm"),
    "cortex-m4": ("qemu-system-arm", "qemu-system-arm"),
    "riscv32": ("qemu-system-riscv32", "qemu-system-misc"),
    "riscv64": ("qemu-system-riscv64", "qemu-system-misc"),
}
SANITIZERS = "-fsanitize=address,undefined,alignment -fno-sanitize-recover=all"
PROCESSES = {
    "host": (("cc", "gcc"), "-O2", None),
    "host-freestanding": (("cc", "gcc"), "-O2 -DFREESTANDING", None),
    "host-sanitized": (("cc", "gcc"), f"-O1 {SANITIZERS}", None),
    "host-32": (("cc", "gcc"), "-O2 -m32", None),
    "mips": (("mips-linux-gnu-gcc", "gcc-mips-linux-gnu"), "-O2 -static", "qemu-mips"),
}
DictionaryUse = Literal["compressed", "in-place", "none"]
# Architectures by which the builder filters branches, and what it does with the dictionary.
IMAGES: list[tuple[str, DictionaryUse]] = [
    ("arm", "compressed"),
    ("arm", "in-place"),
    ("thumb", "compressed"),
    ("riscv32", "in-place"),
    ("arm64", "none"),
    ("x86", "none"),
]
# Every target reads the first, a few of them the others too.
FEW = ("cortex-m3", "riscv32", "mips", "host-sanitized")
RUNS = [
    pytest.param(name, image, id="-".join([name, *image]))
    for image in IMAGES
    for name in (FEW if image != IMAGES[0] else (*TARGETS, *PROCESSES))
]
LIBRARIES = {"host-32": "gcc-12-multilib", "mips": "libc6-dev-mips-cross"}
Read = Callable[[str, bytes], tuple[int, list[str]]]


@pytest.fixture(scope="session")
def firmware(arm_kernel: Path) -> bytes:
    """Return pages of a kernel: code, data, same-filled ones; two equal ones; two of noise."""
    with Image.open(arm_kernel) as image:
        pages = image.flat()
        same = np.flatnonzero((pages == pages[:, :1]).all(axis=1))
        parts = [pages[64:300], pages[same[:20]], pages[1400:1440], pages[64:66]]
        parts.append(np.random.default_rng(1).integers(0, 256, (2, PAGE_SIZE), np.uint8))
        return b"".join(part.tobytes() for part in parts)


@pytest.fixture(scope="session")
def roms(firmware: bytes) -> dict[tuple[str, DictionaryUse], bytes]:
    return {
        (arch, use): build_rom(
            Image.open(firmware, arch=arch, base=BASE, raw=True),
            RomPlan(codecs=("raw", "lz4"), dictionary=use),
        ).data
        for arch, use in IMAGES
    }


def says(error: int) -> str:
    """Return how the example ends a line about an error."""
    return f"error {error}, {ERRORS[error]}"


def weigh(firmware: bytes) -> int:
    """Return what the example calls the sum over all pages."""
    pages = np.frombuffer(firmware, np.uint8).reshape(-1, PAGE_SIZE).astype(np.uint64)
    each = (pages * np.arange(1, PAGE_SIZE + 1, dtype=np.uint64)).sum(axis=1)
    odd = 2 * np.arange(len(pages), dtype=np.uint64) + 1
    return int((each * odd).sum()) % (1 << 32)


# -- running it ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def header(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("header") / "pagestep_rom.h"
    path.write_text(make_header(), encoding="ascii")
    return path


@pytest.fixture(scope="session")
def read(header: Path) -> Read:
    """Return what reads an image on a target or in a process: status, and lines printed."""
    folder = header.parent

    def in_qemu(name: str, rom: Path) -> list[str]:
        make = [tool("make", "make"), "-s", "-C", str(EXAMPLE), f"OUT={folder}"]
        tool(*(RISCV_COMPILER if name.startswith("riscv") else ARM_COMPILER))
        tool(*TARGETS[name])
        return [*make, f"HEADER={header}", f"ROM={rom}", f"run-{name}"]

    def in_process(name: str, rom: Path) -> list[str]:
        (compiler, package), flags, runner = PROCESSES[name]
        program = folder / name
        if not program.exists():
            build_process([tool(compiler, package), *flags.split()], program, header)
        emulator = [tool(runner, "qemu-user")] if runner else []
        return [*emulator, str(program), str(rom)]

    def run(name: str, rom: bytes) -> tuple[int, list[str]]:
        path = folder / "image.rom"
        path.write_bytes(rom)
        command = (in_qemu if name in TARGETS else in_process)(name, path)
        # timeout(1) ends QEMU too, where make would leave it behind.
        done = subprocess.run(
            ["timeout", "-k", "5", str(RUN_TIMEOUT_S), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=outside_make(),
        )
        assert done.returncode != TIMED_OUT, f"{name} hangs: {command}"
        lines = done.stdout.decode("ascii", "replace").splitlines()
        status = done.returncode
        if name in TARGETS and lines and lines[-1].startswith("make: ***"):
            status = int(lines.pop().split()[-1])  # make has a status of its own
        return status, [line for line in lines if not line.startswith("instructions ")]

    return run


def outside_make() -> dict[str, str]:
    """Return the environment as it is where no make runs these tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}


def build_process(compile_with: list[str], program: Path, header: Path) -> None:
    """Compile the example with a process for a board; skip where the compiler cannot do that."""
    here = Path(__file__).parent
    command = [*compile_with, "-std=gnu99", "-Wall", "-Wextra", "-Werror", f"-I{header.parent}"]
    command += [f"-I{EXAMPLE}", f"-I{here}", "-include", str(here / "host_board.h")]
    objects: list[str] = []
    for source in (EXAMPLE / "main.c", EXAMPLE / "reader.c", here / "host_board.c"):
        target = f"{program}-{source.stem}.o"
        # The reader as firmware has it: without memcpy.
        freestanding = "-DFREESTANDING" in command and source.stem == "reader"
        extra = ["-ffreestanding"] if freestanding else []
        done = subprocess.run(
            [*command, *extra, "-Dmain=read_rom", "-c", str(source), "-o", target],
            capture_output=True,
            timeout=RUN_TIMEOUT_S,
        )
        if b".h: No such file or directory" in done.stderr:
            pytest.skip(f"{program.name}: no C library, as from {LIBRARIES[program.name]}")
        assert done.returncode == 0, done.stderr.decode()
        objects.append(target)
    subprocess.run([*compile_with, *objects, "-o", str(program)], check=True, timeout=RUN_TIMEOUT_S)


# -- whole images -------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.parametrize(("name", "image"), RUNS)
def test_a_target_reads_every_page(
    read: Read,
    roms: dict[tuple[str, DictionaryUse], bytes],
    firmware: bytes,
    name: str,
    image: tuple[str, DictionaryUse],
) -> None:
    status, lines = read(name, roms[image])
    assert (status, lines[1:]) == (0, [f"sum {weigh(firmware)}", "verified"])
    pages, ram = lines[0].split(" bytes, ")
    assert pages == f"pages {len(firmware) // PAGE_SIZE} of {PAGE_SIZE}"
    needs_ram = image[1] == "compressed"
    assert (int(ram.removesuffix(" of RAM for dictionaries")) > 0) == needs_ram


@pytest.mark.kernel
def test_the_images_have_what_is_to_be_tested(
    roms: dict[tuple[str, DictionaryUse], bytes],
) -> None:
    codecs, filters = set[int](), set[int]()
    for (_, use), rom in roms.items():
        offset, count = table(rom, "codings")
        codecs |= {rom[offset + 4 * number] for number in range(count)}
        filters |= {rom[offset + 4 * number + 1] for number in range(count)}
        assert (table(rom, "dicts")[1] > 0) == (use != "none")
        assert table(rom, "words")[1] > 0
        assert table(rom, "slots")[1] < table(rom, "pages")[1] - 20, "equal pages share a slot"
    assert codecs == {0, 2}
    assert filters == {0, 1, 2, 3, 4, 5}


def test_the_commands_of_the_document_work_as_they_stand(header: Path, tmp_path: Path) -> None:
    for needed in (("make", "make"), ("bash", "bash"), ARM_COMPILER, TARGETS["cortex-m3"]):
        tool(*needed)
    folder = tmp_path / "bare-metal"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("out", "*.rom"))
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line.startswith(("    pagestep ", "    make "))]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["timeout", "-k", "5", str(RUN_TIMEOUT_S), "sh", "-ec", "\n".join(commands)],
        cwd=folder,
        env={**outside_make(), "PATH": path, "HEADER": str(header)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said = done.stdout.decode().splitlines()
    assert len(commands) == 2
    assert (done.returncode, said[-1]) == (0, "verified"), said


# -- damaged images -----------------------------------------------------------------------


def table(rom: bytes | bytearray, name: str) -> tuple[int, int]:
    """Return where a table begins, and how many entries it has."""
    offset, count = struct.unpack_from("<II", rom, 128 + 8 * TABLES.index(name))
    return offset, count


def entries(rom: bytes, name: str) -> tuple[int, ...]:
    offset, count = table(rom, name)
    return struct.unpack_from(f"<{count}H", rom, offset)


def flipped(rom: bytes, at: int, bit: int = 0) -> bytes:
    damaged = bytearray(rom)
    damaged[at] ^= 1 << bit
    return bytes(damaged)


def literal_of_a_page(rom: bytes) -> tuple[int, int]:
    """Return a page that has its slot for itself, and where the first literal of its block is."""
    pages, sizes = entries(rom, "pages"), [(entry & 0xFFF) + 1 for entry in entries(rom, "slots")]
    for page_no, slot in enumerate(pages):
        if slot < 0x8000 and pages.count(slot) == 1 and sizes[slot] < PAGE_SIZE:
            at = table(rom, "data")[0] + sum(sizes[:slot])
            if 1 <= rom[at] >> 4 < 15:  # of the first token: how many literals follow it
                return page_no, at + 1
    raise AssertionError("no block begins with a few literals")


@pytest.mark.kernel
@pytest.mark.parametrize("name", FEW)
def test_a_flipped_bit_is_found_and_its_page_named(
    read: Read, roms: dict[tuple[str, DictionaryUse], bytes], name: str
) -> None:
    compressed, in_place = roms["arm", "compressed"], roms["arm", "in-place"]
    in_data, literal = literal_of_a_page(compressed)
    for page_no, at in (
        (in_data, literal),
        (17, table(compressed, "checksums")[0] + 4 * 17),
        (33, table(compressed, "pages")[0] + 2 * 33),
    ):
        status, lines = read(name, flipped(compressed, at))
        bad = f"page {page_no}: {says(CORRUPT)}"
        assert status == 1
        assert [line for line in lines if line.startswith("page ")] == [bad]
        assert lines[-1] == f"verify: {bad}"

    # What the image needs as a whole it does not open without.
    for at, bit, error in (
        (0, 0, MAGIC),
        (19, 7, TRUNCATED),  # the header's size, which then ends outside
        (100, 0, HEADER),
        (table(compressed, "slots")[0], 0, EXTENT),
        (table(compressed, "dict_bytes")[0] + 100, 0, DICT),
    ):
        assert read(name, flipped(compressed, at, bit)) == (2, [f"open: {says(error)}"])

    # A dictionary in place is checked by the pages that copy from it.
    status, lines = read(name, flipped(in_place, table(in_place, "dict_bytes")[0] + 8000))
    errors = [line.partition(": ")[2] for line in lines if line.startswith("page ")]
    assert (status, set(errors)) == (1, {says(CORRUPT)})


@pytest.mark.kernel
@pytest.mark.parametrize("seed", range(6))
def test_no_damage_makes_a_target_crash_or_hang(
    read: Read, roms: dict[tuple[str, DictionaryUse], bytes], seed: int
) -> None:
    draw = random.Random(seed)
    damaged = bytearray(roms["arm", "in-place"])
    index, data = table(damaged, "checksums")[0], table(damaged, "data")[0]
    for _ in range(16):
        at = draw.choice([draw.randrange(index, data), draw.randrange(data, len(damaged))])
        damaged[at] ^= 1 << draw.randrange(8)
    said = {name: read(name, bytes(damaged)) for name in ("host-sanitized", "cortex-m3", "mips")}
    assert said["host-sanitized"][0] in (1, 2)
    assert said["cortex-m3"] == said["mips"] == said["host-sanitized"]


def rom_of_one_dictionary(stored_size: int, size: int, codec: int) -> bytes:
    """Return a ROM image of no pages whose checksums are right."""
    places = [(224, 0), (224, 1), *[(256, 0)] * 2, *[(260, 0)] * 6, (260, stored_size)]
    places.append((260 + stored_size, 0))
    rom_size = 260 + stored_size
    block = struct.pack("<8sHBBBBHIIII", b"\x89PGSROM\n", 1, 12, 2, 2, 0, 0, 256, rom_size, 0, 0)
    block = block.ljust(128, b"\0") + b"".join(struct.pack("<II", *place) for place in places)
    block += struct.pack("<IIIII", 0, stored_size, size, 0, codec).ljust(32, b"\0")
    return block + xxh32(block).to_bytes(4, "little") + bytes(stored_size)


@pytest.mark.parametrize("codec", [0, 1, 2, 3])
def test_a_dictionary_larger_than_it_says_is_refused(read: Read, codec: int) -> None:
    # More than the RAM that the example gives for dictionaries; what is stored as it is
    # would be copied over the end.
    rom = rom_of_one_dictionary(300_000, 16, codec)
    error = {3: CODEC}.get(codec, DICT)
    assert read("host-sanitized", rom) == (2, [f"open: {says(error)}"])


# -- the header ---------------------------------------------------------------------------


def test_the_header_is_the_same_each_time(header: Path) -> None:
    assert header.read_text(encoding="ascii") == make_header()
    assert '#include "' not in make_header()


STRICT = "-pedantic -Wall -Wextra -Wshadow -Werror -ffreestanding -Os"
OTHER = """
int other(const struct pgs_rom *rom);
int other(const struct pgs_rom *rom)
{ static unsigned char page[65536]; return pgs_rom_page(rom, 0, page); }
"""
WHOLE = """
const char *text(void);
const char *text(void) { return pgs_error_text(PGS_E_ROM_MAGIC); }
"""

WITH_ZSTD = """
#define PAGESTEP_ROM_IMPLEMENTATION
#include "pagestep_rom.h"
static uint64_t ram[16 << 10];
int main(void)
{
    static const unsigned char frame[] = {0, 0, 0x29, 0, 0, 'p', 'a', 'g', 'e', 's'};
    unsigned char page[5];
    struct pgs_rom_zstd zstd;
    return pgs_rom_zstd_init(&zstd, ram, sizeof(ram)) != PGS_OK ||
           pgs_rom_zstd_decode(&zstd, 0, frame, sizeof(frame), NULL, page, 5) != PGS_OK ||
           page[4] != 's';
}
"""


@pytest.mark.parametrize(
    ("name", "package"), [("cc", "gcc"), ("clang", "clang"), ARM_COMPILER, RISCV_COMPILER]
)
def test_the_header_is_strict_c99_and_may_be_included_in_many_files(
    header: Path, tmp_path: Path, name: str, package: str
) -> None:
    compiler = tool(name, package)
    include = f'#include "{header}"\n'
    (tmp_path / "whole.c").write_text(f"#define PAGESTEP_ROM_IMPLEMENTATION\n{include}{WHOLE}")
    (tmp_path / "other.c").write_text(f"{include}{include}{OTHER}")
    both = [str(tmp_path / name) for name in ("whole.c", "other.c")]
    command = [compiler, "-std=c99", *STRICT.split(), "-nostdlib", "-r", *both]
    done = subprocess.run([*command, "-o", str(tmp_path / "both.o")], capture_output=True)
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_the_header_with_zstd_is_strict_c99_too(tmp_path: Path) -> None:
    compiler = tool("cc", "gcc")
    (tmp_path / "pagestep_rom.h").write_text(make_header(zstd=True), encoding="ascii")
    (tmp_path / "whole.c").write_text(WITH_ZSTD)
    command = [compiler, "-std=c99", *STRICT.split(), str(tmp_path / "whole.c"), "-lzstd"]
    done = subprocess.run([*command, "-o", str(tmp_path / "whole")], capture_output=True)
    if b"zstd.h: No such file or directory" in done.stderr:
        pytest.skip("needs zstd.h, from the package libzstd-dev")
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert subprocess.run([str(tmp_path / "whole")], check=False).returncode == 0
    assert "<zstd.h>" not in make_header()


def test_cplusplus_may_include_the_declarations(header: Path, tmp_path: Path) -> None:
    compiler = tool("c++", "g++")
    source = tmp_path / "use.cc"
    source.write_text(f'#include "{header}"\n{OTHER}')
    command = [compiler, "-std=c++11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-c"]
    subprocess.run([*command, str(source), "-o", str(tmp_path / "use.o")], check=True)
    source.write_text(f'#define PAGESTEP_ROM_IMPLEMENTATION\n#include "{header}"\n')
    done = subprocess.run([*command, str(source)], capture_output=True)
    assert done.returncode != 0
    assert b"is C99" in done.stderr
