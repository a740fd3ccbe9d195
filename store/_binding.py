# SPDX-License-Identifier: MIT
"""The one place where the store's Python meets the C core."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from pagestep._core import ffi, lib
from pagestep.codecs.errors import error_for

__all__ = ["check", "check_pages", "ffi", "lib", "page_number_array"]

_REMEDIES = {
    lib.PGS_E_RANGE: "the object has no such page",
    lib.PGS_E_CORRUPT: (
        "its bytes differ from those it had when it was last seen: the image was changed on "
        "disk, or the medium is bad; restore the image or open it anew"
    ),
    lib.PGS_E_IO: "its backing could not be read: is the image's file still whole?",
    lib.PGS_E_BUDGET: "the RAM budget is full of pages that cannot leave; raise `ram` or unpin",
    lib.PGS_E_PINNED: "it is pinned, or of level PINNED; unpin it first",
    lib.PGS_E_DIRTY: "it was written to, and no other tier has its bytes; page it out instead",
    lib.PGS_E_INVALID: "an argument is out of range",
}


def check(code: int, what: str) -> None:
    """Raise the exception for a negative code of the core.

    Args:
        code: What a function of the core returned.
        what: What was being done, for the message.

    Raises:
        PageStepError: A subclass, by the code.
    """
    if code < 0:
        remedy = _REMEDIES.get(code)
        reason = remedy or ffi.string(lib.pgs_error_text(code)).decode()
        raise error_for(code, f"{what}: {reason}")


def check_pages(code: int, statuses: Any, page_nos: npt.NDArray[np.uint64], verb: str) -> None:
    """Raise for the first page whose status is an error.

    Args:
        code: What the batch call returned.
        statuses: int32 per page, or None where the batch stopped at the first error.
        page_nos: Page numbers, shape (n,).
        verb: What was being done to them, for the message.
    """
    if code == 0:
        return
    for page_no, status in zip(page_nos.tolist(), statuses, strict=True):
        if status < 0:
            check(status, f"page {page_no} cannot be {verb}")
    check(code, f"pages cannot be {verb}")


def page_number_array(
    page_nos: Iterable[int] | npt.NDArray[np.integer[Any]],
) -> npt.NDArray[np.uint64]:
    """Return page numbers as a contiguous uint64 array, without a copy where possible.

    Numbers that are no page (negative, or not whole) become one that is out of range, so
    that the core refuses them by position.
    """
    if isinstance(page_nos, np.ndarray) and page_nos.dtype == np.uint64 and page_nos.ndim == 1:
        return np.ascontiguousarray(page_nos)
    signed = np.asarray(
        page_nos if isinstance(page_nos, np.ndarray | range) else list(page_nos)
    ).reshape(-1)
    if signed.size and signed.dtype.kind not in "iu":
        raise TypeError(f"page numbers must be whole numbers, not {signed.dtype}")
    # A negative number turns into one far beyond any object's end.
    return np.ascontiguousarray(signed.astype(np.uint64, copy=False))
