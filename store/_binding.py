# SPDX-License-Identifier: MIT
"""Where the store's Python gets the C core from, and the core's errors become exceptions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from pagestep import _core
from pagestep.codecs.errors import InvalidArgument, error_for

if TYPE_CHECKING:
    from pagestep.codecs.buffers import AnyBuffer

__all__ = [
    "PageFrame",
    "check",
    "ffi",
    "lib",
    "page_number_array",
    "readable",
    "usual_remedy",
    "writable",
]

# cffi's stubs know neither a structure's fields nor that arrays are buffers.
ffi: Any = _core.ffi
lib: Any = _core.lib

_NO_PAGE = 2**64 - 1

# What was found, and what is usually to be done about it.
_FOUND = {
    lib.PGS_E_CORRUPT: (
        "its bytes differ from those it had when it was last seen",
        "the image was changed on disk, or the medium is bad; restore the image or open it anew",
    ),
    lib.PGS_E_IO: ("its backing could not be read or written", "is the image's file still whole?"),
    lib.PGS_E_BUDGET: (
        "the RAM budget has no room",
        "it is full of pages that cannot leave; raise `ram`, unpin, or give the pages a place to "
        "go to with `swap`",
    ),
}

_REMEDIES = {
    lib.PGS_E_RANGE: "the object has no such page",
    lib.PGS_E_TIMEOUT: (
        "its backing, or another thread that moves it, did not answer in time; try again, or "
        "give the backing longer with timeout="
    ),
    lib.PGS_E_FULL: "the backing store is full; give it more room, or discard pages",
    lib.PGS_E_PINNED: "it is pinned, or of level PINNED; unpin it first",
    lib.PGS_E_DIRTY: "it was written to, and no other tier has its bytes; page it out instead",
    lib.PGS_E_INVALID: "an argument is out of range",
    lib.PGS_E_WOULD_FAULT: (
        "it is in no frame, and this thread is in an atomic section, which must not wait for it; "
        "pin it before the section begins, with store.pinned(...)"
    ),
    lib.PGS_E_ATOMIC: (
        "this thread is in an atomic section, and it may have to wait for a page; do it before "
        "the section begins"
    ),
    lib.PGS_E_PAGER: (
        "this thread is the pager, and the page can leave its frame: to have it back the pager "
        "would need itself; make it PINNED, or pin it beforehand"
    ),
    lib.PGS_E_REENTRY: (
        "this is called from a backing of the same store, which is waiting for it; a backing must "
        "find its bytes elsewhere"
    ),
    lib.PGS_E_PAGER_POOL: (
        "this thread is the pager, and a paged pool's memory can leave its frames; use a "
        "non-paged pool"
    ),
    lib.PGS_E_STORE_LOST: "its backing cannot be reached; it can be read again when that returns",
    lib.PGS_E_FORKED: (
        "this process was forked from the one whose store it is, and has no pages of its maps; "
        "open a store here"
    ),
    lib.PGS_E_MAPPED: "it is mapped; let all arrays of its map go first, or close the map",
    lib.PGS_E_GONE: "its bytes were given up for good when start-up ended",
    lib.PGS_E_ROM_ABSENT: (
        "it was left out of the ROM image; open the store with the image beside it, which has it"
    ),
}


def check(code: int, what: str, page_no: int | None = None, said: str = "") -> None:
    """Raise the exception for a negative code of the core.

    Args:
        code: What a function of the core returned.
        what: What was being done, for the message.
        page_no: To which page, if to one.
        said: What is known beside the code: what to do about it, what its backing says. Nothing:
            what is usually to be done.

    Raises:
        PageStepError: A subclass, by the code.
    """
    if code < 0:
        found = _FOUND[code][0] if code in _FOUND else _REMEDIES.get(code)
        reason = found or ffi.string(lib.pgs_error_text(code)).decode()
        said = said or usual_remedy(code)
        error = error_for(code, f"{what}: {reason}{f': {said}' if said else ''}")
        error.page_no = page_no
        raise error


def usual_remedy(code: int) -> str:
    """Return what is to be done about a code where nothing else is known; it may be nothing."""
    return _FOUND[code][1] if code in _FOUND else ""


def readable(buffer: AnyBuffer, name: str) -> Any:
    """Return a buffer's bytes as the core reads them, without a copy.

    Raises:
        InvalidArgument: It is no buffer, or its bytes do not lie in one piece.
    """
    try:
        return ffi.from_buffer(buffer)
    except (TypeError, ValueError, BufferError) as error:
        raise InvalidArgument(f"{name} must be a contiguous buffer: {error}") from None


def writable(buffer: AnyBuffer, name: str) -> Any:
    """Return a buffer's bytes as the core writes them, without a copy.

    Raises:
        InvalidArgument: It is read-only, no buffer, or not in one piece.
    """
    try:
        return ffi.from_buffer(buffer, require_writable=True)
    except (TypeError, ValueError, BufferError) as error:
        raise InvalidArgument(f"{name} must be a writable, contiguous buffer: {error}") from None


class PageFrame(threading.local):
    """Room for one page, of which each thread has its own, and the way to get bytes out of it.

    Attributes:
        frame: Where the core puts the page.
        to_bytes: Returns a copy of it.
    """

    def __init__(self, page_size: int) -> None:
        """Make this thread's; called again by each thread that comes."""
        self.frame: Any = ffi.new("unsigned char[]", page_size)
        self.to_bytes: Callable[[], bytes] = memoryview(ffi.buffer(self.frame)).tobytes


def page_number_array(
    page_nos: Iterable[int] | npt.NDArray[np.integer[Any]],
) -> npt.NDArray[np.uint64]:
    """Return page numbers as a contiguous uint64 array, without a copy where possible.

    A number that is negative or beyond 64 bits becomes one that no object has, so that the
    core refuses it by position.

    Raises:
        TypeError: One is no whole number.
    """
    found: npt.NDArray[Any]
    if isinstance(page_nos, range | np.ndarray):
        found = np.asarray(cast("Any", page_nos))
    else:
        given = list(page_nos)
        found = np.asarray(given)
        if found.dtype.kind in "Of" and all(type(number) is int for number in given):
            # No one type of 64 bits holds them: some are negative, or far too large.
            found = np.array([n if 0 <= n <= _NO_PAGE else _NO_PAGE for n in given], np.uint64)
    if found.size and found.dtype.kind not in "iu":
        raise TypeError(f"page numbers must be whole numbers, not {found.dtype}")
    # A negative number turns into one far beyond any object's end.
    numbers: npt.NDArray[np.uint64] = found.reshape(-1).astype(np.uint64, copy=False)
    return np.ascontiguousarray(numbers)
