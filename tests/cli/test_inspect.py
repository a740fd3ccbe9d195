# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pagestep import Image

from ..image import builders
from .command import assert_documented, assert_refused, run, run_json

TEXT = bytes(range(256)) * 64


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinux [old] :smile:"
    path.write_bytes(builders.small_elf(TEXT))
    return path


def test_the_keys_are_those_of_the_document(elf: Path, tmp_path: Path) -> None:
    assert_documented("inspect", run_json("inspect", elf))
    packed = tmp_path / "bzImage"
    packed.write_bytes(builders.bzimage(builders.COMPRESSORS["gzip"](elf.read_bytes()), None))
    found = run_json("inspect", packed)
    assert_documented("inspect", found)
    assert (found["kind"], found["payload"]) == ("bzImage", "gzip")


def test_it_says_what_the_image_says(elf: Path) -> None:
    for page_size in (512, 4096, 65536):
        found = run_json("inspect", elf, "--page-size", page_size)
        with Image.open(elf, page_size=page_size) as image:
            assert found["arch"] == image.arch
            assert found["pages"] == image.page_count
            assert found["page_size"] == page_size
            assert found["identity"] == image.identity
            assert [s["name"] for s in found["segments"]] == [s.name for s in image.segments]


def test_same_filled_pages_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "firmware"
    path.write_bytes(bytes(4096) + b"12345678" * 512 + TEXT[:4096] + b"\xff" * 4095 + b"\0")
    assert run_json("inspect", "--raw", path)["same_filled_pages"] == 2


@pytest.mark.kernel
def test_a_real_kernel(x86_kernel: Path, arm_kernel: Path) -> None:
    for path, arch, pages in ((x86_kernel, "x86_64", 5000), (arm_kernel, "arm", 1000)):
        found = run_json("inspect", path)
        assert_documented("inspect", found)
        assert found["arch"] == arch
        assert found["pages"] > pages


def test_in_a_pipe_lines_are_whole_and_plain(elf: Path) -> None:
    command = [sys.executable, "-c", "from pagestep.cli import main; main()", "inspect"]
    done = subprocess.run(
        [*command, str(elf)], capture_output=True, text=True, env={"COLUMNS": "20"}, check=True
    )
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{elf.name}: elf, "), "a name in brackets is a name"
    [header] = [line for line in lines if line.startswith("name ")]
    assert header.split() == ["name", "address", "size", "pages", "flags"]
    with Image.open(elf) as image:
        assert len(lines) == lines.index(header) + 1 + len(image.segments)
    parsed = json.loads(subprocess.check_output([*command, str(elf), "--json"]))
    assert parsed["arch"]


def test_a_reader_that_has_seen_enough_is_no_error(elf: Path) -> None:
    script = f"{sys.executable} -c 'from pagestep.cli import main; main()' inspect \"$1\" | true"
    done = subprocess.run(["sh", "-c", script, "sh", str(elf)], capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    assert b"pagestep:" not in done.stderr


def test_bad_input_is_said_in_one_line(elf: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not an image at all\n")
    assert_refused(run("inspect", text), "notes.txt", "--raw")
    cut = tmp_path / "cut"
    for size in (4, 20, 63, 64, 100, 2000, len(elf.read_bytes()) - 1):
        cut.write_bytes(elf.read_bytes()[:size])
        assert_refused(run("inspect", cut), "cut")
    empty = tmp_path / "empty"
    empty.touch()
    assert_refused(run("inspect", empty), "empty")
    assert_refused(run("inspect", "--raw", empty), "empty")
    assert_refused(run("inspect", tmp_path), "not a file")
    assert_refused(run("inspect", tmp_path / "missing"), "missing", "No such file")


@pytest.mark.parametrize("page_size", ["1000", "0", "-4096", "256", "131072", "big"])
def test_a_bad_page_size(elf: Path, page_size: str) -> None:
    assert_refused(run("inspect", elf, "--page-size", page_size), page_size)


@pytest.mark.parametrize("base", ["here", "-1", str(1 << 64), "0x"])
def test_a_bad_base(elf: Path, base: str) -> None:
    assert_refused(run("inspect", elf, "--base", base), base)


@pytest.mark.parametrize("arguments", [["--bad"], ["inspect"], ["inspect", "--bad"], ["inspcet"]])
def test_misuse(arguments: list[str]) -> None:
    assert_refused(run(*arguments), "--help")


def test_help_is_help() -> None:
    assert "Usage:" in run("--help").stdout
    assert "Usage:" in run().output
    assert run("--version").exit_code == 0
