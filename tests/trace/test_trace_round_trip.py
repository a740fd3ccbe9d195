# SPDX-License-Identifier: MIT
from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagestep.codecs.errors import BadTrace, Closed, InvalidArgument
from pagestep.store.trace import Trace, TraceWriter

Event = tuple[int, int, int]

_OPTIONS: dict[str, Any] = {"page_size": 4096, "page_count": 4}
PAGE_COUNTS = [1, 2, 16, 1 << 14, (1 << 14) + 1, 1 << 30]


@st.composite
def traces(draw: st.DrawFn) -> tuple[int, list[Event | str]]:
    """A page count, and events and marks in order."""
    page_count = draw(st.sampled_from(PAGE_COUNTS))
    page = st.integers(0, page_count - 1)
    delta = st.one_of(
        st.integers(0, 100), st.sampled_from([0xFFFE, 0xFFFF, 0x10000]), st.integers(0, 1 << 40)
    )
    name = st.text(min_size=1, max_size=40).filter(str.isprintable)
    items = draw(st.lists(st.one_of(st.tuples(page, st.integers(0, 2), delta), name), max_size=60))
    time = 0
    result: list[Event | str] = []
    for item in items:
        if isinstance(item, str):
            result.append(item)
        else:
            time += item[2]
            result.append((item[0], item[1], time))
    return page_count, result


def write(items: list[Event | str], **options: Any) -> bytes:
    file = io.BytesIO()
    with TraceWriter(file, page_size=4096, **options) as writer:
        for item in items:
            if isinstance(item, str):
                writer.mark(item)
            else:
                writer.events([item[0]], [item[1]], [item[2]])
    return file.getvalue()


def read(source: Any) -> list[Event | str]:
    items: list[Event | str] = []
    trace = Trace.open(source)
    for block in trace:
        assert block.pages.dtype == np.uint32
        assert block.kinds.dtype == np.uint8
        assert block.times.dtype == np.uint64
        assert block.first_event == sum(not isinstance(item, str) for item in items)
        marks = list(block.marks)
        columns = (block.pages.tolist(), block.kinds.tolist(), block.times.tolist())
        for index, event in enumerate(zip(*columns, strict=True)):
            while marks and marks[0][0] == index:
                items.append(marks.pop(0)[1])
            items.append(event)
        items += [name for _, name in marks]
    trace.close()
    return items


@given(traces(), st.integers(1, 20))
def test_what_is_written_is_read(trace: tuple[int, list[Event | str]], block_events: int) -> None:
    page_count, items = trace
    data = write(items, page_count=page_count, block_events=block_events)
    assert read(io.BytesIO(data)) == items


@given(traces(), st.integers(1, 20), st.integers(1, 7))
def test_bytes_do_not_depend_on_how_events_are_cut_into_calls(
    trace: tuple[int, list[Event | str]], block_events: int, cut: int
) -> None:
    page_count, items = trace
    events = [item for item in items if not isinstance(item, str)]
    file = io.BytesIO()
    with TraceWriter(
        file, page_size=4096, page_count=page_count, block_events=block_events
    ) as writer:
        for at in range(0, len(events), cut):
            pages, kinds, times = zip(*events[at : at + cut], strict=True)
            writer.events(pages, kinds, times)
    data: list[Event | str] = [*events]
    assert file.getvalue() == write(data, page_count=page_count, block_events=block_events)


@given(traces(), st.integers(1, 20))
def test_read_all_is_the_blocks_joined(
    trace: tuple[int, list[Event | str]], block_events: int
) -> None:
    page_count, items = trace
    data = write(items, page_count=page_count, block_events=block_events)
    whole = Trace.open(io.BytesIO(data)).read_all()
    again = io.BytesIO()
    with TraceWriter(
        again, page_size=4096, page_count=page_count, block_events=block_events
    ) as writer:
        at = 0
        for index, name in [*whole.marks, (len(whole), "")]:
            part = slice(at, index)
            writer.events(whole.pages[part], whole.kinds[part], whole.times[part])
            if name:
                writer.mark(name)
            at = index
    assert again.getvalue() == data


