# SPDX-License-Identifier: MIT
"""The hooks for Zephyr and NuttX, compiled against what they need of those, and run here.

And the images of their documents, made as it says there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from make_rom_header import make_header
from pagestep.store.image import Image
from pagestep.store.rom import RomPlan, build_rom
from pagestep.store.rom.output import FORMATS, render

from .programs import HOST_ARCH, run, tool

ROOT = Path(__file__).resolve().parents[2]
PAGE_SIZE = 4096
PAGE_COUNT = 300  # enough for a dictionary
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined,address"]

# What the hook uses of Zephyr, by the file that declares it there.
ZEPHYR = {
    "zephyr/kernel.h": "void k_panic(void);",
    "zephyr/linker/linker-defs.h": "extern char lnkr_ondemand_start[];",
    "kernel_arch_interface.h": "",
    "mmu.h": """
        #include <stdbool.h>
        #include <stdint.h>
        #define CONFIG_MMU_PAGE_SIZE 4096
        #define K_MEM_PAGE_FRAME_BACKED 8
        struct k_mem_page_frame { void *addr; unsigned flags; };
        extern unsigned char scratch_page[];
        #define K_MEM_SCRATCH_PAGE ((void *)scratch_page)
        static inline bool k_mem_page_frame_is_backed(struct k_mem_page_frame *pf)
        { return (pf->flags & K_MEM_PAGE_FRAME_BACKED) != 0; }
        static inline void k_mem_page_frame_set(struct k_mem_page_frame *pf, unsigned flags)
        { pf->flags |= flags; }
        static inline void *k_mem_page_frame_to_virt(struct k_mem_page_frame *pf)
        { return pf->addr; }""",
    "zephyr/kernel/mm/demand_paging.h": """
        #include <stdbool.h>
        #include <stdint.h>
        struct k_mem_page_frame;
        void k_mem_paging_backing_store_init(void);
        int k_mem_paging_backing_store_location_get(struct k_mem_page_frame *pf,
                                                    uintptr_t *location, bool page_fault);
        int k_mem_paging_backing_store_location_query(void *addr, uintptr_t *location);
        void k_mem_paging_backing_store_location_free(uintptr_t location);
        void k_mem_paging_backing_store_page_in(uintptr_t location);
        void k_mem_paging_backing_store_page_out(uintptr_t location);
        void k_mem_paging_backing_store_page_finalize(struct k_mem_page_frame *pf,
                                                      uintptr_t location);""",
}
# A fault on the page numbered on the command line, as Zephyr handles one; then it is paged out,
# changed if so asked. Status 3 is a panic.
ZEPHYR_MAIN = """
    #include <assert.h>
    #include <errno.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <mmu.h>
    #include <zephyr/kernel.h>
    #include <zephyr/kernel/mm/demand_paging.h>
    #include <zephyr/linker/linker-defs.h>
    unsigned char scratch_page[4096];
    char lnkr_ondemand_start[300 * 4096];
    void k_panic(void) { exit(3); }
    int main(int argc, char **argv)
    {
        unsigned page_no = (unsigned)atoi(argv[1]);
        char *addr = lnkr_ondemand_start + 4096 * (size_t)page_no;
        struct k_mem_page_frame frame = {addr, 0};
        uintptr_t location, again;

        k_mem_paging_backing_store_init();
        if (k_mem_paging_backing_store_location_query(addr + 123, &location) != 0)
            return 4;
        assert(location % 4096 == 0);
        assert(k_mem_paging_backing_store_location_get(&frame, &again, true) == -ENOMEM);
        k_mem_paging_backing_store_page_in(location);
        fwrite(scratch_page, 1, sizeof(scratch_page), stdout);
        k_mem_paging_backing_store_page_finalize(&frame, location);
        assert(k_mem_paging_backing_store_location_get(&frame, &again, false) == 0);
        assert(again == location);
        fflush(stdout);
        scratch_page[4095] ^= argc > 2;
        k_mem_paging_backing_store_page_out(location);
        k_mem_paging_backing_store_location_free(location);
        return 0;
    }
