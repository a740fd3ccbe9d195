# SPDX-License-Identifier: MIT
"""``PageStore``: an image's pages under a budget of RAM."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from pagestep.codecs import Codec
from pagestep.codecs.errors import InvalidArgument, Unsupported
from pagestep.store.image import Image
from pagestep.store.policy import Level, RuleSet, decide
from pagestep.store.rom import Rom
from pagestep.store.rom._reader import coder_sets_for

from ._binding import check, ffi, lib, page_number_array, readable, writable
from ._pool import NonPagedPool, PagedPool
from ._settings import Settings
from ._size import parse_size
from ._stats import Stats, snapshot
from ._store_discipline import DisciplinedStore
from ._where import Where
from .backing import SwapStats, swap_stats

if TYPE_CHECKING:
    from pagestep.codecs.buffers import AnyBuffer

__all__ = ["PageStore"]

_read_page = lib.pgs_read_page  # looked up once: it is the shortest call there is


class PageStore(DisciplinedStore):
    """The pages of an image, in the tier that each has earned, within a budget of RAM.

    Made by ``PageStore.open``. Every method may be called from any thread; ``close`` lets
    calls that are under way end first.

    Attributes:
        image: The image whose pages these are; the ROM image, where that is all there is.
        rom: The ROM image behind it, or None.
        page_count: Number of pages.
        page_size: Bytes of a page.
    """

    @classmethod
    def open(
        cls,
        image: str | os.PathLike[str] | Image | AnyBuffer | None = None,
        *,
        rom: str | os.PathLike[str] | Rom | AnyBuffer | None = None,
        rules: str | os.PathLike[str] | RuleSet | None = None,
        ram: int | str | None = None,
        page_size: int | None = None,
        codec: str | Codec = "lz4",
        codec_level: int | None = None,
        cold_codec: str | Codec | None = None,
        dictionary: bytes = b"",
        policy: str = "s3fifo",
        pool_percent: int = 25,
        timed: bool = False,
        verify: bool = False,
        audit: bool = False,
        scratch: bool | str | os.PathLike[str] = False,
        swap: str | None = None,
        base: int | None = None,
    ) -> Self:
        """Open a store over an image.

        Args:
            image: The path or URL of a kernel, an ELF file or firmware; an ``Image``, which stays
                the caller's to close; or the bytes of one as any buffer, taken as they are.
                May be left out where there is a ``rom``.
            rom: A ROM image of it: its path, its bytes, or a ``Rom``, which stays the caller's
                to close. Pages are read from it; the image gives those that were left out of
                it. What reading it takes in RAM counts against the budget.
            rules: What the image's pages are for: a file of rules (docs/RULES.md), or what
                ``RuleSet.load`` gave. What they do not speak of is then ``PINNED``, and so it
                is for an image with tags; else every page is ``NORMAL``.
            ram: The budget: frames, compressed pool and metadata together, in bytes or as
                text such as ``"8MiB"``. None: enough for every page.
            page_size: Bytes of a page, a power of two from 512 to 65536; None is 4096. An
                ``Image`` and a ``rom`` have their own.
            codec: The name of the codec of compressed pages, or a ``Codec``.
            codec_level: The codec's level; None is its default.
            cold_codec: A denser codec, for pages that rules or levels have coded so, and for
                pages that stay cold when room is needed. It takes RAM of its own.
            dictionary: Bytes that pages are likely to share; see
                ``pagestep.codecs.train_dictionary``.
            policy: Who leaves: ``"s3fifo"`` or ``"lru"``; for tests ``"random"``, and
                ``"worst"``, the page that LRU would keep longest.
            pool_percent: How much of the budget clean compressed pages may take.
            timed: Measure the time of every fault.
            verify: Run under the verifier: whenever an atomic section begins, a pin is taken
                back or a lock is taken, every page leaves its frame that may.
            audit: Hold every eviction against all frames that could have gone instead; see
                ``Stats.audit``.
            scratch: Let written pages go to a temporary file, made in this folder (True:
                in the system's own), when RAM is short. Else they stay in RAM, compressed,
                and a write is refused when there is no room.
            swap: Let written pages go, compressed, to what this URL names, such as
                ``"file:///var/tmp/pages.swap?size=64MiB"`` (docs/BACKINGS.md). What ``flush``
                has written there is found again by the next store with the same image, codec and
                ``swap``.
            base: The address of page 0, for an image that does not say.

        Returns:
            The store; close it, or use it as a context manager.

        Raises:
            BadImage: The image cannot be read.
            BadRom: The ROM image cannot be read, or is another image's.
            BadRules: The rules cannot be read.
            BadSwap: ``swap`` names a file that is no swap file, or one of other pages.
            BudgetExceeded: ``ram`` cannot hold the page table, what reading the ROM image
                takes, the pages that are ``PINNED``, and the fewest frames.
            InvalidArgument: An argument is out of range.
        """
        with ExitStack() as opened:
            if rom is not None and not isinstance(rom, Rom):
                budget = None if ram is None else parse_size(ram, "ram")
                rom = opened.enter_context(Rom.open(rom, threads=coder_sets_for(budget)))
            if image is not None and not isinstance(image, Image):
                if page_size is None:
                    page_size = 4096 if rom is None else rom.page_size
                raw = not isinstance(image, str | os.PathLike)
                image = opened.enter_context(
                    Image.open(image, page_size=page_size, base=base, raw=raw)
                )
            how = Settings(
                ram=ram,
                codec=codec,
                codec_level=codec_level,
                cold_codec=cold_codec,
                dictionary=dictionary,
                policy=policy,
                pool_percent=pool_percent,
                timed=timed,
                verify=verify,
                audit=audit,
                scratch=scratch,
                swap=swap,
            )
            store = cls(image, rom, how)
            if image is not None:
                store._apply(decide(image, _rules(rules)))
            elif rules is not None:
                raise InvalidArgument("rules speak of an image: open the store with it too")
            store._owned = opened.pop_all()
        return store

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
            StoreIOError: The image's file cannot be read.
            Closed: The store is closed.
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
        """Write bytes of one page. The image's file is never written to.

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

    # -- where pages are ----------------------------------------------------------------

    def page_in(self, where: Where) -> None:
        """Bring pages into frames, as far as there are frames.

        Args:
            where: A page number, a range or sequence of them, or a segment's name.
        """
        self._move(lib.pgs_page_in, where, "paged in")

    def page_out(self, where: Where, *, codec_level: int | None = None) -> None:
        """Compress pages and free their frames.

        Args:
            where: A page number, a range or sequence of them, or a segment's name.
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

    def discard(self, where: Where) -> None:
        """Drop pages from RAM; the next read takes them from the image's file.

        Raises:
            DirtyPage: One was written to since; it is kept. The others are dropped.
            PinnedPage: One is pinned; it is kept. The others are dropped.
        """
        self._move(lib.pgs_discard, where, "discarded")

    def flush(self) -> int:
        """Write all changed pages to ``scratch`` or ``swap``, and make them durable.

        They stay where they are. Pages that are written meanwhile may be among them or not.

        Returns:
            How many pages were written.

        Raises:
            BackingFull: There is no room for one; it stays in RAM, changed.
            BackingLost: Nobody answers; pages that were not written stay in RAM.
            BackingTimeout: They could not be written in time; the same.
            Unsupported: There is neither ``scratch`` nor ``swap``.
        """
        written = ffi.new("uint64_t *")
        code = lib.pgs_flush(self._core(), self._object, written)
        if code == lib.PGS_E_UNSUPPORTED:
            raise Unsupported("changed pages have nowhere to go: open the store with swap=")
        check(code, f"changed pages of {self.image.name} cannot all be written back")
        return int(written[0])

    def swap_stats(self) -> SwapStats:
        """Return what was written to ``swap`` and read from it.

        Raises:
            Unsupported: The store has none.
        """
        core = self._core()
        if not self._swapped:
            raise Unsupported("there are no changed pages elsewhere: open the store with swap=")
        found = swap_stats(self._backing)
        del core  # till here another thread's close has waited for it
        return found

    def set_ram(self, ram: int | str) -> None:
        """Change the budget; pages leave until it holds.

        Raises:
            BudgetExceeded: What must stay does not fit; the old budget stays in force.
        """
        budget = parse_size(ram, "ram")
        code = lib.pgs_store_set_budget(self._core(), budget)
        check(code, f"the budget cannot become {budget} bytes")

    def stats(self) -> Stats:
        """Take a snapshot of what the store holds and has done."""
        return snapshot(self._core())

    # -- pools --------------------------------------------------------------------------

    def paged_pool(
        self, size: int | str, *, level: Level = Level.NORMAL, block_reserve: int = 0
    ) -> PagedPool:
        """Open a pool of memory whose pages leave RAM and fault like an image's.

        Args:
            size: Bytes, or text such as ``"1MiB"``; rounded up to whole pages.
            level: How gladly its pages leave RAM; not ``PINNED``.
            block_reserve: So many blocks never need RAM to be found when they are allocated.

        Raises:
            BudgetExceeded: There is no room for its page table.
            InvalidArgument: An argument is out of range.
        """
        pool = PagedPool(
            self._core(),
            self._kept,
            self._codec.handle.pointer,
            size,
            level=level,
            block_reserve=block_reserve,
        )
        self._pools.add(pool)
        return pool

    def nonpaged_pool(self, size: int | str, *, block_reserve: int = 0) -> NonPagedPool:
        """Open a pool of memory that stays in RAM; all of it is taken now, or none.

        Args:
            size: Bytes, or text such as ``"64KiB"``; rounded up to whole pages.
            block_reserve: So many blocks never need RAM to be found when they are allocated.

        Raises:
            BudgetExceeded: The budget has no room for it, beside what must stay.
            InvalidArgument: An argument is out of range.
        """
        pool = NonPagedPool(self._core(), self._kept, size, block_reserve=block_reserve)
        self._pools.add(pool)
        return pool

    def _move(self, move: Any, where: Where, verb: str) -> None:
        numbers = self._pages(where)
        statuses = ffi.new("int32_t[]", max(1, numbers.size))
        pointer = ffi.from_buffer("uint64_t[]", numbers)
        code = move(self._core(), self._object, pointer, numbers.size, statuses)
        self._check_pages(code, statuses, numbers, verb)


def _rules(rules: str | os.PathLike[str] | RuleSet | None) -> RuleSet | None:
    return rules if rules is None or isinstance(rules, RuleSet) else RuleSet.load(rules)


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
