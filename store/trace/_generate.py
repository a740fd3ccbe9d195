# SPDX-License-Identifier: MIT
"""Made traces: for any image, shaped like the recorded boot and workload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import InvalidArgument

from ._trace_block import Block
from ._trace_format import KIND_FETCH, KIND_READ, KIND_WRITE, PAGE_COUNT_MAX

_BLOCK_EVENTS = 1 << 16
_RUN_PAGES = 4  # pages are dealt to the sets in runs of neighbours, as a linker lays out code

# Instructions from an event to the next, at these quantiles of the recorded trace (mean 145).
_DELTA_QUANTILES = (0.0, 0.01, 0.10, 0.50, 0.90, 0.99, 0.9999, 1.0)
_DELTA_VALUES = (0.0, 0.0, 1.0, 17.0, 78.0, 556.0, 10_000.0, 800_000.0)


@dataclass(frozen=True)
class TraceShape:
    """Shape of a made trace; the defaults are measured on data/x86-cloud-boot.trace.

    Attributes:
        startup_events: Share of the events that are start-up (4.0 of 19.4 M).
        startup_pages: Share of the image that only start-up touches (3,866 of 8,881 pages).
        working_pages: Share of the image that later phases can touch (1,683 of 8,881).
        phase_pages: Share of the image that one phase touches (median 677 of 8,881; from 594
            in an idle phase to 1,136 where modules are loaded).
        overlap: Share of a phase's pages that the phase before touched too (median 0.88).
        code_pages: Share of the image that is code, at its beginning (3,586 of 8,881).
        working_code: Share of the working pages that are code (1,094 of 1,683). Code is made
            the more popular, so that fetches come near their measured 0.72 of the events.
        write_events: Share of accesses to data that are writes (349 of 5,338 thousand).
        sequential: Share of events on the page after the last one (0.036).
        zipf: Exponent of popularity by rank (median of the phases 1.39).
        path_events: Mean length of a path, the run of pages that a call touches. Not measured.
        paths: Paths of a phase. Not measured.
        path_zipf: Exponent of popularity of the paths. Not measured: chosen so that LRU's
            misses fall with more frames as on the recorded trace. Per event they are two to
            four times as many, since real loops go on for longer.
    """

    startup_events: float = 0.21
    startup_pages: float = 0.435
    working_pages: float = 0.19
    phase_pages: float = 0.076
    overlap: float = 0.88
    code_pages: float = 0.40
    working_code: float = 0.65
    write_events: float = 0.065
    sequential: float = 0.036
    zipf: float = 1.39
    path_events: int = 24
    paths: int = 400
    path_zipf: float = 0.8


_SHAPE_MEASURED = TraceShape()


def generate(
    page_count: int,
    *,
    events: int,
    seed: int,
    phases: int = 8,
    shape: TraceShape = _SHAPE_MEASURED,
) -> Iterator[Block]:
    """Make a trace of page accesses with phases.

    A start-up sweeps over pages that are hardly touched again; each phase then walks paths
    (fixed runs of pages, taken again and again) over a working set of its own that overlaps the
    one before. Marks are ``startup`` and ``phase-1`` … . The same arguments give the same trace;
    all chance comes from PCG64's uniform numbers.

    Args:
        page_count: The image's pages.
        events: Events to make.
        seed: Any number from 0.
        phases: Phases after start-up.
        shape: Shares and exponents.

    Returns:
        An iterator over blocks of at most 65,536 events; times are instructions, made up too.

    Raises:
        InvalidArgument: An argument is outside its range.
    """
    if not 1 <= page_count <= PAGE_COUNT_MAX:
        raise InvalidArgument(f"page count {page_count} is not from 1 to {PAGE_COUNT_MAX}")
    if events < 0 or seed < 0 or phases < 1:
        raise InvalidArgument(
            f"events {events} and seed {seed} must be at least 0, phases {phases} at least 1"
        )
    return _Maker(page_count, seed, shape).blocks(events, phases)


class _Maker:
    def __init__(self, page_count: int, seed: int, shape: TraceShape) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._shape = shape
        self._page_count = page_count
        self._code_end = int(page_count * shape.code_pages)
        code = self._dealt(0, self._code_end)
        data = self._dealt(self._code_end, page_count)
        working = max(1, int(page_count * shape.working_pages))
        working_code = min(len(code), int(working * shape.working_code))
        working_data = min(len(data), working - working_code)
        self._working = np.concatenate([code[:working_code], data[:working_data]])
        rest = np.concatenate([code[working_code:], data[working_data:]])
        startup = self._shuffled_runs(rest)[: int(page_count * shape.startup_pages)]
        self._startup = startup if len(startup) else self._working

    def blocks(self, events: int, phases: int) -> Iterator[Block]:
        startup_events = int(events * self._shape.startup_events)
        weights = 0.2 + self._random.random(phases)
        bounds = startup_events + (events - startup_events) * np.cumsum(weights) / weights.sum()
        ends = [startup_events, *(int(bound) for bound in bounds[:-1]), events]
        phase_set = self._next_set(self._working[:0])
        first, time = 0, 0
        for phase, end in enumerate(ends):
            if phase > 1:
                phase_set = self._next_set(phase_set)
            walk = _Walk(self._random, phase_set, self._shape)
            begin = first
            name = "startup" if phase == 0 else f"phase-{phase}"
            marks = [(0, name)]
            while first < end or marks:
                count = min(end - first, _BLOCK_EVENTS)
                pages = walk.take(count)
                if phase == 0:
                    progress = (np.arange(first, first + count) - begin) / max(1, end - begin)
                    pages = self._swept(pages, progress)
                times = self._times(time, count)
                yield Block(pages.astype(np.uint32), self._kinds(pages), times, marks, first)
                time = int(times[-1]) if count else time
                first += count
                marks = []

    def _dealt(self, first: int, end: int) -> npt.NDArray[np.int64]:
        return self._shuffled_runs(np.arange(first, end, dtype=np.int64))

    def _shuffled_runs(self, pages: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        run_of = np.arange(len(pages)) // _RUN_PAGES
        key = self._random.random(int(run_of[-1]) + 1 if len(pages) else 0)
        return pages[np.argsort(key[run_of], kind="stable")]

    def _next_set(self, before: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return a phase's pages, most popular first: most of ``before``, and some new."""
        size = min(len(self._working), max(1, int(self._page_count * self._shape.phase_pages)))
        order = np.argsort(self._random.random(len(self._working)), kind="stable")
        shuffled = self._working[order]
        was_before = np.isin(shuffled, before)
        old, new = shuffled[was_before], shuffled[~was_before]
        kept = int(size * self._shape.overlap)
        chosen = np.concatenate([old[:kept], new, old[kept:]])[:size]
        # Ranks are drawn anew, and code draws the better ones.
        key = self._random.random(size) * np.where(chosen < self._code_end, 0.35, 1.0)
        return chosen[np.argsort(key, kind="stable")]

    def _swept(
        self, pages: npt.NDArray[np.int64], progress: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int64]:
        """Return ``pages`` with half of the events on the page that start-up has come to."""
        here = (progress * len(self._startup)).astype(np.int64)
        # Eight pages back at most: what start-up has left, it does not come back to.
        back = (8 * self._random.random(len(pages)) ** 2).astype(np.int64)
        sweeping = self._random.random(len(pages)) < 0.5
        return np.where(sweeping, self._startup[np.maximum(here - back, 0)], pages)

    def _kinds(self, pages: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        writes = self._random.random(len(pages)) < self._shape.write_events
        kinds = np.where(writes, KIND_WRITE, KIND_READ)
        return np.where(pages < self._code_end, KIND_FETCH, kinds).astype(np.uint8)

    def _times(self, time: int, count: int) -> npt.NDArray[np.uint64]:
        deltas = np.interp(self._random.random(count), _DELTA_QUANTILES, _DELTA_VALUES)
        times = np.cumsum(deltas.astype(np.uint64), dtype=np.uint64) + np.uint64(time)
        return times


class _Walk:
    """An endless walk over the paths of one phase."""

    def __init__(
        self,
        random: np.random.Generator,
        pages: npt.NDArray[np.int64],
        shape: TraceShape,
    ) -> None:
        self._random = random
        self._left = np.empty(0, dtype=np.int64)
        lengths = 1 + (2 * shape.path_events * random.random(shape.paths)).astype(np.int64)
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        count = int(self._starts[-1])
        steps = pages[self._zipf(len(pages), count, shape.zipf)]
        # Every page of the set lies on some path, so that the phase has the size it states.
        places = np.argsort(random.random(count), kind="stable")[: len(pages)]
        steps[places] = pages[: len(places)]
        # Paths run on to the next page where that is in the set, so that the set stays what it is.
        can_follow = np.isin(steps[:-1] + 1, pages)
        chance = shape.sequential * count / max(1, int(can_follow.sum()))
        (before,) = np.nonzero(can_follow & (random.random(count - 1) < chance))
        steps[before + 1] = steps[before] + 1
        self._steps = steps
        self._path_zipf = shape.path_zipf

    def _zipf(self, size: int, count: int, exponent: float) -> npt.NDArray[np.int64]:
        ranks: npt.NDArray[np.float64] = np.arange(1, size + 1, dtype=np.float64)
        share: npt.NDArray[np.float64] = np.cumsum(ranks**-exponent)
        # The last share is left out, so that no rounding draws a rank beyond the last.
        numbers: npt.NDArray[np.float64] = self._random.random(count) * share[-1]
        return np.searchsorted(share[:-1], numbers, side="right").astype(np.int64)

    def take(self, count: int) -> npt.NDArray[np.int64]:
        """Return the next ``count`` pages."""
        parts = [self._left]
        have = len(self._left)
        while have < count:
            taken = self._zipf(len(self._starts) - 1, 1 + (count - have) // 16, self._path_zipf)
            lengths = self._starts[taken + 1] - self._starts[taken]
            offsets = np.arange(int(lengths.sum())) - np.repeat(
                np.cumsum(lengths) - lengths, lengths
            )
            parts.append(self._steps[np.repeat(self._starts[taken], lengths) + offsets])
            have += len(parts[-1])
        pages = np.concatenate(parts)
        self._left = pages[count:]
        return pages[:count]
