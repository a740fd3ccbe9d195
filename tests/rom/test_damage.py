# SPDX-License-Identifier: MIT
"""Damaged ROM images: whatever changes, a page is right or refused, and no byte outside is read.

The C program test_rom_damage does the changing and reading, with AddressSanitizer; what
Python's reader says of a few of them is looked at here.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from pagestep.codecs import train_dictionary, xxh32
from pagestep.codecs.errors import AbsentPage, BadRom, CorruptPage, Unsupported
from pagestep.store import Image
from pagestep.store.rom import Rom, RomPlan, build_rom

from .slow_reader import Refused, SlowRom
from .small_roms import (
    ALL_WAYS,
    LZ4_WAYS,
    Dictionary,
    all_kinds_of_pages,
    code_like,
    dictionaries,
    make_rom,
)

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "asan"
PAGES = all_kinds_of_pages(24)
LZ4_DICTIONARIES = dictionaries("raw", "lz4")
WITH_TABLES = Dictionary(train_dictionary(code_like(64 * 512, 50), 2048, page_size=512))
ALL_DICTIONARIES = dictionaries("raw", "lz4", "raw", "zstd")
TABLES_DICTIONARIES = [*LZ4_DICTIONARIES, WITH_TABLES, *dictionaries("zstd")]


@pytest.fixture(scope="session")
def program() -> Path:
    """Build the program where `make asan` builds, with the same options."""
    meson, ninja = shutil.which("meson"), shutil.which("ninja")
    if meson is None or ninja is None:
        pytest.skip("needs meson and ninja: run the tests with `make pytest`")
    if not (BUILD / "build.ninja").exists():
        options = ["buildtype=debug", "optimization=1", "b_lundef=false"]
        options.append("b_sanitize=address,undefined")
        command = [meson, "setup", str(BUILD), *(f"-D{each}" for each in options)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    target = "csrc/tests/test_rom_damage"
    subprocess.run([ninja, "-C", str(BUILD), target], check=True, capture_output=True)
    return BUILD / target


def damage(
    program: Path, folder: Path, rom: bytes, flat: bytes, readers: str, *arguments: object
) -> list[int]:
    """Run the program; return images refused, pages right and pages refused, by all readers."""
    (folder / "rom").write_bytes(rom)
    (folder / "flat").write_bytes(flat)
    command = [program, folder / "rom", folder / "flat", readers, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    lines = done.stdout.splitlines()
    assert len(lines) == len(readers.split(","))
    counts = [[int(word) for word in line.split() if word.isdigit()] for line in lines]
    return [sum(of_readers) for of_readers in zip(*counts, strict=True)]


def flat_of(pages: list[bytes | None]) -> bytes:
    return b"".join(page or bytes(512) for page in pages)


@pytest.mark.parametrize(
    ("readers", "rom"),
    [
        ("small,host", make_rom(PAGES, LZ4_WAYS, LZ4_DICTIONARIES)),
        ("small,host", make_rom(PAGES, LZ4_WAYS, LZ4_DICTIONARIES, wide=True)),
        ("zstd,host", make_rom(PAGES, ALL_WAYS, TABLES_DICTIONARIES)),
    ],
    ids=["lz4", "wide", "all"],
)
def test_every_bit(program: Path, tmp_path: Path, readers: str, rom: bytes) -> None:
    refused, right, wrong = damage(program, tmp_path, rom, flat_of(PAGES), readers, "bits")
    # The header's bits are all watched, and a third of the pages' at the least.
    assert refused > 8 * SlowRom(rom).header_size
    assert right > 0
    assert wrong > 8 * len(rom) // 3


def test_many_pages_at_random(program: Path, tmp_path: Path) -> None:
    pages = all_kinds_of_pages(300)
    rom = make_rom(pages, ALL_WAYS, TABLES_DICTIONARIES)
    _, right, wrong = damage(program, tmp_path, rom, flat_of(pages), "zstd,host", 5_000, 1)
    assert min(right, wrong) > 2_000


def damage_kernel(
    program: Path, folder: Path, kernel: Path, pages: int, readers: str, count: int
) -> None:
    with Image.open(kernel) as image:
        flat = image.flat()[:pages].tobytes()
    plan = RomPlan(codecs=("raw", "lz4"), dictionary="in-place")
    with Image.open(flat, raw=True, arch="arm") as part:
        rom = build_rom(part, plan).data
    refused, right, wrong = damage(program, folder, rom, flat, readers, count, 7)
    assert min(refused, right, wrong) > count // 50


@pytest.mark.kernel
def test_a_whole_kernel(program: Path, tmp_path: Path, arm_kernel: Path) -> None:
    with Image.open(arm_kernel) as image:
        flat = image.flat().tobytes()
        rom = build_rom(image, RomPlan()).data
    slow = SlowRom(rom)
    # What is to be tested: zstd, with tables, and the dictionary itself a frame.
    assert 3 in {slow.codings[coding].codec for coding, _, _ in slow.slots}
    assert slow.dicts[0][:4] == bytes.fromhex("37A430EC")
    assert slow.entry(1, 0)[16] == 3
    assert damage(program, tmp_path, rom, flat, "zstd", 0, 1) == [0, slow.page_count, 0]


@pytest.mark.kernel
def test_a_kernel_at_random(program: Path, tmp_path: Path, arm_kernel: Path) -> None:
    damage_kernel(program, tmp_path, arm_kernel, 128, "small", 100_000)


@pytest.mark.heavy
@pytest.mark.kernel
def test_a_kernel_at_random_for_long(program: Path, tmp_path: Path, arm_kernel: Path) -> None:
    damage_kernel(program, tmp_path, arm_kernel, 1024, "small,host", 100_000)


# -- what Python's readers say -------------------------------------------------------------


def read_by_host(rom: bytes) -> list[bytes | None] | None:
    """Return each page that Rom gives, None for others; None alone where it is refused.

    Any other exception, and a page's that does not name it, is the test's failure.
    """
    try:
        opened = Rom.open(rom)
    except (BadRom, Unsupported):
        return None
    pages: list[bytes | None] = []
    names_its_page: list[bool] = []
    with opened:
        for page_no in range(opened.page_count):
            try:
                pages.append(opened.read(page_no))
            except (CorruptPage, AbsentPage) as error:
                names_its_page.append(f"page {page_no} " in str(error))
                pages.append(None)
    assert all(names_its_page)
    return pages


def read_slowly(rom: bytes) -> list[bytes | None] | None:
    """Return the same by the slow reader."""
    try:
        opened = SlowRom(rom)
    except Refused:
        return None
    pages: list[bytes | None] = []
    for page_no in range(opened.page_count):
        try:
            pages.append(opened.page(page_no))
        except Refused as error:
            if error.reason not in ("absent", "page"):
                raise
            pages.append(None)
    return pages


def right_or_none(pages: list[bytes | None]) -> bool:
    return len(pages) == len(PAGES) and all(
        page is None or page == wanted for page, wanted in zip(pages, PAGES, strict=True)
    )


@pytest.mark.parametrize("kind", ["bits of the index", "bits", "cuts", "splices"])
def test_python_names_what_is_damaged(kind: str) -> None:
    rng = random.Random(kind)
    whole = make_rom(PAGES, ALL_WAYS, ALL_DICTIONARIES)
    slow = SlowRom(whole)
    seen = set[bool]()
    for _ in range(150):
        rom = bytearray(whole)
        index = range(slow.header_size + 4, slow.tables[10].offset)
        at = rng.choice(index if "index" in kind else range(len(rom)))
        if kind == "cuts":
            del rom[at:]
        elif kind == "splices":
            size = rng.randrange(1, 64)
            rom[at : at + size] = rom[at // 2 : at // 2 + len(rom[at : at + size])]
        else:
            rom[at] ^= 1 << rng.randrange(8)
        by_host, slowly = read_by_host(bytes(rom)), read_slowly(bytes(rom))
        assert by_host is None or right_or_none(by_host)
        assert slowly is None or right_or_none(slowly)
        # The slow reader checks whatever the other one does.
        assert by_host is not None or slowly is None
        seen.add(by_host is None)
    assert seen == {True} if kind == "cuts" else {True, False}


def test_python_reads_what_is_whole() -> None:
    rom = make_rom(PAGES, ALL_WAYS, ALL_DICTIONARIES)
    assert read_by_host(rom) == read_slowly(rom) == PAGES


def header_that_lies(whole: bytes, rng: random.Random) -> bytes:
    """Return an image with other numbers in its header block, and the checksum put right."""
    rom = bytearray(whole)
    header_size = SlowRom(whole).header_size
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(24, header_size) // 4 * 4
        value = rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.randrange(1 << 16)])
        near = rng.random() < 0.5
        rom[at : at + 4] = (rom[at] ^ 1 << rng.randrange(8) if near else value).to_bytes(
            4, "little"
        )
    rom[header_size : header_size + 4] = xxh32(rom[:header_size]).to_bytes(4, "little")
    return bytes(rom)


def test_headers_that_lie() -> None:
    rng = random.Random("headers")
    whole = make_rom(PAGES, ALL_WAYS, ALL_DICTIONARIES)
    opened = 0
    for _ in range(1500):
        rom = header_that_lies(whole, rng)
        by_host, slowly = read_by_host(rom), read_slowly(rom)
        assert by_host is not None or slowly is None
        if by_host is not None and slowly is not None:
            both = zip(by_host, slowly, strict=True)
            assert all(host == slow or host is None or slow is None for host, slow in both)
        if by_host is not None:
            with Rom.open(rom) as again:
                check = again.verify()
            # What its checksums say is right may be of another page size or base than before.
            assert not check.root_holds or right_or_none(by_host)
            opened += 1
    assert opened > 100