def test_attributes() -> None:
    identity = bytes(range(32))
    data = write([], page_count=7, identity=identity, clock="ns")
    trace = Trace.open(io.BytesIO(data))
    assert (trace.page_size, trace.page_count, trace.clock) == (4096, 7, "ns")
    assert trace.identity == identity
    assert Trace.open(io.BytesIO(write([], page_count=7))).identity is None


def test_a_pipe_carries_a_trace_and_is_read_once() -> None:
    items: list[Event | str] = ["begin", *((i % 9, i % 3, i * 1000) for i in range(5000)), "end"]
    read_end, write_end = os.pipe()

    def produce(file: BinaryIO) -> None:
        with (
            file,
            TraceWriter(file, page_size=512, page_count=9, block_events=100) as writer,
        ):
            writer.mark("begin")
            pages, kinds, times = zip(*items[1:-1], strict=True)
            writer.events(pages, kinds, times)
            writer.mark("end")

    thread = threading.Thread(target=produce, args=(os.fdopen(write_end, "wb", buffering=0),))
    thread.start()
    # Unbuffered: every read may come short.
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        trace = Trace.open(pipe)
        assert trace.totals() is None
        assert sum(map(len, trace)) == 5000
        with pytest.raises(InvalidArgument, match="pipe"):
            iter(trace)
    thread.join()


class Trickle(io.BytesIO):
    """Gives three bytes at a time, as a slow pipe may."""

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        return super().read(min(size, 3))


def test_short_reads_are_gathered() -> None:
    items: list[Event | str] = ["begin", *((i % 9, i % 3, i) for i in range(100)), "end"]
    assert read(Trickle(write(items, page_count=9, block_events=30))) == items


def test_a_file_is_read_again_but_one_iteration_at_a_time() -> None:
    items: list[Event | str] = [(i % 4, 0, i) for i in range(50)]
    trace = Trace.open(io.BytesIO(write(items, page_count=4, block_events=10)))
    first = iter(trace)
    next(first)
    assert trace.totals() is not None
    next(first)
    assert sum(map(len, trace)) == 50
    with pytest.raises(InvalidArgument, match="another iteration"):
        next(first)


def test_a_path_gets_its_name_only_when_the_trace_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "boot.trace"
    with TraceWriter(path, page_size=4096, page_count=4) as writer:
        writer.events([1, 2], 0, [5, 6])
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["boot.trace"]
    assert read(path) == [(1, 0, 5), (2, 0, 6)]
    with Trace.open(path) as trace:
        totals = trace.totals()
    assert totals is not None
    assert (totals.event_count, totals.time_last) == (2, 6)


def break_off(target: Path | BinaryIO) -> None:
    with TraceWriter(target, page_size=4096, page_count=4) as writer:
        writer.events([1], 0, [5])
        raise ZeroDivisionError


def test_an_exception_leaves_the_old_trace_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "boot.trace"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        break_off(path)
    assert [p.name for p in tmp_path.iterdir()] == ["boot.trace"]
    assert path.read_bytes() == b"old"


def test_an_exception_leaves_a_file_object_truncated() -> None:
    file = io.BytesIO()
    with pytest.raises(ZeroDivisionError):
        break_off(file)
    with pytest.raises(BadTrace, match="truncated"):
        read(io.BytesIO(file.getvalue()))


class FullDisk(io.BytesIO):
    """Takes so many bytes and no more."""

    room = 200

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_full_disk_is_an_os_error_and_closes_the_writer() -> None:
    writer = TraceWriter(FullDisk(), page_size=4096, page_count=4)
    writer.events([1] * 10, 0, range(10))
    with pytest.raises(OSError, match="No space"):
        writer.close()
    with pytest.raises(Closed):
        writer.mark("late")


