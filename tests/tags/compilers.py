# SPDX-License-Identifier: MIT
"""Compilers and linkers that programs with tags are built by; what is not here is skipped."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from pagestep import include_folder

from ..rom.programs import tool

FRAGMENT = include_folder() / "pagestep" / "pageable.ld"
CFLAGS = "-std=c89 -pedantic -Wall -Wextra -Werror -ffreestanding -ffunction-sections"


@dataclass(frozen=True)
class Toolchain:
    """How to build for one target.

    Attributes:
        compiler: The program, and the package that has it.
        flags: For compiler and linker alike.
        link_flags: For the linker alone.
        arch: What ``Image.arch`` says of the result.
        needs: Another program, and its package.
    """

    compiler: tuple[str, str]
    flags: str
    arch: str
    link_flags: str = ""
    needs: tuple[str, str] | None = None

    def run(self, *words: object) -> None:
        """Run the compiler, which must have nothing to say."""
        if self.needs is not None:
            tool(*self.needs)
        command = [tool(*self.compiler), *self.flags.split(), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, ""), f"{' '.join(command)}\n{done.stderr}"

    def compile(self, source: Path, out: Path, more: str = "-O2") -> None:
        """Compile one file to an object file."""
        include = f"-I{include_folder()}"
        self.run(*CFLAGS.split(), *more.split(), include, "-c", source, "-o", out)

    def link(self, objects: list[Path], out: Path, more: str = "") -> None:
        """Link a program, with the fragment."""
        flags = f"-nostdlib -Wl,-e,_start,-T,{FRAGMENT} {self.link_flags} {more}"
        self.run(*flags.split(), *objects, "-o", out)


_LLD = ("ld.lld", "lld")
TOOLCHAINS = {
    "gcc": Toolchain(("gcc", "gcc"), "-fno-pie", "x86_64", "-no-pie"),
    "gcc-pie": Toolchain(("gcc", "gcc"), "-fPIE", "x86_64", "-pie"),
    "clang": Toolchain(("clang", "clang"), "-fno-pie", "x86_64", "-no-pie"),
    "clang-lld": Toolchain(("clang", "clang"), "-fno-pie", "x86_64", "-no-pie -fuse-ld=lld", _LLD),
    "clang-lld-pie": Toolchain(("clang", "clang"), "-fPIE", "x86_64", "-pie -fuse-ld=lld", _LLD),
    "arm": Toolchain(("arm-none-eabi-gcc", "gcc-arm-none-eabi"), "-marm", "arm"),
    "thumb": Toolchain(
        ("arm-none-eabi-gcc", "gcc-arm-none-eabi"), "-mcpu=cortex-m3 -mthumb", "thumb"
    ),
    "riscv32": Toolchain(
        ("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf"),
        "-march=rv32imac -mabi=ilp32",
        "riscv32",
    ),
    "riscv64": Toolchain(
        ("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf"),
        "-march=rv64imac -mabi=lp64 -mcmodel=medany",
        "riscv64",
    ),
    "mips": Toolchain(
        ("mips-linux-gnu-gcc", "gcc-mips-linux-gnu"), "-mno-abicalls -fno-pic", "mips", "-static"
    ),
}
