# SPDX-License-Identifier: MIT
"""The exceptions of pagestep, made from the core's table of error codes."""

from __future__ import annotations

__all__ = [
    "AbsentPage",
    "BadImage",
    "BadRom",
    "BadRules",
    "BadSignature",
    "BadTrace",
    "BudgetExceeded",
    "Closed",
    "CorruptPage",
    "DirtyPage",
    "InvalidArgument",
    "NoSuchPage",
    "NotARom",
    "PageStepError",
    "PinnedPage",
    "RomTooLarge",
    "StoreIOError",
    "SystemMemoryError",
    "Unsupported",
    "WouldFault",
    "error_for",
]


class PageStepError(Exception):
    """Base of everything that pagestep raises on purpose."""


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


class WouldFault(PageStepError):
    """A fault where none is allowed."""


class PinnedPage(PageStepError):
    """The page is pinned, so it cannot leave its frame."""


class DirtyPage(PageStepError):
    """No other tier has the page's bytes, so it cannot be discarded."""


class Unsupported(PageStepError):
    """This build or this backing cannot do it."""


class Closed(PageStepError):
    """The store, view or codec was closed before."""


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
}


def error_for(code: int, message: str) -> PageStepError:
    """Return the exception that stands for a negative code of the core."""
    return _BY_CODE.get(code, PageStepError)(message)
