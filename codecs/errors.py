# SPDX-License-Identifier: MIT
"""The exceptions of pagestep, made from the core's table of error codes."""

from __future__ import annotations

__all__ = [
    "AbsentPage",
    "BackingFull",
    "BackingInUse",
    "BackingLost",
    "BackingTimeout",
    "BadImage",
    "BadRom",
    "BadRules",
    "BadSignature",
    "BadSwap",
    "BadTrace",
    "BudgetExceeded",
    "Closed",
    "CorruptPage",
    "DirtyPage",
    "DisciplineError",
    "DoubleFree",
    "ForkedError",
    "GonePage",
    "InAtomicSection",
    "InvalidArgument",
    "LockOrder",
    "MapUnsupported",
    "MappedError",
    "NoSuchPage",
    "NotABlock",
    "NotARom",
    "PageStepError",
    "PagedPoolInPager",
    "PagerFault",
    "PinnedPage",
    "PoolExhausted",
    "PoolOverrun",
    "RomTooLarge",
    "StoreIOError",
    "StoreReentry",
    "SystemMemoryError",
    "Unsupported",
    "UseAfterFree",
    "WouldFault",
    "code_for",
    "error_for",
]


class PageStepError(Exception):
    """Base of everything that pagestep raises on purpose.

    Attributes:
        page_no: The page that it is about, or None.
    """

    page_no: int | None = None


class SystemMemoryError(PageStepError, MemoryError):
    """The operating system has no memory left."""


class InvalidArgument(PageStepError, ValueError):
    """An argument is outside its stated range."""


class NoSuchPage(PageStepError, IndexError):
    """A page number or object that does not exist."""


class CorruptPage(PageStepError):
    """Bytes that cannot be what was stored."""


class BudgetExceeded(PageStepError):
    """The RAM budget cannot hold what was asked."""


class StoreIOError(PageStepError, OSError):
    """A backing could not read or write."""


class BackingTimeout(StoreIOError, TimeoutError):
    """A backing store, or another thread that moves a page, did not answer in time."""


class BackingFull(StoreIOError):
    """A backing store has no room left."""


class BackingLost(StoreIOError, ConnectionError):
    """A backing store cannot be reached, or has gone."""


class BackingInUse(StoreIOError):
    """A backing store that another process, or another store, uses."""


class BadSwap(PageStepError, ValueError):
    """A file that is no swap file, or one of other pages: what it is, and what to do."""


class DisciplineError(PageStepError):
    """Something that could deadlock a page-in was about to be done; it was not done."""


class WouldFault(DisciplineError):
    """A fault in an atomic section."""


class InAtomicSection(DisciplineError):
    """What may wait, such as a pin, was asked for in an atomic section."""


class LockOrder(DisciplineError):
    """Locks, or a lock and a page-in, in an order that can deadlock.

    Attributes:
        chain: Names of locks in the order in which they were taken before; from the first to
            the last, and back to the first.
    """

    chain: tuple[str, ...] = ()


class PagerFault(DisciplineError):
    """The pager needs a page that can leave its frame."""


class PagedPoolInPager(PagerFault):
    """The pager needs memory of a paged pool."""


class StoreReentry(DisciplineError):
    """A backing called the store that called it."""


class PinnedPage(PageStepError):
    """The page is pinned, so it cannot leave its frame."""


class DirtyPage(PageStepError):
    """No other tier has the page's bytes, so it cannot be discarded."""


class Unsupported(PageStepError):
    """This build, this backing or this system cannot do it."""


class MapUnsupported(Unsupported):
    """This process cannot have memory that faults in: what is missing, and how to get it."""


class MappedError(PageStepError):
    """It is mapped, and cannot be mapped again, resized or taken away as long as it is."""


class ForkedError(PageStepError):
    """The store is the parent process's: a child does not have the pages of its maps."""


class Closed(PageStepError):
    """The store, view or codec was closed before."""


class GonePage(PageStepError, LookupError):
    """A page whose bytes were given up for good, as those of ``once`` are after start-up."""


class BadImage(PageStepError, ValueError):
    """An image that cannot be read: what it is, what is wrong, what to do."""


class BadTrace(PageStepError, ValueError):
    """A trace that cannot be read, or that belongs to another image."""


class BadRules(PageStepError, ValueError):
    """Rules that cannot be read: in which line of which file, and what to write there."""


class BadRom(PageStepError, ValueError):
    """A ROM image that cannot be read: what is wrong, and what to do."""


class NotARom(BadRom):
    """A file that is no ROM image at all."""


class BadSignature(BadRom):
    """A ROM image that is not signed, or not by whom it should be, or was changed since."""


class AbsentPage(PageStepError, LookupError):
    """A page that was left out of its ROM image."""


class RomTooLarge(PageStepError):
    """The image does not fit into a ROM image of the size asked for."""


class PoolExhausted(PageStepError, MemoryError):
    """A pool has no free run of bytes that is long enough.

    Attributes:
        size: Bytes that were asked for.
        largest: Bytes of the largest block that could be had instead.
        free: Bytes that are free, in runs that are too short.
    """

    def __init__(self, message: str, *, size: int = 0, largest: int = 0, free: int = 0) -> None:
        """Say it in one line, and keep the numbers."""
        super().__init__(message)
        self.size = size
        self.largest = largest
        self.free = free


class DoubleFree(PageStepError):
    """A block of a pool that was freed before."""


class UseAfterFree(PageStepError):
    """A block of a pool was used that was freed before, or free memory was written to."""


class NotABlock(PageStepError, LookupError):
    """Something that the pool never gave out."""


class PoolOverrun(PageStepError, IndexError):
    """Bytes beyond the end of a pool's block."""


_BY_CODE: dict[int, type[PageStepError]] = {
    -1: SystemMemoryError,
    -2: InvalidArgument,
    -3: NoSuchPage,
    -4: CorruptPage,
    -5: BudgetExceeded,
    -6: StoreIOError,
    -7: WouldFault,
    -8: PinnedPage,
    -9: DirtyPage,
    -10: Unsupported,
    -11: NotARom,
    **dict.fromkeys(range(-17, -11), BadRom),
    -18: Unsupported,
    -19: AbsentPage,
    -20: InAtomicSection,
    -21: LockOrder,
    -22: PagerFault,
    -23: StoreReentry,
    -24: PagedPoolInPager,
    -25: GonePage,
    -30: PoolExhausted,
    -31: DoubleFree,
    -32: UseAfterFree,
    -33: NotABlock,
    -34: PoolOverrun,
    -40: BackingTimeout,
    -41: BackingFull,
    -42: BackingLost,
    -43: BackingInUse,
    **dict.fromkeys(range(-46, -43), BadSwap),
    -50: MapUnsupported,
    -51: ForkedError,
    -52: MappedError,
}


def error_for(code: int, message: str) -> PageStepError:
    """Return the exception that stands for a negative code of the core."""
    return _BY_CODE.get(code, PageStepError)(message)


def code_for(error: BaseException) -> int:
    """Return the core's code for an exception; for one that is not of pagestep, ``PGS_E_IO``."""
    codes = {kind: code for code, kind in reversed(_BY_CODE.items())}
    return next((codes[kind] for kind in type(error).__mro__ if kind in codes), -6)
