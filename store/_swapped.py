# SPDX-License-Identifier: MIT
"""Pages that may go elsewhere, changed, when RAM is short: to a swap file, a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagestep.codecs.errors import Unsupported

from ._binding import check, ffi, lib
from ._pages import Pages
from .backing import KeptPager, SwapStats, swap_stats

if TYPE_CHECKING:
    from pagestep.store.pager import Pager

__all__ = ["SwappedPages", "said_of"]

_NO_PAGE = 2**64 - 1

_OF_BACKINGS = (
    lib.PGS_E_CORRUPT,
    lib.PGS_E_IO,
    lib.PGS_E_TIMEOUT,
    lib.PGS_E_FULL,
    lib.PGS_E_STORE_LOST,
    lib.PGS_E_UNSUPPORTED,
)


class SwappedPages(Pages):
    """Pages of an object whose backing may take changed ones."""

    _name: str  # what messages call them all
    _swap: Any  # the ``struct pgs_backing *`` that takes changed pages; None: they stay in RAM
    _swap_kept: list[Any]  # what lives as long as that; pagers among it

    def flush(self) -> int:
        """Write all changed pages to where they go when RAM is short, and make them durable.

        They stay in RAM as well, but may be dropped from it at once from then on. Pages that are
        written meanwhile may be among them or not. After an error of a page it goes on.

        Returns:
            How many pages were written.

        Raises:
            BackingFull: There is no room for one; it stays in RAM, changed.
            BackingLost: Nobody answers; pages that were not written stay in RAM.
            BackingTimeout: They could not be written in time; the same.
            Unsupported: There is no such place.
        """
        written = ffi.new("uint64_t *")
        failed = ffi.new("uint64_t *")
        code = lib.pgs_flush(self._core(), self._object, written, failed)
        if code == lib.PGS_E_UNSUPPORTED:
            raise Unsupported(
                f"changed pages of {self._name} have nowhere to go: say where with swap="
            )
        page_no = None if failed[0] == _NO_PAGE else int(failed[0])
        first = "" if page_no is None else f", {self._page_name(page_no)} being the first,"
        what = f"changed pages of {self._name}{first} cannot all be written back"
        check(code, what, page_no, self._said(code))
        return int(written[0])

    def swap_stats(self) -> SwapStats:
        """Return what was written to where changed pages go, and read from it.

        Raises:
            Unsupported: There is no such place.
        """
        core = self._core()
        if self._swap is None:
            raise Unsupported(f"no page of {self._name} goes elsewhere: say where with swap=")
        found = swap_stats(self._swap)
        del core  # till here another thread's close has waited for it
        return found

    def _said(self, code: int) -> str:
        """Return what pagers say of an error that may come from them."""
        kept = self._swap_kept
        return said_of(code, [each.pager for each in kept if isinstance(each, KeptPager)])


def said_of(code: int, pagers: list[Pager]) -> str:
    """Return what pagers say of an error; nothing where it cannot come from one."""
    if code not in _OF_BACKINGS:
        return ""
    return "; ".join(said for pager in pagers if (said := pager.last_error))
