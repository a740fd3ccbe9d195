# SPDX-License-Identifier: MIT
from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

from pagestep.codecs import Codec, train_dictionary
from pagestep.codecs.errors import InvalidArgument

Code = Callable[[int, int], bytes]

PAGE = 4096
MAGIC = b"\x37\xa4\x30\xec"


def total(pages: bytes, name: str, level: int, dictionary: bytes) -> int:
    codec = Codec(name, level=level, filter="x86", dictionary=dictionary)
    return len(codec.encode_pages(pages).data) + len(dictionary)


@pytest.mark.parametrize("method", ["cover", "zstd"])
@pytest.mark.parametrize(("name", "level"), [("lz4", 9), ("zstd", 19)])
def test_a_dictionary_pays(
    method: Literal["cover", "zstd"], name: str, level: int, code: Code
) -> None:
    pages = code(1, 120 * PAGE)
    dictionary = train_dictionary(pages, 4096, method=method, filter="x86")
    assert 500 < len(dictionary) <= 4096
    assert total(pages, name, level, dictionary) < total(pages, name, level, b"")


def test_zstd_gains_by_tables(code: Code) -> None:
    pages = code(2, 120 * PAGE)
    with_tables = train_dictionary(pages, 4096)
    without = train_dictionary(pages, 4096, tables=False)
    assert with_tables.startswith(MAGIC)
    assert not without.startswith(MAGIC)
    assert total(pages, "zstd", 19, with_tables) < total(pages, "zstd", 19, without)


def test_pages_train_the_same_dictionary_again(code: Code) -> None:
    pages = code(3, 60 * PAGE)
    first = train_dictionary(pages, 8192, filter="x86", address=0x1000)
    assert train_dictionary(bytearray(pages), 8192, filter="x86", address=0x1000) == first
    array = np.frombuffer(pages, np.uint8).reshape(-1, PAGE)
    assert train_dictionary(array, 8192, filter="x86", address=0x1000) == first


def test_what_is_shared_is_found() -> None:
    rng = np.random.default_rng(4)
    pages = rng.integers(0, 256, (40, PAGE), dtype=np.uint8)
    shared = rng.integers(0, 256, 96, dtype=np.uint8)
    for row in pages:
        at = int(rng.integers(0, PAGE - 96))
        row[at : at + 96] = shared
    dictionary = train_dictionary(pages, 1024, tables=False)
    windows = [shared[at : at + 16].tobytes() for at in range(96 - 15)]
    assert sum(window in dictionary for window in windows) > 60
    assert len(dictionary) < 200  # and nothing else, for nothing else is shared


@pytest.mark.parametrize("method", ["cover", "zstd"])
def test_nothing_shared_gives_nothing(method: Literal["cover", "zstd"]) -> None:
    noise = np.random.default_rng(5).integers(0, 256, 40 * PAGE, dtype=np.uint8)
    assert train_dictionary(noise, 1024, method="cover") == b""
    assert train_dictionary(b"", 1024, method=method) == b""
    assert train_dictionary(bytes(100 * PAGE), 1024, method=method) == b""


def test_misuse() -> None:
    with pytest.raises(InvalidArgument, match="multiple of 4096"):
        train_dictionary(bytes(PAGE + 1), 4096)
    for size in (0, 1023, (1 << 20) + 1):
        with pytest.raises(InvalidArgument, match=f"dictionary of {size} bytes"):
            train_dictionary(bytes(PAGE), size)
    with pytest.raises(InvalidArgument, match="not one of cover, zstd"):
        train_dictionary(bytes(PAGE), 4096, method="lz4")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidArgument, match="page size"):
        train_dictionary(bytes(PAGE), 4096, page_size=100)
