# SPDX-License-Identifier: MIT
"""Writing a trace, block by block."""

from __future__ import annotations

import os
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt
import zstandard

from pagestep.codecs.errors import Closed, InvalidArgument
from pagestep.store._files import WrittenBeside

from ._trace_block import Block, encode_block, is_mark_name, mark_size
from ._trace_format import (
    ANY_IMAGE,
    BLOCK_EVENTS_MAX,
    BLOCK_MARKS_SIZE_MAX,
    CLOCK_SIZE,
    IDENTITY_SIZE,
    KIND_COUNT,
    PAGE_COUNT_MAX,
    PAGE_SIZE_MAX,
    PAGE_SIZE_MIN,
    TIME_MAX,
    Header,
    Totals,
    chained_crc,
    is_clock_name,
)

_LEVEL_DEFAULT = 12  # 22 takes seven times as long and saves a tenth on the recorded boot


class TraceWriter:
    """Writes a trace to a path or an open binary file, in bounded memory.

    A path is written beside and renamed when the ``with`` block ends well, so a trace that stands
    under its name is whole. A file object is only written to, in order, so a pipe will do; where
    the ``with`` block ends by an exception it gets no end record, and a reader calls the trace
    truncated. The same events give the same bytes, however they are cut into calls.

    Not safe for use by several threads at once.

    Args:
        target: A path, or a binary file open for writing, which stays open.
        page_size: Bytes of a page, a power of two from 512 to 65536.
        page_count: Pages of the image, 1 to 2**30. Up to 2**14 an event takes four raw bytes,
            beyond six.
        identity: SHA-256 of the flat image's bytes; None for a trace that fits any image with
            at least ``page_count`` pages.
        clock: Name of the unit of times, 1 to 16 printable ASCII characters.
        level: zstd's level, 1 to 22.
        block_events: Events of a block, at most 2**20. Smaller blocks need less memory on both
            sides and compress worse.

    Raises:
        InvalidArgument: An argument is outside its range.
        OSError: The path cannot be written.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        page_size: int,
        page_count: int,
        identity: bytes | None = None,
        clock: str = "instructions",
        level: int = _LEVEL_DEFAULT,
        block_events: int = BLOCK_EVENTS_MAX,
    ) -> None:
        """See the class."""
        header = Header(page_size, page_count, ANY_IMAGE if identity is None else identity, clock)
        _check_header(header)
        if not 1 <= level <= 22:
            raise InvalidArgument(f"zstd level {level} is not from 1 to 22")
        if not 1 <= block_events <= BLOCK_EVENTS_MAX:
            raise InvalidArgument(
                f"a block of {block_events} events is not from 1 to {BLOCK_EVENTS_MAX}"
            )
        self._page_count = page_count
        self._compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
        self._block_events = block_events
        self._pages = np.empty(block_events, dtype=np.uint32)
        self._kinds = np.empty(block_events, dtype=np.uint8)
        self._times = np.empty(block_events, dtype=np.uint64)
        self._marks: list[tuple[int, str]] = []
        self._marks_size = 0
        self._fill = 0
        self._time_base = 0
        self._time_last = 0
        self._blocks = 0
        self._events = 0
        self._mark_count = 0
        self._chain_crc = 0
        self._closed = False
        self._beside: WrittenBeside | None = None
        if isinstance(target, (str, os.PathLike)):
            self._beside = WrittenBeside(target)
            self._file: BinaryIO = self._beside.file
        else:
            self._file = target
        self._file.write(header.pack())

    def __enter__(self) -> Self:
        """Return the writer."""
        self._require_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the trace, or abandon it where the block ends by an exception."""
        if exc_type is None:
            self.close()
        else:
            self.abandon()

    def events(self, pages: npt.ArrayLike, kinds: npt.ArrayLike, times: npt.ArrayLike) -> None:
        """Append events.

        Args:
            pages: Page numbers, integers below ``page_count``; shape (n,).
            kinds: 0 fetch, 1 read, 2 write; shape (n,), or one number for all.
            times: Absolute times, never decreasing, from 0 to 2**63 - 1; shape (n,).

        Raises:
            InvalidArgument: An array has another shape or a value outside its range. Nothing of
                the call is then written.
            Closed: The writer was closed.
        """
        self._require_open()
        page_array = _integers("pages", pages, self._page_count - 1)
        count = len(page_array)
        kind_array = _integers("kinds", kinds, KIND_COUNT - 1, count)
        time_array = _integers("times", times, TIME_MAX, count)
        if not count:
            return
        if int(time_array[0]) < self._time_last or bool(np.any(time_array[1:] < time_array[:-1])):
            raise InvalidArgument("times must never decrease from one event to the next")
        self._time_last = int(time_array[-1])
        done = 0
        while done < count:
            take = min(count - done, self._block_events - self._fill)
            into = slice(self._fill, self._fill + take)
            self._pages[into] = page_array[done : done + take]
            self._kinds[into] = kind_array[done : done + take]
            self._times[into] = time_array[done : done + take]
            self._fill += take
            done += take
            if self._fill == self._block_events:
                self._flush()

    def mark(self, name: str) -> None:
        """Put a mark before the next event.

        Args:
            name: Printable, 1 to 255 bytes of UTF-8.

        Raises:
            InvalidArgument: The name cannot be a mark's.
            Closed: The writer was closed.
        """
        self._require_open()
        if not is_mark_name(name):
            raise InvalidArgument(f"mark {name!r} is not printable text of 1 to 255 bytes")
        if self._marks_size + mark_size(name) > BLOCK_MARKS_SIZE_MAX:
            self._flush()
        self._marks.append((self._fill, name))
        self._marks_size += mark_size(name)

    def close(self) -> None:
        """Write what is left and the end record; a path gets its name. Again is no error."""
        if self._closed:
            return
        try:
            if self._fill or self._marks:
                self._flush()
            end = Totals(
                self._blocks, self._events, self._mark_count, self._time_last, self._chain_crc
            )
            self._file.write(end.pack())
            self._file.flush()
        except BaseException:
            self.abandon()
            raise
        self._closed = True
        if self._beside is not None:
            self._beside.keep()

    def abandon(self) -> None:
        """Stop without an end record; a path is left as it was. Again is no error."""
        if self._closed:
            return
        self._closed = True
        if self._beside is not None:
            self._beside.discard()

    def _require_open(self) -> None:
        if self._closed:
            raise Closed("this trace writer is closed: open another one")

    def _flush(self) -> None:
        block = Block(
            pages=self._pages[: self._fill],
            kinds=self._kinds[: self._fill],
            times=self._times[: self._fill],
            marks=self._marks,
            first_event=self._events,
        )
        data = encode_block(
            block,
            page_count=self._page_count,
            time_base=self._time_base,
            compressor=self._compressor,
        )
        self._file.write(data)
        self._chain_crc = chained_crc(data, self._chain_crc)
        self._blocks += 1
        self._events += len(block)
        self._mark_count += len(block.marks)
        if self._fill:
            self._time_base = int(self._times[self._fill - 1])
        self._marks = []
        self._marks_size = 0
        self._fill = 0


