# SPDX-License-Identifier: MIT
"""``PressureWatcher``: a store gives RAM back while the system, or its cgroup, runs short of it.

docs/PRESSURE.md says by which law, and why that one.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from pagestep.codecs.closing import Closing
from pagestep.codecs.errors import BudgetExceeded, Closed, InvalidArgument, PageStepError

from ._page_store import PageStore
from ._psi import WINDOW_S, Gauge, default_files
from ._size import parse_size

__all__ = ["PressureEvent", "PressureLaw", "PressureStats", "PressureWatcher"]

_EVENTS_MAX = 1024
_TRIES = 4  # at a smaller budget, each half as far from the old one


@dataclass(frozen=True)
class PressureLaw:
    """What a budget becomes after each look: less at once, more slowly, never beyond ``most``.

    Attributes:
        most: The budget when nothing presses, in bytes.
        least: What it is never below, in bytes.
        keep: What is kept under pressure, as a share of what is used, above 0 and below 1.
        regain: What is given back at each calm look, as a share of ``most``.
        calm_looks: How many looks without pressure come before the first is given back.
    """

    most: int
    least: int
    keep: float = 0.75
    regain: float = 1 / 16
    calm_looks: int = 5

    def next(self, budget: int, used: int, pressed: bool, calm: int) -> int:
        """Return the budget after a look.

        Args:
            budget: Bytes it is now.
            used: Bytes of it that are used. A budget that is not used up gives nothing back
                before it is below what is.
            pressed: Whether there was pressure.
            calm: Looks without pressure since the last with, this one counted.
        """
        if pressed:
            return min(budget, max(self.least, int(min(budget, used) * self.keep)))
        if calm <= self.calm_looks:
            return budget
        return max(budget, min(self.most, budget + math.ceil(self.most * self.regain)))


@dataclass(frozen=True)
class PressureEvent:
    """Something that a watcher did or saw.

    Attributes:
        kind: ``"shrank"``, ``"grew"``, ``"refused"`` (the store could not go as far down as it
            should), ``"followed"`` (somebody else set the budget, which is now the one to go
            back to), ``"lost"`` (a file can no longer be read), ``"failed"`` (why, ``cause``
            says; the watcher goes on).
        time_s: When, by ``time.monotonic``.
        budget_bytes: The store's budget afterwards.
        share: Of the time just before, in which some task stalled, 0 to 1.
        cause: The file that said so, or what was wrong.
    """

    kind: str
    time_s: float
    budget_bytes: int
    share: float
    cause: str


@dataclass(frozen=True)
class PressureStats:
    """What a watcher has done so far.

    Attributes:
        watched: Files that are being watched.
        triggered: Those of them for which the kernel wakes the watcher; others are read at
            intervals.
        looks: How often it looked.
        pressed: How often it saw pressure.
        shrinks: How often it made the budget smaller.
        grows: How often it gave some back.
        refusals: How often the store could not go as far down as it should.
        budget_bytes: The budget as it was left.
        budget_bytes_min: The least that it was at any look, whoever made it so.
        most_bytes: The budget that is given back at last.
        least_bytes: The budget that it does not go below.
        alive: Whether it still watches: not after the store was closed, or its last file lost.
    """

    watched: tuple[str, ...]
    triggered: tuple[str, ...]
    looks: int
    pressed: int
    shrinks: int
    grows: int
    refusals: int
    budget_bytes: int
    budget_bytes_min: int
    most_bytes: int
    least_bytes: int
    alive: bool


class PressureWatcher(Closing):
    """Shrinks a store's budget while memory is short, and gives it back.

    It watches from a thread of its own, which ends with the store or with ``close``; it raises
    nothing into the program, but tells by ``events`` and ``stats``. The store may be
    used by any thread meanwhile.

    >>> from pagestep import PageStore
    >>> with PageStore.open(bytes(1 << 20), ram="2MiB") as store:  # doctest: +SKIP
    ...     with PressureWatcher(store, least="1MiB") as watcher:
    ...         ...
    """

    def __init__(
        self,
        store: PageStore,
        *,
        least: int | str | None = None,
        watch: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        threshold: float = 0.15,
        interval_s: float = WINDOW_S,
        calm_s: float = 10.0,
    ) -> None:
        """Begin to watch.

        Args:
            store: The store; only weakly held.
            least: The budget is never made smaller than this: bytes, or text such as
                ``"8MiB"``. None: a quarter of the budget.
            watch: A file in the format of /proc/pressure/memory, or the folder of a cgroup of
                version 2; or several of them. None: the whole system, and this process's cgroup.
            threshold: From which share of the time on, in which some task stalls for memory,
                there is pressure: above 0, at most 1.
            interval_s: Seconds between looks where the kernel wakes nobody, and at least those
                from one shrinking to the next. The kernel counts every 2 s.
            calm_s: Seconds without pressure before the budget grows.

        Raises:
            Unsupported: No memory pressure can be read on this system; which files, and why.
            InvalidArgument: An argument is out of range.
            Closed: The store is closed.
        """
        given = cast("object", store)  # it may be what no type allows
        if not isinstance(given, PageStore):
            raise InvalidArgument(
                f"a {type(given).__name__} was given: a watcher is for an open PageStore"
            )
        if not 0 < threshold <= 1:
            raise InvalidArgument(f"threshold={threshold}: a share above 0, and at most 1")
        if not 0 < interval_s <= 3600 or not 0 <= calm_s <= 86400:
            raise InvalidArgument(
                f"interval_s={interval_s}, calm_s={calm_s}: seconds, above 0 and at most an hour; "
                "0 and at most a day"
            )
        budget = store.stats().budget_bytes
        floor = budget // 4 if least is None else parse_size(least, "least")
        if not 0 < floor <= budget:
            raise InvalidArgument(f"least={least}: above 0, and at most the budget of {budget}")
        self._interval_s = interval_s
        self._store = weakref.ref(store)
        self._gauge = Gauge(_paths_of(watch), threshold)
        self._law = PressureLaw(budget, floor, calm_looks=int(calm_s / interval_s))
        self._budget = budget
        self._refused = 0  # bytes that the store could not go down to in this spell of pressure
        self._calm = 0
        self._events: deque[PressureEvent] = deque(maxlen=_EVENTS_MAX)
        self._events_lock = threading.Lock()
        self._stats = PressureStats((), (), 0, 0, 0, 0, 0, budget, budget, budget, floor, True)
        self._note_files()
        self._thread = threading.Thread(target=self._watch, name="pagestep pressure", daemon=True)
        self._thread.start()

    # -- what it did --------------------------------------------------------------------

    @property
    def events(self) -> tuple[PressureEvent, ...]:
        """The last 1,024 events, in their order."""
        with self._events_lock:
            return tuple(self._events)

    def stats(self) -> PressureStats:
        """Return what it has done so far."""
        return replace(self._stats, alive=self._thread.is_alive())

    def close(self) -> None:
        """End, and give the store the budget back that it had. Again is no error."""
        self._gauge.stop()
        self._thread.join()
        self._gauge.close()

    # -- the thread, which alone changes anything ---------------------------------------

    def _watch(self) -> None:
        why = "the watcher was closed"
        while (reading := self._gauge.wait(self._interval_s)) is not None:
            for path in reading.lost:
                self._tell("lost", 0.0, str(path))
            self._note_files()
            if reading.path is None:
                why = "no file is left to watch"
                break
            if not self._look(reading.pressed, reading.share, str(reading.path)):
                return
            # Two files may both wake us, one after the other, over one and the same stall.
            if reading.pressed and self._gauge.pause(self._interval_s):
                break
        store = self._store()
        if store is not None and self._budget < self._law.most:
            with suppress(PageStepError):  # it may be closed by now
                self._change(store, self._law.most, "grew", 0.0, why)

    def _look(self, pressed: bool, share: float, cause: str) -> bool:
        """Do what a look asks for; return whether there is still a store."""
        store = self._store()
        if store is None:
            return False
        self._count(looks=1, pressed=int(pressed))
        self._calm = 0 if pressed else self._calm + 1
        try:
            stats = store.stats()
            if stats.budget_bytes != self._budget:
                self._follow(stats.budget_bytes, share)
            wanted = self._law.next(self._budget, stats.used_bytes, pressed, self._calm)
            if wanted > self._budget:
                self._change(store, wanted, "grew", share, cause)
            elif wanted < self._budget:
                self._shrink(store, wanted, share, cause)
        except Closed:
            return False
        except PageStepError as error:
            self._tell("failed", share, str(error))
        if self._calm > self._law.calm_looks:
            self._refused = 0
        return True

    def _follow(self, budget: int, share: float) -> None:
        """Somebody else has set the budget: that is the one to go back to from now on."""
        self._law = replace(self._law, most=budget, least=min(self._law.least, budget))
        self._budget = budget
        self._stats = replace(self._left_at(budget), most_bytes=budget, least_bytes=self._law.least)
        self._tell("followed", share, "set_ram")

    def _shrink(self, store: PageStore, wanted: int, share: float, cause: str) -> None:
        """Go down to ``wanted``, or as far as a few tries bring the store.

        To try is not for nothing, even where it fails: pages leave first. So what was refused
        is not tried again while the pressure lasts.
        """
        for _ in range(_TRIES):
            if wanted <= self._refused:
                wanted = (self._refused + self._budget) // 2
            if wanted in (self._refused, self._budget):
                return
            try:
                self._change(store, wanted, "shrank", share, cause)
                return
            except BudgetExceeded as error:
                self._refused = wanted
                self._count(refusals=1)
                self._tell("refused", share, str(error))

    def _change(self, store: PageStore, budget: int, kind: str, share: float, cause: str) -> None:
        store.set_ram(budget)
        self._budget = budget
        self._count(shrinks=int(kind == "shrank"), grows=int(kind == "grew"))
        self._stats = self._left_at(budget)
        self._tell(kind, share, cause)

    # -- keeping account ----------------------------------------------------------------

    def _tell(self, kind: str, share: float, cause: str) -> None:
        event = PressureEvent(kind, time.monotonic(), self._budget, share, cause)
        with self._events_lock:
            self._events.append(event)

    def _left_at(self, budget: int) -> PressureStats:
        least = min(self._stats.budget_bytes_min, budget)
        return replace(self._stats, budget_bytes=budget, budget_bytes_min=least)

    def _count(
        self, looks: int = 0, pressed: int = 0, shrinks: int = 0, grows: int = 0, refusals: int = 0
    ) -> None:
        old = self._stats
        self._stats = replace(
            old,
            looks=old.looks + looks,
            pressed=old.pressed + pressed,
            shrinks=old.shrinks + shrinks,
            grows=old.grows + grows,
            refusals=old.refusals + refusals,
        )

    def _note_files(self) -> None:
        files = self._gauge.files
        self._stats = replace(
            self._stats,
            watched=tuple(str(file.path) for file in files),
            triggered=tuple(str(file.path) for file in files if file.triggers),
        )


def _paths_of(
    watch: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None,
) -> list[Path]:
    if watch is None:
        return default_files()
    # A text is a sequence too: of letters, none of which is meant.
    return [Path(each) for each in ([watch] if isinstance(watch, str | os.PathLike) else watch)]
