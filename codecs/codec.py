# SPDX-License-Identifier: MIT
"""A codec with its parameters: pages in, bytes out, and back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import _lib
from .closing import Closing
from .errors import Closed, CorruptPage, InvalidArgument, Unsupported
from .filters import FILTERS, filter_id
from .registry import CodecInfo, codec_info

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .buffers import AnyBuffer

__all__ = ["Codec", "EncodedPages"]

_PAGE_SIZE_MIN: Final = 512
_PAGE_SIZE_MAX: Final = 65536
_DICTIONARY_SIZE_MAX: Final = 1 << 20
_BATCH_BYTES: Final = 1 << 20  # of room for encoded pages before they are packed
_NAMED_PAGES_MAX: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPages:
    """Pages that follow each other, encoded one by one and packed.

    A page that did not shrink is there as it was: its size is `page_size`.
    """

    data: NDArray[np.uint8]
    """All bytes, shape (sum of sizes,)."""
    offsets: NDArray[np.uint64]
    """Where each page's bytes begin in `data`, shape (pages,)."""
    sizes: NDArray[np.uint32]
    """Bytes of each page, shape (pages,), from 1 to `page_size`."""
    address: int
    """Of the first page."""
    page_size: int

    def __len__(self) -> int:
        """Return the number of pages."""
        return len(self.sizes)

    def __getitem__(self, page_no: int) -> NDArray[np.uint8]:
        """Return the bytes of one page: a view of `data`, not a copy."""
        offset = int(self.offsets[page_no])
        return self.data[offset : offset + int(self.sizes[page_no])]

    @property
    def is_raw(self) -> NDArray[np.bool_]:
        """Which pages did not shrink, shape (pages,)."""
        is_raw: NDArray[np.bool_] = self.sizes == self.page_size
        return is_raw


