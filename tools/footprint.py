# SPDX-License-Identifier: MIT
"""``make footprint``: what the ROM reader takes of flash, stack and time on each target.

Writes docs/rom-footprint.csv. Rows of targets whose compiler is not here stay as they are.
Columns:

- ``text_bytes``: code and constants of a linked program that reads pages, without the program
  itself; ``rodata_bytes`` are the constants in it, of which the kit's table is the most.
- ``stack_open_bytes`` and so on: the deepest chain of calls from ``pgs_rom_open``, from
  ``pgs_rom_page`` and from the others, by the compiler's own frames and call graph; a call
  through the kit counts as its deepest function. Helpers of the compiler's library are in the
  text, but their frames are not known.
- ``instructions_per_page``: measured by examples/bare-metal in QEMU on pages of Debian's armel
  kernel, coded with LZ4, a dictionary in place and the row's filter.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fetch_kernel import fetch
from make_rom_header import make_header, reader_sources
from pagestep import Image
from pagestep.store.rom import RomPlan, build_rom

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
RESULT = ROOT / "docs" / "rom-footprint.csv"
PAGES = slice(64, 364)  # of the kernel: code
BASE = 0x8000

KEYS = ("target", "optimise", "kit")
VALUES = ("text_bytes", "rodata_bytes", "stack_open_bytes", "stack_page_bytes")
COLUMNS: tuple[str, ...] = (*KEYS, *VALUES, "stack_rest_bytes", "instructions_per_page", "compiler")

CFLAGS = [
    *("-std=c99", "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-fno-pic"),
    *("-fno-asynchronous-unwind-tables", "-fstack-usage", "-fcallgraph-info=su"),
]
LDFLAGS = ["-nostdlib", "-static", "-Wl,--gc-sections,-e,probe,--build-id=none,-z,noexecstack"]

PROBE = """\
#include "pagestep/rom.h"
static struct pgs_rom rom;
static unsigned char page[4096], ram[4096];
%s
int probe(const void *base, size_t size);
int probe(const void *base, size_t size)
{
    return pgs_rom_open(base, size, &%s, ram, sizeof(ram), &rom) + pgs_rom_page(&rom, 0, page)%s;
}
"""
KIT = """\
static const struct pgs_rom_kit kit = {
    .decode = {pgs_rom_raw_decode, pgs_rom_raw_decode, pgs_rom_lz4_decode},
    .undo = {[0] = pgs_rom_undo_none, %s}};
