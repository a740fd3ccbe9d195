# SPDX-License-Identifier: MIT
"""What can be said of a page's bytes, and bytes from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _lib
from .errors import InvalidArgument

if TYPE_CHECKING:
    from .buffers import AnyBuffer

__all__ = ["checksum", "lzo1x_decode", "same_filled", "xxh32"]

_WORD_BYTES = 8
_STRIPE_BYTES = 64
_ROM_STRIPE_BYTES = 16


def same_filled(page: AnyBuffer) -> int | None:
    r"""Return the 64-bit little-endian word that a page repeats, or None.

    Args:
        page: A buffer of a multiple of 8 bytes.

    Raises:
        InvalidArgument: Another size, or no buffer.

    >>> same_filled(b"\x01\0\0\0\0\0\0\0" * 4)
    1
    """
    content = _lib.readable(page, "page")
    if len(content) % _WORD_BYTES:
        raise InvalidArgument(f"page of {len(content)} bytes: not a multiple of {_WORD_BYTES}")
    return _lib.same_filled(content)


def checksum(data: AnyBuffer) -> int:
    """Return a 64-bit checksum, for comparing within one run only.

    Its value may change with the library's version: never keep it in a file.

    Args:
        data: A buffer of a multiple of 64 bytes.

    Raises:
        InvalidArgument: Another size, or no buffer.
    """
    content = _lib.readable(data, "data")
    if len(content) % _STRIPE_BYTES:
        raise InvalidArgument(f"data of {len(content)} bytes: not a multiple of {_STRIPE_BYTES}")
    return _lib.checksum(content)


def xxh32(data: AnyBuffer, *, seed: int = 0) -> int:
    """Return the checksum of ROM images, XXH32.

    Args:
        data: A buffer of a multiple of 16 bytes, not empty.
        seed: At most 32 bits.

    Raises:
        InvalidArgument: Another size or seed, or no buffer.

    >>> f"{xxh32(bytes(16)):08x}"
    '8e022b3a'
    """
    content = _lib.readable(data, "data")
    if not len(content) or len(content) % _ROM_STRIPE_BYTES:
        raise InvalidArgument(f"data of {len(content)} bytes: not a multiple of 16, or empty")
    if not 0 <= seed < 1 << 32:
        raise InvalidArgument(f"seed {seed}: not within 32 bits")
    return _lib.xxh32(content, seed)


def lzo1x_decode(data: AnyBuffer, *, size_max: int) -> bytes:
    """Decode an LZO1X block, as found in kernels packed with lzop.

    Args:
        data: The whole block, with its end mark.
        size_max: Bytes that it may become; as many are allocated.

    Raises:
        CorruptPage: It is not whole, or would become larger.
        InvalidArgument: A negative size, or no buffer.
    """
    if size_max < 0:
        raise InvalidArgument(f"size_max {size_max}: negative")
    return _lib.lzo1x_decode(_lib.readable(data, "data"), size_max)