class Codec(Closing):
    """A codec, its level, branch filter and dictionary.

    Any number of threads may use one. It keeps what each of them needs, a
    coder, for the next one that comes.

    >>> with Codec("zstd", filter="x86") as codec:
    ...     data = codec.encode(bytes(4096), address=0x1000)
    ...     codec.decode(data, address=0x1000) == bytes(4096)
    True
    """

    __slots__ = (
        "_cap",
        "_decoders",
        "_dictionary_size",
        "_encoders",
        "_filter_name",
        "_handle",
        "_info",
        "_level",
        "_page_size",
    )

    def __init__(
        self,
        name_or_id: str | int,
        *,
        level: int | None = None,
        filter: str | int = "none",
        dictionary: AnyBuffer = b"",
        page_size: int = 4096,
    ) -> None:
        """Open a codec.

        Args:
            name_or_id: A key of `CODECS`, or its id.
            level: From the codec's range in `CODECS`; None is its default.
            filter: A key of `FILTERS`, or its id.
            dictionary: Bytes that pages may refer to, at most 1 MiB; copied.
                It may begin with zstd's tables (see `train_dictionary`).
            page_size: A power of two, 512 to 65536.

        Raises:
            InvalidArgument: An argument is outside its range.
            Unsupported: A dictionary for a codec that takes none.
            SystemMemoryError: There is no memory for its tables.
        """
        self._handle: _lib.CodecHandle | None = None
        self._info = codec_info(name_or_id)
        self._level = _checked_level(self._info, level)
        self._page_size = _checked_page_size(page_size)
        filter_number = filter_id(filter)
        self._filter_name = next(
            name for name, number in FILTERS.items() if number == filter_number
        )
        self._dictionary_size = len(_lib.readable(dictionary, "dictionary"))
        if self._dictionary_size > _DICTIONARY_SIZE_MAX:
            raise InvalidArgument(
                f"dictionary of {self._dictionary_size} bytes: at most {_DICTIONARY_SIZE_MAX}"
            )
        if self._dictionary_size and not self._info.takes_dictionary:
            raise Unsupported(f"codec {self._info.name} takes no dictionary")
        self._cap = page_size if self._info.name == "raw" else page_size - 1
        self._encoders: deque[_lib.Coder] = deque()
        self._decoders: deque[_lib.Coder] = deque()
        self._handle = _lib.CodecHandle(
            self._info.id, self._level, filter_number, page_size, dictionary
        )

    def close(self) -> None:
        """Give the memory back, once calls that are under way have ended.

        Closing again does nothing; any other use afterwards raises `Closed`.
        """
        self._handle = None
        self._encoders.clear()
        self._decoders.clear()

    def __repr__(self) -> str:
        """Name the codec and its parameters."""
        closed = ", closed" if self._handle is None else ""
        return (
            f"<Codec {self.name} level={self._level} filter={self._filter_name} "
            f"dictionary={self._dictionary_size} page_size={self._page_size}{closed}>"
        )

    @property
    def name(self) -> str:
        """The codec's name, a key of `CODECS`."""
        return self._info.name

    @property
    def id(self) -> int:
        """The codec's stable id."""
        return self._info.id

    @property
    def level(self) -> int:
        """The level it encodes with."""
        return self._level

    @property
    def filter(self) -> str:
        """The name of its branch filter, a key of `FILTERS`."""
        return self._filter_name

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return self._page_size

    @property
    def memory_bytes(self) -> int:
        """Bytes of RAM of the codec and of the coders that wait for use.

        Raises:
            Closed: After `close`.
        """
        coders = list(self._encoders) + list(self._decoders)
        return self._open_handle().memory_bytes + sum(coder.memory_bytes for coder in coders)

    def encode(self, page: AnyBuffer, *, address: int = 0) -> bytes | None:
        """Encode one page.

        Args:
            page: A buffer of `page_size` bytes.
            address: Of the page's first byte, as the branch filter sees it.

        Returns:
            The bytes, or None where the page did not shrink: keep it as it is.
            The codec "raw" always returns the page.

        Raises:
            InvalidArgument: A page of another size, or an address beyond 64 bits.
            Closed: After `close`.
        """
        source = _lib.readable(page, "page")
        if len(source) != self._page_size:
            raise InvalidArgument(f"page of {len(source)} bytes: wanted {self._page_size}")
        address = _lib.checked_address(address)
        coder = self._take(self._encoders, encodes=True)
        try:
            return coder.encode(source, address, self._cap)
        finally:
            self._give_back(self._encoders, coder)

    def decode(self, data: AnyBuffer, *, address: int = 0) -> bytes:
        """Decode one page.

        Args:
            data: What `encode` returned.
            address: That `encode` was given.

        Raises:
            CorruptPage: These are not the bytes of a page of this codec.
            InvalidArgument: An address beyond 64 bits.
            Closed: After `close`.
        """
        source = _lib.readable(data, "data")
        address = _lib.checked_address(address)
        coder = self._take(self._decoders)
        try:
            return coder.decode(source, address)
        finally:
            self._give_back(self._decoders, coder)

    def decode_into(self, data: AnyBuffer, out: AnyBuffer, *, address: int = 0) -> None:
        """Decode one page into a buffer.

        Args:
            data: What `encode` returned.
            out: A writable buffer of `page_size` bytes. Where an error is
                raised, what it holds is not specified.
            address: That `encode` was given.

        Raises:
            CorruptPage: These are not the bytes of a page of this codec.
            InvalidArgument: A buffer of another size, or an address beyond 64 bits.
            Closed: After `close`.
        """
        source = _lib.readable(data, "data")
        target = _lib.writable(out, "out")
        if len(target) != self._page_size:
            raise InvalidArgument(f"out of {len(target)} bytes: wanted {self._page_size}")
        address = _lib.checked_address(address)
        coder = self._take(self._decoders)
        try:
            coder.decode_into(source, address, target)
        finally:
            self._give_back(self._decoders, coder)

    def encode_pages(self, pages: AnyBuffer, *, address: int = 0) -> EncodedPages:
        """Encode pages that follow each other.

        Args:
            pages: A buffer of whole pages, such as an array of shape
                (pages, page_size) and dtype uint8. It may be empty.
            address: Of the first page.

        Returns:
            The pages, packed. What did not shrink is kept as it was.

        Raises:
            InvalidArgument: Bytes that are not whole pages, or an address
                beyond 64 bits.
            Closed: After `close`.
        """
        flat = _lib.as_bytes_array(pages, "pages")
        page_count, rest = divmod(len(flat), self._page_size)
        if rest:
            raise InvalidArgument(
                f"pages of {len(flat)} bytes: not a multiple of {self._page_size}"
            )
        address = _lib.checked_address(address)
        matrix = flat.reshape(page_count, self._page_size)
        sizes = np.zeros(page_count, dtype=np.uint32)
        batch = max(1, _BATCH_BYTES // self._page_size)
        room = np.empty((min(batch, page_count), self._cap), dtype=np.uint8)
        packed: list[NDArray[np.uint8]] = []
        coder = self._take(self._encoders, encodes=True)
        try:
            for first in range(0, page_count, batch):
                rows = matrix[first : first + batch]
                part = sizes[first : first + batch]
                where = (address + first * self._page_size) % (1 << 64)
                coder.encode_pages(
                    _lib.readable(rows.reshape(-1), "pages"), len(rows), where, room, part
                )
                packed.append(_pack(rows, room[: len(rows)], part))
        finally:
            self._give_back(self._encoders, coder)
        data = np.concatenate(packed) if packed else np.empty(0, dtype=np.uint8)
        ends = np.cumsum(sizes, dtype=np.uint64)
        return EncodedPages(data, ends - sizes, sizes, address, self._page_size)

    def decode_pages(
        self, encoded: EncodedPages, *, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Decode all pages of `encoded`.

        Args:
            encoded: What `encode_pages` returned.
            out: Where to write the pages: a contiguous array of dtype uint8
                and shape (pages, page_size). None makes one.

        Returns:
            The pages, shape (pages, page_size): `out`, where it was given.

        Raises:
            CorruptPage: Some pages do not decode. The others are in `out`.
            InvalidArgument: Another page size, or an `out` of another shape.
            Closed: After `close`.
        """
        if encoded.page_size != self._page_size:
            raise InvalidArgument(
                f"pages of {encoded.page_size} bytes: this codec's have {self._page_size}"
            )
        shape = (len(encoded), self._page_size)
        if out is None:
            out = np.empty(shape, dtype=np.uint8)
        elif out.shape != shape or out.dtype != np.uint8:
            raise InvalidArgument(f"out of {out.dtype} {out.shape}: wanted uint8 {shape}")
        target = _lib.writable(out, "out")
        addresses = np.arange(len(encoded), dtype=np.uint64) * np.uint64(self._page_size)
        addresses += np.uint64(encoded.address)
        statuses = np.zeros(len(encoded), dtype=np.int32)
        coder = self._take(self._decoders)
        try:
            coder.decode_pages(
                _lib.readable(encoded.data, "data"),
                np.ascontiguousarray(encoded.offsets, dtype=np.uint64),
                np.ascontiguousarray(encoded.sizes, dtype=np.uint32),
                addresses,
                target,
                statuses,
            )
        finally:
            self._give_back(self._decoders, coder)
        _copy_raw(encoded, out, statuses)
        bad = np.flatnonzero(statuses)
        if len(bad):
            raise _corrupt(bad, addresses)
        return out

    @property
    def handle(self) -> _lib.CodecHandle:
        """What the store, and others who call the C interface, hold on to: ``.pointer``."""
        return self._open_handle()

    def _open_handle(self) -> _lib.CodecHandle:
        handle = self._handle
        if handle is None:
            raise Closed(f"codec {self.name} was closed; open another")
        return handle

    def _take(self, waiting: deque[_lib.Coder], *, encodes: bool = False) -> _lib.Coder:
        """Lend a coder to this thread; deques need no lock for this."""
        handle = self._open_handle()
        try:
            return waiting.pop()
        except IndexError:
            return _lib.Coder(handle, self._page_size, encodes=encodes)

    def _give_back(self, waiting: deque[_lib.Coder], coder: _lib.Coder) -> None:
        if self._handle is not None:
            waiting.append(coder)


def _checked_level(info: CodecInfo, level: int | None) -> int:
    if level is None:
        return info.level_default
    if not info.level_min <= level <= info.level_max:
        raise InvalidArgument(
            f"level {level}: {info.name} has {info.level_min} to {info.level_max}"
        )
    return level


def _checked_page_size(page_size: int) -> int:
    if not _PAGE_SIZE_MIN <= page_size <= _PAGE_SIZE_MAX or page_size & (page_size - 1):
        raise InvalidArgument(
            f"page size {page_size}: not a power of two from {_PAGE_SIZE_MIN} to {_PAGE_SIZE_MAX}"
        )
    return page_size


def _pack(
    pages: NDArray[np.uint8], room: NDArray[np.uint8], sizes: NDArray[np.uint32]
) -> NDArray[np.uint8]:
    """Pack what is in the rows; pages that did not shrink come from `pages`.

    Sets the sizes of those to the page's.
    """
    page_size = pages.shape[1]
    raw = sizes == 0
    sizes[raw] = page_size
    if not raw.any():
        return room[np.arange(room.shape[1]) < sizes[:, np.newaxis]]
    return np.concatenate(
        [
            page if is_raw else row[:size]
            for page, row, size, is_raw in zip(pages, room, sizes, raw, strict=True)
        ]
    )


def _copy_raw(encoded: EncodedPages, out: NDArray[np.uint8], statuses: NDArray[np.int32]) -> None:
    """Copy pages that did not shrink, which no codec but "raw" decodes."""
    for page_no in np.flatnonzero(encoded.is_raw & (statuses != 0)):
        data = encoded[int(page_no)]
        if len(data) == encoded.page_size:
            out[page_no] = data
            statuses[page_no] = 0


def _corrupt(bad: NDArray[Any], addresses: NDArray[np.uint64]) -> CorruptPage:
    named = ", ".join(f"{int(addresses[n]):#x}" for n in bad[:_NAMED_PAGES_MAX])
    more = f" and {len(bad) - _NAMED_PAGES_MAX} more" if len(bad) > _NAMED_PAGES_MAX else ""
    return CorruptPage(
        f"pages at {named}{more} do not decode; damaged, or encoded with another codec, "
        "filter or dictionary"
    )
