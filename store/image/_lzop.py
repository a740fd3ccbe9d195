# SPDX-License-Identifier: MIT
"""The lzop container, as ``lzop`` writes it and kernels are packed in; big-endian."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

from pagestep.codecs import lzo1x_decode

from ._stream import Input, Malformed

LZOP_MAGIC = b"\x89LZO\x00\r\n\x1a\n"

_BLOCK_MAX = 64 << 20  # lzop's own limit; it writes 256 KiB
_METHODS = (1, 2, 3)  # LZO1X-1, LZO1X-1(15), LZO1X-999: one decoder for all
_ADLER32_D, _ADLER32_C = 0x0001, 0x0002  # of the decoded and the coded bytes
_CRC32_D, _CRC32_C = 0x0100, 0x0200
_EXTRA_FIELD, _FILTER, _HEADER_CRC32, _MULTIPART = 0x0040, 0x0800, 0x1000, 0x0400


class _Header:
    """Reads header fields and keeps their bytes for the checksum."""

    def __init__(self, source: Input) -> None:
        self._source = source
        self.seen = b""

    def field(self, code: str) -> int:
        data = self._source.exactly(struct.calcsize(code))
        self.seen += data
        value: int = struct.unpack(code, data)[0]
        return value

    def skip(self, size: int) -> None:
        self.seen += self._source.exactly(size)


def _read_header(source: Input) -> int:
    if source.exactly(len(LZOP_MAGIC)) != LZOP_MAGIC:
        raise Malformed("its magic number is missing")
    header = _Header(source)
    version = header.field(">H")
    if version < 0x0900:
        raise Malformed(f"lzop version {version:#x} is too old")
    header.skip(2)  # the library's version
    if version >= 0x0940 and (needed := header.field(">H")) > 0x1040:
        raise Malformed(f"it needs lzop version {needed:#x}")
    method = header.field(">B")
    if method not in _METHODS:
        raise Malformed(f"method {method} is not LZO1X")
    if version >= 0x0940:
        header.skip(1)  # the level
    flags = header.field(">I")
    if flags & (_FILTER | _MULTIPART):
        raise Malformed(f"flags {flags:#x}: filters and parts are not supported")
    header.skip(12 if version >= 0x0940 else 8)  # mode and time
    header.skip(header.field(">B"))  # the file's name
    checksum = zlib.crc32 if flags & _HEADER_CRC32 else zlib.adler32
    _check(checksum, header.seen, source.exactly(4), "header")
    if flags & _EXTRA_FIELD:
        size: int = struct.unpack(">I", source.exactly(4))[0]
        source.skip(size + 4)  # and its checksum
    return flags


def _check(checksum: Callable[[bytes], int], data: bytes, stated: bytes, what: str) -> None:
    if struct.pack(">I", checksum(data)) != stated:
        raise Malformed(f"the checksum of its {what} does not match")


def decode_lzop(source: Input) -> Iterator[bytes]:
    """Decode one lzop stream.

    Args:
        source: The stream, from its magic number.

    Yields:
        The decoded bytes of each block, every checksum that is there checked.

    Raises:
        EndsEarly: The input ends inside the stream.
        Malformed: It is no lzop stream, or a checksum does not match.
    """
    flags = _read_header(source)
    while True:
        size: int = struct.unpack(">I", source.exactly(4))[0]
        if size == 0:
            return
        coded_size: int = struct.unpack(">I", source.exactly(4))[0]
        if size > _BLOCK_MAX or not 0 < coded_size <= size:
            raise Malformed(f"a block claims {coded_size} bytes that decode to {size}")
        # Checksums of the decoded bytes come first; those of the coded bytes are left out
        # where a block is stored as it is.
        kinds = [flag for flag in (_ADLER32_D, _CRC32_D) if flags & flag]
        if coded_size < size:
            kinds += [flag for flag in (_ADLER32_C, _CRC32_C) if flags & flag]
        sums = [source.exactly(4) for _ in kinds]
        data = source.exactly(coded_size)
        block = data if coded_size == size else lzo1x_decode(data, size_max=size)
        if len(block) != size:
            raise Malformed(f"a block decodes to {len(block)} bytes instead of {size}")
        for kind, stated in zip(kinds, sums, strict=True):
            checksum = zlib.adler32 if kind in (_ADLER32_D, _ADLER32_C) else zlib.crc32
            _check(checksum, block if kind in (_ADLER32_D, _CRC32_D) else data, stated, "block")
        yield block
