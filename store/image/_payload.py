# SPDX-License-Identifier: MIT
"""Decoders for the streams that kernels are packed in: input and output piece by piece.

Nothing here trusts a size that a stream claims. Output goes to a ``Spool``, which has a
hard limit; windows and blocks have limits of their own (below), which are the largest
that kernels and the formats' tools use.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Protocol

import zstandard

from pagestep.codecs.errors import BadImage, StoreIOError
from pagestep.store._size import show_size

from ._lzop import LZOP_MAGIC, decode_lzop
from ._source import Source, Spool
from ._stream import EndsEarly, Input, Malformed

# lz4 has no types; imported so, it is Any to every checker, and not an error in each line.
_lz4_block: Any = import_module("lz4.block")
_lz4_frames: Any = import_module("lz4.frame")

PIECE = 1 << 20  # bytes of output asked of a decoder at a time
FEED = 1 << 18  # bytes of input given to a decoder at a time
ZSTD_FEED = 256  # its decoder takes no bound: 4 bytes are at most 128 KiB, so these are 8 MiB
LZMA_MEMORY_MAX = 256 << 20  # kernels use dictionaries of 32 to 128 MiB
ZSTD_WINDOW_MAX = 128 << 20  # zstd -22 --ultra, as kernels are packed
LZ4_LEGACY_BLOCK = 8 << 20  # every block but the last decodes to this
LZ4_LEGACY_CODED_MAX = LZ4_LEGACY_BLOCK + LZ4_LEGACY_BLOCK // 255 + 16
LZ4_LEGACY_MAGIC = 0x184C2102

MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x02\x21\x4c\x18", "lz4-legacy"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (LZOP_MAGIC, "lzo"),
    (b"\x5d\x00\x00", "lzma"),
)
"""First bytes of each format, and its name."""


def payload_format(head: bytes) -> str | None:
    """Return the name of the compressed format that these first 16 bytes begin, or None."""
    name = next((name for magic, name in MAGICS if head.startswith(magic)), None)
    return None if name == "lzma" and not _is_lzma(head) else name


def _is_lzma(head: bytes) -> bool:
    # Three bytes are little to go by. Encoders choose 2**n or 2**n + 2**(n-1) bytes of
    # dictionary, and the size is not given or could be a file's; xz checks the same.
    dictionary, size = struct.unpack("<IQ", head[1:13].ljust(12, b"\0"))
    lowest_bit = dictionary & -dictionary
    regular = dictionary > 0 and dictionary in (lowest_bit, 3 * lowest_bit)
    return regular and (size == (1 << 64) - 1 or size < 1 << 38)


class _Decompressor(Protocol):
    """What the decompressors of bz2, lzma and lz4.frame have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _drain(decoder: _Decompressor, source: Input) -> Iterator[bytes]:
    while not decoder.eof:
        data = b""
        if decoder.needs_input:
            data = source.read(FEED)
            if not data:
                raise EndsEarly
        out = decoder.decompress(data, max_length=PIECE)
        if not out and not data and not decoder.eof and not decoder.needs_input:
            raise Malformed("the decoder is stuck")
        yield out
    source.unread(len(decoder.unused_data or b""))


def _gzip(source: Input) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits=31)
    while not decoder.eof:
        data = decoder.unconsumed_tail or source.read(FEED)
        out = decoder.decompress(data, PIECE)
        if not data and not out and not decoder.eof:
            raise EndsEarly
        yield out
    source.unread(len(decoder.unused_data))


def _xz(source: Input) -> Iterator[bytes]:
    return _drain(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LZMA_MEMORY_MAX), source)


def _lzma(source: Input) -> Iterator[bytes]:
    return _drain(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=LZMA_MEMORY_MAX), source)


def _bzip2(source: Input) -> Iterator[bytes]:
    return _drain(bz2.BZ2Decompressor(), source)


