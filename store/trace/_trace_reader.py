# SPDX-License-Identifier: MIT
"""Reading a trace, block by block."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np

from pagestep.codecs.closing import Closing
from pagestep.codecs.errors import BadTrace, Closed, InvalidArgument

from ._trace_block import Block, decode_block
from ._trace_format import (
    ANY_IMAGE,
    PREFIX_SIZE,
    RECORD_HEADER_SIZE,
    BlockHeader,
    Totals,
    chained_crc,
    header_size_of,
    parse_header,
    parse_record_header,
)

if TYPE_CHECKING:
    from pagestep.store.image import Image


class Trace(Closing):
    """A trace open for reading; iterating over it gives its blocks in order.

    What is read is checked as it comes: a block is handed out only when its own checksum, its
    place in the trace and every page number in it are right. That the trace is complete shows at
    its end, so a truncated one raises after the last whole block.

    A file that can seek may be iterated over again, one iteration at a time; a pipe once.
    Not safe for use by several threads at once.

    Attributes:
        page_size: Bytes of a page.
        page_count: Pages of the image; every page number is below it.
        identity: SHA-256 of the flat image's bytes, or None where the trace fits any image.
        clock: Name of the unit of times.
    """

    def __init__(self, file: BinaryIO, *, owned: bool = False) -> None:
        """Read the header of ``file``; ``Trace.open`` is the usual way.

        Args:
            file: A binary file at the first byte of a trace.
            owned: Close the file with the trace.
        """
        self._file = file
        self._owned = owned
        self._closed = False
        prefix = _read(file, PREFIX_SIZE)
        size = header_size_of(prefix)
        rest = _read(file, size - len(prefix))
        if len(prefix) + len(rest) < size:
            raise BadTrace("trace is truncated: it ends inside its header")
        header = parse_header(prefix + rest)
        self.page_size = header.page_size
        self.page_count = header.page_count
        self.identity = None if header.identity == ANY_IMAGE else header.identity
        self.clock = header.clock
        self._blocks_at = file.tell() if file.seekable() else None
        self._pass = 0

    @classmethod
    def open(cls, source: str | os.PathLike[str] | BinaryIO) -> Self:
        """Open a trace.

        Args:
            source: A path, or a binary file at the trace's first byte, which stays open.

        Returns:
            The trace, its header read.

        Raises:
            BadTrace: Not a trace, of another version, or damaged.
            OSError: The path cannot be opened.
        """
        if not isinstance(source, (str, os.PathLike)):
            return cls(source)
        file = open(source, "rb")  # noqa: SIM115 - the trace closes it
        try:
            return cls(file, owned=True)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        """Return the trace."""
        self._require_open()
        return self

    def close(self) -> None:
        """Close the trace, and its file where it was opened by path. Again is no error."""
        self._closed = True
        if self._owned:
            self._file.close()

    def require_image(self, identity: bytes, page_count: int, page_size: int) -> None:
        """Check that the trace speaks of this image.

        Args:
            identity: SHA-256 of the flat image's bytes.
            page_count: The image's pages.
            page_size: Bytes of a page.

        Raises:
            BadTrace: It speaks of another one, or of other pages.
        """
        if page_size != self.page_size:
            raise BadTrace(
                f"trace counts pages of {self.page_size} bytes, the image has pages of "
                f"{page_size}: open the image with page size {self.page_size}"
            )
        if self.identity is None:
            if self.page_count > page_count:
                raise BadTrace(
                    f"trace speaks of {self.page_count} pages, the image has only {page_count}: "
                    "use a larger image or another trace"
                )
        elif self.identity != identity or self.page_count != page_count:
            raise BadTrace(
                f"trace belongs to another image: recorded on {self.page_count} pages with "
                f"SHA-256 {self.identity.hex()[:16]}…, this image has {page_count} pages with "
                f"{identity.hex()[:16]}…; use the image that it was recorded on"
            )

    def misfit(self, image: Image) -> str:
        """Return why the trace does not speak of an image; empty where it does."""
        try:
            self.require_image(bytes.fromhex(image.identity), image.page_count, image.page_size)
        except BadTrace as error:
            return str(error)
        return ""

    def totals(self) -> Totals | None:
        """Return what the end record counts, or None where the file cannot seek.

        For a progress bar: the counts are proved only by reading the whole trace.

        Raises:
            BadTrace: There is no end record at the file's end.
        """
        self._require_open()
        if self._blocks_at is None:
            return None
        here = self._file.tell()
        try:
            if self._file.seek(0, io.SEEK_END) < self._blocks_at + RECORD_HEADER_SIZE:
                raise BadTrace("trace is truncated: it has no end record")
            self._file.seek(-RECORD_HEADER_SIZE, io.SEEK_END)
            end = parse_record_header(_read(self._file, RECORD_HEADER_SIZE), self.page_count)
        finally:
            self._file.seek(here)
        if not isinstance(end, Totals):
            raise BadTrace("trace is truncated: it has no end record")
        return end

    def __iter__(self) -> Iterator[Block]:
        """Iterate over the blocks.

        Raises:
            BadTrace: The trace is damaged, truncated, or longer than it says.
            InvalidArgument: The file cannot seek and was iterated over before.
            Closed: The trace was closed.
        """
        self._require_open()
        if self._pass and self._blocks_at is None:
            raise InvalidArgument("a trace from a pipe can be read once: open it from a file")
        if self._pass and self._blocks_at is not None:
            self._file.seek(self._blocks_at)
        self._pass += 1
        return self._blocks(self._pass)

    def _blocks(self, this_pass: int) -> Iterator[Block]:
        blocks = events = marks = time_last = chain_crc = 0
        while True:
            self._require_open()
            if this_pass != self._pass:
                raise InvalidArgument("another iteration over this trace has begun")
            data = _read(self._file, RECORD_HEADER_SIZE)
            if len(data) < RECORD_HEADER_SIZE:
                raise BadTrace(f"trace is truncated: it ends after event {events}")
            header = parse_record_header(data, self.page_count)
            if isinstance(header, Totals):
                break
            _check_place(header, events, time_last)
            block = self._payload(header)
            chain_crc = chained_crc(data, chain_crc)
            blocks += 1
            events += len(block)
            marks += len(block.marks)
            if len(block):
                time_last = int(block.times[-1])
            yield block
        if header != Totals(blocks, events, marks, time_last, chain_crc):
            raise BadTrace(
                f"trace is damaged: its end counts {header.event_count} events in "
                f"{header.block_count} blocks, {events} in {blocks} came before it"
            )
        if _read(self._file, 1):
            raise BadTrace("trace is damaged: bytes follow its end record")

    def _payload(self, header: BlockHeader) -> Block:
        stored = _read(self._file, header.stored_size)
        if len(stored) < header.stored_size:
            raise BadTrace(
                f"trace is truncated: it ends inside the block at event {header.first_event}"
            )
        return decode_block(header, stored, page_count=self.page_count)

    def read_all(self, *, events_max: int = 100_000_000) -> Block:
        """Return all blocks as one, at 13 bytes an event.

        Args:
            events_max: The most events to gather: a small file may hold very many.

        Raises:
            BadTrace: The trace is damaged or has more events than that.
        """
        blocks: list[Block] = []
        marks: list[tuple[int, str]] = []
        events = 0
        for block in self:
            if events + len(block) > events_max:
                raise BadTrace(
                    f"trace has more than {events_max} events: read it block by block, "
                    "or raise events_max"
                )
            marks += [(events + index, name) for index, name in block.marks]
            events += len(block)
            blocks.append(block)
        return Block(
            pages=np.concatenate([np.empty(0, np.uint32), *(b.pages for b in blocks)]),
            kinds=np.concatenate([np.empty(0, np.uint8), *(b.kinds for b in blocks)]),
            times=np.concatenate([np.empty(0, np.uint64), *(b.times for b in blocks)]),
            marks=marks,
        )

    def _require_open(self) -> None:
        if self._closed:
            raise Closed("this trace is closed: open it again")


def _check_place(header: BlockHeader, events: int, time_last: int) -> None:
    if header.first_event != events or header.time_base != time_last:
        raise BadTrace(
            f"trace is damaged: a block that begins at event {header.first_event} "
            f"follows event {events}"
        )


def _read(file: BinaryIO, size: int) -> bytes:
    """Return ``size`` bytes, or fewer at the file's end; pipes give less than asked for."""
    data = file.read(size)
    if len(data) == size or not data:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (data := file.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
