# SPDX-License-Identifier: MIT
"""What an image's pages and those of anonymous memory have in common: reading, writing, moving."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagestep.codecs.closing import Closing
from pagestep.codecs.errors import InvalidArgument, NoSuchPage

from ._binding import PageFrame, check, ffi, lib, page_number_array, readable, writable
from ._map import open_map
from ._mapped_array import MappedArray
from ._mapping import MapHost
from ._where import Where

if TYPE_CHECKING:
    from pagestep.codecs.buffers import AnyBuffer

__all__ = ["Pages"]

_read_page = lib.pgs_read_page  # looked up once: it is the shortest call there is


class Pages(Closing):
    """Pages of one object of a store. Every method may be called from any thread.

    Attributes:
        page_count: Number of pages.
        page_size: Bytes of a page.
    """

    page_count: int
    page_size: int
    _handle: Any  # the ``pgs_store *``; None: closed
    _object: int
    _local: PageFrame
    _kept: list[Any]  # what the core uses; empty when that is closed
    _name: str  # what messages call them

    def __len__(self) -> int:
        """Return the number of pages."""
        return self.page_count

    # -- reading and writing ------------------------------------------------------------

    def read(self, page_no: int) -> bytes:
        """Return one page.

        Args:
            page_no: From 0 to ``page_count - 1``.

        Returns:
            ``page_size`` bytes.

        Raises:
            NoSuchPage: There is no such page.
            CorruptPage: The bytes that came back are not those that were stored.
            StoreIOError: Its file cannot be read.
            Closed: It is closed, or its store is.
        """
        local = self._local
        try:
            code = _read_page(self._handle or self._core(), self._object, page_no, 0, local.frame)
        except OverflowError:
            code = lib.PGS_E_RANGE
        if code:
            self._check_page(code, page_no, "read")
        return local.to_bytes()

    def read_into(
        self,
        page_nos: Iterable[int] | npt.NDArray[np.integer[Any]],
        out: AnyBuffer,
        *,
        into_frames: bool = False,
    ) -> None:
        """Read many pages into one buffer, in one call of the core.

        Args:
            page_nos: Page numbers, shape (n,); uint64 is taken without a copy.
            out: A writable, contiguous buffer of at least ``n * page_size`` bytes; page
                ``page_nos[i]`` goes to bytes ``i * page_size`` and on.
            into_frames: Give every page a frame, as one that is executed in place needs;
                else a page gets one when that pays.

        Raises:
            InvalidArgument: ``out`` is too small, read-only or not contiguous.
            PageStepError: What ``read`` raises, for the first page that cannot be read.
        """
        numbers = page_number_array(page_nos)
        target = writable(out, "out")
        if len(target) < numbers.size * self.page_size:
            raise InvalidArgument(
                f"out has {len(target)} bytes: {numbers.size} pages need "
                f"{numbers.size * self.page_size}"
            )
        flags = lib.PGS_READ_INTO_FRAME if into_frames else lib.PGS_READ_THROUGH
        pointer = ffi.from_buffer("uint64_t[]", numbers)
        core = self._core()
        if lib.pgs_read(core, self._object, pointer, numbers.size, flags, target, ffi.NULL):
            # Once more, page by page, to say which it was.
            statuses = ffi.new("int32_t[]", numbers.size)
            code = lib.pgs_read(core, self._object, pointer, numbers.size, flags, target, statuses)
            self._check_pages(code, statuses, numbers, "read")

    def write(self, page_no: int, data: AnyBuffer, *, offset: int = 0) -> None:
        """Write bytes of one page. An image's file is never written to.

        Args:
            page_no: From 0 to ``page_count - 1``.
            data: At most ``page_size - offset`` bytes.
            offset: Where in the page they go.

        Raises:
            BudgetExceeded: No frame can be had; the page keeps its old bytes.
            InvalidArgument: The bytes do not lie in the page.
        """
        source = readable(data, "data")
        if offset < 0 or offset + len(source) > self.page_size:
            raise InvalidArgument(
                f"{len(source)} bytes at offset {offset} do not lie in a page of {self.page_size}"
            )
        number = self._page_no(page_no)
        if len(source) == self.page_size:
            one = ffi.new("uint64_t *", number)
            code = lib.pgs_write(self._core(), self._object, one, 1, source, ffi.NULL)
        else:
            code = lib.pgs_write_part(
                self._core(), self._object, number, offset, source, len(source)
            )
        self._check_page(code, page_no, "written")

    def write_from(
        self, page_nos: Iterable[int] | npt.NDArray[np.integer[Any]], data: AnyBuffer
    ) -> None:
        """Write many whole pages in one call; page ``page_nos[i]`` gets bytes ``i * page_size`` on.

        Raises:
            InvalidArgument: ``data`` has another size than the pages.
            BudgetExceeded: No frame can be had; pages before that one are written.
        """
        numbers = page_number_array(page_nos)
        source = readable(data, "data")
        if len(source) != numbers.size * self.page_size:
            raise InvalidArgument(
                f"data has {len(source)} bytes: {numbers.size} pages have "
                f"{numbers.size * self.page_size}"
            )
        statuses = ffi.new("int32_t[]", numbers.size)
        code = lib.pgs_write(
            self._core(),
            self._object,
            ffi.from_buffer("uint64_t[]", numbers),
            numbers.size,
            source,
            statuses,
        )
        self._check_pages(code, statuses, numbers, "written")

    def view(self, page_no: int) -> memoryview:
        """Return a page's frame, without a copy and read-only.

        The page is pinned while the view, or anything made from it, is alive. Writes to the
        page show through it.

        Raises:
            BudgetExceeded: No further page can be pinned.
        """
        number = self._page_no(page_no)
        core = self._core()
        address = ffi.new("const void **")
        code = lib.pgs_view(core, self._object, number, address)
        self._check_page(code, page_no, "pinned for a view")
        one = ffi.new("uint64_t *", number)
        frame = ffi.gc(
            ffi.cast("const unsigned char *", address[0]),
            _unpinner(core, self._object, one, self._kept),
        )
        return memoryview(ffi.buffer(frame, self.page_size)).toreadonly()

    def map(
        self,
        *,
        writable: bool = False,
        service: str = "auto",
        around: int = 8,
        dtype: npt.DTypeLike = np.uint8,
    ) -> MappedArray:
        """Return the pages as memory that faults in by itself (docs/MAPS.md).

        Touching a page brings it from its tier; pages leave by the store's policy, under its
        budget, and come again when touched. A thread that touches may hold the interpreter's
        lock. There is one map at a time. It lasts until the last array of it goes, also where
        the store is closed before.

        Args:
            writable: It may be written to, and what is written are the pages' bytes.
            service: ``"sigbus"``: the touching thread brings its pages, in a handler of SIGBUS;
                ``"thread"``: a thread of the map's does; ``"auto"``: the first where it can be.
            around: Pages that a fault without a pattern brings at first, 2 to 16; 1: each brings
                its own page alone, whatever the pattern.
            dtype: Of the array.

        Returns:
            Shape (``page_count * page_size // dtype.itemsize``,); its ``mapping`` prefetches, holds
            pages for system calls, and guards touches.

        Raises:
            InvalidArgument: Pages are no multiple of the system's, or an argument is out of range.
            MapUnsupported: This process cannot have it; the message says why.
            MappedError: There is a map already.
            PinnedPage: A view, or a pin, holds a page.
            BudgetExceeded: The budget has no room for it.
        """
        host = MapHost(
            core=self._core(),
            kept=self._kept,
            object_no=self._object,
            page_count=self.page_count,
            page_size=self.page_size,
            name=self._name,
            page_name=self._page_name,
            said=self._said,
            explain=self._explain,
        )
        return open_map(host, writable=writable, service=service, around=around, dtype=dtype)

    # -- where pages are ----------------------------------------------------------------

    def page_in(self, where: Where) -> None:
        """Bring pages into frames, as far as there are frames.

        Args:
            where: A page number, a range or sequence of them, or of an image what its parts are
                called.
        """
        self._move(lib.pgs_page_in, where, "paged in")

    def page_out(self, where: Where, *, codec_level: int | None = None) -> None:
        """Compress pages and free their frames.

        Args:
            where: A page number, a range or sequence of them, or of an image what its parts are
                called.
            codec_level: Another level of the store's codec, for pages that are to stay
                compressed: more effort now, with tables that take RAM during this call only.

        Raises:
            InvalidArgument: The codec has no such level.
            PinnedPage: One of them is pinned.
            BudgetExceeded: They do not fit, compressed.
        """
        if codec_level is None:
            self._move(lib.pgs_page_out, where, "paged out")
            return

        def pack(core: Any, object_no: int, pages: Any, count: int, statuses: Any) -> int:
            return int(lib.pgs_pack(core, object_no, pages, count, codec_level, statuses))

        self._move(pack, where, "paged out")

    def _move(self, move: Any, where: Where, verb: str) -> None:
        numbers = self._pages(where)
        statuses = ffi.new("int32_t[]", max(1, numbers.size))
        pointer = ffi.from_buffer("uint64_t[]", numbers)
        code = move(self._core(), self._object, pointer, numbers.size, statuses)
        self._check_pages(code, statuses, numbers, verb)

    # -- what they are ------------------------------------------------------------------

    @abstractmethod
    def _core(self) -> Any:
        """Return the ``pgs_store *``, or raise ``Closed``."""

    @abstractmethod
    def _pages(self, where: Where) -> npt.NDArray[np.uint64]:
        """Return the numbers of the pages that a caller means, shape (n,)."""

    @abstractmethod
    def _page_name(self, page_no: int) -> str:
        """Say in a message which page it is."""

    def _page_no(self, page_no: int) -> int:
        if not 0 <= page_no < self.page_count:
            raise NoSuchPage(
                f"{self._page_name(page_no)} does not exist: there are {self.page_count}"
            )
        return page_no

    def _check_page(self, code: int, page_no: int, verb: str) -> None:
        """Raise for a page that could not be ``verb``, and say which it is."""
        if code < 0:
            self._explain(code)
            what = f"{self._page_name(page_no)} cannot be {verb}"
            check(code, what, page_no, self._said(code, page_no))

    def _check_pages(
        self, code: int, statuses: Any, page_nos: npt.NDArray[np.uint64], verb: str
    ) -> None:
        """Raise for the first page whose status is an error."""
        if code < 0:
            for page_no, status in zip(page_nos.tolist(), statuses, strict=True):
                self._check_page(status, page_no, verb)
            self._explain(code)
            check(code, f"pages cannot be {verb}", said=self._said(code))

    def _check(self, code: int, what: str) -> None:
        """Raise for a code that is about more than one page."""
        if code < 0:
            self._explain(code)
            check(code, what, said=self._said(code))

    def _explain(self, code: int) -> None:
        """Raise an error that needs more than its code to be told."""

    def _said(self, code: int, page_no: int | None = None) -> str:
        """Return what is known of an error, of one page or of more, beside its code."""
        return ""


def _unpinner(
    core: Any, object_no: int, page_no: Any, open_store: list[Any]
) -> Callable[[Any], None]:
    """Return what takes back the pin of a view, which keeps the core alive until then.

    Where both are part of one cycle of garbage, the core may go first nevertheless, and has
    emptied ``open_store`` then.
    """

    def unpin(_: Any) -> None:
        if open_store:
            lib.pgs_unpin(core, object_no, page_no, 1)

    return unpin
