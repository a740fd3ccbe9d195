# SPDX-License-Identifier: MIT
"""The only place of this package where the C core is called.

What is here speaks Python: buffers, arrays and exceptions instead of pointers
and codes. Handles close themselves when the last reference to them goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pagestep import _core

from .errors import InvalidArgument, error_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .buffers import AnyBuffer

# cffi's stubs know neither a structure's fields nor that arrays are buffers.
ffi: Any = _core.ffi
lib: Any = _core.lib

CODEC_IDS: Final[dict[str, int]] = {
    "raw": lib.PGS_CODEC_RAW,
    "same": lib.PGS_CODEC_SAME,
    "lz4": lib.PGS_CODEC_LZ4,
    "zstd": lib.PGS_CODEC_ZSTD,
}
FILTER_IDS: Final[dict[str, int]] = {
    "none": lib.PGS_FILTER_NONE,
    "x86": lib.PGS_FILTER_X86,
    "arm": lib.PGS_FILTER_ARM,
    "thumb": lib.PGS_FILTER_THUMB,
    "arm64": lib.PGS_FILTER_ARM64,
    "riscv": lib.PGS_FILTER_RISCV,
}
DICT_TABLES_MAX: Final[int] = lib.PGS_DICT_TABLES_MAX
_ADDRESS_END: Final = 1 << 64


def describe(code: int) -> str:
    """Return the core's phrase for an error code."""
    text: Any = ffi.string(lib.pgs_error_text(code))
    return str(text, "ascii")


def _check(code: int, what: str) -> None:
    if code != 0:
        raise error_for(code, f"{what}: {describe(code)}")


def readable(buffer: AnyBuffer, name: str) -> Any:
    """Return a buffer's bytes as the core reads them, without a copy.

    Raises:
        InvalidArgument: It is no buffer, or its bytes do not lie in one piece.
    """
    content: Any = buffer
    try:
        return ffi.from_buffer("unsigned char[]", content)
    except (TypeError, ValueError, BufferError) as error:
        raise InvalidArgument(f"{name}: wanted a contiguous buffer; {error}") from None


def writable(buffer: AnyBuffer, name: str) -> Any:
    """Return a buffer's bytes as the core writes them, without a copy.

    Raises:
        InvalidArgument: It is read-only, no buffer, or not in one piece.
    """
    content: Any = buffer
    try:
        return ffi.from_buffer("unsigned char[]", content, require_writable=True)
    except (TypeError, ValueError, BufferError) as error:
        raise InvalidArgument(f"{name}: wanted a writable contiguous buffer; {error}") from None


def as_bytes_array(buffer: AnyBuffer, name: str) -> NDArray[np.uint8]:
    """Return a buffer's bytes as an array of shape (bytes,), without a copy.

    Raises:
        InvalidArgument: It is no buffer, or its bytes do not lie in one piece.
    """
    readable(buffer, name)
    content: Any = buffer
    return np.frombuffer(content, dtype=np.uint8)


def _array(ctype: str, array: NDArray[Any], *, is_result: bool = False) -> Any:
    content: Any = array
    if is_result:
        return ffi.from_buffer(ctype, content, require_writable=True)
    return ffi.from_buffer(ctype, content)


def checked_address(address: int) -> int:
    """Return an address that the core can take.

    Raises:
        InvalidArgument: It is negative or has more than 64 bits.
    """
    if not 0 <= address < _ADDRESS_END:
        raise InvalidArgument(f"address {address:#x}: not within 64 bits")
    return address


class CodecHandle:
    """An open codec of the core."""

    __slots__ = ("pointer",)

    def __init__(
        self, codec_id: int, level: int, filter_id: int, page_size: int, dictionary: AnyBuffer
    ) -> None:
        """Open the codec; level -1 is its default.

        Raises:
            InvalidArgument: A parameter is outside its range.
            Unsupported: A dictionary for a codec that takes none.
            SystemMemoryError: There is no memory for its tables.
        """
        content = readable(dictionary, "dictionary")
        params: Any = ffi.new("struct pgs_codec_params *")
        params.struct_size = ffi.sizeof("struct pgs_codec_params")
        params.codec_id = codec_id
        params.level = level
        params.filter_id = filter_id
        params.page_size = page_size
        params.dict_size = len(content)
        params.dict = content
        opened = ffi.new("pgs_codec **")
        _check(lib.pgs_codec_open(params, opened), "codec")
        self.pointer = ffi.gc(opened[0], lib.pgs_codec_close)

    @property
    def memory_bytes(self) -> int:
        """Bytes of RAM for the dictionary and the tables all coders share."""
        return int(lib.pgs_codec_memory_bytes(self.pointer))


