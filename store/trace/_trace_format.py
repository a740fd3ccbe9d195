# SPDX-License-Identifier: MIT
"""The fixed parts of a trace, as docs/TRACE.md lays them out: sizes, limits, headers."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from pagestep.codecs.errors import BadTrace

MAGIC = b"\x89PGSTR\r\n"
FORMAT_VERSION = 1

HEADER_SIZE = 128
HEADER_SIZE_MAX = 4096
RECORD_HEADER_SIZE = 48

BLOCK_TAG = b"BLCK"
END_TAG = b"END\x00"

PAGE_SIZE_MIN = 512
PAGE_SIZE_MAX = 64 * 1024
PAGE_COUNT_MAX = 1 << 30  # a token is page_no << 2 | kind in 32 bits
NARROW_PAGE_COUNT_MAX = 1 << 14  # up to here a token fits in 16 bits

BLOCK_EVENTS_MAX = 1 << 20
BLOCK_MARKS_SIZE_MAX = 64 * 1024
LONG_DELTA = 0xFFFF  # in a record: the delta stands in the list of long deltas
TIME_MAX = (1 << 63) - 1
MARK_NAME_SIZE_MAX = 255
CLOCK_SIZE = 16

IDENTITY_SIZE = 32
ANY_IMAGE = bytes(IDENTITY_SIZE)

KIND_FETCH = 0
KIND_READ = 1
KIND_WRITE = 2
KIND_COUNT = 3

# Fields in the order of docs/TRACE.md; a test compares the two.
HEADER_FIELDS = (
    ("magic", "8s"),
    ("format_version", "H"),
    ("header_size", "H"),
    ("page_size", "I"),
    ("page_count", "Q"),
    ("features_compatible", "I"),
    ("features_incompatible", "I"),
    ("identity", "32s"),
    ("clock", "16s"),
    ("reserved", "44s"),
    ("header_crc", "I"),
)
BLOCK_FIELDS = (
    ("tag", "4s"),
    ("stored_size", "I"),
    ("raw_size", "I"),
    ("event_count", "I"),
    ("long_delta_count", "I"),
    ("mark_count", "I"),
    ("first_event", "Q"),
    ("time_base", "Q"),
    ("payload_crc", "I"),
    ("header_crc", "I"),
)
END_FIELDS = (
    ("tag", "4s"),
    ("block_count", "I"),
    ("event_count", "Q"),
    ("mark_count", "Q"),
    ("time_last", "Q"),
    ("chain_crc", "I"),
    ("reserved", "8s"),
    ("header_crc", "I"),
)

_HEADER = struct.Struct("<" + "".join(code for _, code in HEADER_FIELDS))
_BLOCK = struct.Struct("<" + "".join(code for _, code in BLOCK_FIELDS))
_END = struct.Struct("<" + "".join(code for _, code in END_FIELDS))
_CRC = struct.Struct("<I")
_PREFIX = struct.Struct("<8sHH")  # what is read before anything else is believed


def record_size(page_count: int) -> int:
    """Return the bytes of one event's record in a trace of ``page_count`` pages."""
    return 4 if page_count <= NARROW_PAGE_COUNT_MAX else 6


def stored_size_max(raw_size: int) -> int:
    """Return the most bytes that a block of ``raw_size`` raw bytes may take compressed."""
    return raw_size + (raw_size >> 8) + 128


def chained_crc(block_header: bytes, chain_crc: int) -> int:
    """Return the CRC-32 of all block headers when one more has come.

    The header's own CRC is left out: over bytes that end in their CRC, it is always the same.
    """
    return zlib.crc32(block_header[: RECORD_HEADER_SIZE - 4], chain_crc)


def _seal(body: bytes) -> bytes:
    """Return ``body`` with its last four bytes replaced by the CRC-32 of the others."""
    return body[:-4] + _CRC.pack(zlib.crc32(body[:-4]))


def _is_sealed(body: bytes) -> bool:
    return body[-4:] == _CRC.pack(zlib.crc32(body[:-4]))


@dataclass(frozen=True)
class Header:
    """What a trace says of itself before its first block."""

    page_size: int
    page_count: int
    identity: bytes
    clock: str

    def pack(self) -> bytes:
        """Return the header's bytes."""
        return _seal(
            _HEADER.pack(
                MAGIC,
                FORMAT_VERSION,
                HEADER_SIZE,
                self.page_size,
                self.page_count,
                0,
                0,
                self.identity,
                self.clock.encode("ascii"),
                b"",
                0,
            )
        )


@dataclass(frozen=True)
class BlockHeader:
    """What stands before a block's payload."""

    stored_size: int
    raw_size: int
    event_count: int
    long_delta_count: int
    mark_count: int
    first_event: int
    time_base: int
    payload_crc: int

    def pack(self) -> bytes:
        """Return the block header's bytes."""
        return _seal(
            _BLOCK.pack(
                BLOCK_TAG,
                self.stored_size,
                self.raw_size,
                self.event_count,
                self.long_delta_count,
                self.mark_count,
                self.first_event,
                self.time_base,
                self.payload_crc,
                0,
            )
        )


