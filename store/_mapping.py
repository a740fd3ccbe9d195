# SPDX-License-Identifier: MIT
"""A map of an object's pages: what can be asked of it beside touching its memory."""

from __future__ import annotations

import operator
import sys
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from pagestep.codecs.closing import Closing
from pagestep.codecs.errors import Closed, InvalidArgument, MappedError, NoSuchPage

from ._binding import check, ffi, lib, page_number_array

__all__ = ["MapHost", "MapStats", "Mapping"]

_SERVICE_NAMES = {lib.PGS_MAP_SIGBUS: "sigbus", lib.PGS_MAP_THREAD: "thread"}
_WRITES_NAMES = {
    lib.PGS_MAP_READ_ONLY: "none",
    lib.PGS_MAP_WRITES_FAULT: "fault",
    lib.PGS_MAP_WRITES_NOTED: "noted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapHost:
    """What a map needs of the pages that it maps.

    Attributes:
        core: The ``pgs_store *``, which a map keeps open.
        kept: What the core uses; empty when that is closed.
        object_no: The pages' object.
        page_count: How many they are.
        page_size: Bytes of each.
        name: What messages call them.
        page_name: What messages call one of them.
        said: What is known of an error, of a page, beside its code.
        explain: Raises an error that needs more than its code to be told.
    """

    core: Any
    kept: list[Any]
    object_no: int
    page_count: int
    page_size: int
    name: str
    page_name: Callable[[int], str]
    said: Callable[[int, int | None], str]
    explain: Callable[[int], None]

    def check_page(self, code: int, page_no: int, verb: str) -> None:
        """Raise for a page that could not be ``verb``, as reading it would."""
        if code >= 0:
            return
        self.explain(code)
        page = self.page_name(page_no)
        whose = page if self.name in page else f"{page} of {self.name}"
        check(code, f"{whose} cannot be {verb}", page_no, self.said(code, page_no))


@dataclass(frozen=True)
class MapStats:
    """What a map is, and has done.

    Attributes:
        service: Who brings pages: ``"sigbus"``, the thread that touches them, or ``"thread"``,
            one of the map's own.
        writes: How writes are known of: ``"none"`` (it is read-only), ``"fault"`` (a clean page's
            first write is a fault) or ``"noted"`` (the kernel notes them).
        in_system_calls: Pages that a system call touches are brought too.
        around: Pages that a fault without a pattern brings just now.
        faults: Touches of pages that had to be brought.
        attaches: Touches of pages that were in RAM, but not mapped.
        write_faults: First writes to clean pages, where these fault.
        pages_ahead: Pages brought beside the one that was touched.
        detaches: Pages whose mapping was taken away to see whether they are used.
        ranges_dropped: Runs of pages whose mapping was taken away whole.
        failures: Touches that could not be served.
        resident_bytes: RAM of the object's pages.
    """

    service: str
    writes: str
    in_system_calls: bool
    around: int
    faults: int
    attaches: int
    write_faults: int
    pages_ahead: int
    detaches: int
    ranges_dropped: int
    failures: int
    resident_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, ready for JSON."""
        return asdict(self)


_STATS = list(MapStats.__dataclass_fields__)


class Mapping(Closing):
    """A map, as each array of it has it: ``array.mapping``.

    It lasts as long as it, an array or anything made of one without a copy is alive, also after
    its store was closed; until then the store's RAM is not given back either. Methods may be
    called from any thread.

    Attributes:
        page_count: Number of pages.
        page_size: Bytes of a page.
    """

    def __init__(self, host: MapHost, handle: Any, memory: Any) -> None:
        """Stand for an open ``pgs_map *``, whose bytes are ``memory``."""
        self.page_count = host.page_count
        self.page_size = host.page_size
        self._host = host
        self._handle = handle
        # Arrays keep the memory, and it keeps the map: as long as it is there, so are arrays.
        self._memory = weakref.ref(memory)

    def close(self) -> None:
        """Take the map away. Pages keep what was written. Again is no error.

        Raises:
            MappedError: An array of it, or a view of one, is alive; it would be left without its
                memory.
        """
        if self._memory() is not None:
            raise MappedError(
                f"the map of {self._host.name} cannot be closed: there are arrays of it; let them "
                "go, and what was made of them without a copy"
            )
        self._handle = None

    def __repr__(self) -> str:
        """Say of what it is one."""
        state = "closed" if self._handle is None else f"{self.page_count} pages"
        return f"<Mapping of {self._host.name}: {state}>"

    def _map(self) -> Any:
        handle = self._handle
        if handle is None:
            raise Closed(f"the map of {self._host.name} is closed; map it anew")
        return handle

    def _run(self, first_page: int, count: int | None) -> range:
        try:
            first = operator.index(first_page)
            number = self.page_count - first if count is None else operator.index(count)
        except TypeError:
            raise InvalidArgument(
                f"first_page is {first_page!r} and count {count!r}: they are whole numbers"
            ) from None
        if first < 0 or number < 0 or first + number > self.page_count:
            raise NoSuchPage(
                f"{number} pages of {self._host.name} from {first} on do not all exist: there "
                f"are {self.page_count}"
            )
        return range(first, first + number)

    def prefetch(
        self, first_page: int = 0, count: int | None = None, *, write: bool = False
    ) -> None:
        """Bring pages, so that touching them does not fault until they leave.

        Args:
            first_page: The first of them.
            count: How many; None: all from there on.
            write: Nor is writing to them to fault.

        Raises:
            BudgetExceeded: No frame can be had.
            InAtomicSection: This thread is in an atomic section, wherever the pages are.
            InvalidArgument: ``write`` of a read-only map.
            LockOrder: This thread holds a lock that page-ins take.
            NoSuchPage: The object ends before.
            PageStepError: What reading the first page raises that cannot be brought; it has that
                page's number.
        """
        run = self._run(first_page, count)
        map_ = self._map()
        page_no = ffi.new("uint64_t *")
        code = lib.pgs_map_prefetch(map_, run.start, len(run), write, page_no)
        if code == lib.PGS_E_INVALID:
            raise InvalidArgument(
                f"the map of {self._host.name} is read-only: make it with writable=True"
            )
        self._host.check_page(code, int(page_no[0]), "brought in")

    @contextmanager
    def held(
        self, first_page: int = 0, count: int | None = None, *, write: bool = False
    ) -> Generator[None]:
        """Pin pages and bring them, for a ``with`` block.

        Meanwhile their addresses can be given to system calls, and to whatever else cannot wait
        for a fault.

        Args:
            first_page: The first of them.
            count: How many; None: all from there on.
            write: They are to be written to.

        Raises:
            BudgetExceeded: They cannot all be held; none is.
            PageStepError: As ``prefetch``; none is held.
        """
        run = self._run(first_page, count)
        host, map_ = self._host, self._map()
        numbers = page_number_array(run)
        pages = ffi.from_buffer("uint64_t[]", numbers)
        self._pin(run, pages)
        try:
            self.prefetch(run.start, len(run), write=write)
            yield
        finally:
            lib.pgs_unpin(host.core, host.object_no, pages, len(run))
            del map_  # till here another thread's close has waited for it

    def _pin(self, run: range, pages: Any) -> None:
        """Pin all of a run or none of it."""
        host = self._host
        code = lib.pgs_pin(host.core, host.object_no, pages, len(run))
        if code == lib.PGS_E_BUDGET:  # that is of all of them together
            check(code, f"{self._pages_name(run)} cannot be held")
        if not code:
            return
        # Once more, page by page, to say which it was.
        for done, page_no in enumerate(run):
            code = lib.pgs_pin(host.core, host.object_no, pages + done, 1)
            if code:
                lib.pgs_unpin(host.core, host.object_no, pages, done)
            host.check_page(code, page_no, "held")

    @contextmanager
    def guarded(self) -> Generator[None]:
        """Have touches that cannot be served raise, at the end of a ``with`` block.

        In it such a touch reads zeros, and what it writes is lost; without a guard it is a SIGBUS.
        A guard is the map's: touches by other threads count, and guards may overlap. While one is
        open, a thread without one reads zeros as well, and is not told.

        Raises:
            PageStepError: A touch failed in the block. It is what reading the page raises that
                failed first since any guard of the map was open, such as ``CorruptPage`` or
                ``BackingTimeout``, and has that page's number: where guards overlap, or lie in
                each other, it may be another one's page.
        """
        map_ = self._map()
        begun = lib.pgs_map_guard_begin(map_)
        page_no = ffi.new("uint64_t *")
        try:
            yield
        finally:
            code = lib.pgs_map_guard_end(map_, begun, page_no)
            # An exception out of the block becomes the context of this one; but whoever
            # wants to stop the program is not to be outvoted.
            broken = sys.exc_info()[1]
            if broken is None or isinstance(broken, Exception):
                self._host.check_page(code, int(page_no[0]), "brought in (it read as zeros)")

    def detach(self, first_page: int = 0, count: int | None = None) -> None:
        """Take the mapping of pages away, whole; touches build it again.

        The pages stay where they are; page tables of idle ones are given back. Pinned pages
        keep theirs, here; a flush, a fork, and the end of a guard under which they had read as
        zeros take it away.

        Args:
            first_page: The first of them.
            count: How many; None: all from there on.

        Raises:
            InAtomicSection: This thread is in an atomic section.
            LockOrder: This thread holds a lock that page-ins take.
            NoSuchPage: The object ends before.
        """
        run = self._run(first_page, count)
        code = lib.pgs_map_detach(self._map(), run.start, len(run))
        self._host.explain(code)
        check(code, f"{self._pages_name(run)} cannot be detached")

    def stats(self) -> MapStats:
        """Take a snapshot of what it is, and has done."""
        raw = ffi.new("struct pgs_map_stats *")
        map_ = self._map()
        lib.pgs_map_stats(map_, raw)
        found: dict[str, Any] = {name: int(getattr(raw, name)) for name in _STATS}
        found["service"] = _SERVICE_NAMES[raw.service]
        found["writes"] = _WRITES_NAMES[raw.writes]
        found["in_system_calls"] = bool(raw.in_system_calls)
        return MapStats(**found)

    def _pages_name(self, run: range) -> str:
        if len(run) == 1:
            return f"page {run.start} of {self._host.name}"
        return f"pages {run.start} to {run.stop - 1} of {self._host.name}"
