# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagestep.codecs import checksum, lzo1x_decode, same_filled
from pagestep.codecs.errors import CorruptPage, InvalidArgument


def test_same_filled() -> None:
    assert same_filled(bytes(4096)) == 0
    assert same_filled(b"12345678" * 512) == int.from_bytes(b"12345678", "little")
    assert same_filled(b"12345678" * 511 + b"12345679") is None
    assert same_filled(b"1234567812345678" * 100 + b"x2345678") is None
    with pytest.raises(InvalidArgument, match="multiple of 8"):
        same_filled(bytes(9))


def test_checksum() -> None:
    page = np.arange(512, dtype=np.uint64)
    wanted = checksum(page)
    assert wanted == checksum(page.tobytes())
    page[77] ^= 1 << 40
    assert checksum(page) != wanted
    with pytest.raises(InvalidArgument, match="multiple of 64"):
        checksum(bytes(65))


@given(st.binary(max_size=300), st.integers(0, 1000))
def test_lzo_decodes_or_refuses_anything(data: bytes, size_max: int) -> None:
    with contextlib.suppress(CorruptPage):
        assert len(lzo1x_decode(data, size_max=size_max)) <= size_max


def test_lzo_by_hand() -> None:
    assert lzo1x_decode(b"\x11\0\0", size_max=0) == b""
    assert lzo1x_decode(b"\x14abc\x0a\x00xy\x11\0\0", size_max=7) == b"abcabxy"
    with pytest.raises(CorruptPage):
        lzo1x_decode(b"\x14abc\x0a\x00xy\x11\0\0", size_max=6)
    with pytest.raises(InvalidArgument):
        lzo1x_decode(b"\x11\0\0", size_max=-1)


def lzop_blocks(packed: bytes) -> list[tuple[int, bytes]]:
    """The blocks of a file of lzop: (size of content, bytes)."""
    at = 9 + 2 + 2 + 2 + 1 + 1
    (flags,) = struct.unpack_from(">I", packed, at)
    at += 4 + 4 + 4 + 4
    at += 1 + packed[at] + 4
    blocks: list[tuple[int, bytes]] = []
    while True:
        (size,) = struct.unpack_from(">I", packed, at)
        if size == 0:
            return blocks
        (packed_size,) = struct.unpack_from(">I", packed, at + 4)
        at += 8 + 4 * bool(flags & 0x1) + 4 * bool(flags & 0x100)  # checksums of the content
        if packed_size < size:
            at += 4 * bool(flags & 0x2) + 4 * bool(flags & 0x200)  # and of what is packed
        blocks.append((size, packed[at : at + packed_size]))
        at += packed_size


@pytest.mark.skipif(shutil.which("lzop") is None, reason="needs lzop")
@pytest.mark.parametrize("level", [1, 3, 9])
@pytest.mark.parametrize("seed", range(4))
def test_lzo_of_lzop(
    level: int, seed: int, tmp_path: Path, code: Callable[[int, int], bytes]
) -> None:
    rng = np.random.default_rng(seed)
    content = code(seed, 150_000) + bytes(70_000) + code(seed, 60_000)
    content += rng.integers(0, 8, 90_000, dtype=np.uint8).tobytes() + content[:5000]
    file = tmp_path / "content"
    file.write_bytes(content)
    command = ["lzop", f"-{level}", "-F", "-c", str(file)]
    packed = subprocess.run(command, check=True, capture_output=True).stdout
    out = b""
    for size, data in lzop_blocks(packed):
        out += data if len(data) == size else lzo1x_decode(data, size_max=size)
    assert out == content
