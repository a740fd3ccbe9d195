# SPDX-License-Identifier: MIT
"""Pages that may go elsewhere, changed, when RAM is short: to a swap file, a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagestep.codecs.errors import Unsupported

from ._binding import check, ffi, lib, usual_remedy
from ._budget import budget_remedy
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

_OF_SWAP = {
    lib.PGS_E_CORRUPT: (
        "the swap {} was changed by somebody else, or its medium is bad; what was written to the "
        "page is lost: write it anew"
    ),
    lib.PGS_E_IO: (
        "is the swap {} still whole, and can it be reached? What was written to the page is there "
        "alone: see to it, or write the page anew"
    ),
}


class SwappedPages(Pages):
    """Pages of an object whose backing may take changed ones."""

    _name: str  # what messages call them all
    _swap: Any  # the ``struct pgs_backing *`` that takes changed pages; None: they stay in RAM
    _swap_url: str  # what names that, for messages; empty: nothing does
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
        said = self._said(code, page_no)
        if code == lib.PGS_E_IO:  # it was not read: where the page comes from is no matter
            where = f"the swap {self._swap_url}" if self._swap_url else "the scratch file"
            pagers = self._said_by_pagers(code)
            said = f"is {where} still whole, and can it be written? {pagers}".rstrip()
        check(code, what, page_no, said)
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

    # -- what is told of errors ---------------------------------------------------------

    def _said(self, code: int, page_no: int | None = None) -> str:
        """Return what to do about an error, and what pagers say of it that may be its cause."""
        said = [self._remedy(code, page_no), self._said_by_pagers(code)]
        return "; ".join(each for each in said if each)

    def _said_by_pagers(self, code: int) -> str:
        kept = self._swap_kept
        return said_of(code, [each.pager for each in kept if isinstance(each, KeptPager)])

    def _remedy(self, code: int, page_no: int | None) -> str:
        core = self._handle  # as long as it is here, so is the backing
        if core is None:
            return usual_remedy(code)
        if code == lib.PGS_E_BUDGET:
            return budget_remedy(core, self.page_size, swap=self._remedy_of_full())
        if code not in _OF_SWAP or self._swap is None:
            return usual_remedy(code)
        in_swap = self._is_in_swap(page_no)
        usual = usual_remedy(code)
        if in_swap is None:
            return f"where it is in the swap {self._swap_url}, see to that; else {usual}"
        return _OF_SWAP[code].format(self._swap_url) if in_swap else usual

    def _remedy_of_full(self) -> str:
        """Return what to do about RAM that is full although pages may go to the swap."""
        if self._swap is None:
            return ""
        error, url = swap_stats(self._swap).error, self._swap_url
        if error == ffi.string(lib.pgs_error_text(lib.PGS_E_FULL)).decode():
            return f"the swap {url} is full as well; open it larger (size=), or raise `ram`"
        if error:
            return f"the swap {url} takes no pages: {error}; see to it, or raise `ram`"
        return "it is full of pages that cannot leave; raise `ram`, or unpin"

    def _is_in_swap(self, page_no: int | None) -> bool | None:
        """Say whether a page that is not in RAM is where changed ones go; None: one cannot say."""
        return True


def said_of(code: int, pagers: list[Pager]) -> str:
    """Return what pagers say of an error; nothing where it cannot come from one."""
    if code not in _OF_BACKINGS:
        return ""
    return "; ".join(said for pager in pagers if (said := pager.last_error))
