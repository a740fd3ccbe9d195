# SPDX-License-Identifier: MIT
"""Hostile and damaged traces: the right events or BadTrace, nothing else."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pagestep.codecs.errors import BadTrace
from pagestep.store.trace import Trace, TraceWriter

HEADER_SIZE = 128


def small_trace() -> bytes:
    """Three blocks, marks, long deltas."""
    file = io.BytesIO()
    with TraceWriter(
        file, page_size=4096, page_count=16, identity=bytes(range(32)), block_events=8
    ) as writer:
        writer.mark("begin")
        writer.events(
            [i * 7 % 16 for i in range(20)], [i % 3 for i in range(20)], range(0, 200, 10)
        )
        writer.mark("middle")
        writer.events([15, 0], 2, [1 << 20, 1 << 50])
    return file.getvalue()


def contents(data: bytes) -> tuple[Any, ...]:
    trace = Trace.open(io.BytesIO(data))
    whole = trace.read_all()
    return (
        trace.page_size,
        trace.page_count,
        trace.identity,
        trace.clock,
        whole.pages.tolist(),
        whole.kinds.tolist(),
        whole.times.tolist(),
        whole.marks,
    )


def assert_refused(data: bytes, message: str = "trace") -> None:
    with pytest.raises(BadTrace, match=message) as caught:
        contents(data)
    assert "\n" not in str(caught.value)


def test_truncated_anywhere() -> None:
    data = small_trace()
    contents(data)
    for size in range(len(data)):
        assert_refused(data[:size], "not a pagestep trace" if size < 8 else "truncated")


def test_truncated_anywhere_totals_never_lies() -> None:
    data = small_trace()
    for size in range(HEADER_SIZE, len(data)):
        trace = Trace.open(io.BytesIO(data[:size]))
        with pytest.raises(BadTrace):
            trace.totals()


def test_any_bit_flipped() -> None:
    data = small_trace()
    for position in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        assert_refused(bytes(flipped))


@given(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=40))
def test_bytes_overwritten(place: int, new: bytes) -> None:
    data = small_trace()
    place %= len(data)
    damaged = (data[:place] + new + data[place + len(new) :])[: len(data)]
    if damaged != data:
        assert_refused(damaged)


@given(st.binary(max_size=400))
def test_any_bytes_are_no_trace(data: bytes) -> None:
    assert_refused(data)


def test_bytes_after_the_end() -> None:
    assert_refused(small_trace() + b"\0", "bytes follow")
    assert_refused(small_trace() * 2, "bytes follow")


def test_not_a_trace_says_so() -> None:
    assert_refused(b"", "not a pagestep trace")
    assert_refused(b"\x7fELF" + bytes(1000), "not a pagestep trace")


# From here on the checksums are right, as a forger's would be.


def sealed(body: bytes) -> bytes:
    return body[:-4] + struct.pack("<I", zlib.crc32(body[:-4]))


def header(**changes: Any) -> bytes:
    fields = {
        "magic": b"\x89PGSTR\r\n",
        "version": 1,
        "size": 128,
        "page_size": 4096,
        "page_count": 16,
        "compatible": 0,
        "incompatible": 0,
        "identity": bytes(32),
        "clock": b"instructions",
        "reserved": bytes(44),
    }
    assert changes.keys() <= fields.keys()
    return sealed(struct.pack("<8sHHIQII32s16s44sI", *(fields | changes).values(), 0))


def block(raw: bytes, stored: bytes | None = None, **changes: Any) -> bytes:
    stored = zstandard.compress(raw) if stored is None else stored
    fields = {
        "tag": b"BLCK",
        "stored_size": len(stored),
        "raw_size": len(raw),
        "events": 0,
        "long_deltas": 0,
        "marks": 0,
        "first_event": 0,
        "time_base": 0,
        "payload_crc": zlib.crc32(stored),
    }
    assert changes.keys() <= fields.keys()
    return sealed(struct.pack("<4sIIIIIQQII", *(fields | changes).values(), 0)) + stored


def end(only_block: bytes = b"", **changes: Any) -> bytes:
    fields = {
        "tag": b"END\0",
        "blocks": 0,
        "events": 0,
        "marks": 0,
        "time_last": 0,
        "chain": zlib.crc32(only_block[:44]),
        "reserved": bytes(8),
    }
    assert changes.keys() <= fields.keys()
    return sealed(struct.pack("<4sIQQQI8sI", *(fields | changes).values(), 0))


def record(page: int, kind: int, delta: int) -> bytes:
    return struct.pack("<HH", page << 2 | kind, delta)


def one_block(raw: bytes, stored: bytes | None = None, **changes: Any) -> bytes:
    return header() + block(raw, stored, **changes)


def test_a_forged_trace_that_is_right_is_read() -> None:
    only = block(record(15, 2, 7), events=1)
    data = header() + only + end(only, blocks=1, events=1, time_last=7)
    assert contents(data)[4:7] == ([15], [2], [7])
    assert contents(header() + end())[4] == []


def test_a_longer_header_is_read() -> None:
    longer = header(size=160, compatible=1)[:-4] + b"later" + bytes(27) + bytes(4)
    assert len(longer) == 160
    assert contents(sealed(longer) + end())[4] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"version": 0}, "version 0"),
        ({"size": 127}, "header is damaged"),
        ({"size": 65535}, "header is damaged"),
        ({"page_size": 0}, "page size 0"),
        ({"page_size": 4097}, "page size"),
        ({"page_size": 1 << 31}, "page size"),
        ({"page_count": 0}, "page count"),
        ({"page_count": (1 << 30) + 1}, "page count"),
        ({"page_count": (1 << 64) - 1}, "page count"),
        ({"incompatible": 1 << 31}, "features 0x80000000"),
        ({"clock": b""}, "clock"),
        ({"clock": b"\xff"}, "clock"),
        ({"clock": b"a\0b"}, "clock"),
        ({"clock": b"a\nb"}, "clock"),
        ({"reserved": bytes(43) + b"\1"}, "reserved"),
    ],
)
def test_hostile_headers(changes: dict[str, Any], message: str) -> None:
    assert_refused(header(**changes) + end(), message)


@pytest.mark.parametrize(
    "changes",
    [
        {"events": 0},
        {"events": 2},
        {"events": 1 << 20},
        {"events": (1 << 32) - 1, "raw_size": (1 << 32) - 1},
        {"events": (1 << 20) + 1, "raw_size": 4 * ((1 << 20) + 1)},
        {"events": 1, "raw_size": (1 << 32) - 1},
        {"events": 1, "long_deltas": 2, "raw_size": 20},
        {"events": 1, "stored_size": 0},
        {"events": 1, "stored_size": (1 << 32) - 1},
        {"events": 1, "marks": 1},
        {"events": 1, "marks": (1 << 32) - 1},
        {"events": 1, "marks": 10, "raw_size": 4 + 70_000},
        {"events": 1, "raw_size": 5},
        {"events": 0, "raw_size": 0},
    ],
)
def test_hostile_sizes_are_refused_before_anything_is_read(changes: dict[str, Any]) -> None:
    class Guarded(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert 0 <= size <= 128, "the sizes were believed"
            return super().read(size)

    data = one_block(record(1, 0, 1), **changes)
    with pytest.raises(BadTrace, match="sizes that do not fit"):
        list(Trace.open(Guarded(data)))


def frame_claiming(size: int) -> bytes:
    """A zstd frame header that claims a content of ``size`` bytes, then nonsense."""
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + b"\1\0\0"


def payload(raw: bytes, *, content_size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=content_size).compress(raw)


RAW = record(1, 0, 1) * 40


@pytest.mark.parametrize(
    "stored",
    [
        b"not zstd",
        b"\x28\xb5\x2f\xfd",
        frame_claiming(1 << 62),
        frame_claiming(len(RAW)),
        payload(RAW, content_size=False),
        payload(RAW[:-4]),
        payload(RAW + RAW),
        payload(RAW)[:-1],
        payload(RAW) + b"\0",
        payload(RAW) + payload(RAW),
        payload(RAW[:80]) + payload(RAW[80:]),
        b"\x50\x2a\x4d\x18\4\0\0\0skip",
    ],
)
def test_hostile_payloads(stored: bytes) -> None:
    assert_refused(one_block(RAW, stored, events=40), "does not decompress")


def test_a_wrong_payload_checksum_is_noticed_before_decompression() -> None:
    assert_refused(one_block(RAW, b"nonsense", events=40, payload_crc=0), "checksum of the block")


LONG = record(1, 0, 0xFFFF)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


@pytest.mark.parametrize(
    ("raw", "counts", "message"),
    [
        (record(16, 0, 1), {"events": 1}, "touches page 16 of an image of 16"),
        (record(1, 3, 1), {"events": 1}, "no fetch, read or write"),
        (LONG, {"events": 1}, "long deltas"),
        (record(1, 0, 1) + u64(70_000), {"events": 1, "long_deltas": 1}, "long deltas"),
        (LONG + u64(0xFFFE), {"events": 1, "long_deltas": 1}, "long deltas"),
        (LONG + u64(1 << 63), {"events": 1, "long_deltas": 1}, "times"),
        (LONG + u64((1 << 64) - 1), {"events": 1, "long_deltas": 1}, "times"),
        (LONG * 3 + u64((1 << 63) - 1) * 3, {"events": 3, "long_deltas": 3}, "times"),
        (LONG * 2 + u64(1 << 62) * 2, {"events": 2, "long_deltas": 2}, "times"),
        (b"\1\0\0\0\1x", {"marks": 1}, "marks"),
        (b"\0\0\0\0\0x", {"marks": 1}, "marks"),
        (b"\0\0\0\0\2x", {"marks": 1}, "marks"),
        (b"\0\0\0\0\1xy", {"marks": 1}, "marks"),
        (b"\0\0\0\0\1\xff", {"marks": 1}, "marks"),
        (b"\0\0\0\0\1\n", {"marks": 1}, "marks"),
        (b"\0\0\0\0\7x\0\0\0\0\1x", {"marks": 2}, "marks"),
        (
            record(1, 0, 1) + b"\1\0\0\0\1x" + b"\0\0\0\0\1x",
            {"events": 1, "marks": 2},
            "marks",
        ),
    ],
)
def test_hostile_contents(raw: bytes, counts: dict[str, Any], message: str) -> None:
    assert_refused(one_block(raw, **counts), message)


def test_blocks_out_of_place() -> None:
    first = block(record(1, 0, 5), events=1)
    second = block(record(2, 0, 5), events=1, first_event=1, time_base=5)
    good = header() + first + second
    sums: dict[str, Any] = {"blocks": 2, "events": 2, "time_last": 10}
    chain = zlib.crc32(first[:44] + second[:44])
    assert contents(good + end(chain=chain, **sums))[4] == [1, 2]
    assert_refused(header() + second + first, "follows event 0")
    assert_refused(header() + first + first, "follows event 1")
    late = block(record(2, 0, 5), events=1, first_event=1, time_base=6)
    assert_refused(header() + first + late, "follows event 1")


@pytest.mark.parametrize(
    "change",
    [{"blocks": 2}, {"events": 2}, {"marks": 1}, {"time_last": 8}, {"chain": 0}],
)
def test_an_end_that_counts_something_else(change: dict[str, Any]) -> None:
    only = block(record(1, 0, 7), events=1)
    right: dict[str, Any] = {"blocks": 1, "events": 1, "time_last": 7}
    assert_refused(header() + only + end(only, **(right | change)), "end counts")


def test_hostile_ends() -> None:
    assert_refused(header() + end(reserved=bytes(7) + b"\1"), "reserved")
    assert_refused(header() + end(tag=b"WHAT"), "neither a block nor the end")


def test_mixed_blocks_of_two_traces_are_noticed() -> None:
    ours, theirs = (block(record(page, 0, 5), events=1) for page in (1, 2))
    sums: dict[str, Any] = {"blocks": 1, "events": 1, "time_last": 5}
    assert contents(header() + ours + end(ours, **sums))[4] == [1]
    assert_refused(header() + theirs + end(ours, **sums), "end counts")


@pytest.mark.parametrize("method", [Trace.read_all, Trace.totals])
def test_a_file_without_blocks_or_end_is_refused(method: Callable[[Trace], Any]) -> None:
    with pytest.raises(BadTrace, match="truncated"):
        method(Trace.open(io.BytesIO(header())))
