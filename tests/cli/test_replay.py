# SPDX-License-Identifier: MIT
from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pagestep import CorruptPage, Image, PageStore, replay
from pagestep.store.rom import build_rom
from pagestep.store.trace import TraceWriter, generate

from ..image import builders
from ..store.pages import make_pages
from .command import assert_documented, assert_refused, run, run_json

PAGE_COUNT = 200
EVENTS = 20_000
COMMAND = [sys.executable, "-c", "from pagestep.cli import main; main()"]
DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinux"
    path.write_bytes(builders.small_elf(make_pages(PAGE_COUNT).tobytes()))
    return path


@pytest.fixture
def trace(image: Path, tmp_path: Path) -> Path:
    path = tmp_path / "boot.trace"
    with (
        Image.open(image) as opened,
        TraceWriter(
            path,
            page_size=opened.page_size,
            page_count=opened.page_count,
            identity=bytes.fromhex(opened.identity),
        ) as writer,
    ):
        for block in generate(opened.page_count, events=EVENTS, seed=3):
            writer.events(block.pages, block.kinds, block.times)
    return path


def test_the_keys_are_those_of_the_document(image: Path, trace: Path) -> None:
    found = run_json("replay", image, "--trace", trace, "--ram", "600KiB")
    assert_documented("replay", found)
    assert set(found["by_tier"]) == {"compressed", "same", "rom", "disk", "swap", "zero"}
    assert found["events"] == EVENTS
    assert found["ram"] == 600 << 10
    assert found["trace"] == "boot.trace"
    assert 0 < found["verified"] < EVENTS, "writes are made, not verified"
    assert found["faults"] == sum(tier["faults"] for tier in found["by_tier"].values()) > 0
    assert found["resident_bytes_max"] <= found["ram"]
    assert found["by_tier"]["disk"]["seconds"] > 0


def test_pages_come_from_a_rom_image_of_it(image: Path, trace: Path, tmp_path: Path) -> None:
    rom = tmp_path / "kernel.rom"
    with Image.open(image) as opened:
        rom.write_bytes(build_rom(opened).data)
    how = ("--trace", trace, "--ram", "600KiB", "--rom", rom)
    found = run_json("replay", image, *how)
    assert found["by_tier"]["rom"]["faults"] > 0
    assert found["verified"] > 0
    assert "ROM image" in run("replay", image, *how).stdout
    rom.write_bytes(rom.read_bytes()[:-1])
    assert_refused(run("replay", image, *how), "kernel.rom", "shorter than its header says")


@pytest.mark.parametrize(
    "options",
    [
        ["--policy", "lru"],
        ["--codec", "zstd", "--codec-level", "3", "--ram", "4MiB"],
        ["--codec", "raw", "--no-dictionary"],
        ["--no-scratch", "--ram", "4MiB"],
        ["--pool-percent", "0"],
        ["--page-size", "1024"],
        ["--page-size", "16384", "--ram", "2MiB"],
    ],
)
def test_options(image: Path, options: list[str]) -> None:
    ram = [] if "--ram" in options else ["--ram", "800KiB"]
    with_trace = run_json("replay", image, *ram, *options)
    assert with_trace["events"] > 0
    assert "generated" in with_trace["trace"]


def test_the_same_seed_gives_the_same_faults(image: Path) -> None:
    first, second, other = (
        run_json("replay", image, "--ram", "600KiB", "--seed", seed) for seed in (5, 5, 6)
    )
    assert first["faults"] == second["faults"]
    assert first["faults"] != other["faults"]


def test_in_a_pipe_lines_are_whole_and_without_a_bar(image: Path, trace: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "replay", str(image), "--trace", str(trace), "--ram", "600KiB"],
        capture_output=True,
        text=True,
        env={"COLUMNS": "20"},
        check=True,
    )
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == (
        f"{EVENTS:,} accesses (boot.trace), each of the "
        f"{run_json('replay', image, '--trace', trace)['verified']:,} fetches and reads compared "
        "with the image"
    )
    [header] = [line for line in lines if line.startswith("tier ")]
    assert header.split() == ["tier", "faults", "bytes", "time", "each"]


