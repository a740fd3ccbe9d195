# SPDX-License-Identifier: MIT
"""A file elsewhere, of which only what is asked for is fetched, and a little beyond."""

from __future__ import annotations

import importlib
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from pagestep.codecs.errors import (
    BackingLost,
    CorruptPage,
    PageStepError,
    StoreIOError,
    Unsupported,
)

from ._url import StoreUrl

__all__ = ["FsspecFile", "open_fsspec"]

# It has no types. Its absence is told by who imports this file.
_core: Any = importlib.import_module("fsspec.core")

BLOCK_SIZE: Final = 16 << 10
_CACHE_BLOCKS: Final = 512
_RUN_BLOCKS_MAX: Final = 64  # fetched at once where the file is read in order
_SHARE: Final = 0.8  # of the deadline, in which a fetch is tried again
_WAIT_S: Final = 0.1
_PREFIX: Final = "fsspec+"
# What file systems call what changes with a file.
_MARKS: Final = (
    *("size", "ETag", "etag", "Last-Modified", "LastModified", "last_modified", "mtime"),
    *("modified", "created", "ino", "generation", "md5", "md5Hash", "Content-MD5", "Digest"),
    *("VersionId", "version"),
)


class FsspecFile:
    """Reads ranges of a file that fsspec opens, by blocks, of which it keeps 8 MiB.

    Attributes:
        size: Bytes of the file.
    """

    def __init__(self, name: str, filesystem: Any, path: str, deadline_s: float) -> None:
        """Ask what the file is like: so it must stay."""
        self._name = name
        self._fs = filesystem
        self._path = path
        self._deadline_s = deadline_s
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._run = 1
        self._next = -1
        try:
            self._mark = self._marks()
        except FileNotFoundError:
            raise StoreIOError(f"{name}: there is no such file") from None
        except Exception as error:
            raise BackingLost(f"{name}: cannot be opened: {_told(error)}") from None
        if self._mark.get("size") is None:
            raise Unsupported(f"{name}: its size is not told: download it, and open the copy")
        self.size = int(self._mark["size"])

    def _marks(self) -> dict[str, Any]:
        self._fs.invalidate_cache()
        found = self._fs.info(self._path)
        return {name: found[name] for name in _MARKS if name in found}

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes | PageStepError]:
        """See ``RemoteFile.read``."""
        return [self._read(offset, size) for offset, size in ranges]

    def _read(self, offset: int, size: int) -> bytes | PageStepError:
        if offset + size > self.size:
            return StoreIOError(f"{self._name}: {size} bytes at {offset} lie beyond its end")
        if size == 0:
            return b""
        first, last = offset // BLOCK_SIZE, (offset + size - 1) // BLOCK_SIZE
        try:
            data = b"".join(self._block(block) for block in range(first, last + 1))
        except PageStepError as error:
            return error
        start = offset - first * BLOCK_SIZE
        return data[start : start + size]

    def _block(self, block: int) -> bytes:
        with self._lock:
            found = self._blocks.get(block)
            if found is not None:
                self._blocks.move_to_end(block)
                return found
            # Read in order, more and more is fetched at once; else what was asked for.
            self._run = min(2 * self._run, _RUN_BLOCKS_MAX) if block == self._next else 1
            count = self._run
            self._next = block + count
        data = self._fetch(block * BLOCK_SIZE, min((block + count) * BLOCK_SIZE, self.size))
        with self._lock:
            for at in range(0, len(data), BLOCK_SIZE):
                self._blocks[block + at // BLOCK_SIZE] = data[at : at + BLOCK_SIZE]
            while len(self._blocks) > _CACHE_BLOCKS:
                self._blocks.popitem(last=False)
        return data[:BLOCK_SIZE]

    def _fetch(self, start: int, end: int) -> bytes:
        """Fetch bytes, and only then ask if the file is still the same: so they are of it."""
        give_up = time.monotonic() + self._deadline_s * _SHARE
        while True:
            try:
                data: bytes = self._fs.cat_file(self._path, start=start, end=end)
                marks = self._marks()
                break
            except Exception as error:
                if time.monotonic() + _WAIT_S > give_up:
                    raise BackingLost(f"{self._name}: cannot be read: {_told(error)}") from None
                time.sleep(_WAIT_S)
        if marks != self._mark:
            names = [name for name in _MARKS if marks.get(name) != self._mark.get(name)]
            raise CorruptPage(
                f"{self._name}: the file was changed since it was opened ({', '.join(names)}): "
                "open it anew"
            )
        if len(data) > end - start:
            raise Unsupported(
                f"{self._name}: its server cannot give a part of a file: download it, and open "
                "the copy"
            )
        if len(data) < end - start:
            raise StoreIOError(f"{self._name}: ends {end - start - len(data)} bytes early")
        return data

    def close(self) -> None:
        """See ``RemoteFile.close``."""
        self._blocks.clear()


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def open_fsspec(url: StoreUrl) -> FsspecFile:
    """Open the file that a URL behind ``fsspec+`` names.

    Raises:
        Unsupported: A package that its protocol needs is not installed, or it has no size.
        StoreIOError: There is no such file, or it cannot be reached.
    """
    text = url.text.removeprefix(_PREFIX)
    name = url.shown.removeprefix(_PREFIX)
    options: dict[str, Any] = {"use_listings_cache": False}
    if text.startswith("http"):
        import aiohttp

        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=url.deadline_s)}
    try:
        filesystem, path = _core.url_to_fs(text, **options)
    except ImportError as error:
        raise Unsupported(f"{name}: {error}") from None
    except ValueError as error:
        raise StoreIOError(f"{name}: {error}") from None
    return FsspecFile(name, filesystem, path, url.deadline_s)
