# SPDX-License-Identifier: MIT
"""A small slow LZO1X decoder, after Linux's Documentation/staging/lzo.rst.

The second implementation beside the core's: tests of the container use it, so that
they do not need the extension.
"""

from __future__ import annotations


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise ValueError("LZO1X data ends early")
        self.at += 1
        return self.data[self.at - 1]

    def word(self) -> int:
        return self.byte() | self.byte() << 8

    def long(self, bits: int, value: int) -> int:
        """Return a length: its field, or what follows where that is zero."""
        if value:
            return value
        length = (1 << bits) - 1
        while (more := self.byte()) == 0:
            length += 255
        return length + more

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise ValueError("LZO1X data ends early")
        self.at += size
        return self.data[self.at - size : self.at]


def _match(reader: _Reader, code: int, state: int) -> tuple[int, int, int]:
    """Return length, distance and literals to follow of a match."""
    if code >= 64:
        distance = (reader.byte() << 3) + (code >> 2 & 7) + 1
        return (5 + (code >> 5 & 3) if code >= 128 else 3 + (code >> 5 & 1)), distance, code & 3
    if code >= 32:
        length = 2 + reader.long(5, code & 31)
        word = reader.word()
        return length, (word >> 2) + 1, word & 3
    if code >= 16:
        length = 2 + reader.long(3, code & 7)
        word = reader.word()
        return length, 16384 + ((code & 8) << 11) + (word >> 2), word & 3
    distance = (reader.byte() << 2) + (code >> 2) + 1
    return (3, distance + 2048, code & 3) if state == 4 else (2, distance, code & 3)


def lzo1x_decode(data: bytes, max_size: int) -> bytes:
    reader, out, state = _Reader(data), bytearray(), 0
    if data[:1] > b"\x11":
        size = reader.byte() - 17
        out += reader.take(size)
        state = min(size, 4)
    while len(out) <= max_size:
        code = reader.byte()
        if code < 16 and state == 0:
            out += reader.take(3 + reader.long(4, code))
            state = 4
            continue
        length, distance, state = _match(reader, code, state)
        if distance == 16384 and 16 <= code < 32:
            return bytes(out)
        if distance > len(out):
            raise ValueError("LZO1X match before the start")
        for _ in range(length):
            out.append(out[-distance])
        out += reader.take(state)
    raise ValueError("LZO1X data decodes to too much")
