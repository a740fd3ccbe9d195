# SPDX-License-Identifier: MIT
"""Locks whose order a store watches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pagestep.codecs.errors import InvalidArgument, LockOrder
from pagestep.store._binding import check, ffi, lib

__all__ = ["LockTable", "StoreLock"]

_PAGE_IN = "page-in"


class LockTable:
    """The locks that a store knows, by name; a page-in is the first of them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._names = [_PAGE_IN]
        self._numbers: dict[str, tuple[int, int]] = {}
        self._guard = threading.Lock()

    def number_of(self, core: Any, name: Any, rank: Any) -> int:
        """Return a name's number, a new one if it was never heard of.

        Raises:
            InvalidArgument: It was given another rank before, or there are too many locks.
        """
        if not isinstance(name, str) or not name or name == _PAGE_IN:
            raise InvalidArgument(f"lock {name!r}: must be a name, and not {_PAGE_IN!r}")
        if not isinstance(rank, int) or not 0 <= rank < 1 << 32:
            raise InvalidArgument(f"rank {rank!r} of lock {name!r}: must be from 0 to 2**32 - 1")
        with self._guard:
            known = self._numbers.get(name)
            if known is None:
                found = ffi.new("uint32_t *")
                code = lib.pgs_lock_add(core, rank, found)
                check(code, f"lock {name!r} is one too many: a store can tell 63 names apart")
                known = self._numbers[name] = int(found[0]), rank
                self._names.append(name)
        number, its_rank = known
        if its_rank != rank:
            raise InvalidArgument(f"lock {name!r} has rank {its_rank}, and cannot have {rank} too")
        return number

    def conflict(self, core: Any, number: int) -> LockOrder:
        """Return the error that says why this thread cannot take a lock, or fault."""
        chain = ffi.new("uint32_t[64]")
        count = ffi.new("size_t *")
        lib.pgs_lock_conflict(core, number, chain, 64, count)
        names = tuple(self._names[number] for number in _ints(chain, int(count[0])))
        error = LockOrder(self._told(names or (self._names[number],)))
        error.chain = names
        return error

    def _told(self, names: tuple[str, ...]) -> str:
        wanted, held = names[0], names[-1]
        if len(names) == 1:
            return f"lock {wanted!r} is held by this thread already: it would wait for itself"
        ranks = [self._numbers[name][1] if name in self._numbers else 0 for name in (wanted, held)]
        if len(names) == 2 and all(ranks) and ranks[0] <= ranks[1]:
            return (
                f"lock {wanted!r} of rank {ranks[0]} must not be taken while {held!r} of rank "
                f"{ranks[1]} is held: take them in rising order"
            )
        what = f"lock {wanted!r} must not be taken while {held!r} is held"
        if wanted == _PAGE_IN:
            what = f"a page cannot be faulted in while lock {held!r} is held"
        elif held == _PAGE_IN:
            what = f"lock {wanted!r} must not be taken by the pager, or in an atomic section"
        return (
            f"{what}: they were taken as {' then '.join(names)} before, so that two threads could "
            f"wait for each other; drop {held!r} first, or take them in that order"
        )


def _ints(array: Any, count: int) -> list[int]:
    return [int(array[i]) for i in range(count)]


class StoreLock:
    """A lock that may be held across faults only if no page-in takes it. Made by a store.

    Taking it in an order that could deadlock, with other such locks or with a page-in, raises
    ``LockOrder`` the first time that order is seen, whether it would deadlock then or not.

    Attributes:
        name: What it is called in errors; locks of one name count as one.
    """

    def __init__(self, core_of: Callable[[], Any], table: LockTable, name: str, rank: int) -> None:
        """Made by ``PageStore.lock``; ``core_of`` raises where the store is closed."""
        self.name = name
        self._core_of = core_of
        self._core = core_of()
        self._table = table
        self._number = table.number_of(self._core, name, rank)
        self._lock = threading.Lock()
        self._owner: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LockOrder: That could deadlock; it is not taken.
            Closed: The store is closed. What is held then can still be released.
        """
        self._core_of()
        code = lib.pgs_lock_taking(self._core, self._number)
        if code == lib.PGS_E_LOCK_ORDER:
            raise self._table.conflict(self._core, self._number)
        check(code, f"lock {self.name!r} cannot be taken: a thread can hold 16")
        try:
            self._lock.acquire()
        except BaseException:
            lib.pgs_lock_dropped(self._core, self._number)
            raise
        self._owner = threading.get_ident()

    def release(self) -> None:
        """Drop the lock.

        Raises:
            InvalidArgument: This thread does not hold it.
        """
        if self._owner != threading.get_ident():
            raise InvalidArgument(f"lock {self.name!r} is not held by this thread")
        self._owner = None
        lib.pgs_lock_dropped(self._core, self._number)
        self._lock.release()

    def locked(self) -> bool:
        """Return whether any thread holds it."""
        return self._lock.locked()

    def __enter__(self) -> None:
        """Take it."""
        self.acquire()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drop it."""
        self.release()

    def __repr__(self) -> str:
        """Show its name, and whether it is held."""
        return f"<StoreLock {self.name!r}{', held' if self.locked() else ''}>"
