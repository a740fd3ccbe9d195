# SPDX-License-Identifier: MIT
"""Compressed kernels: every format in every wrapping, cut off, damaged, and lying."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import random
import shutil
import struct
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

import pagestep.codecs
from pagestep.codecs.errors import BadImage, CorruptPage, StoreIOError
from pagestep.store.image import Image
from pagestep.store.image._lzop import decode_lzop
from pagestep.store.image._source import BufferSource
from pagestep.store.image._stream import Input, Malformed

from . import builders as b
from .lzo1x import lzo1x_decode

RANDOM = random.Random(5)
TEXT = b"".join(RANDOM.randbytes(40) + bytes(60) for _ in range(400))
VMLINUX = b.small_elf(TEXT)
RAW = bytes(64) + RANDOM.randbytes(9000)
CORPUS = Path(__file__).parents[2] / "csrc/fuzz/corpus/lzo1x"
FORMATS = sorted(b.COMPRESSORS)


@pytest.mark.skipif(shutil.which("lzop") is None, reason="lzop is not installed")
@pytest.mark.parametrize("size", [1, 17, 100, 5000, 40_000])
def test_two_lzo_decoders_agree(size: int) -> None:
    """The core's, and the small slow one of these tests, on what lzop wrote."""
    text = TEXT[:size]
    packed = subprocess.run(["lzop", "-9c"], input=text, capture_output=True, check=True).stdout
    coded = packed[packed.index(struct.pack(">I", size)) :]
    coded_size = struct.unpack(">I", coded[4:8])[0]
    block = coded[12 : 12 + coded_size]  # lzop -9 adds one checksum of the decoded bytes
    if coded_size < size:
        assert lzo1x_decode(block, size) == text
        assert pagestep.codecs.lzo1x_decode(block, size_max=size) == text


def memory(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4096)


@pytest.mark.parametrize("name", FORMATS)
def test_a_bzimage_of_each_format(name: str) -> None:
    packed = b.COMPRESSORS[name](VMLINUX)
    size = None if name == "gzip" else len(VMLINUX)
    with Image.open(b.bzimage(packed, size)) as image:
        assert (image.kind, image.payload, image.arch) == ("bzImage", name, "x86_64")
        assert image.flat().tobytes() == memory(TEXT)
        assert image.base == 0xFFFFFFFF81000000
        assert image.file is not None, "the payload is a file, for the disk tier"
        assert os.fstat(image.file).st_nlink == 0
        extent = image.extents[0]
        assert os.pread(image.file, extent.size, extent.file_offset) == TEXT
        symbol = image.symbol_at(0xFFFFFFFF81000020)
        assert symbol is not None
        assert symbol.name == "start_kernel"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("table", [True, False], ids=["with table", "without"])
def test_a_zimage_of_each_format(name: str, table: bool) -> None:
    packed = b.COMPRESSORS[name](RAW)
    # The decompressor in front holds the format's magic number too, as code that checks it.
    decoy = b"\x90" * 64 + packed[:6] + b"\x55" * 50
    data = b.zimage(packed, len(RAW), table=table, gzipped=name == "gzip", decoy=decoy)
    with Image.open(data) as image:
        assert (image.kind, image.payload, image.arch) == ("zImage", name, "arm")
        assert image.base == 0xC0008000
        assert image.flat().tobytes() == memory(RAW)
        assert image.address_of(1) == 0xC0009000


@pytest.mark.parametrize("name", FORMATS)
def test_a_compressed_file_of_each_format(name: str, tmp_path: Path) -> None:
    for inner, kind, arch in (
        (VMLINUX, "elf", "x86_64"),
        (b.arm64_image(RAW), "arm64 Image", "arm64"),
        (b.riscv_image(RAW), "riscv Image", "riscv64"),
        (b.zimage(gzip.compress(RAW), len(RAW), gzipped=True), "zImage", "arm"),
    ):
        path = tmp_path / "kernel"
        path.write_bytes(b.COMPRESSORS[name](inner))
        with Image.open(path) as image:
            assert (image.kind, image.arch) == (kind, arch)
            assert image.payload == (name if kind != "zImage" else f"{name}+gzip")
            expected = {"elf": TEXT, "zImage": RAW}.get(kind, inner)
            assert image.identity == hashlib.sha256(memory(expected)).hexdigest()


@pytest.mark.parametrize("name", FORMATS)
def test_an_efi_zboot_image_of_each_format(name: str) -> None:
    with Image.open(b.zboot(b.COMPRESSORS[name](b.arm64_image(RAW)))) as image:
        assert (image.kind, image.payload, image.arch) == ("EFI zboot", name, "arm64")
        assert image.flat().tobytes() == memory(b.arm64_image(RAW))


def test_several_members_make_one_file() -> None:
    half = len(VMLINUX) // 2
    for name in FORMATS:
        pack = b.COMPRESSORS[name]
        with Image.open(pack(VMLINUX[:half]) + pack(VMLINUX[half:])) as image:
            assert image.flat().tobytes() == memory(TEXT), name


