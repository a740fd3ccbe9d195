# SPDX-License-Identifier: MIT
"""Pages and dictionaries coded, on all processors, with the same bytes on any number of them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import zstandard

from pagestep.codecs import CODECS, FILTERS, Codec, apply_filter, train_dictionary, xxh32

from ._format import CHECKSUM_STRIDE, NO_DICT, Coding, DictEntry
from ._plan import DICT_SIZE_MIN

if TYPE_CHECKING:
    from ._contents import Contents
    from ._plan import DictionaryUse

# lz4 has no types; imported so, it is Any to every checker.
_lz4: Any = import_module("lz4.block")

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is; 0: not known."""

# zstd's last levels save 0.7 per cent for twice the time: they are for dense pages.
_LEVELS = {"lz4": 12, "zstd": 14}
_LEVELS_DENSE = {"lz4": 12, "zstd": 22}
_PIECE_PAGES = 32
_DICTIONARY_PAGES_MAX = 1536  # more make it a thousandth better
_LZ4_REACH_BYTES = 64 << 10
_DICTIONARY_BYTES_MAX = 256 << 10


@dataclass(frozen=True, slots=True)
class Option:
    """One way to code pages.

    Attributes:
        codec: Its name.
        filter: The branch filter's name.
        dict_no: The number of its dictionary, NO_DICT for none.
        is_dense: Whether it takes all the time that the codec can use.
    """

    codec: str
    filter: str
    dict_no: int = NO_DICT
    is_dense: bool = False

    @property
    def level(self) -> int:
        """The codec's level."""
        return (_LEVELS_DENSE if self.is_dense else _LEVELS)[self.codec]

    @property
    def coding(self) -> Coding:
        """As the header has it."""
        return Coding(CODECS[self.codec].id, FILTERS[self.filter], self.dict_no)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def dictionary_size(
    stored: int, use: DictionaryUse, codecs: Sequence[str], wanted: int | None
) -> int:
    """Return the size of a dictionary for so many bytes of pages, 0 for none.

    A 64th of them, to a power of two: by measurement (docs/decisions/0011-rom-building.md). Half
    as much where it is not compressed itself. LZ4 reaches no further than 64 KiB. What is
    wanted goes before, but for that.
    """
    if use == "none" or not stored or not {"lz4", "zstd"} & set(codecs):
        return 0
    if wanted is not None:
        return wanted if "zstd" in codecs else min(wanted, _LZ4_REACH_BYTES)
    ideal = stored / (64 if use == "compressed" else 128)
    if ideal < DICT_SIZE_MIN:
        return 0
    largest = _DICTIONARY_BYTES_MAX if "zstd" in codecs else _LZ4_REACH_BYTES
    return min(1 << round(math.log2(ideal)), largest)


def make_dictionary(
    contents: Contents,
    slots: npt.NDArray[np.int64],
    filter_name: str,
    size: int,
    codecs: Sequence[str],
) -> bytes:
    """Return a dictionary for some pages, a multiple of 16 bytes; empty where none pays.

    Args:
        contents: Of the image.
        slots: The pages' numbers.
        filter_name: The branch filter of those that hold instructions.
        size: Bytes at most.
        codecs: Those that will use it.
    """
    if not size:
        return b""
    count = min(len(slots), _DICTIONARY_PAGES_MAX)
    slots = np.sort(slots)[np.arange(count) * len(slots) // count]
    pages = contents.pages[slots]
    for page, page_no in zip(pages, slots.tolist(), strict=True):
        if contents.is_code[page_no]:
            apply_filter(filter_name, page, address=contents.address_of(page_no))
    content = train_dictionary(
        pages.reshape(-1),
        size - size % CHECKSUM_STRIDE,
        page_size=pages.shape[1],
        tables="zstd" in codecs,
    )
    return content + bytes(-len(content) % CHECKSUM_STRIDE)


def store_dictionaries(
    dictionaries: Sequence[bytes], use: DictionaryUse, codecs: Sequence[str]
) -> tuple[list[DictEntry], bytes]:
    """Return the dictionaries' entries and their bytes as stored, by the best codec there is."""
    coders = {"zstd": _zstd_frame, "lz4": _lz4_block}
    codec = next((name for name in coders if name in codecs), "raw")
    entries: list[DictEntry] = []
    whole = b""
    for dictionary in dictionaries:
        coded = coders[codec](dictionary) if use == "compressed" and codec != "raw" else dictionary
        if len(coded) < len(dictionary):
            name, stored, checksum = codec, coded, xxh32(dictionary)
        else:
            name, stored, checksum = "raw", dictionary, 0
        entries.append(
            DictEntry(len(whole), len(stored), len(dictionary), checksum, CODECS[name].id)
        )
        whole += stored
    return entries, whole


def _zstd_frame(data: bytes) -> bytes:
    parameters: Any = zstandard.ZstdCompressionParameters  # takes untyped arguments
    params = parameters.from_level(
        _LEVELS_DENSE["zstd"],
        source_size=len(data),
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )
    return zstandard.ZstdCompressor(compression_params=params).compress(data)


def _lz4_block(data: bytes) -> bytes:
    return bytes(
        _lz4.compress(
            data, mode="high_compression", compression=_LEVELS_DENSE["lz4"], store_size=False
        )
    )


def encode(
    contents: Contents,
    work: Sequence[tuple[Option, npt.NDArray[np.int64]]],
    dictionaries: Sequence[bytes],
    *,
    threads: int,
    progress: Progress,
) -> list[dict[int, bytes]]:
    """Code pages.

    Args:
        contents: Of the image.
        work: For each option the numbers of the pages to code with it.
        dictionaries: By number.
        threads: How many at once.
        progress: Told how many pages are done.

    Returns:
        For each option, page number to bytes; pages that do not shrink are left out.
    """
    codecs: list[Codec] = []

    def piece(task: tuple[int, npt.NDArray[np.int64]]) -> tuple[int, dict[int, bytes]]:
        number, page_nos = task
        done: dict[int, bytes] = {}
        for page_no in page_nos.tolist():
            coded = codecs[number].encode(
                contents.pages[page_no], address=contents.address_of(page_no)
            )
            if coded is not None:
                done[page_no] = coded
        return number, done

    tasks = [
        (number, page_nos[at : at + _PIECE_PAGES])
        for number, (_, page_nos) in enumerate(work)
        for at in range(0, len(page_nos), _PIECE_PAGES)
    ]
    found: list[dict[int, bytes]] = [{} for _ in work]
    done, total = 0, sum(len(page_nos) for _, page_nos in work)
    with ExitStack() as opened, ThreadPoolExecutor(threads) as pool:
        for option, _ in work:
            codec = Codec(
                option.codec,
                level=option.level,
                filter=option.filter,
                dictionary=dictionaries[option.dict_no] if option.dict_no != NO_DICT else b"",
                page_size=contents.pages.shape[1],
            )
            codecs.append(opened.enter_context(codec))
        for (number, coded), (_, page_nos) in zip(pool.map(piece, tasks), tasks, strict=True):
            found[number].update(coded)
            done += len(page_nos)
            progress("coding pages", done, total)
    return found


def page_checksums(contents: Contents) -> npt.NDArray[np.uint32]:
    """Return the checksum of each page, 0 for one left out; shape (page_count,), little-endian."""
    pairs: Iterable[tuple[npt.NDArray[np.uint8], np.bool_]] = zip(
        contents.pages, contents.is_absent, strict=True
    )
    return np.array(
        [
            0 if absent else xxh32(page, seed=page_no)
            for page_no, (page, absent) in enumerate(pairs)
        ],
        "<u4",
    )