"""
VERIFY = """\
static struct pgs_rom_tree tree;
static uint32_t bad;
static size_t need;
"""
USE_VERIFY = """ +
           pgs_rom_ram_size(base, size, &need) + pgs_rom_verify(&rom, &tree, page, &bad) +
           (pgs_rom_in_place(&rom, 0) != NULL)"""


@dataclass(frozen=True)
class Target:
    """A processor: how to compile for it, its branch filter, and the example's name for it.

    Attributes:
        prefix: Of the compiler's and the binutils' names.
        flags: For the compiler.
        filter: Its branch filter's name in C; empty where there is none.
        arch: As ``Image.arch``, for an image with that filter.
        example: The target of examples/bare-metal; empty where it has none.
    """

    prefix: str
    flags: str
    filter: str
    arch: str
    example: str = ""


_ARM, _RISCV = "arm-none-eabi-", "riscv64-unknown-elf-"
TARGETS = {
    "cortex-m0": Target(_ARM, "-mthumb -mcpu=cortex-m0", "thumb", "thumb", "cortex-m0"),
    "cortex-m3": Target(_ARM, "-mthumb -mcpu=cortex-m3", "thumb", "thumb", "cortex-m3"),
    "cortex-m4": Target(_ARM, "-mthumb -mcpu=cortex-m4", "thumb", "thumb", "cortex-m4"),
    "rv32imc": Target(_RISCV, "-march=rv32imc -mabi=ilp32", "riscv", "riscv32", "riscv32"),
    "rv64gc": Target(
        _RISCV, "-march=rv64gc -mabi=lp64d -mcmodel=medany", "riscv", "riscv64", "riscv64"
    ),
    "aarch64": Target("aarch64-linux-gnu-", "-mgeneral-regs-only", "arm64", "arm64"),
    "x86-64": Target("", "-mno-red-zone -mgeneral-regs-only", "x86", "x86_64"),
    "mips": Target("mips-linux-gnu-", "-mno-abicalls -G0", "", "mips"),
}
RAW, LZ4, NONE = "pgs_rom_raw_decode", "pgs_rom_lz4_decode", "pgs_rom_undo_none"
REST = ("pgs_rom_ram_size", "pgs_rom_in_place", "pgs_rom_verify")
FILTERS = ("x86", "arm", "thumb", "arm64", "riscv")


@dataclass(frozen=True)
class Graph:
    """Functions of a program: bytes of stack that each takes, and whom it calls."""

    frames: Mapping[str, int]
    calls: Mapping[str, frozenset[str]]

    def deepest(self, function: str, indirect: Sequence[str], path: tuple[str, ...] = ()) -> int:
        """Return the bytes of stack that a call can take.

        Args:
            function: Who is called.
            indirect: Whom a call through a pointer may reach.
            path: Who called it.

        Raises:
            ValueError: A function calls itself, so that there is no deepest call, or is not
                known, and no helper of the compiler's.
        """
        if function in path:
            raise ValueError(f"{function} calls itself, by way of {' > '.join(path)}")
        if function not in self.frames and not function.startswith("__"):
            raise ValueError(f"{function}: nothing says how much stack it takes")
        called = self.calls.get(function, frozenset())
        if "__indirect_call" in called:
            called = called - {"__indirect_call"} | frozenset(indirect)
        below = (self.deepest(each, indirect, (*path, function)) for each in called)
        return self.frames.get(function, 0) + max(below, default=0)


def read_graph(texts: Sequence[str]) -> Graph:
    """Return the graph that gcc's -fcallgraph-info=su described, a text for each C file."""
    frames, calls = dict[str, int](), dict[str, frozenset[str]]()
    for text in texts:
        for title, label in re.findall(r'node: \{ title: "([^"]+)" label: "([^"]*)"', text):
            if size := re.search(r"(\d+) bytes \(([\w,]+)\)", label):
                if size[2] == "dynamic":
                    raise ValueError(f"{title}: the compiler knows no bound of its stack")
                frames[title] = int(size[1])
        for source, target in re.findall(
            r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', text
        ):
            calls[source] = calls.get(source, frozenset()) | {target}
    return Graph(frames, calls)


def _run(*command: str | Path) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def probe_source(kit: str, filter_name: str) -> str:
    """Return a program that reads a page with a kit: "lz4", "lz4+filter" or "everything"."""
    if kit == "everything":
        return PROBE % (VERIFY, "pgs_rom_kit_small", USE_VERIFY)
    undo = f"[PGS_FILTER_{filter_name.upper()}] = pgs_rom_undo_{filter_name}"
    return PROBE % (KIT % (undo if kit == "lz4+filter" else ""), "kit", "")


def indirect_of(kit: str, filter_name: str) -> list[str]:
    """Return the functions of a kit."""
    names = {"lz4": (), "lz4+filter": (filter_name,), "everything": FILTERS}[kit]
    return [RAW, LZ4, NONE, *(f"pgs_rom_undo_{name}" for name in names)]


