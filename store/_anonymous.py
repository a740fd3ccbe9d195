# SPDX-License-Identifier: MIT
"""Memory that no file stands behind: zeros until written, and forked by copy on write."""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import Closed, InvalidArgument

from ._binding import PageFrame, check, ffi, lib, page_number_array
from ._budget import budget_remedy, object_bytes
from ._stats import snapshot
from ._swapped import SwappedPages
from ._where import Where
from .backing import Backed, close_backing, open_backing_url
from .pager import shown_url

if TYPE_CHECKING:
    from pagestep.codecs import Codec

__all__ = ["Anonymous", "AnonymousStats", "Host", "add_anonymous"]

_PAGES_MAX = 2**32 - 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What anonymous memory needs of its store.

    Attributes:
        core: The ``pgs_store *``.
        kept: What the core uses; empty when that is closed.
        page_size: Bytes of a page.
        frame: Room for one page.
        explain: Raises an error that needs more than its code to be told.
        adopt: Has the memory closed when the store is.
    """

    core: Any
    kept: list[Any]
    page_size: int
    frame: PageFrame
    explain: Callable[[int], None]
    adopt: Callable[[Anonymous], None]


@dataclass(frozen=True)
class AnonymousStats:
    """What anonymous memory takes now.

    Attributes:
        page_count: Its pages: those in frames, compressed, same-filled and absent.
        hot_pages: Pages in frames.
        compressed_pages: Pages in the compressed pool, and in no frame.
        same_pages: Same-filled pages in no frame; they take no bytes.
        absent_pages: Pages that are zeros, or that only its backing has.
        shared_pages: Of those that are not absent, pages that others have too.
        shared_bytes: RAM of these. What several forks share is counted by each.
        private_bytes: RAM of the pages that it has alone: what closing it gives back.
        member_count: How many share pages with it by forks, itself included.
    """

    page_count: int
    hot_pages: int
    compressed_pages: int
    same_pages: int
    absent_pages: int
    shared_pages: int
    shared_bytes: int
    private_bytes: int
    member_count: int

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, ready for JSON."""
        return asdict(self)


_STATS = list(AnonymousStats.__dataclass_fields__)


