# SPDX-License-Identifier: MIT
"""Pages and dictionaries coded, on all processors, with the same bytes on any number of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import lz4.block
import numpy as np
import numpy.typing as npt
import zstandard

from pagestep.codecs import CODECS, FILTERS, Codec, train_dictionary, xxh32

from ._format import CHECKSUM_STRIDE, NO_DICT, Coding, DictEntry

if TYPE_CHECKING:
    from pagestep.store.image import Image

    from ._contents import Contents

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is; 0: not known."""

DictionaryUse = Literal["compressed", "in-place", "none"]

# The most that each codec can do: an image is built once and read for years.
_LEVELS = {"raw": 0, "lz4": 12, "zstd": 22}
_PIECE_PAGES = 32
_LZ4_REACH_BYTES = 64 << 10
_DICTIONARY_BYTES_MIN, _DICTIONARY_BYTES_MAX = 1 << 10, 256 << 10
_PAGE_BYTES_PER_DICTIONARY_BYTE = 128


@dataclass(frozen=True, slots=True)
class Option:
    """One way to code pages.

    Attributes:
        codec: Its name.
        filter: The branch filter's name.
        has_dictionary: Whether it refers to the image's dictionary.
    """

    codec: str
    filter: str
    has_dictionary: bool

    @property
    def coding(self) -> Coding:
        """As the header has it."""
        return Coding(
            CODECS[self.codec].id, FILTERS[self.filter], 0 if self.has_dictionary else NO_DICT
        )


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def dictionary_size(contents: Contents, codecs: Sequence[str]) -> int:
    """Return the dictionary's best size in bytes, 0 for none.

    About 64 KiB for 8 MB of pages and 256 KiB for 26 MB, by measurement (docs/BENCHMARKS.md);
    LZ4 reaches no further than 64 KiB.
    """
    stored = len(contents.slots) * contents.pages.shape[1]
    size = _DICTIONARY_BYTES_MIN
    while size * 2 * _PAGE_BYTES_PER_DICTIONARY_BYTE <= stored * 2**0.5:
        size *= 2
    if size * _PAGE_BYTES_PER_DICTIONARY_BYTE > stored * 2**0.5:
        return 0
    largest = _DICTIONARY_BYTES_MAX if "zstd" in codecs else _LZ4_REACH_BYTES
    return min(size, largest)


def make_dictionary(image: Image, filter_name: str, size: int, codecs: Sequence[str]) -> bytes:
    """Return a dictionary for the image's pages, a multiple of 16 bytes; empty where none pays."""
    if not size:
        return b""
    content = train_dictionary(
        image.flat(),
        size - size % CHECKSUM_STRIDE,
        filter=filter_name,
        address=image.base,
        page_size=image.page_size,
        tables="zstd" in codecs,
    )
    return content + bytes(-len(content) % CHECKSUM_STRIDE)


def store_dictionary(
    dictionary: bytes, use: DictionaryUse, codecs: Sequence[str]
) -> tuple[list[DictEntry], bytes]:
    """Return a dictionary's entry and its bytes as they are stored, by the smallest codec."""
    if not dictionary:
        return [], b""
    stored, codec = dictionary, "raw"
    if use == "compressed":
        for name, encode in (("zstd", _zstd_frame), ("lz4", _lz4_block)):
            if name in codecs and len(coded := encode(dictionary)) < len(stored):
                stored, codec = coded, name
    checksum = xxh32(dictionary) if codec != "raw" else 0
    entry = DictEntry(0, len(stored), len(dictionary), checksum, CODECS[codec].id)
    return [entry], stored


def _zstd_frame(data: bytes) -> bytes:
    params = zstandard.ZstdCompressionParameters.from_level(
        _LEVELS["zstd"],
        source_size=len(data),
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )
    return zstandard.ZstdCompressor(compression_params=params).compress(data)


def _lz4_block(data: bytes) -> bytes:
    return lz4.block.compress(
        data, mode="high_compression", compression=_LEVELS["lz4"], store_size=False
    )


def encode(
    contents: Contents,
    base: int,
    work: Sequence[tuple[Option, npt.NDArray[np.int64]]],
    dictionary: bytes,
    *,
    threads: int,
    progress: Progress,
) -> list[dict[int, bytes]]:
    """Code pages.

    Args:
        contents: Of the image.
        base: Virtual address of page 0.
        work: For each option the numbers of the pages to code with it.
        dictionary: Of the options that have one.
        threads: How many at once.
        progress: Told how many pages are done.

    Returns:
        For each option, page number to bytes; pages that do not shrink are left out.
    """
    page_size = contents.pages.shape[1]
    codecs = [
        Codec(
            option.codec,
            level=_LEVELS[option.codec],
            filter=option.filter,
            dictionary=dictionary if option.has_dictionary else b"",
            page_size=page_size,
        )
        for option, _ in work
    ]

    def piece(task: tuple[int, npt.NDArray[np.int64]]) -> tuple[int, dict[int, bytes]]:
        number, page_nos = task
        done: dict[int, bytes] = {}
        for page_no in page_nos.tolist():
            address = (base + page_no * page_size) % (1 << 64)
            coded = codecs[number].encode(contents.pages[page_no], address=address)
            if coded is not None and len(coded) < page_size:
                done[page_no] = coded
        return number, done

    tasks = [
        (number, page_nos[at : at + _PIECE_PAGES])
        for number, (_, page_nos) in enumerate(work)
        for at in range(0, len(page_nos), _PIECE_PAGES)
    ]
    found: list[dict[int, bytes]] = [{} for _ in work]
    done, total = 0, sum(len(page_nos) for _, page_nos in work)
    with ThreadPoolExecutor(threads) as pool:
        for (number, coded), (_, page_nos) in zip(pool.map(piece, tasks), tasks, strict=True):
            found[number].update(coded)
            done += len(page_nos)
            progress("coding pages", done, total)
    for codec in codecs:
        codec.close()
    return found


def page_checksums(contents: Contents) -> npt.NDArray[np.uint32]:
    """Return the checksum of each page, 0 for one left out; shape (page_count,), little-endian."""
    pairs: Iterable[tuple[npt.NDArray[np.uint8], np.bool_]] = zip(
        contents.pages, contents.is_absent, strict=True
    )
    return np.array(
        [0 if absent else xxh32(page, seed=page_no) for page_no, (page, absent) in enumerate(pairs)],
        "<u4",
    )