@dataclass(frozen=True)
class Totals:
    """What a trace's end record counts.

    Attributes:
        block_count: Blocks in the trace.
        event_count: Events in all blocks.
        mark_count: Marks in all blocks.
        time_last: Time of the last event in the trace's clock; 0 without events.
        chain_crc: CRC-32 of all block headers in order, without their own CRCs.
    """

    block_count: int
    event_count: int
    mark_count: int
    time_last: int
    chain_crc: int

    def pack(self) -> bytes:
        """Return the end record's bytes."""
        return _seal(
            _END.pack(
                END_TAG,
                self.block_count,
                self.event_count,
                self.mark_count,
                self.time_last,
                self.chain_crc,
                b"",
                0,
            )
        )


def header_size_of(prefix: bytes) -> int:
    """Return the header size that the first 12 bytes state, once they prove to be a trace's."""
    if len(prefix) < len(MAGIC) or not prefix.startswith(MAGIC):
        raise BadTrace("not a pagestep trace: the file does not begin with its magic number")
    if len(prefix) < _PREFIX.size:
        raise BadTrace("trace is truncated: it ends inside its header")
    _, version, size = _PREFIX.unpack(prefix)
    if version != FORMAT_VERSION:
        raise BadTrace(
            f"trace has format version {version}, this pagestep reads version {FORMAT_VERSION}: "
            "record it again, or use the pagestep that wrote it"
        )
    if not HEADER_SIZE <= size <= HEADER_SIZE_MAX:
        raise BadTrace(f"trace header is damaged: it states a size of {size} bytes")
    return int(size)


PREFIX_SIZE = _PREFIX.size


def parse_header(data: bytes) -> Header:
    """Return the header in ``data``, which has the length that the header states.

    Raises:
        BadTrace: The checksum is wrong, or a field is outside its range.
    """
    if not _is_sealed(data):
        raise BadTrace("trace header is damaged: its checksum is wrong")
    (_, _, _, page_size, page_count, _, incompatible, identity, clock, reserved, _) = (
        _HEADER.unpack_from(data)
    )
    if incompatible:
        raise BadTrace(
            f"trace uses features {incompatible:#x} that this pagestep does not know: update it"
        )
    if not (PAGE_SIZE_MIN <= page_size <= PAGE_SIZE_MAX) or page_size & (page_size - 1):
        raise BadTrace(
            f"trace header is wrong: page size {page_size} is not a power of two from "
            f"{PAGE_SIZE_MIN} to {PAGE_SIZE_MAX}"
        )
    if not 1 <= page_count <= PAGE_COUNT_MAX:
        raise BadTrace(
            f"trace header is wrong: page count {page_count} is not from 1 to {PAGE_COUNT_MAX}"
        )
    if any(reserved):
        raise BadTrace("trace header is wrong: its reserved bytes are not zero")
    return Header(page_size, page_count, identity, _clock_name(clock))


def is_clock_name(name: str) -> bool:
    """Return whether ``name`` can stand in a header: 1 to 16 printable ASCII characters."""
    return 1 <= len(name) <= CLOCK_SIZE and name.isascii() and name.isprintable()


def _clock_name(field: bytes) -> str:
    name = field.rstrip(b"\0").decode("latin-1")
    if not is_clock_name(name):
        raise BadTrace(
            "trace header is wrong: its clock is not a name in printable ASCII padded with zeros"
        )
    return name


def parse_record_header(data: bytes, page_count: int) -> BlockHeader | Totals:
    """Return the block header or end record in the 48 bytes of ``data``.

    Sizes are checked against each other and against the format's limits, so that what they
    state may be allocated.

    Raises:
        BadTrace: The checksum is wrong, or a field is outside its range.
    """
    if not _is_sealed(data):
        raise BadTrace("trace is damaged: the checksum of a block header is wrong")
    tag = data[:4]
    if tag == END_TAG:
        _, blocks, events, marks, time_last, chain_crc, reserved, _ = _END.unpack(data)
        if any(reserved):
            raise BadTrace("trace is wrong: the reserved bytes of its end record are not zero")
        return Totals(blocks, events, marks, time_last, chain_crc)
    if tag != BLOCK_TAG:
        raise BadTrace(f"trace is wrong: {tag!r} is neither a block nor the end")
    _, *fields, _ = _BLOCK.unpack(data)
    block = BlockHeader(*fields)
    _check_block_sizes(block, page_count)
    return block


def _check_block_sizes(block: BlockHeader, page_count: int) -> None:
    marks_size = (
        block.raw_size - block.event_count * record_size(page_count) - 8 * block.long_delta_count
    )
    reasonable = (
        block.event_count <= BLOCK_EVENTS_MAX
        and block.event_count + block.mark_count > 0
        and block.long_delta_count <= block.event_count
        and 6 * block.mark_count <= marks_size <= BLOCK_MARKS_SIZE_MAX
        and (block.mark_count > 0 or marks_size == 0)
        and 0 < block.stored_size <= stored_size_max(block.raw_size)
    )
    if not reasonable:
        raise BadTrace(
            f"trace is wrong: block at event {block.first_event} states sizes that do not fit "
            f"together or exceed {BLOCK_EVENTS_MAX} events"
        )