class Anonymous(SwappedPages):
    """Pages that read as zeros until written. Made by ``PageStore.anonymous`` and by ``fork``.

    Every method may be called from any thread; ``close`` lets calls that are under way, and
    views, end first.

    Attributes:
        page_count: Number of pages.
        page_size: Bytes of a page.
        object_no: The number that it has in the C interface.
        name: What messages call it.
    """

    def __init__(
        self,
        host: Host,
        object_no: int,
        page_count: int,
        swap: Any,
        swap_kept: list[Any],
        swap_url: str,
    ) -> None:
        """Stand for an object of the core, which is this one's to remove.

        Args:
            host: Where it lives.
            object_no: The object's number.
            page_count: How many pages it has.
            swap: The ``struct pgs_backing *`` that it shares with its forks, or None.
            swap_kept: What must live as long as that.
            swap_url: What names it, without a password; empty where there is none.
        """
        self.page_count = page_count
        self.page_size = host.page_size
        self.object_no = object_no
        self.name = self._name = f"anonymous memory {object_no}"
        self._swap = swap
        self._swap_kept = swap_kept
        self._swap_url = swap_url
        self._host = host
        self._resizing = threading.Lock()
        self._object = object_no
        self._local = host.frame
        self._kept = host.kept
        # The same store by another name: with its last user the object goes, before the store.
        core = host.core
        self._handle = ffi.gc(
            ffi.cast("pgs_store *", core), _remover(core, object_no, self._kept, swap_kept)
        )
        host.adopt(self)

    def close(self) -> None:
        """Give up its pages, but for those that forks have. A second call does nothing.

        In an atomic section, which must not wait, its RAM is given back with the store only.
        """
        self._handle = None
        self._swap_kept = []  # a pager ends with the last that has it

    def __repr__(self) -> str:
        """Say which it is, and how large."""
        state = "closed" if self._handle is None else f"{self.page_count} pages"
        return f"<{self.name}: {state}>"

    @property
    def has_swap(self) -> bool:
        """Whether its changed pages have a place to go to when RAM is short."""
        return self._swap is not None

    @property
    def core(self) -> Any:
        """The ``pgs_store *`` it lives in, for those who call the C interface beside this one."""
        return self._core()

    # -- forks --------------------------------------------------------------------------

    def fork(self) -> Self:
        """Return memory with the same bytes. Pages are shared until one side writes to them.

        It is one moment of this memory, even while other threads write to it. Levels are
        inherited. Each page takes RAM once, as long as anybody has it, whoever is closed first.
        It costs 4 bytes of metadata for each page, and no copy of any.

        Raises:
            BudgetExceeded: The budget has no room for these.
            InAtomicSection: This thread is in an atomic section.
        """
        number = ffi.new("uint32_t *")
        with self._resizing:
            pages = self.page_count
            code = lib.pgs_object_fork(self._core(), self._object, number)
        if code == lib.PGS_E_INVALID:
            raise InvalidArgument(f"{self.name} cannot be forked: the store has 65,536 objects")
        self._check(code, f"{self.name} cannot be forked")
        return type(self)(
            self._host, int(number[0]), pages, self._swap, self._swap_kept, self._swap_url
        )

    def resize(self, pages: int) -> None:
        """Change the number of pages. New ones are zeros; what is beyond the end is given up.

        Raises:
            MappedError: It is mapped; nothing is changed.
            PinnedPage: A page beyond the new end is pinned by a view; nothing is changed.
            BudgetExceeded: A fork, or what was forked, has no room to refer to so many.
        """
        count = _checked(pages)
        with self._resizing:
            code = lib.pgs_object_resize(self._core(), self._object, count)
            self._check(code, f"{self.name} cannot be resized to {count} pages")
            self.page_count = count

    def discard(self, where: Where) -> None:
        """Give up pages' bytes: they read as zeros then, and take no RAM. Forks keep theirs.

        Args:
            where: A page number, or a range or sequence of them.

        Raises:
            PinnedPage: A view pins one; it is kept. All others are given up.
        """
        core = self._core()
        forgotten = ffi.new("uint64_t *")
        failed: tuple[int, range] | None = None
        for run in self._runs(where):
            code = lib.pgs_forget(core, self._object, run.start, len(run), forgotten)
            if code and failed is None:
                failed = code, run
        if failed:
            code, run = failed
            pages = f"page {run.start}" if len(run) == 1 else f"pages {run.start} to {run.stop - 1}"
            self._check(code, f"{pages} of {self.name} cannot all be discarded")

    def stats(self) -> AnonymousStats:
        """Take a snapshot of what it takes."""
        raw = ffi.new("struct pgs_object_stats *")
        self._check(
            lib.pgs_object_stats(self._core(), self._object, raw),
            f"statistics of {self.name} cannot be taken",
        )
        return AnonymousStats(**{name: int(getattr(raw, name)) for name in _STATS})

    # -- what its pages are -------------------------------------------------------------

    def _core(self) -> Any:
        handle = self._handle
        if handle is None:
            raise Closed(f"{self.name} is closed, or its store is; make another")
        return handle

    def _pages(self, where: Where) -> npt.NDArray[np.uint64]:
        if isinstance(where, str):
            raise InvalidArgument(f"{where!r}: {self.name} has no names; say which pages by number")
        if isinstance(where, int | np.integer):
            return page_number_array([self._page_no(int(where))])
        return page_number_array(where)

    def _runs(self, where: Where) -> Iterator[range]:
        """Yield the pages that a caller means as runs, in rising order."""
        if isinstance(where, range) and where.step == 1:
            # It may be the whole of a very large memory.
            if len(where):
                self._page_no(where.start)
                self._page_no(where.stop - 1)
                yield where
            return
        numbers = np.unique(self._pages(where))
        for run in np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1):
            if run.size:
                first, last = int(run[0]), int(run[-1])
                self._page_no(first)
                self._page_no(last)
                yield range(first, last + 1)

    def _page_name(self, page_no: int) -> str:
        return f"page {page_no} of {self.name}"

    def _explain(self, code: int) -> None:
        self._host.explain(code)

    def _said(self, code: int, page_no: int | None = None) -> str:
        core = self._handle
        if code != lib.PGS_E_FULL or self._swap is None or core is None:
            return super()._said(code, page_no)
        room = int(self._swap.capacity(self._swap.ctx))
        said = f"it has room for {room} pages (swap_pages), among them those that forks wrote"
        del core  # till here another thread's close has waited for it
        return "; ".join(each for each in (said, super()._said(code, page_no)) if each)

    def _remedy_of_full(self) -> str:
        found = super()._remedy_of_full()
        if self._swap is None:
            return found
        room = int(self._swap.capacity(self._swap.ctx))
        return f"{found}; of this memory and its forks {room} pages may go there (swap_pages)"


