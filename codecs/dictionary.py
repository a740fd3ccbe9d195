# SPDX-License-Identifier: MIT
"""Dictionaries: bytes that many pages share, chosen from the pages themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import zstandard

from . import _lib
from .errors import InvalidArgument
from .filters import filter_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .buffers import AnyBuffer

__all__ = ["train_dictionary"]

_SIZE_MIN: Final = 1024
_SIZE_MAX: Final = 1 << 20
_TABLES_PAGES_MAX: Final = 128  # more take longer and make no better tables
_PAGES_MIN: Final = 16  # fewer have nothing in common that would be worth its bytes


def train_dictionary(
    pages: AnyBuffer,
    size: int,
    *,
    method: Literal["cover", "zstd"] = "cover",
    filter: str | int = "none",
    address: int = 0,
    page_size: int = 4096,
    tables: bool = True,
) -> bytes:
    """Choose a dictionary for pages.

    The same pages give the same bytes, on any machine.

    Args:
        pages: A buffer of whole pages that follow each other.
        size: Bytes at most, 1 KiB to 1 MiB, all counted. About 64 KiB is best
            for an image of 8 MB, 256 KiB for one of 35 MB.
        method: "cover" looks for what most pages share and drops what they
            then do not use; "zstd" is zstd's own trainer.
        filter: The branch filter that the codec will have.
        address: Of the first page, for the filter.
        page_size: A power of two, 512 to 65536.
        tables: Begin with zstd's tables, 100 to 200 bytes, which save it more
            than that on every few pages. LZ4 takes them for content.

    Returns:
        The dictionary; empty where pages are too few or share nothing.

    Raises:
        InvalidArgument: An argument is outside its range.
    """
    if not _SIZE_MIN <= size <= _SIZE_MAX:
        raise InvalidArgument(f"dictionary of {size} bytes: wanted {_SIZE_MIN} to {_SIZE_MAX}")
    if method not in ("cover", "zstd"):
        raise InvalidArgument(f"method {method!r}: not one of cover, zstd")
    samples = _samples(pages, page_size, filter_id(filter), _lib.checked_address(address))
    if len(samples) < _PAGES_MIN:
        return b""
    content_size = size - (_lib.DICT_TABLES_MAX if tables else 0)
    if method == "cover":
        source = _lib.readable(samples.reshape(-1), "pages")
        content = _lib.dict_cover(source, len(samples), page_size, content_size)
    else:
        content = _train_zstd(samples, content_size)
    if not tables or len(content) < _lib.DICT_TABLES_MAX:
        return content
    few = np.ascontiguousarray(samples[:: -(-len(samples) // _TABLES_PAGES_MAX)])
    return _lib.dict_add_tables(
        content, _lib.readable(few.reshape(-1), "pages"), len(few), page_size
    )


def _samples(
    pages: AnyBuffer, page_size: int, filter_number: int, address: int
) -> NDArray[np.uint8]:
    """Return the pages as a codec sees them: filtered, without same-filled ones."""
    flat = _lib.as_bytes_array(pages, "pages")
    if page_size < 512 or page_size > 65536 or page_size & (page_size - 1):
        raise InvalidArgument(f"page size {page_size}: not a power of two from 512 to 65536")
    if len(flat) % page_size:
        raise InvalidArgument(f"pages of {len(flat)} bytes: not a multiple of {page_size}")
    matrix = flat.reshape(-1, page_size)
    words = matrix.view(np.uint64)
    where = np.flatnonzero((words != words[:, :1]).any(axis=1))
    samples: NDArray[np.uint8] = matrix[where]
    for row, page_no in zip(samples, where, strict=True):
        at = (address + int(page_no) * page_size) % (1 << 64)
        _lib.filter_apply(filter_number, _lib.writable(row, "pages"), page_size, at)
    return samples


def _train_zstd(samples: NDArray[np.uint8], size: int) -> bytes:
    """Return what zstd's trainer chooses, without its tables."""
    try:
        trained = zstandard.train_dictionary(size, [row.tobytes() for row in samples])
    except zstandard.ZstdError:
        return b""
    return _lib.dict_content(trained.as_bytes())