def measure(target: Target, optimise: str, kit: str, folder: Path) -> dict[str, str]:
    """Compile and link a program, and return its sizes and stack as columns of the result."""
    probe = folder / "probe.c"
    probe.write_text(probe_source(kit, target.filter))
    objects: list[Path] = []
    for source in [probe, *reader_sources()]:
        objects.append(folder / f"{source.stem}.o")
        compiler = [f"{target.prefix}gcc", *target.flags.split(), optimise, *CFLAGS]
        _run(*compiler, f"-I{CSRC / 'include'}", "-c", source, "-o", objects[-1])
    program = folder / "program"
    link = [f"{target.prefix}gcc", *target.flags.split(), *LDFLAGS]
    _run(*link, *objects, "-lgcc", "-o", program)

    sections = re.findall(
        r"^\.(text|s?rodata)\S*\s+(\d+)", _run(f"{target.prefix}size", "-A", program), re.MULTILINE
    )
    symbols = _run(f"{target.prefix}nm", "-S", "-t", "d", program)
    [own] = re.findall(r"^\d+ (\d+) T probe$", symbols, re.MULTILINE)
    graph = read_graph([path.with_suffix(".ci").read_text() for path in objects])
    indirect = indirect_of(kit, target.filter)
    rest = max(graph.deepest(name, indirect) for name in REST) if kit == "everything" else ""
    return {
        "text_bytes": str(sum(int(size) for _, size in sections) - int(own)),
        "rodata_bytes": str(sum(int(size) for name, size in sections if name != "text")),
        "stack_open_bytes": str(graph.deepest("pgs_rom_open", indirect)),
        "stack_page_bytes": str(graph.deepest("pgs_rom_page", indirect)),
        "stack_rest_bytes": str(rest),
    }


def example_image(arch: str) -> bytes:
    """Return the image that instructions are counted on."""
    with Image.open(fetch("marvell")) as kernel:
        firmware = kernel.flat()[PAGES].tobytes()
    with Image.open(firmware, arch=arch, base=BASE, raw=True) as image:
        return build_rom(image, RomPlan(codecs=("raw", "lz4"), dictionary="in-place")).data


def instructions(target: Target, optimise: str, rom: bytes, folder: Path) -> str:
    """Run the example in QEMU, and return the instructions that a page takes."""
    (folder / "pagestep_rom.h").write_text(make_header(), encoding="ascii")
    (folder / "image.rom").write_bytes(rom)
    command = ["make", "-s", "-C", str(ROOT / "examples" / "bare-metal"), f"run-{target.example}"]
    command += [f"OPTIMISE={optimise}", f"HEADER={folder}/pagestep_rom.h"]
    command += [f"OUT={folder}", f"ROM={folder}/image.rom"]
    # Semihosting prints to stderr.
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    [found] = re.findall(r"^instructions (\d+) a page", done.stdout + done.stderr, re.MULTILINE)
    return str(found)


def compiler_of(target: Target) -> str:
    """Return the compiler and its version, such as "gcc 12.2.1"."""
    return f"gcc {_run(f'{target.prefix}gcc', '-dumpfullversion').strip()}"


def rows_of(name: str, target: Target) -> list[dict[str, str]]:
    """Measure a target with every kit that it has."""
    compiler = compiler_of(target)
    rows: list[dict[str, str]] = []
    for optimise in ("-Os", "-O2"):
        for kit in ("lz4", "lz4+filter", "everything"):
            if kit == "lz4+filter" and not target.filter:
                continue
            with tempfile.TemporaryDirectory() as folder:
                row = measure(target, optimise, kit, Path(folder))
                row["instructions_per_page"] = ""
                if target.example and kit != "everything":
                    rom = example_image(target.arch if kit == "lz4+filter" else "unknown")
                    count = instructions(target, optimise, rom, Path(folder))
                    row["instructions_per_page"] = count
            keys = {"target": name, "optimise": optimise, "kit": kit}
            rows.append({**keys, **row, "compiler": compiler})
    return rows


def main() -> None:
    """Measure what can be measured here."""
    known: dict[str, list[dict[str, str]]] = {}
    if RESULT.exists():
        with RESULT.open(newline="", encoding="ascii") as file:
            for row in csv.DictReader(file):
                known.setdefault(row["target"], []).append(row)
    with tempfile.TemporaryDirectory() as folder:
        for name, target in TARGETS.items():
            if shutil.which(f"{target.prefix}gcc") is None:
                print(f"{name}: no {target.prefix}gcc here; its rows stay as they are")
                continue
            known[name] = rows_of(name, target)
            for row in known[name]:
                print(" ".join(row[column] or "-" for column in COLUMNS))
        result = Path(folder) / "result.csv"
        with result.open("w", newline="", encoding="ascii") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(row for name in TARGETS for row in known.get(name, []))
        shutil.copyfile(result, RESULT)


if __name__ == "__main__":
    main()
