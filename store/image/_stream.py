# SPDX-License-Identifier: MIT
"""The input of a payload decoder: a stretch of a source, read once from front to back."""

from __future__ import annotations

from ._source import Source


class EndsEarly(Exception):
    """The input ended inside a stream."""


class Malformed(Exception):
    """The input is no stream of its format; the text says why."""


class Input:
    """Bytes ``offset`` to ``offset + size`` of a source, in order.

    Attributes:
        taken: Bytes handed out so far.
    """

    def __init__(self, source: Source, offset: int, size: int) -> None:
        """Start at the first byte of the stretch."""
        self._source = source
        self._offset = offset
        self._size = max(0, size)
        self.taken = 0

    @property
    def left(self) -> int:
        """Bytes not handed out yet."""
        return self._size - self.taken

    def peek(self, size: int) -> bytes:
        """Return up to ``size`` bytes, and stay."""
        return self._source.read(self._offset + self.taken, min(size, self.left))

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        data = self.peek(size)
        self.taken += len(data)
        return data

    def exactly(self, size: int) -> bytes:
        """Return ``size`` bytes.

        Raises:
            EndsEarly: Fewer are left.
        """
        if size > self.left:
            raise EndsEarly
        return self.read(size)

    def skip(self, size: int) -> None:
        """Pass over ``size`` bytes.

        Raises:
            EndsEarly: Fewer are left.
        """
        if size > self.left:
            raise EndsEarly
        self.taken += size

    def unread(self, size: int) -> None:
        """Give the last ``size`` bytes back."""
        self.taken -= size