"""

# The same of NuttX.
NUTTX = {
    "nuttx/config.h": """
        #define FAR
        #define CONFIG_PAGING_BLOCKINGFILL 1""",
    "nuttx/sched.h": """
        #include <stdint.h>
        enum { OK = 0 };
        struct xcptcontext { uint32_t far; };
        struct tcb_s { struct xcptcontext xcp; };""",
    "nuttx/page.h": """
        #define PAGESIZE 4096
        #define PAGESHIFT 12
        #define PG_PAGED_VBASE 0x11000000
        struct tcb_s;
        int up_fillpage(FAR struct tcb_s *tcb, FAR void *vpage);""",
}
NUTTX_MAIN = """
    #include <stdio.h>
    #include <stdlib.h>
    #include <nuttx/config.h>
    #include <nuttx/page.h>
    #include <nuttx/sched.h>
    static unsigned char page[4096];
    int main(int argc, char **argv)
    {
        struct tcb_s tcb = {{PG_PAGED_VBASE + (uint32_t)atoi(argv[1]) * 4096 + 123}};
        int error = up_fillpage(&tcb, page);

        (void)argc;
        if (error != OK)
            return 4;
        fwrite(page, 1, sizeof(page), stdout);
        return 0;
    }
"""
HOOKS = {
    "zephyr/backing_store_rom.c": (ZEPHYR, ZEPHYR_MAIN),
    "nuttx/fillpage_rom.c": (NUTTX, NUTTX_MAIN),
}


