# SPDX-License-Identifier: MIT
"""What a program may rely on: pins, atomic sections, locks, levels, what is forbidden."""

from __future__ import annotations

import threading
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import BudgetExceeded, InvalidArgument
from pagestep.store.discipline import LockTable, StoreLock
from pagestep.store.image import Image
from pagestep.store.policy import Decision, Explanation, Level, PagePolicy, Wish
from pagestep.store.rom import Rom

from ._binding import check, ffi, lib
from ._budget import FRAMES_MIN
from ._settings import Settings
from ._size import show_size
from ._stats import snapshot
from ._store_core import StoreCore
from ._treatments import Treatments
from ._where import Where, describe

__all__ = ["DisciplinedStore"]


class DisciplinedStore(StoreCore):
    """A store whose pages are held, and let go, as its user promises and allows.

    Attributes:
        policy: What rules, and tags in the image, say of its pages; None for a ROM image alone.
    """

    def __init__(
        self, image: Image | None, rom: Rom | None, settings: Settings, page_size: int = 4096
    ) -> None:
        """Take what is open, and stays the caller's to close; ``page_size`` is for neither."""
        super().__init__(image, rom, settings, page_size)
        self.policy: PagePolicy | None = None
        self._locks = LockTable()
        self._treating = threading.Lock()
        self._treatments = Treatments(self.page_count)

    # -- pins ---------------------------------------------------------------------------

    def pin(self, where: Where) -> None:
        """Pin pages into frames, all or none. Pins are counted.

        Raises:
            BudgetExceeded: Not all of them can be held; none is.
            InAtomicSection: This thread is in an atomic section.
        """
        numbers = self._known(where)
        code = lib.pgs_pin(
            self._core(), self._object, ffi.from_buffer("uint64_t[]", numbers), numbers.size
        )
        self._check(code, f"{describe(where)} cannot be pinned")

    def unpin(self, where: Where) -> None:
        """Take back one pin of each page, of all or none.

        Raises:
            InvalidArgument: One is not pinned.
        """
        numbers = self._known(where)
        code = lib.pgs_unpin(
            self._core(), self._object, ffi.from_buffer("uint64_t[]", numbers), numbers.size
        )
        if code == lib.PGS_E_INVALID:
            raise InvalidArgument(f"{describe(where)} cannot be unpinned: not all are pinned")
        check(code, f"{describe(where)} cannot be unpinned")

    @contextmanager
    def pinned(self, where: Where) -> Generator[None]:
        """Pin pages for the length of a ``with`` block."""
        numbers = self._pages(where)
        self.pin(numbers)
        try:
            yield
        finally:
            if self._handle is not None:
                self.unpin(numbers)

    # -- sections and locks -------------------------------------------------------------

    @contextmanager
    def atomic(self) -> Generator[None]:
        """Promise, for a ``with`` block and this thread, that no page will be faulted in.

        In it a page that is in no frame raises ``WouldFault`` at once, and whatever may wait for
        a page, such as a pin, raises ``InAtomicSection``. Pin before what is needed in it.
        """
        with self._section(lib.PGS_SECTION_ATOMIC):
            yield

    @contextmanager
    def pager(self) -> Generator[None]:
        """Say, for a ``with`` block, that this thread does what page-ins wait for.

        In it a page that can leave its frame raises ``PagerFault``, whether it is in one just
        now or not, and a lock taken counts as taken by a page-in.
        """
        with self._section(lib.PGS_SECTION_PAGER):
            yield

    @contextmanager
    def _section(self, kind: int) -> Generator[None]:
        core = self._core()
        check(lib.pgs_section_begin(core, kind), "a section cannot begin")
        try:
            yield
        finally:
            # A generator may be ended by another thread, which is in no section.
            check(lib.pgs_section_end(core, kind), "a section can only be ended by its own thread")

    def lock(self, name: str, *, rank: int = 0) -> StoreLock:
        """Return a new lock whose order is watched.

        Args:
            name: What errors call it; locks of one name count as one.
            rank: Locks of a rank must be taken in rising order; 0: the order is learnt.

        Raises:
            InvalidArgument: That name has another rank, or there are 63 names already.
        """
        return StoreLock(self._core, self._locks, name, rank)

    # -- levels -------------------------------------------------------------------------

    def set_level(self, where: Where, level: Level | str) -> None:
        """Set how gladly pages leave RAM, all or none; what is forbidden stays so.

        That goes before rules and tags, of which a codec and a lowest tier are forgotten too.

        ``Level.PINNED`` pages them in at once and holds them.

        Raises:
            BudgetExceeded: They cannot all be held; nothing is changed.
            InvalidArgument: There is no such level.
        """
        try:
            level = Level[level] if isinstance(level, str) else Level(level)
        except (KeyError, ValueError):
            raise InvalidArgument(
                f"level {level!r}: one of {', '.join(Level.__members__)}"
            ) from None
        numbers = self._known(where)
        wanted = self._treatments.of_level(level, numbers.size)
        self._want(numbers, wanted, f"{describe(where)} cannot be made {level.name}")

    def forbid(self, where: Where) -> None:
        """Forbid paging of a part of the image: it is paged in now, and held.

        An administrator's word, above rules, tags and ``set_level``. To forbid twice what has
        one name is no error, and needs to be allowed once.

        Raises:
            BudgetExceeded: It cannot all be held; nothing is changed.
            GonePage: A part of it was given up when start-up ended; nothing is changed.
        """
        numbers = self._known(where)
        key = _key(where, numbers)
        with self._treating:
            if self._treatments.is_forbidden(key):
                return
            pinned = np.full(numbers.size, Level.PINNED, np.uint8)
            self._treat(numbers, pinned, f"paging of {describe(where)} cannot be forbidden")
            self._treatments.forbid(key, numbers)

    def allow(self, where: Where) -> None:
        """Take back what was forbidden by the same name; its pages are as they were meant to be.

        Raises:
            InvalidArgument: It was not forbidden by that name.
        """
        self._core()
        key = _key(where, self._known(where))
        with self._treating:
            numbers, treatments = self._treatments.allowing(key, describe(where))
            self._treat(numbers, treatments, f"paging of {describe(where)} cannot be allowed")
            self._treatments.allowed(key)

    def explain(self, where: int | str) -> Explanation:
        """Say why something has its level: what is forbidden now, then rules, tags, the default.

        Args:
            where: As ``PagePolicy.explain`` has it.

        Raises:
            InvalidArgument: The image has nothing of that name; or there is only a ROM image.
            NoSuchPage: The image has no such page or address.
        """
        self._core()
        if self.policy is None:
            raise InvalidArgument(f"{self._name}: only an image has rules and tags")
        found = self.policy.explain(where)
        pages = np.arange(found.first_page, found.first_page + found.page_count)
        levels = self._treatments.level_of(pages)
        by_rules = self.policy.level[pages]
        if not (levels != by_rules).any() and not self._treatments.forbidden_among(pages):
            return found
        by = "forbidden" if self._treatments.forbidden_among(pages) else "set_level"
        counts = np.bincount(levels, minlength=len(Level)).tolist()
        least = Level(int(levels.min()))
        return replace(
            found,
            decisions=tuple(_before(each, least, by) for each in found.decisions),
            levels={level.name: counts[level] for level in Level},
            notes=(_IN_FORCE[by], *found.notes),
        )

    def end_of_startup(self) -> int:
        """Give up what is needed until now only: the pages of ``once``.

        Their RAM is free. A later read raises ``GonePage``, until such a page is written whole;
        it is an ordinary page from then on, of level ``STEP_ON_IT``.

        Returns:
            How many pages were given up. A page that is pinned, or forbidden to be paged, stays,
            and goes when this is called again.
        """
        core = self._core()
        given_up = ffi.new("uint64_t *")
        total = 0
        with self._treating:
            once = self._treatments.startup_pages()
            numbers = once.astype(np.uint64)
            # Those that were PINNED until now are not, for they are needed no more.
            unneeded = self._treatments.of_level(Level.STEP_ON_IT, numbers.size)
            self._treat(numbers, unneeded, "start-up cannot end")
            self._treatments.want(numbers, unneeded)
            for page_no in once.tolist():
                code = lib.pgs_forget(core, self._object, page_no, 1, given_up)
                if code != lib.PGS_E_PINNED:
                    check(code, "start-up cannot end")
                    self._treatments.once[page_no] = False
                total += int(given_up[0])
        return total

    def _apply(self, policy: PagePolicy) -> None:
        """Treat the pages as rules, and tags in the image, say."""
        self.policy = policy
        if policy.is_plain:
            return
        in_rom = np.zeros(self.page_count, np.bool_) if self.rom is None else self.rom.stored
        wanted = self._treatments.of_policy(policy, in_rom)
        pinned = policy.pages_by_level[Level.PINNED]
        try:
            self._want(np.arange(self.page_count, dtype=np.uint64), wanted, "")
        except BudgetExceeded:
            tables = snapshot(self._core()).metadata_bytes
            least = tables + (pinned + FRAMES_MIN) * self.page_size
            raise BudgetExceeded(
                f"{pinned:,} pages of {self._name} are PINNED, which is "
                f"{show_size(pinned * self.page_size)}; with tables, codecs and the fewest frames "
                f"a store takes {show_size(least)} and more: raise `ram`, or let more pages go"
            ) from None

    def _known(self, where: Where) -> npt.NDArray[np.uint64]:
        numbers = self._pages(where)
        beyond = numbers[numbers >= self.page_count]
        if beyond.size:
            self._page_no(int(beyond.astype(np.int64)[0]))  # a negative one is beyond, too
        return numbers

    def _want(self, numbers: npt.NDArray[np.uint64], wanted: Any, failed: str) -> None:
        with self._treating:
            self._treat(numbers, self._treatments.effective(numbers, wanted), failed)
            self._treatments.want(numbers, wanted)

    def _treat(self, numbers: npt.NDArray[np.uint64], treatments: Any, failed: str) -> None:
        code = lib.pgs_treat(
            self._core(),
            self._object,
            ffi.from_buffer("uint64_t[]", numbers),
            ffi.from_buffer("uint8_t[]", np.ascontiguousarray(treatments, np.uint8)),
            numbers.size,
        )
        self._check(code, failed)

    # -- errors -------------------------------------------------------------------------

    def _explain(self, code: int) -> None:
        if code == lib.PGS_E_LOCK_ORDER:
            raise self._locks.conflict(self._core(), lib.PGS_LOCK_PAGE_IN)


_IN_FORCE = {
    "forbidden": "paging of it, or of a part of it, is forbidden at run time: that goes before all",
    "set_level": "its level, or a part of it's, was set at run time: that goes before rules",
}


def _before(decision: Decision, level: Level, by: str) -> Decision:
    """Return a decision with what was said at run time before it, if it is about the level."""
    if decision.key != "level":
        return decision
    return replace(decision, wish=Wish(level.name, by), beat=(decision.wish, *decision.beat))


def _key(where: Where, numbers: npt.NDArray[np.uint64]) -> Hashable:
    """Return by what a forbidden part of the image is known: its name, else its pages."""
    return where if isinstance(where, str) else np.unique(numbers).tobytes()