def test_a_legacy_lz4_kernel_of_several_blocks() -> None:
    text = RANDOM.randbytes(1 << 16) * 290  # 18 MiB: two whole blocks, and a bit
    with Image.open(b.bzimage(b.lz4_legacy(b.small_elf(text)), len(b.small_elf(text)))) as image:
        assert image.flat().tobytes() == memory(text)


@pytest.mark.parametrize(
    ("head", "word", "base"),
    [
        (b.arm64_image, "<Q", 0xFFFF800008000000),
        (b.arm64_image, "<Q", 0xFFFFFFC080000000),
        (b.riscv_image, "<Q", 0xFFFFFFFF80000000),
    ],
)
def test_the_base_of_a_raw_kernel_is_guessed_from_its_pointers(
    head: Callable[[bytes], bytes], word: str, base: int
) -> None:
    pointers = b"".join(struct.pack(word, base + 8 * i) for i in range(1000))
    with Image.open(head(pointers)) as image:
        assert image.base == base
    with Image.open(head(pointers), base=0x123000) as image:
        assert image.base == 0x123000


def test_an_arm_kernel_split_at_2_gib_is_found() -> None:
    body = b"".join(struct.pack("<I", 0x80008000 + 4 * i) for i in range(3000))
    with Image.open(b.zimage(lzma.compress(body), len(body))) as image:
        assert image.base == 0x80008000


# Cut off, damaged, lying


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 1.0])
def test_a_payload_that_ends_early_is_one_clear_line(name: str, part: float) -> None:
    packed = b.COMPRESSORS[name](VMLINUX)
    cut = packed[: min(int(len(packed) * part), len(packed) - 1)]
    for data in (cut, b.bzimage(cut, None), b.zboot(cut), b.zimage(cut, len(VMLINUX))):
        with pytest.raises(BadImage) as caught:
            Image.open(data)
        assert "\n" not in str(caught.value)
        assert "again" in str(caught.value) or "base=" in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_payload_is_never_taken_for_good(name: str) -> None:
    packed = b.COMPRESSORS[name](VMLINUX)
    refused = 0
    for at in range(10, len(packed), max(1, len(packed) // 50)):
        damaged = bytearray(packed)
        damaged[at] ^= 0x10
        try:
            Image.open(b.bzimage(bytes(damaged), None if name == "gzip" else len(VMLINUX))).close()
        except BadImage:
            refused += 1
    # As packed here these have no checksum: only what breaks the stream is seen.
    assert refused > (0 if name in ("lz4", "lz4-legacy", "lzma", "zstd") else 45)


def bomb(name: str) -> bytes:
    zeros = bytes(64 << 20)
    if name == "lzo":
        return b.lzop_stored(zeros, block=1 << 20)
    return b.COMPRESSORS[name](zeros)


@pytest.mark.parametrize("name", FORMATS)
def test_a_bomb_stops_at_the_limit(name: str) -> None:
    data = bomb(name)
    for wrapped in (data, b.bzimage(data, None)):
        tracemalloc.start()
        try:
            with pytest.raises(BadImage, match=r"more than 16 MiB: .*max_payload="):
                Image.open(wrapped, max_payload="16MiB")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 40 << 20, "memory must not follow the payload's size"


def claims() -> Iterator[tuple[str, bytes]]:
    terabytes = 4 << 40
    zstd = zstandard.compress(b"")  # then a frame header that claims 4 TiB
    yield "zstd content size", zstd[:4] + b"\xe0" + struct.pack("<Q", terabytes) + b"\x01\0\0"
    wide = zstandard.ZstdCompressionParameters(window_log=28)
    stream = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    yield "zstd window", stream.compress(VMLINUX) + stream.flush()
    alone = lzma.compress(VMLINUX, lzma.FORMAT_ALONE)
    yield "lzma size", alone[:5] + struct.pack("<Q", terabytes) + alone[13:]
    yield "lzma dictionary", b"\x5d\0\0\0\xc0" + alone[5:]
    yield "lzma odd dictionary", b"\x5d\0\0\0\xf0" + alone[5:]
    yield "lz4 block", b"\x02\x21\x4c\x18" + struct.pack("<I", 0x7FFFFFFF) + bytes(100)
    stored = b.lzop_stored(VMLINUX)
    yield "lzop block", stored[:38] + struct.pack(">II", 0xFFFFFFF0, 0xFFFFFFF0) + stored[46:]
    yield "lzop extra field", b.lzop_stored(VMLINUX, flags=0x41)
    yield "gzip", gzip.compress(VMLINUX)[:-4] + struct.pack("<I", 0xFFFFFFFF)
    yield "bzip2", bz2.compress(VMLINUX)[:-4] + bytes(4)


@pytest.mark.parametrize(("what", "data"), list(claims()), ids=[name for name, _ in claims()])
def test_a_payload_that_claims_too_much_is_refused_cheaply(what: str, data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadImage):
            Image.open(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b.bzimage(gzip.compress(VMLINUX), None, protocol=0x0203), "boot protocol 2.3"),
        (b.bzimage(gzip.compress(RAW), None), "no ELF"),
        (b.bzimage(b"\x11\x22\x33" * 20, None), "11 22 33 11 .* no known compression"),
        (b.bzimage(gzip.compress(VMLINUX), None)[:2500], "cut off"),
        (b.bzimage(lzma.compress(VMLINUX), 12345), "its header says 12345"),
        (b.zimage(b"nothing packed" * 30, 77), "none of the 0 places"),
        (b.zimage(lzma.compress(RAW), 12345), "none of the 1 places"),
        (b.zimage(lzma.compress(RAW), len(RAW))[:1500], "this zImage claims"),
        (b.zboot(b"\x00" * 50), "no known compression"),
        (b.lz4_legacy(VMLINUX) + b"\xff" * 99, "99 bytes at its end are not LZ4"),
        (gzip.compress(b""), "payload is empty"),
        (gzip.compress(b"firmware of no known kind"), "raw=True"),
        (b"\x7fEL" * 50, "7f 45 4c .*raw=True or base="),
    ],
)
def test_what_is_wrong_is_named(data: bytes, says: str) -> None:
    with pytest.raises(BadImage, match=says) as caught:
        Image.open(data)
    assert "\n" not in str(caught.value)