@pytest.fixture(scope="module")
def firmware() -> bytes:
    """Return pages of a few words each, in an order of their own; the last is of zeros."""
    draw = np.random.default_rng(7)
    words = draw.integers(0, 1 << 32, 500, np.uint32)
    pages = draw.choice(words, (PAGE_COUNT, PAGE_SIZE // 4)).astype("<u4")
    pages[-1] = 0
    return pages.tobytes()


@pytest.fixture(scope="module")
def rom(firmware: bytes) -> bytes:
    with Image.open(firmware, arch="arm", base=0x11000000, raw=True) as image:
        plan = RomPlan(codecs=("raw", "lz4"), dictionary="in-place", dictionary_size=4096)
        return build_rom(image, plan).data


def build(folder: Path, hook: str, rom: bytes, form: str = "c") -> Path:
    """Compile a hook, what it stands in, the reader and an image, as source or as object."""
    stand_in, main = HOOKS[hook]
    for name, text in stand_in.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#pragma once\n{text}\n")
    (folder / "pagestep_rom.h").write_text(make_header())
    (folder / "main.c").write_text(main)
    (folder / "reader.c").write_text(
        '#define PAGESTEP_ROM_IMPLEMENTATION\n#include "pagestep_rom.h"\n'
    )
    image = folder / f"image{FORMATS[form].suffix}"
    image.write_bytes(render(rom, form, arch=HOST_ARCH))
    sources = [ROOT / "examples" / hook, folder / "main.c", folder / "reader.c", image]
    compiler = tool("cc", "gcc")
    command = [compiler, *FLAGS, f"-I{folder}", *map(str, sources), "-o", str(folder / "program")]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return folder / "program"


def fault(program: Path, *arguments: object) -> tuple[int, bytes]:
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert not done.stderr, done.stderr.decode()
    return done.returncode, done.stdout


@pytest.mark.parametrize("form", ["c", "elf"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_fault_brings_the_page_and_bad_ones_are_refused(
    tmp_path: Path, firmware: bytes, rom: bytes, hook: str, form: str
) -> None:
    if form == "elf" and HOST_ARCH == "unknown":
        pytest.skip("there is no object for this processor")
    program = build(tmp_path, hook, rom, form)
    for page_no in (0, 1, 64, PAGE_COUNT - 1):
        page = firmware[page_no * PAGE_SIZE : (page_no + 1) * PAGE_SIZE]
        assert fault(program, page_no) == (0, page)
    assert fault(program, PAGE_COUNT) == (4, b"")


@pytest.mark.parametrize(
    ("hook", "status"), [("zephyr/backing_store_rom.c", 3), ("nuttx/fillpage_rom.c", 4)]
)
def test_a_damaged_page_or_image_is_not_handed_out(
    tmp_path: Path, rom: bytes, hook: str, status: int
) -> None:
    damaged = bytearray(rom)
    damaged[-1] ^= 1  # of the last page that is stored, the one before the zeros
    program = build(tmp_path, hook, bytes(damaged))
    assert fault(program, PAGE_COUNT - 2) == (status, b"")
    assert fault(program, 0)[0] == 0
    damaged[40] ^= 1  # of the header
    program = build(tmp_path, hook, bytes(damaged))
    assert fault(program, 0) == (status, b"")


def test_a_changed_page_stops_zephyr_when_it_has_to_leave(tmp_path: Path, rom: bytes) -> None:
    program = build(tmp_path, "zephyr/backing_store_rom.c", rom)
    assert fault(program, 5)[0] == 0
    assert fault(program, 5, "changed")[0] == 3


# -- an image of what it is linked with ---------------------------------------------------

# What is paged calls what lies behind the image, so that its bytes change where that moves.
BEHIND = "int behind(int x); int behind(int x) { return 3 * x; }"
PAGED = "int behind(int x);" + "".join(
    f"int f{n}(int x); int f{n}(int x) {{ return behind(x + {n * 7919}) - {n}; }}"
    for n in range(500)
)
USER = """
    extern const unsigned char pagestep_rom[];
    extern const unsigned long pagestep_rom_size;
    int f0(int x);
    int main(void);
    int main(void) { return pagestep_rom[pagestep_rom_size - 1] + f0(1); }
"""
ZEPHYR_SCRIPT = """
SECTIONS {
    . = 0x10000;
    .text : { user.o(.text*) }
    .rodata : { *(.rodata*) }
    .behind : { behind.o(.text*) }
    . = ALIGN(4096);
    lnkr_ondemand_start = .;
    ondemand_text : { paged.o(.text*) . = ALIGN(4096); }
    ondemand_rodata : { LONG(1) . = ALIGN(4096); }
    /DISCARD/ : { *(.ARM*) *(.note*) *(.eh_frame*) *(.comment) }
}
"""
NUTTX_SCRIPT = """
MEMORY {
    locked (rx) : ORIGIN = 0x10000, LENGTH = 4M
    paged (rx) : ORIGIN = 0x800000, LENGTH = 4M
}
SECTIONS {
    .locked : { user.o(.text*) } > locked
%s
    .behind : { behind.o(.text*) } > locked
    .paged : { *(.text* .rodata*) . = ALIGN(4096); } > paged
    /DISCARD/ : { *(.ARM*) *(.note*) *(.eh_frame*) *(.comment) }
}
"""


class Board(NamedTuple):
    """What stands in for a firmware's build."""

    script: str
    program: str
    image: str
    compiler: str
    package: str


BOARDS = {
    "zephyr": Board(ZEPHYR_SCRIPT, "zephyr.elf", "pagestep_rom.c", "gcc", "gcc"),
    "nuttx": Board(
        NUTTX_SCRIPT, "nuttx", "pagestep_rom.o", "arm-none-eabi-gcc", "gcc-arm-none-eabi"
    ),
}


def link(folder: Path, board: Board) -> None:
    compiler = tool(board.compiler, board.package)
    flags = ["-Os", "-ffreestanding", "-fno-pic", "-fno-asynchronous-unwind-tables"]
    for name in ("user", "behind", "paged"):
        run(compiler, *flags, "-c", folder / f"{name}.c", "-o", folder / f"{name}.o")
    image = folder / "image.o"
    if board.image.endswith(".c"):
        run(compiler, *flags, "-c", folder / board.image, "-o", image)
    else:
        image.write_bytes((folder / board.image).read_bytes())
    linker = tool(board.compiler.replace("gcc", "ld"), board.package)
    objects = ("user.o", "behind.o", "paged.o", "image.o")
    subprocess.run(
        [linker, "-T", "script.ld", "-e", "main", *objects, "-o", board.program],
        cwd=folder,
        check=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", BOARDS)
def test_the_two_links_of_the_document_agree(tmp_path: Path, name: str) -> None:
    board = BOARDS[name]
    text = (ROOT / "examples" / name / "README.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    place = "".join(line for line in lines if line.startswith("."))
    commands = [line for line in lines if not line.startswith(".")]
    cut = next(line for line in commands if line.startswith("objcopy -O binary"))
    for file, source in (("user", USER), ("behind", BEHIND), ("paged", PAGED)):
        (tmp_path / f"{file}.c").write_text(source)
    (tmp_path / "script.ld").write_text(board.script % place if place else board.script)
    prefix = board.compiler.removesuffix("gcc")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def sh(command: str) -> str:
        words = command.replace("objcopy ", f"{prefix}objcopy ")
        done = subprocess.run(
            ["sh", "-ec", words],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, (command, done.stderr.decode())
        return done.stdout.decode()

    base = "0x800000"
    for command in commands:
        if command == cut:
            link(tmp_path, board)
        said = sh(command.replace("ADDRESS", base))
        if command.startswith("nm "):
            base = f"0x{said.split()[0]}"
    link(tmp_path, board)
    pages = tmp_path / cut.split()[-1]
    first = pages.read_bytes()
    sh(cut)
    assert len(first) > 2 * PAGE_SIZE
    assert pages.read_bytes() == first
