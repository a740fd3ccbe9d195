# SPDX-License-Identifier: MIT
"""Pages in the pager's own RAM: another process's memory, and what tests compare with."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pagestep.codecs.errors import BackingFull, PageStepError

__all__ = ["RamStore"]


class RamStore:
    """Keeps blobs in a dictionary.

    Attributes:
        lasting: No: they go with the process.
    """

    lasting = False

    def __init__(self, size_bytes: int) -> None:
        """Make an empty store with room for so many bytes of blobs."""
        self._size = size_bytes
        self._used = 0
        self._blobs: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def get(self, page_nos: Sequence[int]) -> list[bytes | PageStepError | None]:
        """See ``BackingStore.get``."""
        return [self._blobs.get(page_no) for page_no in page_nos]

    def put(self, pages: Sequence[tuple[int, bytes]]) -> list[PageStepError | None]:
        """See ``BackingStore.put``."""
        return [self._put(page_no, blob) for page_no, blob in pages]

    def _put(self, page_no: int, blob: bytes) -> PageStepError | None:
        with self._lock:
            used = self._used + len(blob) - len(self._blobs.get(page_no, b""))
            if used > self._size:
                return BackingFull(
                    f"page {page_no}: its {len(blob)} bytes do not go into the {self._size} of "
                    "the RAM store: give it a larger size="
                )
            self._used = used
            self._blobs[page_no] = bytes(blob)
        return None

    def discard(self, first: int, count: int) -> None:
        """See ``BackingStore.discard``."""
        with self._lock:
            run = range(first, first + count)
            some = run if count < len(self._blobs) else [n for n in self._blobs if n in run]
            for page_no in some:
                self._used -= len(self._blobs.pop(page_no, b""))

    def flush(self) -> None:
        """See ``BackingStore.flush``."""

    def capacity(self) -> tuple[int, int]:
        """See ``BackingStore.capacity``."""
        return self._size, self._used

    def present(self, first: int, count: int) -> list[bool]:
        """See ``BackingStore.present``."""
        return [page_no in self._blobs for page_no in range(first, first + count)]

    def close(self) -> None:
        """See ``BackingStore.close``."""
        self._blobs.clear()
