# SPDX-License-Identifier: MIT
"""What can be computed from a trace without a store: optimum, LRU curve, working sets.

All counts are of demand misses from an empty store, cold misses included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import InvalidArgument

from ._trace_block import Block

_CHUNK_EVENTS = 1 << 16  # arrays of a chunk stay in the L2 cache
_SCAN_EVENTS_MAX = 1 << 14


def collapse_repeats(pages: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return ``pages`` with each run of one page shortened to one event.

    A repeat hits under every policy with at least one frame, so no miss count changes.

    >>> collapse_repeats(np.array([3, 3, 1, 3], dtype=np.uint32)).tolist()
    [3, 1, 3]
    """
    if not len(pages):
        return pages
    is_first = np.ones(len(pages), dtype=np.bool_)
    np.not_equal(pages[1:], pages[:-1], out=is_first[1:])
    return pages[is_first]


def between(block: Block, after: str | None = None, before: str | None = None) -> Block:
    """Return the part of a trace between two marks, as views.

    Args:
        block: The trace, as ``Trace.read_all`` gives it.
        after: Name of the mark to begin at, None for the beginning.
        before: Name of the first such mark behind ``after`` to end at, None for the end.

    Raises:
        InvalidArgument: There is no such mark.
    """
    begin = _mark_index(block, after, 0) if after is not None else 0
    end = _mark_index(block, before, begin + 1) if before is not None else len(block)
    return Block(
        pages=block.pages[begin:end],
        kinds=block.kinds[begin:end],
        times=block.times[begin:end],
        marks=[(index - begin, name) for index, name in block.marks if begin <= index <= end],
        first_event=block.first_event + begin,
    )


def _mark_index(block: Block, name: str, index_min: int) -> int:
    for index, mark in block.marks:
        if mark == name and index >= index_min:
            return index
    have = ", ".join(dict.fromkeys(mark for _, mark in block.marks))
    raise InvalidArgument(f"the trace has no mark {name!r} there; its marks are: {have or 'none'}")


def _require_frames(frames: Sequence[int]) -> None:
    if any(count < 1 for count in frames):
        raise InvalidArgument(f"frame counts must be at least 1, not {min(frames)}")


class LruCurve:
    """LRU's exact miss count for every number of frames, in one pass over the events.

    The stack distance of an access is the number of other pages touched since the last access
    to its page; LRU with F frames misses where it is F or more (Mattson et al., "Evaluation
    techniques for storage hierarchies", IBM Systems Journal 9(2), 1970). A distance is the
    events between, less those that repeat a page within: an inversion count over the times of
    previous access, done in numpy by splitting on one bit of the rank at a time. Chunks are
    joined by playing the LRU stack before each, so memory does not grow with the trace.
    """

    def __init__(self) -> None:
        """Begin with an empty store."""
        self._stack = np.empty(0, dtype=np.uint32)  # least recently used first
        self._histogram = np.zeros(0, dtype=np.int64)  # accesses by stack distance
        self._cold = 0

    def add(self, pages: npt.NDArray[np.uint32]) -> None:
        """Append events, shape (n,)."""
        at = 0
        while at < len(pages):
            chunk = pages[at : at + max(_CHUNK_EVENTS, 2 * len(self._stack))]
            self._add_chunk(chunk)
            at += len(chunk)

    def misses(self, frames: int) -> int:
        """Return the misses of the events so far with so many frames."""
        _require_frames([frames])
        return self._cold + int(self._histogram[frames:].sum())

    def _add_chunk(self, chunk: npt.NDArray[np.uint32]) -> None:
        events = np.concatenate([self._stack, collapse_repeats(chunk)])
        order = np.argsort(events, kind="stable")
        same_page = events[order][1:] == events[order][:-1]
        has_previous = np.zeros(len(events), dtype=bool)
        has_previous[order[1:]] = same_page
        has_next = np.zeros(len(events), dtype=bool)
        has_next[order[:-1]] = same_page
        previous = np.empty(len(events), dtype=np.int32)
        previous[order[1:]] = order[:-1]

        (reuses,) = np.nonzero(has_previous)
        rank = np.cumsum(has_next, dtype=np.int32) - np.int32(1)
        repeats_within = _greater_before(rank[previous[reuses]])
        distances = reuses - previous[reuses] - 1 - repeats_within
        counts = np.bincount(distances, minlength=len(self._histogram))
        counts[: len(self._histogram)] += self._histogram
        self._histogram = counts
        self._cold += len(events) - len(reuses) - len(self._stack)
        self._stack = events[~has_next]


