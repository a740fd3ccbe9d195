# SPDX-License-Identifier: MIT
"""ARM code and Thumb code are told apart, whatever the entry's address."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from pagestep import Image
from pagestep.store.discipline import Declared, check

from ..rom.programs import tool
from . import builders as b

SOURCE = """
int leaf(int a) { return a * 3; }
int more(int a) { return leaf(a) ^ 5; }
"""
MIXED = """
__attribute__((target("arm"))) int in_arm(int a) { return a + 1; }
__attribute__((target("thumb"))) int in_thumb(int a)
{ volatile int b[4]; b[0] = a; b[1] = b[0] * 7; b[2] = b[1] ^ b[0]; b[3] = b[2] + 9; return b[3]; }
"""


def built(folder: Path, flags: str, source: str = SOURCE, *, link: bool) -> Path:
    text, out = folder / "a.c", folder / "a"
    text.write_text(source)
    compiler = tool("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    how = "-nostdlib -Wl,-e,0x8000" if link else "-c"
    command = [compiler, "-O1", "-ffreestanding", *flags.split(), *how.split(), str(text)]
    subprocess.run([*command, "-o", str(out)], check=True, timeout=60, capture_output=True)
    return out


@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize("strip", [True, False])
@pytest.mark.parametrize(
    ("flags", "arch"),
    [
        ("-mcpu=cortex-m3", "thumb"),
        ("-mcpu=cortex-m0", "thumb"),
        ("-mcpu=cortex-a7 -marm", "arm"),
        ("-mcpu=arm926ej-s -marm", "arm"),
    ],
)
def test_programs_without_an_entry(
    flags: str, arch: str, strip: bool, link: bool, tmp_path: Path
) -> None:
    program = built(tmp_path, flags, link=link)
    if strip:  # only the build attributes are left
        stripper = tool("arm-none-eabi-strip", "binutils-arm-none-eabi")
        subprocess.run([stripper, str(program)], check=True, timeout=60)
    with Image.open(program) as image:
        assert image.arch == arch


def test_a_check_of_the_wrong_instruction_set_says_so(tmp_path: Path) -> None:
    program = built(tmp_path, "-mcpu=cortex-m3 -fno-inline", link=True)
    for arch, doubts in (("arm", True), (None, False)):
        with Image.open(program, arch=arch) as image:
            level = np.zeros(image.page_count, np.uint8)
            found = check(image, level, Declared(roots=("more",)))
        assert any("is this really arm code? give --arch" in each for each in found.notes) == doubts


@pytest.mark.parametrize("link", [True, False])
def test_thumb_of_another_profile_is_known_by_its_mapping_symbols(
    link: bool, tmp_path: Path
) -> None:
    with Image.open(built(tmp_path, "-mcpu=cortex-a7 -mthumb", link=link)) as image:
        assert image.arch == "thumb"


def test_of_mixed_code_the_greater_part_counts(tmp_path: Path) -> None:
    program = built(tmp_path, "-mcpu=cortex-a7 -marm", MIXED, link=True)
    with Image.open(program) as image:
        assert image.arch == "thumb"


@pytest.mark.parametrize(
    ("values", "entry", "arch"),
    [
        ((0x8001, 0x8011, 0x8020), 0x8000, "thumb"),
        ((0x8001, 0x8010, 0x8020), 0x8001, "arm"),
        ((), 0x8001, "thumb"),
        ((), 0x8000, "arm"),
    ],
)
def test_functions_go_before_the_entry(values: tuple[int, ...], entry: int, arch: str) -> None:
    data = b.elf(
        [b.Load(0x8000, bytes(64))],
        [b.Section(".text", 0x8000, 64, b.A | b.X)],
        [b.Symbol(f"f{value}", value, 4) for value in values],
        bits=32,
        machine=b.EM_ARM,
        entry=entry,
    )
    with Image.open(data) as image:
        assert image.arch == arch


def test_damaged_attributes_say_nothing() -> None:
    for data in (b"A", b"A\0\0\0\0aeabi\0" * 3, b"\xff" * 40, b"A\x20\0\0\0aeabi\0\1\0\0\0\0"):
        elf = b.elf(
            [b.Load(0x8000, bytes(64))],
            [
                b.Section(".text", 0x8000, 64, b.A | b.X),
                b.Section(".ARM.attributes", 0, len(data), 0, 0x70000003, None, data),
            ],
            bits=32,
            machine=b.EM_ARM,
            entry=0x8000,
        )
        with Image.open(elf) as image:
            assert image.arch == "arm"