class Coder:
    """What one thread needs to run a codec, with room for one page each way."""

    __slots__ = ("_page", "_page_size", "_size", "pointer")

    def __init__(self, codec: CodecHandle, page_size: int, *, encodes: bool) -> None:
        """Open a coder; one that only decodes is smaller.

        Raises:
            SystemMemoryError: There is no memory for it.
        """
        opened = ffi.new("pgs_coder **")
        _check(lib.pgs_coder_open(codec.pointer, encodes, opened), "coder")
        self.pointer = ffi.gc(opened[0], lib.pgs_coder_close)
        self._page = ffi.new("unsigned char[]", page_size)
        self._page_size = page_size
        self._size = ffi.new("size_t *")

    @property
    def memory_bytes(self) -> int:
        """Bytes of RAM that the coder takes in the core."""
        return int(lib.pgs_coder_memory_bytes(self.pointer))

    def encode(self, page: Any, address: int, cap: int) -> bytes | None:
        """Encode a page of readable bytes; None where it takes more than `cap`."""
        code = lib.pgs_encode(self.pointer, page, address, self._page, cap, self._size)
        _check(code, "page")
        size = self._size[0]
        return bytes(ffi.buffer(self._page, size)) if size else None

    def decode(self, data: Any, address: int) -> bytes:
        """Decode readable bytes to a page."""
        code = lib.pgs_decode(self.pointer, data, len(data), address, self._page)
        if code != 0:
            raise _undecodable(code, len(data), address)
        return bytes(ffi.buffer(self._page, self._page_size))

    def decode_into(self, data: Any, address: int, out: Any) -> None:
        """Decode readable bytes into writable ones."""
        code = lib.pgs_decode(self.pointer, data, len(data), address, out)
        if code != 0:
            raise _undecodable(code, len(data), address)

    def encode_pages(
        self,
        pages: Any,
        page_count: int,
        address: int,
        out: NDArray[np.uint8],
        sizes: NDArray[np.uint32],
    ) -> None:
        """Encode pages that follow each other into the rows of `out`.

        Args:
            pages: Readable bytes of `page_count` pages.
            page_count: How many.
            address: Of the first.
            out: Shape (page_count or more, bytes per page); a page that takes
                more than a row gets size 0.
            sizes: Shape (page_count or more,).
        """
        code = lib.pgs_encode_pages(
            self.pointer,
            pages,
            page_count,
            address,
            _array("unsigned char[]", out, is_result=True),
            out.shape[1],
            _array("uint32_t[]", sizes, is_result=True),
        )
        _check(code, "pages")

    def decode_pages(
        self,
        data: Any,
        offsets: NDArray[np.uint64],
        sizes: NDArray[np.uint32],
        addresses: NDArray[np.uint64],
        out: Any,
        statuses: NDArray[np.int32],
    ) -> int:
        """Decode pages from extents of `data` into writable bytes.

        Returns:
            0, or the code of PGS_E_CORRUPT where `statuses` says that a page is.
        """
        return int(
            lib.pgs_decode_pages(
                self.pointer,
                data,
                len(data),
                _array("uint64_t[]", offsets),
                _array("uint32_t[]", sizes),
                _array("uint64_t[]", addresses),
                len(offsets),
                out,
                _array("int32_t[]", statuses, is_result=True),
            )
        )


def _undecodable(code: int, size: int, address: int) -> Exception:
    return error_for(
        code,
        f"page at {address:#x}: its {size} bytes do not decode; damaged, or encoded with "
        "another codec, filter or dictionary",
    )


def filter_apply(filter_id: int, data: Any, size: int, address: int) -> None:
    """Apply a branch filter to writable bytes, in place."""
    _check(lib.pgs_filter_apply(filter_id, data, size, address), "filter")


def filter_undo(filter_id: int, data: Any, size: int, address: int) -> None:
    """Undo a branch filter on writable bytes, in place."""
    _check(lib.pgs_filter_undo(filter_id, data, size, address), "filter")


def same_filled(data: Any) -> int | None:
    """Return the word that readable bytes repeat, or None."""
    word = ffi.new("uint64_t *")
    return int(word[0]) if lib.pgs_same_filled(data, len(data), word) else None


def checksum(data: Any) -> int:
    """Return the core's checksum of readable bytes."""
    return int(lib.pgs_checksum(data, len(data)))


def xxh32(data: Any, seed: int) -> int:
    """Return XXH32 of readable bytes."""
    return int(lib.pgs_xxh32(data, len(data), seed))


def lzo1x_decode(data: Any, size_max: int) -> bytes:
    """Decode an LZO1X block of at most `size_max` bytes."""
    out = ffi.new("unsigned char[]", size_max)
    size = ffi.new("size_t *")
    code = lib.pgs_lzo1x_decode(data, len(data), out, size_max, size)
    _check(code, f"LZO1X block of {len(data)} bytes")
    return bytes(ffi.buffer(out, size[0]))


def dict_cover(pages: Any, page_count: int, page_size: int, size: int) -> bytes:
    """Choose a dictionary's content for filtered pages."""
    out = ffi.new("unsigned char[]", size)
    size_ret = ffi.new("size_t *")
    code = lib.pgs_dict_cover(pages, page_count, page_size, out, size, size_ret)
    _check(code, "dictionary")
    return bytes(ffi.buffer(out, size_ret[0]))


def dict_add_tables(content: bytes, pages: Any, page_count: int, page_size: int) -> bytes:
    """Return zstd's tables for pages with this content, and the content."""
    cap = len(content) + DICT_TABLES_MAX
    out = ffi.new("unsigned char[]", cap)
    size_ret = ffi.new("size_t *")
    code = lib.pgs_dict_add_tables(
        content, len(content), pages, page_count, page_size, out, cap, size_ret
    )
    _check(code, "dictionary")
    return bytes(ffi.buffer(out, size_ret[0]))


def dict_content(dictionary: bytes) -> bytes:
    """Return a dictionary without the tables that it may begin with."""
    return dictionary[lib.pgs_dict_tables_size(dictionary, len(dictionary)) :]
