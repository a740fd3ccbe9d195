# SPDX-License-Identifier: MIT
from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagestep.codecs.errors import InvalidArgument
from pagestep.store.trace import (
    Block,
    LruCurve,
    Trace,
    _analysis,  # pyright: ignore[reportPrivateUsage]
    belady_misses,
    between,
    collapse_repeats,
    lru_misses,
    working_set_sizes,
)

SAMPLE = Path(__file__).parents[2] / "data" / "x86-cloud-boot.trace"


def array(pages: list[int]) -> npt.NDArray[np.uint32]:
    return np.array(pages, dtype=np.uint32)


def lru_slowly(pages: list[int], frames: int) -> int:
    stack: OrderedDict[int, None] = OrderedDict()
    misses = 0
    for page in pages:
        if page in stack:
            stack.move_to_end(page)
            continue
        misses += 1
        if len(stack) == frames:
            stack.popitem(last=False)
        stack[page] = None
    return misses


def best_by_trying(pages: list[int], frames: int) -> int:
    """Return the fewest misses over every choice of victim."""
    states = {frozenset[int](): 0}
    for page in pages:
        following: dict[frozenset[int], int] = {}
        for resident, misses in states.items():
            if page in resident:
                options = [(resident, misses)]
            elif len(resident) < frames:
                options = [(resident | {page}, misses + 1)]
            else:
                options = [(resident - {victim} | {page}, misses + 1) for victim in resident]
            for state, cost in options:
                following[state] = min(cost, following.get(state, cost))
        states = following
    return min(states.values(), default=0)


PAGES = st.lists(st.integers(0, 12), max_size=200)


@given(PAGES, st.integers(1, 14), st.integers(1, 50))
def test_lru_is_lru_however_it_is_fed(pages: list[int], frames: int, cut: int) -> None:
    curve = LruCurve()
    for at in range(0, len(pages), cut):
        curve.add(array(pages[at : at + cut]))
    assert curve.misses(frames) == lru_slowly(pages, frames)


def test_lru_over_several_chunks() -> None:
    random = np.random.default_rng(7)
    count = 2 * _analysis._CHUNK_EVENTS + 1000  # pyright: ignore[reportPrivateUsage]
    pages = (random.zipf(1.2, count) % 5000).astype(np.uint32)
    for frames, misses in zip((10, 400, 5000), lru_misses(pages, (10, 400, 5000)), strict=True):
        assert misses == lru_slowly(pages.tolist(), frames)


@given(st.lists(st.integers(0, 5), max_size=25), st.integers(1, 4))
def test_belady_is_the_best_there_is(pages: list[int], frames: int) -> None:
    assert belady_misses(array(pages), [frames]) == [best_by_trying(pages, frames)]


@given(PAGES, st.integers(1, 14))
def test_collapsing_changes_no_count(pages: list[int], frames: int) -> None:
    collapsed = collapse_repeats(array(pages))
    assert all(a != b for a, b in pairwise(collapsed.tolist()))
    assert lru_slowly(collapsed.tolist(), frames) == lru_slowly(pages, frames)


def test_belady_over_long_runs_of_hits() -> None:
    pages = [page for page in range(6) for _ in range(3)] * 2 + [0, 1] * 30_000 + [5, 4]
    assert belady_misses(array(pages), [2, 6]) == [best_by_trying(pages, 2), 6]


def test_frames_must_be_positive() -> None:
    for call, frames in product((lru_misses, belady_misses), ([0], [3, -1])):
        with pytest.raises(InvalidArgument, match="at least 1"):
            call(array([1]), frames)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), min_size=1, max_size=60),
    st.integers(1, 50),
    st.integers(1, 60),
)
def test_working_sets(steps: list[tuple[int, int]], window: int, cut: int) -> None:
    times = np.cumsum([delta for _, delta in steps], dtype=np.uint64)
    pages = array([page for page, _ in steps])
    kinds = np.zeros(len(pages), dtype=np.uint8)
    blocks = [
        Block(pages[at : at + cut], kinds[at : at + cut], times[at : at + cut])
        for at in range(0, len(pages), cut)
    ]
    windows = [int(time) // window for time in times]
    expected = [
        len({page for (page, _), w in zip(steps, windows, strict=True) if w == at})
        for at in range(windows[0], windows[-1] + 1)
    ]
    assert working_set_sizes(blocks, window).tolist() == expected


def test_working_sets_of_some_pages() -> None:
    block = Block(array([0, 5, 9]), np.zeros(3, np.uint8), np.array([0, 1, 2], np.uint64))
    assert working_set_sizes([block], 10, pages=(5, 9)).tolist() == [1]
    assert working_set_sizes([block], 10, pages=(10, 20)).tolist() == []
    with pytest.raises(InvalidArgument):
        working_set_sizes([block], 0)


def test_between_marks() -> None:
    block = Block(
        array([0, 1, 2, 3]),
        np.zeros(4, np.uint8),
        np.arange(4, dtype=np.uint64),
        [(0, "a"), (1, "b"), (3, "a"), (4, "end")],
    )
    assert between(block, "b").pages.tolist() == [1, 2, 3]
    assert between(block, "b", "a").pages.tolist() == [1, 2]
    assert between(block, None, "b").pages.tolist() == [0]
    assert between(block, "b", "a").marks == [(0, "b"), (2, "a")]
    assert between(block, "b", "end").first_event == 1
    with pytest.raises(InvalidArgument, match="its marks are: a, b, end"):
        between(block, "c")


def test_the_recorded_kernel_misses_as_often_as_was_measured() -> None:
    # Measured on the recording itself, with other programs: text after init was started.
    with Trace.open(SAMPLE) as trace:
        after_boot = between(trace.read_all(), "run_init_process")
    text = after_boot.pages[after_boot.pages < 3586]
    frames = (256, 384, 512, 640)
    assert lru_misses(text, frames) == [204_381, 47_892, 4_310, 1_509]
    assert belady_misses(text, frames) == [80_810, 16_561, 2_239, 1_243]
    # From exact sets of pages 270 and 531; the recording leaves out the last 16 pages' repeats.
    medians = [
        float(np.median(working_set_sizes([after_boot], window, pages=(0, 3586))))
        for window in (10_000_000, 100_000_000)
    ]
    assert medians == pytest.approx([270, 531], rel=0.05)