def test_layers_without_end_are_refused() -> None:
    data = VMLINUX
    for _ in range(3):
        data = gzip.compress(data)
    with Image.open(data) as image:
        assert image.payload == "gzip+gzip+gzip"
    for _ in range(3):
        data = gzip.compress(data)
    with pytest.raises(BadImage, match="layers of compression"):
        Image.open(data)


@pytest.mark.parametrize("sizes", [(0xFFFFFFF0, 10), (100, 101), (100, 0)])
def test_lzop_blocks_that_claim_too_much_never_reach_the_decoder(
    sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []

    def decoder(data: bytes, *, size_max: int) -> bytes:
        called.append(size_max)
        return data

    monkeypatch.setattr("pagestep.store.image._lzop.lzo1x_decode", decoder)
    empty = b.lzop_stored(b"")
    data = empty[:-4] + struct.pack(">III", *sizes, 1) + bytes(200)
    stream = Input(BufferSource(data, "test"), 0, len(data))
    with pytest.raises(Malformed, match=f"claims {sizes[1]} bytes that decode to {sizes[0]}"):
        list(decode_lzop(stream))
    assert not called


def test_a_legacy_lz4_kernel_of_whole_blocks_ends_before_what_follows() -> None:
    kernel = bytes(64) + b"\x01" * ((16 << 20) - 64)
    with Image.open(b.zimage(b.lz4_legacy(kernel), len(kernel), table=False)) as image:
        assert image.page_count == 4096


def test_lzop_checksums_are_checked() -> None:
    for flags, checksum in ((0x01, zlib.adler32), (0x100, zlib.crc32)):
        stored = bytearray(b.lzop_stored(VMLINUX, flags=flags))
        if flags == 0x100:
            with pytest.raises(BadImage, match="checksum of its block"):
                Image.open(bytes(stored))
            stored[46:50] = struct.pack(">I", checksum(VMLINUX[:4096]))
        stored[200] ^= 1
        with pytest.raises(BadImage, match="checksum of its block"):
            Image.open(bytes(stored))


def test_an_lzo_block_that_the_core_refuses_is_a_bad_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(data: bytes, *, size_max: int) -> bytes:
        raise CorruptPage("LZO1X: a match before the start")

    monkeypatch.setattr("pagestep.store.image._lzop.lzo1x_decode", refuse)
    block = struct.pack(">III", 100, 3, 0) + b"abc" + bytes(4)
    with pytest.raises(BadImage, match=r"lzo payload .* damaged .*: LZO1X: a match before"):
        Image.open(b.lzop_stored(b"")[:-4] + block)


@pytest.mark.parametrize("name", ["empty", "far", "mixed"])
def test_the_core_and_the_slow_second_decoder_agree_on_lzo(name: str) -> None:
    block = (CORPUS / name).read_bytes()[2:]  # the fuzz target's cap comes first
    decoded = lzo1x_decode(block, 1 << 20)
    assert pagestep.codecs.lzo1x_decode(block, size_max=1 << 20) == decoded


def test_the_scratch_folder_can_be_chosen(tmp_path: Path) -> None:
    packed = gzip.compress(VMLINUX)
    with Image.open(packed, scratch_dir=tmp_path) as image:
        assert image.file is not None
        assert os.fstat(image.file).st_dev == tmp_path.stat().st_dev
        assert not list(tmp_path.iterdir())
    with pytest.raises(StoreIOError, match="scratch_dir="):
        Image.open(packed, scratch_dir=tmp_path / "missing")
