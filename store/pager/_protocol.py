# SPDX-License-Identifier: MIT
"""What a backing store, and a file to be read page by page, must be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pagestep.codecs.errors import PageStepError

__all__ = ["BackingStore", "RemoteFile"]


@runtime_checkable
class BackingStore(Protocol):
    """Keeps a blob of bytes, which it does not look into, under each page's number.

    It runs in the pager's process. Several threads call it at once, but no two about the same
    page unless both only read. What is wrong with all of a batch is raised; what is wrong with
    one blob of it is returned in its place. Any exception will do; those of ``pagestep`` keep
    their meaning on the way to who asked.

    Attributes:
        lasting: Another store, opened by the same URL after this one's process was killed,
            has all that this one acknowledged. Where it has not, a pager that dies is not
            started again.
    """

    lasting: bool

    def get(self, page_nos: Sequence[int]) -> Sequence[bytes | PageStepError | None]:
        """Return each page's blob; None where nothing was put, or it was discarded."""
        ...

    def put(self, pages: Sequence[tuple[int, bytes]]) -> Sequence[PageStepError | None]:
        """Keep blobs, each instead of its page's former one; None for each that is kept."""
        ...

    def discard(self, first: int, count: int) -> None:
        """Give up the blobs of a run of pages."""
        ...

    def flush(self) -> None:
        """Return when what was put will outlast a power failure, as far as it ever does."""
        ...

    def capacity(self) -> tuple[int, int]:
        """Return how many bytes there is room for, and how many of them are taken."""
        ...

    def present(self, first: int, count: int) -> Sequence[bool]:
        """Return for each page of a run whether it has a blob."""
        ...

    def close(self) -> None:
        """Let go of what is held. What was put stays, where it is lasting."""
        ...


@runtime_checkable
class RemoteFile(Protocol):
    """A file elsewhere, which must not change while it is read.

    Attributes:
        size: Its bytes.
    """

    size: int

    def read(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | PageStepError]:
        """Return the bytes of each range, given as offset and size.

        Raises:
            CorruptPage: The file is not any more what it was when it was opened.
        """
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...