def _greater_before(keys: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return, for each element of a permutation of 0..n-1, how many before it are greater.

    Top bit first: elements that share the bits above one form a run that begins at that prefix's
    smallest key, in their first order. Within a run, one with the bit clear has before it as many
    greater ones as have it set; then the run is parted by the bit, order kept.
    """
    count = len(keys)
    asked = keys
    counts = np.zeros(count, dtype=np.int32)
    positions = np.arange(count, dtype=np.int32)
    for bit in reversed(range(count.bit_length())):
        is_set = (keys >> bit) & 1
        set_before = np.cumsum(is_set, dtype=np.int32) - is_set
        run_start = (keys >> (bit + 1)) << (bit + 1)
        set_before -= set_before[run_start]
        counts += np.where(is_set, 0, set_before)
        target = np.where(is_set, run_start + (1 << bit) + set_before, positions - set_before)
        keys = _scattered(keys, target)
        counts = _scattered(counts, target)
    return counts[asked]  # parted to the end, they stand in order of key


def _scattered(
    values: npt.NDArray[np.int32], target: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    result = np.empty_like(values)
    result[target] = values
    return result


def lru_misses(pages: npt.NDArray[np.uint32], frames: Sequence[int]) -> list[int]:
    """Return LRU's misses for each number of frames.

    >>> lru_misses(np.array([0, 1, 2, 0, 1, 2], dtype=np.uint32), [2, 3])
    [6, 3]
    """
    curve = LruCurve()
    curve.add(pages)
    return [curve.misses(count) for count in frames]


def belady_misses(pages: npt.NDArray[np.uint32], frames: Sequence[int]) -> list[int]:
    """Return the fewest misses that any policy can have, for each number of frames.

    The page whose next use is farthest leaves (Belady, "A study of replacement algorithms for a
    virtual-storage computer", IBM Systems Journal 5(2), 1966). No policy that takes in every page
    it misses does better without read-ahead.

    >>> belady_misses(np.array([0, 1, 2, 0, 1, 2], dtype=np.uint32), [2, 3])
    [4, 3]
    """
    _require_frames(frames)
    if not len(pages):
        return [0] * len(frames)
    _, events = np.unique(collapse_repeats(pages), return_inverse=True)
    order = np.argsort(events, kind="stable")
    next_use = np.full(len(events), len(events), dtype=np.int64)
    same_page = events[order][1:] == events[order][:-1]
    next_use[order[:-1][same_page]] = order[1:][same_page]
    return [_belady_one(events, next_use, count) for count in frames]


def _belady_one(events: npt.NDArray[np.intp], next_use: npt.NDArray[np.int64], frames: int) -> int:
    page_count = int(events.max()) + 1
    is_resident = np.zeros(page_count, dtype=bool)
    last_event = np.zeros(page_count, dtype=np.int64)
    resident = np.empty(frames, dtype=np.intp)
    filled = misses = at = 0
    scan = 64
    while at < len(events):
        window = events[at : at + scan]
        missing = ~is_resident[window]
        hits = int(missing.argmax())
        if not missing[hits]:
            hits = len(window)
        last_event[window[:hits]] = np.arange(at, at + hits)  # the last of equals is kept
        at += hits
        if hits == len(window):
            scan = min(2 * scan, _SCAN_EVENTS_MAX)
            continue
        # As far as the next miss was away, roughly: a shorter scan costs less.
        scan = max(16, min(scan, 2 * hits))
        page = events[at]
        if filled < frames:
            slot = filled
            filled += 1
        else:
            slot = int(next_use[last_event[resident]].argmax())
            is_resident[resident[slot]] = False
        resident[slot] = page
        is_resident[page] = True
        last_event[page] = at
        misses += 1
        at += 1
    return misses


def working_set_sizes(
    blocks: Iterable[Block], window: int, *, pages: tuple[int, int] | None = None
) -> npt.NDArray[np.int64]:
    """Return the number of distinct pages touched in each window of time.

    Args:
        blocks: A trace, or some of its blocks.
        window: Length in the trace's clock; windows are aligned to its multiples.
        pages: (first, end): count only pages from first to before end.

    Returns:
        A count for each window from the first event's to the last's, shape (n,).

    Raises:
        InvalidArgument: The window is not positive.
    """
    if window < 1:
        raise InvalidArgument(f"a window of {window} is not at least 1")
    first, end = pages if pages is not None else (0, 1 << 32)
    seen: list[npt.NDArray[np.uint64]] = []
    for block in blocks:
        inside = (block.pages >= first) & (block.pages < end)
        windows = block.times[inside] // np.uint64(window)
        if len(windows) and int(windows[-1]) >= 1 << 32:
            raise InvalidArgument(f"windows of {window} are too short for times that large")
        seen.append(np.unique(windows << np.uint64(32) | block.pages[inside]))
    touched = np.unique(np.concatenate(seen)) if seen else np.empty(0, dtype=np.uint64)
    if not len(touched):
        return np.empty(0, dtype=np.int64)
    windows = (touched >> np.uint64(32)).astype(np.int64)
    return np.bincount(windows - windows[0])
