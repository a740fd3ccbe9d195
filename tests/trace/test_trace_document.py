# SPDX-License-Identifier: MIT
"""docs/TRACE.md against the code, and a second reader made from the document alone."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pagestep.store.trace import (
    Trace,
    TraceWriter,
    _trace_format,  # pyright: ignore[reportPrivateUsage] # the tables are compared with it
)

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "TRACE.md").read_text()

Event = tuple[int, int, int]
Mark = tuple[int, str]


def read_slowly(data: bytes) -> tuple[list[Event], list[Mark]]:
    """Read a valid trace in plain Python, by the document, a field at a time."""

    def u(offset: int, size: int, of: bytes = data) -> int:
        return int.from_bytes(of[offset : offset + size], "little")

    header_size = u(10, 2)
    assert u(header_size - 4, 4) == zlib.crc32(data[: header_size - 4])
    wide = u(16, 8) > 1 << 14
    at = header_size
    events: list[Event] = []
    marks: list[Mark] = []
    chain = b""
    time = 0
    while data[at : at + 4] == b"BLCK":
        stored_size, raw_size, count, long_count, mark_count = (
            u(at + 4 * field, 4) for field in range(1, 6)
        )
        assert (u(at + 24, 8), u(at + 32, 8)) == (len(events), time)
        assert u(at + 44, 4) == zlib.crc32(data[at : at + 44])
        chain += data[at : at + 44]
        stored = data[at + 48 : at + 48 + stored_size]
        assert u(at + 40, 4) == zlib.crc32(stored)
        raw = zstandard.decompress(stored)
        assert len(raw) == raw_size
        token_size = 4 if wide else 2
        step = token_size + 2
        long_at = count * step
        marks_at = long_at + 8 * long_count
        first = len(events)
        for index in range(count):
            token = u(index * step, token_size, raw)
            delta = u(index * step + token_size, 2, raw)
            if delta == 0xFFFF:
                delta = u(long_at, 8, raw)
                long_at += 8
            time += delta
            events.append((token >> 2, token & 3, time))
        for _ in range(mark_count):
            size = raw[marks_at + 4]
            name = raw[marks_at + 5 : marks_at + 5 + size].decode()
            marks.append((first + u(marks_at, 4, raw), name))
            marks_at += 5 + size
        assert marks_at == raw_size
        at += 48 + stored_size
    assert data[at : at + 4] == b"END\0"
    assert u(at + 8, 8) == len(events)
    assert u(at + 16, 8) == len(marks)
    assert u(at + 24, 8) == time
    assert u(at + 32, 4) == zlib.crc32(chain)
    assert len(data) == at + 48
    return events, marks


def read_fast(data: bytes) -> tuple[list[Event], list[Mark]]:
    whole = Trace.open(io.BytesIO(data)).read_all()
    columns = (whole.pages.tolist(), whole.kinds.tolist(), whole.times.tolist())
    return list(zip(*columns, strict=True)), whole.marks


@given(
    st.sampled_from([5, 1 << 14, 1 << 20]),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 1 << 20)), max_size=40),
    st.integers(1, 9),
)
def test_both_readers_agree(page_count: int, steps: list[Event], block_events: int) -> None:
    file = io.BytesIO()
    with TraceWriter(
        file, page_size=4096, page_count=page_count, block_events=block_events
    ) as writer:
        time = 0
        for page, kind, delta in steps:
            time += delta
            writer.events([page_count - 1 - page], [kind], [time])
            if kind == 1:
                writer.mark(f"at {time}")
    assert read_fast(file.getvalue()) == read_slowly(file.getvalue())


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    assert found, title
    return found[1]


SIZES = {"H": 2, "I": 4, "Q": 8}


@pytest.mark.parametrize(
    ("title", "fields", "total"),
    [
        ("Header", _trace_format.HEADER_FIELDS, _trace_format.HEADER_SIZE),
        ("Block", _trace_format.BLOCK_FIELDS, _trace_format.RECORD_HEADER_SIZE),
        ("End record", _trace_format.END_FIELDS, _trace_format.RECORD_HEADER_SIZE),
    ],
)
def test_the_tables_are_the_code(
    title: str, fields: tuple[tuple[str, str], ...], total: int
) -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\w+) \| `(\w+)` \|", section(title), re.M)
    documented = [(name, int(offset), int(size), kind) for offset, size, kind, name in rows]
    coded: list[tuple[str, int, int, str]] = []
    offset = 0
    for name, code in fields:
        size = SIZES.get(code) or int(code[:-1])
        kind = "bytes" if code.endswith("s") else f"u{8 * size}"
        coded.append((name, offset, size, kind))
        offset += size
    assert documented == coded
    assert offset == total == struct.calcsize("<" + "".join(code for _, code in fields))


def test_the_limits_are_the_codes() -> None:
    assert _trace_format.BLOCK_EVENTS_MAX == 1 << 20
    assert "| 0 to 2^20 |" in section("Block")
    assert _trace_format.PAGE_COUNT_MAX == 1 << 30
    assert "| 1 to 2^30 |" in section("Header")
    raw_max = 14 * _trace_format.BLOCK_EVENTS_MAX + _trace_format.BLOCK_MARKS_SIZE_MAX
    assert f"{raw_max:,} raw bytes" in section("Block")
    assert f"at most {_trace_format.BLOCK_MARKS_SIZE_MAX:,} bytes" in section("Block")
    assert f"Format version {_trace_format.FORMAT_VERSION}," in DOCUMENT


def test_the_example_decodes_to_what_it_says() -> None:
    lines = re.findall(r"^([0-9a-f]{8})  ((?:[0-9a-f]{2} ?){1,16})", section("Example"), re.M)
    data = b""
    for offset, hexes in lines:
        assert int(offset, 16) == len(data)
        data += bytes.fromhex(hexes)
    expected = [(3, 0, 10), (5, 2, 12), (3, 1, 100_000)], [(0, "boot")]
    assert read_slowly(data) == expected
    assert read_fast(data) == expected


# Golden files: decoded for ever.


def test_the_small_sample() -> None:
    with Trace.open(Path(__file__).parent / "data" / "x86-cloud-after-init.trace") as trace:
        whole = trace.read_all()
        assert (trace.page_size, trace.page_count, trace.clock) == (4096, 8881, "instructions")
        assert trace.identity is not None
        assert trace.identity.hex().startswith("edf322a94f15")
    assert [name for _, name in whole.marks] == [
        "free_initmem",
        "run_init_process",
        "userinit",
        "idle",
        "ls",
    ]
    assert len(whole) == 200_000
    checksum = 0
    for column in (whole.pages, whole.kinds, whole.times):
        checksum = zlib.crc32(column.tobytes(), checksum)
    assert checksum == GOLDEN_CRC


def test_the_sample_is_whole_and_fits() -> None:
    path = ROOT / "data" / "x86-cloud-boot.trace"
    assert path.stat().st_size <= 2_000_000
    with Trace.open(path) as trace:
        totals = trace.totals()
        assert totals is not None
        assert sum(map(len, trace)) == totals.event_count == 19_387_346


GOLDEN_CRC = 1244396013
