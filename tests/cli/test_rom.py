# SPDX-License-Identifier: MIT
"""``pagestep rom``: build, info, verify, extract."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from pagestep import Image, Rom
from pagestep.store.rom.output import FORMATS
from pagestep.store.trace import TraceWriter, generate

from ..image import builders
from ..rom.images import PAGE, branchy, elf_bytes
from ..store.pages import make_pages
from .command import assert_documented, assert_refused, run, run_json

PAGESTEP = (sys.executable, "-c", "from pagestep.cli import main; main()")


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinux [old]"
    path.write_bytes(elf_bytes(branchy(60), make_pages(60, PAGE), branchy(8, seed=9)))
    return path


@pytest.fixture
def rom(elf: Path, tmp_path: Path) -> Path:
    path = tmp_path / "kernel.rom"
    assert run("rom", "build", elf, "-o", path, "--page-size", PAGE).exit_code == 0
    return path


def pem(path: Path, key: Ed25519PrivateKey, *, private: bool) -> Path:
    if private:
        data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    else:
        data = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.write_bytes(data)
    return path


# -- build ------------------------------------------------------------------------------------


def test_the_keys_are_those_of_the_document(elf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.rom"
    found = run_json("rom", "build", elf, "-o", out, "--page-size", PAGE)
    assert_documented("rom build", found)
    assert found["rom_bytes"] == out.stat().st_size
    with Image.open(elf, page_size=PAGE) as image, Rom.open(out) as built:
        assert found["pages"] == image.page_count
        assert found["image_bytes"] == image.page_count * PAGE
        assert built.flat().tobytes() == image.flat().tobytes()
    limited = run_json("rom", "build", elf, "-o", out, "--page-size", PAGE, "--max-size", "64KiB")
    assert_documented("rom build", limited)
    assert limited["time_us"] >= limited["time_us_bound"]


def test_two_builds_are_equal(elf: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.rom" for number in range(3)]
    for path, threads in zip(paths, (1, 2, 7), strict=True):
        assert run("rom", "build", elf, "-o", path, "--threads", threads).exit_code == 0
    assert len({path.read_bytes() for path in paths}) == 1


def test_options_reach_the_builder(elf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.rom"
    arguments = ["rom", "build", elf, "-o", out, "--page-size", PAGE]
    found = run_json(
        *arguments,
        *("--codecs", "lz4", "--level", ".data=eager", "--in-place", ".init.text"),
        *("--align", "4KiB", "--erased-val", "0", "--dictionary", "none", "--leave-out", ".data"),
    )
    assert found["by_codec"]["zstd"]["pages"] == 0
    assert found["by_codec"]["raw"]["pages"] >= 8
    assert found["by_codec"]["absent"]["pages"] == 60
    assert found["dictionary_bytes"] == found["ram_bytes"] == 0
    assert found["rom_bytes"] % 4096 == 0
    assert out.read_bytes()[-1] == 0
    with Rom.open(out) as opened:
        assert [level.name for level in opened.levels] == ["NORMAL", "EAGER", "NORMAL"]


def test_a_trace_lays_out(elf: Path, tmp_path: Path) -> None:
    trace, out = tmp_path / "t.trace", tmp_path / "out.rom"
    with Image.open(elf, page_size=PAGE) as image:
        identity = bytes.fromhex(image.identity)
        with TraceWriter(
            trace, page_size=PAGE, page_count=image.page_count, identity=identity
        ) as writer:
            for block in generate(image.page_count, events=5000, seed=3):
                writer.events(block.pages, block.kinds, block.times)
        first = int(next(iter(generate(image.page_count, events=5000, seed=3))).pages[0])
        page = image.read(first)
    arguments = ["rom", "build", elf, "-o", out, "--page-size", PAGE, "--codecs", "raw"]
    assert run(*arguments, "--trace", trace).exit_code == 0
    with Rom.open(out) as opened:
        data = out.read_bytes()
        at = data.index(page)
        assert at == len(data) - opened.by_codec["raw"][1]
    assert_refused(run("rom", "build", elf, "-o", out, "--trace", trace), "page")


def test_every_format_at_once(elf: Path, tmp_path: Path) -> None:
    out = tmp_path / "kernel"
    found = run_json("rom", "build", elf, "-o", out, "--format", ",".join(FORMATS))
    assert set(found["outputs"]) == set(FORMATS)
    for name, each in FORMATS.items():
        path = tmp_path / f"kernel{each.suffix}"
        assert found["outputs"][name] == str(path)
        assert path.stat().st_size > 0


@pytest.mark.parametrize(("suffix", "head"), [(".hex", b":"), (".c", b"/*"), (".o", b"\x7fELF")])
def test_the_suffix_says_the_format(elf: Path, tmp_path: Path, suffix: str, head: bytes) -> None:
    out = tmp_path / f"kernel{suffix}"
    assert run("rom", "build", elf, "-o", out).exit_code == 0
    assert out.read_bytes().startswith(head)


def test_tables_for_people(elf: Path, rom: Path) -> None:
    shown = run("rom", "build", elf, "-o", rom, "--max-size", "1MiB").stdout
    assert "raw" in shown
    assert "no choice of codecs that fits is below" in shown
    shown = run("rom", "info", rom).stdout
    assert ".init.text" in shown
    assert "not signed" in shown
    assert "are as they were stored" in run("rom", "verify", rom).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--codecs", "lzma"], ["lzma", "raw, lz4, zstd"]),
        (["--level", ".text"], ["SECTION=LEVEL", "STEP_ON_IT"]),
        (["--level", ".text=HOT"], ["HOT", "STEP_ON_IT"]),
        (["--level", ".txt=EAGER"], [".txt", "did you mean '.text'"]),
        (["--in-place", "nothing"], ["nothing"]),
        (["--leave-out", ".dat"], ["did you mean '.data'"]),
        (["--max-size", "1KiB"], ["smallest", "nothing can be left out"]),
        (["--in-place", ".text", "--leave-out", ".text"], [".text"]),
        (["--level", ".text=NORMAL", "--level", ".text=EAGER"], ["two levels"]),
        (["--dictionary", "none", "--dictionary-size", "4KiB"], ["none"]),
        (["--arch", "thubm"], ["thubm", "thumb"]),
        (["--in-place", ".text", "--format", "hex", "--load-addr", "0x100"], ["512"]),
        (["--max-size", "few"], ["few"]),
        (["--align", "3"], ["power of two"]),
        (["--erased-val", "300"], ["255"]),
        (["--erased-val", "ff"], ["ff", "number"]),
        (["--load-addr", "here"], ["here"]),
        (["--format", "hex", "--load-addr", "0xffffffff0"], ["load_address"]),
        (["--format", "uf2", "--load-addr", "1"], ["256"]),
        (["--format", "zip"], ["zip", "bin, hex"]),
        (["--format", "c", "--name", "int"], ["int", "identifier"]),
        (["--sign", "/nonexistent"], ["/nonexistent"]),
        (["--threads", "0"], ["0"]),
        (["--dictionary-size", "2MiB"], ["1 MiB"]),
        (["--trace", "/nonexistent"], ["/nonexistent"]),
    ],
)
def test_wrong_arguments(elf: Path, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    out = tmp_path / "out.rom"
    out.write_bytes(b"old")
    before = set(tmp_path.iterdir())
    assert_refused(run("rom", "build", elf, "-o", out, "--page-size", PAGE, *arguments), *words)
    assert out.read_bytes() == b"old"
    assert set(tmp_path.iterdir()) == before


def test_an_elf_object_needs_to_know_for_what(tmp_path: Path) -> None:
    firmware = tmp_path / "firmware.bin"
    firmware.write_bytes(bytes(range(256)) * 64)
    assert_refused(run("rom", "build", firmware, "--raw", "-o", tmp_path / "f.o"), "unknown", "arm")
    assert run("rom", "build", firmware, "--raw", "-o", tmp_path / "f.bin").exit_code == 0


def test_a_killed_build_leaves_the_old_file(tmp_path: Path) -> None:
    image, out = tmp_path / "vmlinux", tmp_path / "out.rom"
    image.write_bytes(elf_bytes(branchy(4000), make_pages(4000, PAGE), branchy(8)))
    out.write_bytes(b"old")
    left_old = 0
    for delay in (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0):
        process = subprocess.Popen([*PAGESTEP, "rom", "build", str(image), "-o", str(out)])
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if out.read_bytes() == b"old":
            left_old += 1
            continue
        with Rom.open(out) as whole:  # it came too late
            assert whole.verify().is_good
        break
    assert left_old


def test_no_progress_in_a_pipe(elf: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [*PAGESTEP, "rom", "build", elf, "-o", tmp_path / "a.rom"],
        capture_output=True,
        check=True,
        env={**os.environ, "TERM": "xterm"},
    )
    assert result.stderr == b""


# -- info, verify, extract -----------------------------------------------------------------------


def test_info(elf: Path, rom: Path) -> None:
    found = run_json("rom", "info", rom)
    assert_documented("rom info", found)
    with Image.open(elf, page_size=PAGE) as image:
        assert found["identity"] == image.identity
        assert [each["name"] for each in found["segments"]] == [s.name for s in image.segments]
    assert found["rom_bytes"] == rom.stat().st_size


def test_verify(rom: Path, tmp_path: Path) -> None:
    found = run_json("rom", "verify", rom)
    assert_documented("rom verify", found)
    assert (found["ok"], found["bad_pages"]) == (True, [])
    damaged = tmp_path / "damaged.rom"
    data = bytearray(rom.read_bytes())
    data[-20] ^= 1
    damaged.write_bytes(data)
    result = run("rom", "verify", damaged, "--json")
    assert result.exit_code == 1
    assert '"ok": false' in result.stdout
    shown = run("rom", "verify", damaged)
    assert (shown.exit_code, shown.stderr) == (1, "")
    assert "1 bad page" in shown.stdout


def test_signatures(elf: Path, tmp_path: Path) -> None:
    mine, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    out = tmp_path / "signed.rom"
    key = pem(tmp_path / "key.pem", mine, private=True)
    arguments = ["rom", "build", elf, "-o", out, "--page-size", PAGE]
    assert run(*arguments, "--sign", key).exit_code == 0
    assert run_json("rom", "info", out)["signer"] == mine.public_key().public_bytes_raw().hex()
    public = pem(tmp_path / "mine.pub", mine, private=False)
    assert run_json("rom", "verify", out, "--key", public)["ok"] is True
    assert "the signature holds" in run("rom", "verify", out).stdout
    wrong = run("rom", "verify", out, "--key", pem(tmp_path / "other.pub", other, private=False))
    assert wrong.exit_code == 1
    assert "not with the trusted" in wrong.stdout
    assert run(*arguments).exit_code == 0
    unsigned = run("rom", "verify", out, "--key", public)
    assert unsigned.exit_code == 1
    assert "not signed" in unsigned.stdout
    assert_refused(
        run("rom", "extract", out, "-o", tmp_path / "flat", "--key", public), "not signed"
    )
    assert_refused(run(*arguments, "--sign", elf), "private key")
    assert_refused(run("rom", "verify", out, "--key", elf), "public key")


def test_extract(elf: Path, rom: Path, tmp_path: Path) -> None:
    out = tmp_path / "flat"
    assert run("rom", "extract", rom, "-o", out).exit_code == 0
    with Image.open(elf, page_size=PAGE) as image:
        assert out.read_bytes() == image.flat().tobytes()
    partial = tmp_path / "partial.rom"
    run("rom", "build", elf, "-o", partial, "--page-size", PAGE, "--leave-out", ".data")
    assert_refused(run("rom", "extract", partial, "-o", out), "page 60", "left out")
    assert len(out.read_bytes()) == image.page_count * PAGE


@pytest.mark.parametrize("command", ["info", "verify"])
def test_what_is_no_rom(command: str, elf: Path, tmp_path: Path) -> None:
    assert_refused(run("rom", command, elf), "vmlinux [old]", "not a ROM image")
    assert_refused(run("rom", command, tmp_path / "nothing"), "nothing")


def test_a_rom_that_cannot_be_opened(rom: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.rom"
    data = bytearray(rom.read_bytes())
    damages = {
        "shorter than its header says": data[:-1],
        "header is damaged": data[:40] + bytes([data[40] ^ 1]) + data[41:],
        "does not know": data[:24] + bytes([data[24] ^ 1]) + data[25:],
    }
    for words, damaged in damages.items():
        short.write_bytes(damaged)
        assert_refused(run("rom", "info", short), words)
        # Whether it is whole has an answer: it is not.
        result = run("rom", "verify", short)
        assert (result.exit_code, result.stderr) == (1, "")
        assert words in result.stdout
        found = json.loads(run("rom", "verify", short, "--json").stdout)
        assert_documented("rom verify", found)
        assert not found["ok"]
        assert words in found["fault"]


def test_what_is_read_is_not_written_over(elf: Path, rom: Path, tmp_path: Path) -> None:
    key = pem(tmp_path / "key.pem", Ed25519PrivateKey.generate(), private=True)
    link = tmp_path / "link"
    link.symlink_to(elf)
    for out, more in ((elf, []), (link, []), (key, ["--sign", key])):
        before = out.read_bytes()
        assert_refused(run("rom", "build", elf, "-o", out, *more), "is read")
        assert out.read_bytes() == before
    assert_refused(run("rom", "extract", rom, "-o", rom), "is read")


def test_names_of_several_outputs(elf: Path, tmp_path: Path) -> None:
    source = tmp_path / "kernel-6.c"
    source.write_text("mine")
    found = run_json("rom", "build", elf, "-o", tmp_path / "kernel-6.1", "--format", "bin,c")
    assert found["outputs"] == {
        "bin": str(tmp_path / "kernel-6.1.bin"),
        "c": str(tmp_path / "kernel-6.1.c"),
    }
    assert source.read_text() == "mine"
    assert_refused(run("rom", "build", elf, "-o", tmp_path / "a.elf"), "--format")


def test_left_out_pages_are_not_praised(elf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.rom"
    run("rom", "build", elf, "-o", out, "--page-size", PAGE, "--leave-out", ".data")
    assert (
        "68 of 128 pages are as they were stored, 60 were left out"
        in run("rom", "verify", out).stdout
    )
    assert run_json("rom", "verify", out)["absent_pages"] == 60


def test_an_odd_number_of_bytes_comes_back(tmp_path: Path) -> None:
    firmware, out, back = (tmp_path / name for name in ("fw.bin", "fw.rom", "fw.back"))
    firmware.write_bytes(bytes(range(250)) * 20)
    assert run("rom", "build", firmware, "--raw", "-o", out).exit_code == 0
    found = run_json("rom", "extract", out, "-o", back)
    assert_documented("rom extract", found)
    assert back.read_bytes() == firmware.read_bytes()
    assert found["image_bytes"] == 5000


def test_errors_name_the_output(elf: Path, tmp_path: Path) -> None:
    assert_refused(run("rom", "build", elf, "-o", tmp_path / "no" / "a.rom"), "no/a.rom")
    assert_refused(run("rom", "build", elf, "-o", "/dev/full"), "/dev/full")


@pytest.mark.kernel
def test_a_real_kernel(arm_kernel: Path, tmp_path: Path) -> None:
    out = tmp_path / "marvell.rom"
    found = run_json("rom", "build", arm_kernel, "-o", out)
    assert_documented("rom build", found)
    assert run_json("rom", "verify", out)["ok"] is True


def test_an_image_of_another_kind(tmp_path: Path) -> None:
    packed = tmp_path / "bzImage"
    packed.write_bytes(
        builders.bzimage(builders.COMPRESSORS["gzip"](builders.small_elf(bytes(9000))), None)
    )
    assert run("rom", "build", packed, "-o", tmp_path / "out.rom").exit_code == 0