def _check_header(header: Header) -> None:
    size = header.page_size
    if not PAGE_SIZE_MIN <= size <= PAGE_SIZE_MAX or size & (size - 1):
        raise InvalidArgument(
            f"page size {size} is not a power of two from {PAGE_SIZE_MIN} to {PAGE_SIZE_MAX}"
        )
    if not 1 <= header.page_count <= PAGE_COUNT_MAX:
        raise InvalidArgument(f"page count {header.page_count} is not from 1 to {PAGE_COUNT_MAX}")
    if len(header.identity) != IDENTITY_SIZE:
        raise InvalidArgument(
            f"identity has {len(header.identity)} bytes, a SHA-256 has {IDENTITY_SIZE}"
        )
    if not is_clock_name(header.clock):
        raise InvalidArgument(
            f"clock {header.clock!r} is not a name of 1 to {CLOCK_SIZE} printable ASCII characters"
        )


def _integers(
    what: str, values: npt.ArrayLike, largest: int, count: int | None = None
) -> npt.NDArray[np.integer]:
    """Return ``values`` as integers from 0 to ``largest``, ``count`` of them."""
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        raise InvalidArgument(f"{what} must be integers, not {array.dtype}")
    if array.ndim == 0 and count is not None:
        array = np.broadcast_to(array, (count,))
    if array.ndim != 1 or (count is not None and len(array) != count):
        raise InvalidArgument(
            f"{what} has shape {array.shape}, must have one dimension and as many as pages"
        )
    if array.size and (int(array.min()) < 0 or int(array.max()) > largest):
        wrong = int(array.min()) if int(array.min()) < 0 else int(array.max())
        raise InvalidArgument(f"{what} holds {wrong}, must be from 0 to {largest}")
    return array
