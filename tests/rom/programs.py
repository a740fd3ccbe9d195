# SPDX-License-Identifier: MIT
"""Programs that are not ours, which read what we write; and bytes to write."""

from __future__ import annotations

import mmap
import platform
import random
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager

import pytest

# What an ELF object for programs that run here is made for.
HOST_ARCH = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), "unknown")

# Writes the ROM image that it is linked with, as C source or as ELF object, at 4096 bytes.
READER = """
#include <stdio.h>
extern const unsigned char the_rom[];
extern const unsigned long the_rom_size;
int main(void)
{
    if ((unsigned long)the_rom % 4096 != 0)
        return 1;
    return fwrite(the_rom, 1, the_rom_size, stdout) == the_rom_size ? 0 : 2;
}
"""


def tool(name: str, package: str) -> str:
    """Return a program's path; a test that lacks it is skipped, and says what to install."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}, from the package {package}")
    return path


def run(*command: object) -> str:
    """Run a program that must succeed and have nothing to say on stderr; return its stdout."""
    words = [str(part) for part in command]
    done = subprocess.run(words, capture_output=True, timeout=120)
    said = done.stderr.decode()
    assert (done.returncode, said) == (0, ""), f"{' '.join(words)}\n{said}"
    return done.stdout.decode()


def random_rom(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@contextmanager
def many_zeros() -> Generator[memoryview]:
    """Give more bytes than 32-bit addresses hold; none takes RAM until it is read."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, (1 << 32) + 1, flags=flags, prot=mmap.PROT_READ) as mapping:
        view = memoryview(mapping)
        try:
            yield view
        finally:
            view.release()