def test_a_picture(image: Path, trace: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "run.svg"
    more = ["--trace", trace, "--ram", "2MiB"]
    result = run("replay", image, "--picture", path)
    assert result.exit_code == 0
    assert path.read_text().startswith("<?xml")
    assert_refused(run("replay", image, *more, "--picture", tmp_path / "run.docx"), ".png")


@pytest.mark.kernel
def test_the_sample_on_its_kernel(x86_kernel: Path) -> None:
    trace = DATA / "x86-cloud-boot.trace"
    result = run("replay", x86_kernel, "--trace", trace, "--ram", "8MiB", "--no-dictionary")
    if "another image" in result.stderr:
        pytest.skip("the sample is of another version of the kernel")
    assert result.exit_code == 0, result.stderr


# -- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ram", "1KiB"], ["1024 bytes", "raise `ram`"]),
        (["--ram", "0"], ["raise `ram`"]),
        (["--ram", "99999999999T"], ["99999999999T", "at most"]),
        (["--ram", "-1"], ["ram is '-1'"]),
        (["--ram", "lots"], ["ram is 'lots'"]),
        (["--ram", ""], ["ram is ''"]),
        (["--policy", "fifo"], ["'fifo'", "s3fifo", "--help"]),
        (["--codec", "gzip"], ["'gzip'"]),
        (["--codec-level", "99"], ["99"]),
        (["--pool-percent", "200"], ["200"]),
        (["--page-size", "1000"], ["1000"]),
        (["--page-size", "x"], ["'x'"]),
        (["--base", "x"], ["'x'"]),
        (["--seed", "x"], ["'x'"]),
        (["--trace", "/nowhere/at.all"], ["/nowhere/at.all: No such file"]),
        (["--trace", "/"], ["/: Is a directory"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_bad_options_are_said_in_one_line(
    image: Path, options: list[str], words: list[str]
) -> None:
    assert_refused(run("replay", image, *options), *words)


def test_bad_images_are_said_in_one_line(tmp_path: Path, trace: Path) -> None:
    assert_refused(run("replay", tmp_path), "not a file")
    assert_refused(run("replay", tmp_path / "missing"), "missing", "No such file")
    assert_refused(run("replay", trace), "boot.trace", "no ELF file")


def test_bad_traces_are_said_in_one_line(image: Path, trace: Path, tmp_path: Path) -> None:
    whole = trace.read_bytes()
    bad = tmp_path / "bad.trace"
    for size in (0, 3, 8, 40, 80, len(whole) // 2, len(whole) - 40, len(whole) - 1):
        bad.write_bytes(whole[:size])
        assert_refused(run("replay", image, "--trace", bad), "bad.trace: ")
    for at in (0, 10, 60, len(whole) // 2, len(whole) - 3):
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        assert_refused(run("replay", image, "--trace", bad), "bad.trace: ")
    assert_refused(run("replay", image, "--trace", image), "not a pagestep trace")
    assert_refused(run("replay", image, "--trace", trace, "--page-size", 512), "boot.trace")


def test_a_trace_for_another_image(image: Path, trace: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    other.write_bytes(data)
    assert_refused(run("replay", other, "--trace", trace), "boot.trace: ", "image")


def test_a_budget_that_cannot_hold_what_is_written(image: Path) -> None:
    result = run("replay", image, "--no-scratch", "--ram", "300KiB", "--codec", "raw")
    if result.exit_code:
        assert_refused(result, "raise `ram`")


def test_a_wrong_page_is_found(image: Path) -> None:
    with Image.open(image) as opened, PageStore.open(opened) as store:
        good = store.read(20)
        store.write(20, bytes([good[0] ^ 1]) + good[1:])
        blocks: Any = generate(opened.page_count, events=EVENTS, seed=1)
        with pytest.raises(CorruptPage, match="page 20 is not what it must be at event"):
            replay(store, blocks)