def add_anonymous(
    host: Host, pages: int, treatment: int, codec: Codec, swap: tuple[str, int | None] | None
) -> Anonymous:
    """Add anonymous memory to a store.

    Args:
        host: Where it lives.
        pages: How many.
        treatment: How they are treated, as ``pgs_treat`` has it.
        codec: Of its compressed pages.
        swap: Where they go when RAM is short, and for how many there is to be room; or None.

    Raises:
        BudgetExceeded: The budget has no room for it.
        InvalidArgument: ``pages`` is out of range.
    """
    count = _checked(pages)
    number = ffi.new("uint32_t *")
    kept: list[Any] = []
    backing = None if swap is None else _open_swap(host, count, codec, swap, kept)
    code = lib.pgs_anonymous_add(
        host.core, count, treatment, backing or ffi.NULL, codec.handle.pointer, number
    )
    if code < 0:
        close_backing(backing)
    if code == lib.PGS_E_INVALID:
        raise InvalidArgument(
            "no more anonymous memory: a store has at most 1,024 that are no fork; close some"
        )
    host.explain(code)
    said = ""
    if code == lib.PGS_E_BUDGET:
        more = object_bytes(0, host.page_size, codec.handle.pointer)
        said = budget_remedy(host.core, host.page_size, more=more)
    check(code, f"anonymous memory of {count} pages does not go into the store", said=said)
    shown = "" if swap is None else shown_url(swap[0])
    return Anonymous(host, int(number[0]), count, backing, kept, shown)


def _open_swap(
    host: Host, pages: int, codec: Codec, swap: tuple[str, int | None], kept: list[Any]
) -> Any:
    """Return a ``struct pgs_backing *`` of nobody else's pages."""
    url, room = swap
    if room is not None:
        room = operator.index(room)
        if not 1 <= room <= _PAGES_MAX:
            raise InvalidArgument(f"swap_pages is {room}: it is from 1 to {_PAGES_MAX}")
    backed = Backed(
        page_count=pages if room is None else room,
        page_size=host.page_size,
        codec=codec,
        owner=os.urandom(32),
        ram=snapshot(host.core).budget_bytes,
        kept=kept,
        temporary=True,
    )
    return open_backing_url(url, backed)


def _checked(pages: int) -> int:
    count = operator.index(pages)
    if not 1 <= count <= _PAGES_MAX:
        raise InvalidArgument(f"pages is {pages!r}: anonymous memory has 1 to {_PAGES_MAX} pages")
    return count


def _remover(
    core: Any, object_no: int, open_store: list[Any], swap_kept: list[Any]
) -> Callable[[Any], None]:
    """Return what removes an object, and keeps its store alive until then.

    Where both are part of one cycle of garbage the store may go first nevertheless, with all
    its objects, and has emptied ``open_store`` then.
    """
    kept = [core, swap_kept]

    def remove(_: Any) -> None:
        # What could not be removed, and so its backing, is there until the store goes.
        if open_store and lib.pgs_object_remove(core, object_no):
            open_store.append(swap_kept)
        kept.clear()

    return remove