def _lz4_frame(source: Input) -> Iterator[bytes]:
    return _drain(_lz4_frames.LZ4FrameDecompressor(), source)


def _zstd(source: Input) -> Iterator[bytes]:
    decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_MAX).decompressobj()
    while not decoder.eof:
        data = source.read(ZSTD_FEED)
        if not data:
            raise EndsEarly
        yield decoder.decompress(data)
    source.unread(len(decoder.unused_data))


def _lz4_legacy(source: Input) -> Iterator[bytes]:
    # The format has no end mark. A stream ends with its file, or before a word that is no
    # block size; the kernel appends the decoded size, which looks like a block's.
    magic = struct.pack("<I", LZ4_LEGACY_MAGIC)
    if source.exactly(4) != magic:
        raise Malformed("its magic number is missing")
    while source.left:
        coded_size: int = struct.unpack("<I", source.exactly(4))[0]
        if coded_size == LZ4_LEGACY_MAGIC:
            continue
        if coded_size > LZ4_LEGACY_CODED_MAX or (coded_size and not source.left):
            source.unread(4)
            return
        block: bytes = _lz4_block.decompress(
            source.exactly(coded_size), uncompressed_size=LZ4_LEGACY_BLOCK
        )
        yield block
        if len(block) < LZ4_LEGACY_BLOCK and source.peek(4) != magic:
            return


_DECODERS: dict[str, Callable[[Input], Iterator[bytes]]] = {
    "gzip": _gzip,
    "xz": _xz,
    "lzma": _lzma,
    "lz4": _lz4_frame,
    "lz4-legacy": _lz4_legacy,
    "zstd": _zstd,
    "bzip2": _bzip2,
    "lzo": decode_lzop,
}


def _fits(head: bytes, format_name: str) -> bool:
    return payload_format(head) == format_name


def decompress_payload(
    source: Source,
    spool: Spool,
    *,
    format_name: str,
    offset: int = 0,
    size: int | None = None,
    whole: bool = False,
) -> int:
    """Decode one compressed payload into a spool.

    Args:
        source: What the payload lies in.
        spool: Where the decoded bytes go; its limit holds.
        format_name: One of the names in ``MAGICS``.
        offset: Where in the source the payload begins, in bytes.
        size: Bytes that the payload may take, None for all that follow.
        whole: The payload is a file of its own: further members or frames of the same
            format after the first are decoded too, and an LZ4 legacy stream must fill it.

    Returns:
        How many bytes of the source the payload took.

    Raises:
        BadImage: The payload ends early, is damaged, or passes the spool's limit.
    """
    available = source.size - offset
    stream = Input(source, offset, available if size is None else min(size, available))
    start = spool.size
    try:
        while True:
            for piece in _DECODERS[format_name](stream):
                spool.write(piece)
            if not whole or not _fits(stream.peek(16), format_name):
                break
        if whole and format_name == "lz4-legacy" and stream.left:
            raise Malformed(f"{stream.left} bytes at its end are not LZ4")
    except EndsEarly:
        raise BadImage(
            f"{source.name}: the {format_name} payload at offset {offset} ends early, after "
            f"{stream.taken} bytes that decode to {spool.size - start}: the file is cut off; "
            "fetch it again"
        ) from None
    except (BadImage, StoreIOError, ImportError):
        raise
    except MemoryError as error:
        raise BadImage(
            f"{source.name}: the {format_name} payload at offset {offset} wants more memory than "
            f"there is (its limit is {show_size(LZMA_MEMORY_MAX)})"
        ) from error
    # What the decoders raise on damaged data: zlib.error, LZMAError, OSError, EOFError,
    # ValueError, ZstdError, RuntimeError (lz4), CorruptPage (lzo): no common base but this.
    except Exception as error:
        raise BadImage(
            f"{source.name}: the {format_name} payload at offset {offset} is damaged after "
            f"{spool.size - start} decoded bytes: {_one_line(error)}; fetch the file again"
        ) from error
    return stream.taken


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
