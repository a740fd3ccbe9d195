# SPDX-License-Identifier: MIT
"""examples/crash_dump.py: memory by address, from dumps made here and by QEMU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from crash_dump import CrashDump, NotDumped
from pagestep import BadImage, BudgetExceeded, StoreIOError

from .core_file import ET_EXEC, NO_ADDRESS, Memory, core_file

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "crash_dump.py"
INFO = b"OSRELEASE=6.1.0-test\nPAGESIZE=4096\nno equals sign\n"
DIRECT, TEXT, VMALLOC = 0xFFFF_8880_0000_0000, 0xFFFF_FFFF_8100_0000, 0xFFFF_C900_0000_0000


def noise(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


RAM = noise(300_000, 1)
# As kdump lays them out: the kernel's mapping lies within that of all RAM; two runs that
# follow one another in memory and not in the file; one that has no physical address; one
# that was dumped in part only; one of nothing.
MEMORY = [
    Memory(TEXT, 0x10_0100, RAM[0x100:0x9100], 0x9000),
    Memory(DIRECT + 0x10_0000 + 200_000, 0x10_0000 + 200_000, RAM[200_000:], 100_000),
    Memory(VMALLOC, NO_ADDRESS, noise(5000, 2), 20_000),
    Memory(DIRECT + 0x10_0000, 0x10_0000, RAM[:200_000], 200_000),
    Memory(0x1000, 0x1000, b"", 4096),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dump") / "vmcore"
    path.write_bytes(core_file(MEMORY, INFO, gap=333))
    return path


@pytest.fixture(scope="module")
def dump(path: Path) -> Iterator[CrashDump]:
    with CrashDump.open(path, ram="200KiB") as dump:
        yield dump


def test_the_dump_made_here_is_an_elf_core(path: Path) -> None:
    with path.open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_type"] == "ET_CORE"
        loads = [part for part in elf.iter_segments() if part["p_type"] == "PT_LOAD"]
        assert [part.data() for part in loads] == [run.content for run in MEMORY]
        assert [part["p_vaddr"] for part in loads] == [run.virtual for run in MEMORY]


def test_what_it_says_of_itself(dump: CrashDump) -> None:
    assert dump.vmcoreinfo == {"OSRELEASE": "6.1.0-test", "PAGESIZE": "4096"}
    assert [segment.virtual for segment in dump.segments] == [run.virtual for run in MEMORY[:4]]
    assert dump.segments[2].physical is None


def expected(address: int, count: int, physical: bool) -> bytes | None:
    """Look byte by byte, the slow way."""
    found = bytearray()
    for at in range(address, address + count):
        for run in MEMORY:
            start = run.physical if physical else run.virtual
            if 0 <= at - start < len(run.content) and start != NO_ADDRESS:
                found.append(run.content[at - start])
                break
        else:
            return None
    return bytes(found)


@given(st.sampled_from(MEMORY), st.integers(-50, 300_050), st.integers(0, 9000), st.booleans())
def test_any_run_of_memory_or_none(
    dump: CrashDump, run: Memory, offset: int, count: int, physical: bool
) -> None:
    address = (run.physical if physical else run.virtual) + offset
    wanted = expected(address, count, physical)
    if wanted is None:
        with pytest.raises(NotDumped, match=f"{'physical' if physical else 'virtual'} address 0x"):
            dump.read(address, count, 0, physical)
    else:
        assert dump.read(address, count, 0, physical) == wanted


def test_all_of_it_across_two_segments_within_a_small_budget(dump: CrashDump) -> None:
    assert dump.read(DIRECT + 0x10_0000, 300_000) == RAM
    assert dump.read(0x10_0000, 300_000, physical=True) == RAM
    stats = dump.stats()
    assert stats.used_bytes_max <= stats.budget_bytes == 200 << 10
    assert stats.page_count * 4096 > stats.budget_bytes


def test_a_hole_says_which_address(dump: CrashDump) -> None:
    with pytest.raises(NotDumped, match=f"virtual address {DIRECT + 0x10_0000 + 300_000:#x} is"):
        dump.read(DIRECT + 0x10_0000, 300_001)
    with pytest.raises(NotDumped, match=f"{VMALLOC + 5000:#x}"):
        dump.read(VMALLOC, 5001)
    with pytest.raises(NotDumped):
        dump.read(NO_ADDRESS, 1, physical=True)
    assert dump.read(12345, 0) == b""


def test_drgn_reads_through_the_store(dump: CrashDump) -> None:
    drgn: Any = pytest.importorskip("drgn", reason="drgn is not installed: pip install drgn")
    program = drgn.Program(drgn.host_platform)
    dump.attach(program)
    assert program.read(TEXT + 7, 5000) == RAM[0x107:][:5000]
    assert program.read(DIRECT + 0x10_0000 + 199_990, 20) == RAM[199_990:][:20]
    assert program.read(0x10_0000, 16, True) == RAM[:16]
    assert program.read_u32(TEXT) == int.from_bytes(RAM[0x100:0x104], "little")
    with pytest.raises(drgn.FaultError):
        program.read(VMALLOC + 4999, 2)


# -- what is none -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no page|empty|no bytes|no ELF core"),
        (b"KDUMP   " + bytes(9000), "makedumpfile -E"),
        (core_file(MEMORY, kind=ET_EXEC), "ET_EXEC, not ET_CORE"),
        (core_file(MEMORY)[:-1], "cut off"),
        (core_file(MEMORY)[:100], "no ELF core|cut off"),
    ],
)
def test_what_is_no_dump_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(content)
    with pytest.raises(BadImage, match=message):
        CrashDump.open(path)


def test_too_little_ram_and_no_file(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetExceeded):
        CrashDump.open(path, ram=1000)
    with pytest.raises(StoreIOError):
        CrashDump.open(tmp_path / "nothing")


@given(st.integers(0, 600), st.integers(1, 255))
def test_a_damaged_head_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: int
) -> None:
    content = bytearray(core_file(MEMORY, INFO))
    content[at] ^= change
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        with CrashDump.open(path) as dump:
            for segment in dump.segments:
                assert len(dump.read(segment.virtual, 16)) == 16
    except (BadImage, NotDumped):
        pass


# -- the script ---------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_script_shows_a_dump_and_bytes(path: Path) -> None:
    shown = run(path)
    assert shown.returncode == 0, shown.stderr
    assert "6.1.0-test" in shown.stdout
    assert f"{TEXT:#018x}" in shown.stdout
    read = run(path, hex(TEXT), 20)
    assert RAM[0x100:0x110].hex(" ") in read.stdout
    assert run(path, "0x100000", 16, "--physical").stdout.startswith("0x0000000000100000  ")


def test_the_script_says_what_is_wrong(path: Path) -> None:
    hole = run(path, "0x10", 20)
    assert (hole.returncode, hole.stderr) == (
        1,
        "crash_dump: virtual address 0x10 is not in the dump\n",
    )
    assert run(path, "here").returncode == 2
    other = run(SCRIPT)
    assert other.returncode == 2
    assert other.stderr.startswith("crash_dump: ")
    assert other.stderr.count("\n") == 1


# -- a real one ---------------------------------------------------------------------------


def test_a_dump_that_qemu_made(tmp_path: Path) -> None:
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        pytest.skip("qemu-system-x86_64 is not here: package qemu-system-x86")
    content = noise(1 << 20, 5)
    (tmp_path / "blob").write_bytes(content)
    commands: list[dict[str, Any]] = [
        {"execute": "qmp_capabilities"},
        {
            "execute": "dump-guest-memory",
            "arguments": {"paging": False, "protocol": f"file:{tmp_path}/vmcore"},
        },
        {
            "execute": "pmemsave",
            "arguments": {"val": 0, "size": 640 << 10, "filename": f"{tmp_path}/low"},
        },
        {"execute": "quit"},
    ]
    done = subprocess.run(
        [
            *(qemu, "-nodefaults", "-display", "none", "-machine", "pc", "-m", "16", "-S"),
            *("-qmp", "stdio", "-device", f"loader,file={tmp_path}/blob,addr=0x200000"),
        ],
        input="".join(json.dumps(command) + "\n" for command in commands),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert (tmp_path / "vmcore").exists(), done.stdout
    with CrashDump.open(tmp_path / "vmcore", ram="1MiB") as dump:
        assert dump.read(0x20_0000, 1 << 20, physical=True) == content
        assert dump.read(0, 640 << 10, physical=True) == (tmp_path / "low").read_bytes()
        with pytest.raises(NotDumped):
            dump.read(1 << 30, 1, physical=True)


def test_the_example_is_what_is_imported() -> None:
    assert Path(str(import_module("crash_dump").__file__)) == SCRIPT
