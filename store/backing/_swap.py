# SPDX-License-Identifier: MIT
"""Swap files, and pages in RAM outside the budget."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote

from pagestep.codecs.errors import BackingFull, BadSwap, InvalidArgument, StoreIOError, error_for
from pagestep.store._binding import check, ffi, lib
from pagestep.store._size import show_size

from ._options import Options

if TYPE_CHECKING:
    from ._url import Backed

__all__ = [
    "RAM_OPTIONS",
    "SWAP_OPTIONS",
    "SwapStats",
    "open_nameless",
    "open_ram",
    "open_swap",
    "swap_shape",
    "swap_stats",
]

SWAP_OPTIONS = ("size", "replace", "buffered")
RAM_OPTIONS = ("size",)
_HEADER_BYTES = 4096
_UNIT_BYTES_MAX = 4096  # these three: docs/SWAP.md
_RECORD_HEADER_BYTES = 40
_RECORDS_MIN = 4  # of the largest size: fewer are refused
_RECORD_EXTRA = 512  # what a record may take beside its page, rounded up
_SPARE_PAGES = 16  # for records on their way, and those that older ones wait for
_EIGHTH = 8


@dataclass(frozen=True)
class SwapStats:
    """What was written to, and read from, what keeps pages outside RAM.

    Attributes:
        buffered_pages: Pages that wait to be written, at the moment.
        puts: Pages written.
        put_batches: In so many batches.
        put_bytes: Bytes of them, compressed.
        put_failures: Batches of which a page was refused; it is tried again.
        gets: Pages read because they were asked for.
        buffer_hits: Pages asked for that still waited to be written.
        ahead_batches: Batches read ahead.
        ahead_pages: Pages read ahead.
        ahead_hits: Of these, asked for afterwards.
        ahead_wasted: Of these, dropped unread.
        handed_over: Pages whose compressed copy was taken as it was.
        total_bytes: Bytes that there is room for.
        used_bytes: Of these, taken.
        error: What the last write met, in words; empty where it went well.
    """

    buffered_pages: int
    puts: int
    put_batches: int
    put_bytes: int
    put_failures: int
    gets: int
    buffer_hits: int
    ahead_batches: int
    ahead_pages: int
    ahead_hits: int
    ahead_wasted: int
    handed_over: int
    total_bytes: int
    used_bytes: int
    error: str


def swap_stats(backing: Any) -> SwapStats:
    """Take the statistics of a ``struct pgs_backing *`` that is open."""
    raw = ffi.new("struct pgs_coded_stats *")
    check(lib.pgs_coded_stats(backing, raw), "statistics cannot be taken")
    names = [name for name in SwapStats.__dataclass_fields__ if name != "error"]
    error = ffi.string(lib.pgs_error_text(raw.error)).decode() if raw.error else ""
    return SwapStats(**{name: int(getattr(raw, name)) for name in names}, error=error)


def open_ram(url: SplitResult, options: Options, backed: Backed) -> Any:
    """Return a ``struct pgs_blobs *`` in this process's memory.

    Raises:
        InvalidArgument: The URL names a place.
    """
    if url.netloc or url.path:
        raise InvalidArgument(f"{options.url}: RAM has no name; write ram: and options")
    most = backed.page_count * (backed.page_size + _RECORD_EXTRA)
    blobs = ffi.new("struct pgs_blobs *")
    code = lib.pgs_blobs_ram(backed.page_count, backed.page_size, options.size("size", most), blobs)
    check(code, f"{options.url} cannot be opened")
    return blobs


def open_swap(url: SplitResult, options: Options, backed: Backed) -> Any:
    """Return a ``struct pgs_blobs *`` over a swap file, made where there is none.

    Raises:
        BackingFull: The disk has no room for it, or it is too small.
        BackingInUse: Another process, or another store, uses it.
        BadSwap: It is no swap file, or one of other pages.
        InvalidArgument: The URL has no path of a file of this machine.
        StoreIOError: It cannot be opened.
    """
    path = _path_of(url, options)
    spare = backed.page_count // _EIGHTH + _SPARE_PAGES
    ample = _HEADER_BYTES + (backed.page_count + spare) * (backed.page_size + _RECORD_EXTRA)
    size = options.size("size", ample)
    flags = (
        (lib.PGS_SWAP_REPLACE if options.flag("replace") else 0)
        | (lib.PGS_SWAP_BUFFERED if options.flag("buffered") else 0)
        | (lib.PGS_SWAP_TEMPORARY if backed.temporary else 0)
    )
    try:
        # Only to look at what is in a folder that is closed to us fails as well.
        nameless = backed.temporary and path.is_dir()
    except OSError as error:
        raise _cannot_open(path, error) from error
    return (open_nameless if nameless else _open_named)(path, size, flags, backed)


def _cannot_open(path: Path, error: OSError) -> StoreIOError:
    return StoreIOError(f"{path} cannot be opened as a swap file: {error.strerror}")


def _open_named(path: Path, size: int, flags: int, backed: Backed) -> Any:
    blobs = ffi.new("struct pgs_blobs *")
    info = ffi.new("struct pgs_swap_info *")
    shape = swap_shape(backed)
    try:
        was_there = path.exists()
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _cannot_open(path, error) from error
    try:
        code = lib.pgs_blobs_swap(file, shape, size, flags, blobs, info)
    finally:
        os.close(file)
    if not was_there and (code < 0 or backed.temporary):
        path.unlink(missing_ok=True)
    if code < 0:
        raise _refusal(code, path, size, shape, info)
    return blobs


def open_nameless(
    folder: str | os.PathLike[str] | None, size: int, flags: int, backed: Backed
) -> Any:
    """Return a ``struct pgs_blobs *`` over a swap file without a name.

    Args:
        folder: Where it takes room; None: where the system has its temporary files.
        size: Bytes of it.
        flags: As ``pgs_blobs_swap`` has them.
        backed: The pages that it is for.

    Raises:
        BackingFull: The disk has no room for it, or it is too small.
        StoreIOError: It cannot be made.
    """
    blobs = ffi.new("struct pgs_blobs *")
    info = ffi.new("struct pgs_swap_info *")
    shape = swap_shape(backed)
    where = Path(tempfile.gettempdir() if folder is None else folder)
    try:
        with tempfile.TemporaryFile(dir=where) as file:
            code = lib.pgs_blobs_swap(file.fileno(), shape, size, flags, blobs, info)
    except OSError as error:
        raise StoreIOError(f"no temporary file can be made in {where}: {error.strerror}") from error
    if code < 0:
        raise _refusal(code, where, size, shape, info)
    return blobs


def _path_of(url: SplitResult, options: Options) -> Path:
    path = unquote(url.path)
    if url.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise InvalidArgument(
            f"{options.url!r} names no file of this machine: write {url.scheme}:///path/of/file"
        )
    return Path(path)


def swap_shape(backed: Backed) -> Any:
    """Return a ``struct pgs_swap_shape *``: what pages these are, and how they are coded."""
    shape = ffi.new("struct pgs_swap_shape *")
    shape.struct_size = ffi.sizeof("struct pgs_swap_shape")
    shape.page_size = backed.page_size
    shape.page_count = backed.page_count
    shape.base_address = backed.base_address
    lib.pgs_swap_shape_codec(shape, backed.codec.handle.pointer)
    ffi.memmove(shape.owner, backed.owner, len(backed.owner))
    return shape


# In the order in which they are told: name, and how a value is shown.
_SHAPE = {
    "page_size": "pages of {} bytes",
    "page_count": "{} pages",
    "codec_id": "codec {}",
    "filter_id": "branch filter {}",
    "dict_size": "a dictionary of {} bytes",
    "dict_xxh32": "a dictionary with XXH32 {:#010x}",
    "base_address": "pages from address {:#x} on",
}


def _difference(wanted: Any, found: Any) -> str:
    for name, show in _SHAPE.items():
        if getattr(wanted, name) != getattr(found, name):
            here, there = (show.format(getattr(each, name)) for each in (wanted, found))
            return f"it has {there}, and this store {here}"
    return "its pages are another image's, or another memory's"


def _least_of(page_size: int) -> int:
    """Return how many bytes are enough for a swap file, however large its units are."""
    unit = _UNIT_BYTES_MAX
    record = page_size + int(lib.PGS_BLOB_EXTRA_MAX) + _RECORD_HEADER_BYTES
    return _HEADER_BYTES + _RECORDS_MIN * (-(-record // unit) * unit)


def _refusal(code: int, path: Path, size: int, shape: Any, info: Any) -> Exception:
    anew = "add replace=1 to its URL to make it anew, which loses what is in it"
    if code == lib.PGS_E_FULL:
        least = _least_of(int(shape.page_size))
        if size < least:
            return BackingFull(
                f"{path}: a swap file of {show_size(size)} is too small for a few pages of "
                f"{show_size(int(shape.page_size))}: give size={least // 1024}KiB or more"
            )
        return BackingFull(
            f"{path}: the disk has no room for a swap file of {show_size(size)}; free some, or "
            "give another size="
        )
    if code == lib.PGS_E_SWAP_FOREIGN:
        return BadSwap(f"{path} is no swap file, and was left alone; name another, or {anew}")
    if code == lib.PGS_E_SWAP_VERSION:
        version = int(info.format_version)
        return BadSwap(f"{path} is a swap file of version {version}, not known here; {anew}")
    if code == lib.PGS_E_SWAP_OTHER:
        what = _difference(shape, info.shape)
        return BadSwap(f"{path} is a swap file for other pages: {what}; name another, or {anew}")
    if code == lib.PGS_E_CORRUPT:
        return BadSwap(f"{path} is a swap file whose header is damaged; name another, or {anew}")
    if code == lib.PGS_E_IN_USE:
        return error_for(
            code, f"{path} is another store's swap file just now; close that, or name another"
        )
    text = ffi.string(lib.pgs_error_text(code)).decode()
    return error_for(code, f"{path} cannot be used as a swap file: {text}")
