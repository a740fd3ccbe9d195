# SPDX-License-Identifier: MIT
"""Drive a store with a trace of page accesses, and hold every page against the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from pagestep.codecs.errors import BadTrace, CorruptPage

from ._binding import check, ffi, lib
from .trace import Sample

if TYPE_CHECKING:
    from ._page_store import PageStore
    from ._stats import Stats
    from .trace import Block

__all__ = ["Replay", "replay"]

_CHUNK_EVENTS = 1 << 16
# The mark that recordings of Linux have where its first program runs. What only start-up
# needed is free by then; free_initmem itself, an earlier mark, still uses some of it.
_STARTUP_ENDS = "run_init_process"


@dataclass
class Replay:
    """What a replay saw.

    Attributes:
        events: Accesses replayed.
        verified: Of these, pages compared byte by byte with what they must hold.
        samples: The store at regular moments; the last one is the end.
        marks: Time and name of the trace's phases.
        given_up: Pages whose bytes were given up when start-up ended.
        stats: The store's statistics at the end.
    """

    events: int = 0
    verified: int = 0
    samples: list[Sample] = field(default_factory=list[Sample])
    marks: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    given_up: int = 0
    stats: Stats | None = None

    def note(self, time: int, stats: Stats) -> None:
        """Take a sample: what the store holds now, and its faults since the last one."""
        before = self.stats.by_tier if self.stats else {}
        faults = {
            name: tier.faults - (before[name].faults if before else 0)
            for name, tier in stats.by_tier.items()
        }
        self.samples.append(
            Sample(
                time=time,
                events=self.events,
                hot_bytes=stats.hot_bytes,
                pool_bytes=stats.pool_bytes,
                metadata_bytes=stats.metadata_bytes,
                budget_bytes=stats.budget_bytes,
                faults_by_tier=faults,
            )
        )
        self.stats = stats


def replay(
    store: PageStore,
    blocks: Iterator[Block],
    *,
    sample_events: int = _CHUNK_EVENTS,
    startup_ends: str = _STARTUP_ENDS,
    progress: Callable[[int], Any] | None = None,
) -> Replay:
    """Make the accesses of a trace in order, each page in a frame as a processor needs it.

    A page that is fetched or read is compared with a shadow copy of the image; a write
    changes 8 bytes of the page and of the shadow.

    Args:
        store: A store over the trace's image; its pages are written to.
        blocks: A ``Trace``, or what ``trace.generate`` makes.
        sample_events: Take a sample of the store after so many events.
        startup_ends: The mark at which the store's ``end_of_startup`` is called.
        progress: Called with the number of events done since the last call.

    Returns:
        What was seen.

    Raises:
        CorruptPage: A page was not what it must be.
        BadTrace: The trace speaks of a page that the image does not have.
        BudgetExceeded: The budget cannot hold what the trace has dirtied.
        GonePage: The trace touches what was given up when start-up ended.
    """
    shadow = np.array(store.image.flat(), copy=True)
    result = Replay()
    for block in blocks:
        pages = np.ascontiguousarray(block.pages, np.uint32)
        kinds = np.ascontiguousarray(block.kinds, np.uint8)
        if pages.size and int(pages.max()) >= store.page_count:
            raise BadTrace(
                f"the trace touches page {int(pages.max())}, and the image has "
                f"{store.page_count} pages: it is a trace for another image"
            )
        for index, name in block.marks:
            at = min(index, len(pages) - 1)
            result.marks.append((int(block.times[at]) if len(pages) else 0, name))
        ends = {index for index, name in block.marks if name == startup_ends}
        for start, end in pairwise(_steps(len(pages), sample_events, ends)):
            if start in ends:
                result.given_up += store.end_of_startup()
            _play(store, pages[start:end], kinds[start:end], result, shadow)
            result.note(int(block.times[end - 1]), store.stats())
            if progress:
                progress(end - start)
    return result


def _steps(count: int, most: int, more: set[int]) -> list[int]:
    """Return where to stop on the way to ``count``: after ``most`` events, and at ``more``."""
    return sorted({*range(0, count, most), *more, count})


def _play(store: PageStore, pages: Any, kinds: Any, result: Replay, shadow: Any) -> None:
    done = ffi.new("size_t *")
    code = lib.pgs_replay(
        store.core,
        store.object_no,
        ffi.from_buffer("uint32_t[]", pages),
        ffi.from_buffer("uint8_t[]", kinds),
        len(pages),
        result.events,
        ffi.from_buffer(shadow, require_writable=True),
        done,
    )
    if code:
        page_no = int(pages[done[0]])
        if code == lib.PGS_E_CORRUPT:
            raise CorruptPage(
                f"page {page_no} is not what it must be at event {result.events + done[0]}"
            )
        check(code, f"page {page_no} cannot be accessed at event {result.events + done[0]}")
    result.events += len(pages)
    result.verified += int(np.count_nonzero(kinds != lib.PGS_ACCESS_WRITE))
