# SPDX-License-Identifier: MIT
"""Small programs whose call graph is known, compiled for each instruction set."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = """
#define KEEP __attribute__((noinline, noclone, used))
#define FAR KEEP __attribute__((section(".far")))
#define PAGED KEEP __attribute__((section(".paged")))
typedef int (*call)(int);
volatile int sink;

KEEP int leaf(int a) { sink = a; return a + 1; }
KEEP int direct(int a) { return leaf(a) + leaf(a + 1); }
KEEP int tail(int a) { sink = 2; return leaf(a); }

int odd(int n);
KEEP int even(int n) { return n ? odd(n - 1) + sink : 0; }
KEEP int odd(int n) { return n ? even(n - 1) * sink : 1; }

KEEP int by_pointer(int a, call f) { return f(a) + 1; }
KEEP int tail_by_pointer(int a, call f) { sink = 1; return f(a); }
KEEP int handler_a(int a) { sink = a; return sink + 10; }
KEEP int handler_b(int a) { sink = a; return sink - 10; }
KEEP int handler_c(int a) { sink = a; return sink * 10; }
call table[] = {handler_a, handler_b};
KEEP int dispatch(int n) { return table[n & 1](n) + 1; }
KEEP int takes(int a) { return by_pointer(a, handler_c) + 1; }

KEEP __attribute__((noreturn)) void dies(void) { for (;;) sink++; }
KEEP int may_die(int a) { if (a < 0) dies(); return a + sink; }
KEEP __attribute__((noreturn)) void only_dies(void) { sink = 3; dies(); }
KEEP int after_only_dies(int a) { return sink + a; }

FAR int far_leaf(int a) { sink = a; return a + 7; }
KEEP int far_call(int a) { return far_leaf(a) + 1; }
KEEP int far_tail(int a) { sink = 4; return far_leaf(a); }
FAR int far_back(int a) { return leaf(a) + 2; }

PAGED int pageable(int a) { sink = a; return a + 5; }
KEEP int middle(int a) { return pageable(a) + 1; }
KEEP int calls_pageable(int a) { return middle(a) + direct(a); }
PAGED int paged_handler(int a) { sink = a; return a + 6; }
call paged_table[] = {paged_handler};

int fallen(int a);
KEEP int calls_falling(int a) { extern int falls(int); return falls(a) + 1; }
"""

# What each calls, beyond itself; the linker may put veneers between.
CALLS: dict[str, set[str]] = {
    "leaf": set(),
    "direct": {"leaf"},
    "tail": {"leaf"},
    "even": {"odd"},
    "odd": {"even"},
    "by_pointer": set(),
    "tail_by_pointer": set(),
    "handler_a": set(),
    "dispatch": set(),
    "takes": {"by_pointer"},
    "dies": set(),
    "may_die": {"dies"},
    "only_dies": {"dies"},
    "after_only_dies": set(),
    "far_leaf": set(),
    "far_call": {"far_leaf"},
    "far_tail": {"far_leaf"},
    "far_back": {"leaf"},
    "pageable": set(),
    "middle": {"pageable"},
    "calls_pageable": {"middle", "direct"},
    "calls_falling": {"falls"},
    "falls": {"fallen"},
    "fallen": set(),
}

RETURN = {"x86": "ret", "arm": "bx lr", "riscv": "ret", "arm64": "ret"}
ASSEMBLY = """
    .text
    .globl falls, fallen
    .type falls, %function
    .type fallen, %function
{thumb}falls:
    nop
    nop
    .size falls, . - falls
{thumb}fallen:
    {ret}
    .size fallen, . - fallen
"""

SCRIPT = """
ENTRY(direct)
SECTIONS {
    . = 0x100000;
    .text : { *(.vectors) *(.text .text.*) }
    .paged : ALIGN(0x1000) { *(.paged) }
    . = ALIGN(0x1000);
    .pagestep.may_fault : { KEEP(*(.pagestep.may_fault)) }
    .pagestep.no_fault : { KEEP(*(.pagestep.no_fault)) }
    .rodata : ALIGN(0x1000) { *(.rodata .rodata.*) }
    .data : { *(.data .data.* .sdata .sdata.*) }
    .paged_data : ALIGN(0x1000) { *(.paged_data) }
    .far (. + FAR_AWAY) : ALIGN(0x1000) { *(.far) }
    .bss : { *(.bss .bss.* COMMON) }
    /DISCARD/ : { *(.note* .comment .ARM.exidx* .ARM.attributes .riscv.attributes .eh_frame*) }
}
"""

_INCLUDE = Path(__file__).resolve().parents[2] / "csrc" / "include"
_COMMON = "-O2 -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables"
_GCC = f"{_COMMON} -fno-ipa-icf -fno-ipa-cp -nostdlib -static -Wl,--build-id=none"
_CLANG = f"{_COMMON} -nostdlib -static -fuse-ld=lld"
COMPILERS: dict[str, str] = {
    "x86_64": f"gcc {_GCC} -no-pie -fcf-protection=none -mcmodel=small",
    "x86": f"gcc {_GCC} -m32 -no-pie -fcf-protection=none",
    "arm": f"arm-none-eabi-gcc {_GCC} -marm -march=armv7-a",
    "armv5": f"arm-none-eabi-gcc {_GCC} -marm -march=armv5te",
    "thumb": f"arm-none-eabi-gcc {_GCC} -mthumb -mcpu=cortex-m3",
    "arm64": f"clang {_CLANG} --target=aarch64-none-elf",
    "riscv64": f"riscv64-unknown-elf-gcc {_GCC} -march=rv64imac -mabi=lp64 -mcmodel=medany",
    "riscv32": f"riscv64-unknown-elf-gcc {_GCC} -march=rv32imac -mabi=ilp32 -mcmodel=medany",
    "riscv64-plain": f"riscv64-unknown-elf-gcc {_GCC} -march=rv64ima -mabi=lp64 -mcmodel=medany",
}
"""By target: the first word of a name that Image.arch has, and how to compile for it."""


def build(folder: Path, target: str, source: str = SOURCE, *, far: int = 0x1000) -> Path:
    """Return a linked program, or skip the test where its compiler is not there.

    Args:
        folder: Where to build it.
        target: A key of COMPILERS.
        source: C.
        far: How far behind the rest its section .far lies.
    """
    command = COMPILERS[target].split()
    for tool in (command[0], *(["ld.lld"] if "-fuse-ld=lld" in command else [])):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    family = "x86" if target.startswith("x86") else target
    family = "arm" if target in ("arm", "armv5", "thumb") else family
    family = "riscv" if target.startswith("riscv") else family
    thumb = ".syntax unified\n.thumb_func\n" if target == "thumb" else ""
    (folder / "program.c").write_text(source)
    (folder / "more.S").write_text(ASSEMBLY.format(ret=RETURN[family], thumb=thumb))
    (folder / "program.ld").write_text(SCRIPT.replace("FAR_AWAY", hex(far)))
    out = folder / f"{target}.elf"
    done = subprocess.run(
        [*command, f"-I{_INCLUDE}", "-o", str(out), "-Wl,-T,program.ld", "program.c", "more.S"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and ("cannot find" in done.stderr or "unable to find" in done.stderr):
        pytest.skip(f"{command[0]} lacks a part: {done.stderr.splitlines()[-1]}")
    assert not done.returncode, done.stderr
    return out