def test_use_after_close(tmp_path: Path) -> None:
    path = tmp_path / "boot.trace"
    writer = TraceWriter(path, page_size=4096, page_count=4)
    writer.close()
    writer.close()
    for use in (lambda: writer.events([1], 0, [5]), lambda: writer.mark("x"), writer.__enter__):
        with pytest.raises(Closed):
            use()
    trace = Trace.open(path)
    blocks = iter(trace)
    trace.close()
    trace.close()
    for read_use in (trace.totals, trace.read_all, lambda: next(blocks), trace.__enter__):
        with pytest.raises(Closed):
            read_use()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([4], [0], [1]), "pages holds 4, must be from 0 to 3"),
        (([-1], [0], [1]), "pages holds -1"),
        (([1], [3], [1]), "kinds holds 3"),
        (([1], [0], [1 << 63]), "times holds"),
        (([1, 2], [0, 0], [2, 1]), "never decrease"),
        (([1], [0], [0]), "never decrease"),
        (([1, 2], [0], [1, 2]), "kinds has shape"),
        (([1, 2], [0, 0], [[1], [2]]), "times has shape"),
        (([1.5], [0], [1]), "pages must be integers"),
    ],
)
def test_wrong_events_are_refused_whole(arguments: Any, message: str) -> None:
    file = io.BytesIO()
    with TraceWriter(file, page_size=4096, page_count=4) as writer:
        writer.events([3], [2], [1])
        with pytest.raises(InvalidArgument, match=message):
            writer.events(*arguments)
    assert read(io.BytesIO(file.getvalue())) == [(3, 2, 1)]


@pytest.mark.parametrize(
    "options",
    [
        {"page_size": 4095},
        {"page_size": 256},
        {"page_size": 1 << 17},
        {"page_count": 0},
        {"page_count": (1 << 30) + 1},
        {"identity": b"short"},
        {"clock": ""},
        {"clock": "seventeen letters"},
        {"clock": "µs"},
        {"level": 0},
        {"block_events": 0},
        {"block_events": (1 << 20) + 1},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        TraceWriter(tmp_path / "t", **_OPTIONS | options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 256, "é" * 128, "\ud800"])
def test_wrong_marks_are_refused(name: str) -> None:
    writer = TraceWriter(io.BytesIO(), page_size=4096, page_count=4)
    with pytest.raises(InvalidArgument, match="mark"):
        writer.mark(name)


def test_many_marks_go_into_several_blocks() -> None:
    items: list[Event | str] = ["x" * 255] * 1000
    assert read(io.BytesIO(write(items, page_count=4))) == items


def test_the_longest_time_fits() -> None:
    last = (1 << 63) - 1
    items: list[Event | str] = [(0, 0, last - 1), (0, 0, last), (0, 0, last)]
    assert read(io.BytesIO(write(items, page_count=4))) == items


def test_read_all_has_a_limit() -> None:
    items: list[Event | str] = [(0, 0, i) for i in range(100)]
    trace = Trace.open(io.BytesIO(write(items, page_count=4, block_events=10)))
    assert len(trace.read_all(events_max=100)) == 100
    with pytest.raises(BadTrace, match="more than 99 events"):
        trace.read_all(events_max=99)


def test_a_trace_for_another_image_is_refused() -> None:
    mine, other = bytes(31) + b"\1", bytes(31) + b"\2"
    bound = Trace.open(io.BytesIO(write([], page_count=4, identity=mine)))
    bound.require_image(mine, 4, 4096)
    for identity, page_count, page_size in ((other, 4, 4096), (mine, 5, 4096), (mine, 4, 8192)):
        with pytest.raises(BadTrace, match=r"^trace [^\n]*image[^\n]*$"):
            bound.require_image(identity, page_count, page_size)
    free = Trace.open(io.BytesIO(write([], page_count=4)))
    free.require_image(mine, 4, 4096)
    free.require_image(other, 5, 4096)
    with pytest.raises(BadTrace, match="only 3"):
        free.require_image(mine, 3, 4096)
