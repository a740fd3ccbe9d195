# SPDX-License-Identifier: MIT
"""``PageStore``: an image's pages under a budget of RAM."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from pagestep.codecs import Codec, filter_for
from pagestep.codecs.closing import Closing
from pagestep.codecs.errors import BudgetExceeded, Closed, InvalidArgument, NoSuchPage

from ._backing import check_pair, close_backing, open_backing
from ._binding import (
    PageFrame,
    check,
    check_pages,
    ffi,
    lib,
    page_number_array,
    readable,
    writable,
)
from ._size import parse_size
from ._stats import Stats, snapshot
from .image import Image
from .policy import Level
from .rom import Rom
from .rom._reader import coder_sets_for

if TYPE_CHECKING:
    from pagestep.codecs.buffers import AnyBuffer

__all__ = ["PageStore"]

Where = int | str | range | Iterable[int]

_read_page = lib.pgs_read_page  # looked up once: it is the shortest call there is
_POLICIES = {"s3fifo": lib.PGS_POLICY_S3FIFO, "lru": lib.PGS_POLICY_LRU}
# What a store costs beside its pages: tables, coders, a dictionary. Only used to size
# the budget of a store that was given none.
_SLACK_BYTES = 4 << 20


class PageStore(Closing):
    """The pages of an image, in the tier that each has earned, within a budget of RAM.

    Made by ``PageStore.open``. Every method may be called from any thread; ``close`` lets
    calls that are under way end first.

    Attributes:
        image: The image whose pages these are; the ROM image, where that is all there is.
        rom: The ROM image behind it, or None.
        page_count: Number of pages.
        page_size: Bytes of a page.
    """

    def __init__(
        self,
        image: Image | None,
        *,
        rom: Rom | None = None,
        ram: int | str | None = None,
        codec: str | Codec = "lz4",
        codec_level: int | None = None,
        dictionary: bytes = b"",
        policy: str = "s3fifo",
        pool_percent: int = 25,
        timed: bool = False,
        scratch: bool | str | os.PathLike[str] = False,
    ) -> None:
        """Take what is open, and stays the caller's to close; see ``open`` for the arguments."""
        of = image or rom
        if of is None:
            raise InvalidArgument("a store needs an image, a ROM image (rom=), or both")
        if image is not None and rom is not None:
            check_pair(image, rom)
        self.image: Image | Rom = of
        self.rom = rom
        self.page_count: int = of.page_count
        self.page_size: int = of.page_size
        self._owned = ExitStack()
        self._local = PageFrame(of.page_size)
        if isinstance(codec, str):
            codec = Codec(
                codec,
                level=codec_level,
                filter=filter_for(of.arch),
                dictionary=dictionary,
                page_size=of.page_size,
            )
        if codec.page_size != of.page_size:
            raise InvalidArgument(
                f"the codec is for pages of {codec.page_size} bytes, and the image has pages of "
                f"{of.page_size}: make one with page_size={of.page_size}"
            )
        # What the core uses must go after it; and it goes with the last reference, of which
        # a call that is under way, and a view, have one of their own.
        kept = [codec.handle]
        self._handle: Any = ffi.gc(
            self._open_core(ram, policy, pool_percent, timed),
            _closer(kept),
        )
        self._object = self._add_object(open_backing(image, rom, scratch, kept), codec.handle)

    @classmethod
    def open(
        cls,
        image: str | os.PathLike[str] | Image | AnyBuffer | None = None,
        *,
        rom: str | os.PathLike[str] | Rom | AnyBuffer | None = None,
        ram: int | str | None = None,
        page_size: int | None = None,
        codec: str | Codec = "lz4",
        codec_level: int | None = None,
        dictionary: bytes = b"",
        policy: str = "s3fifo",
        pool_percent: int = 25,
        timed: bool = False,
        scratch: bool | str | os.PathLike[str] = False,
        base: int | None = None,
    ) -> Self:
        """Open a store over an image.

        Args:
            image: The path of a kernel, an ELF file or firmware; an ``Image``, which stays
                the caller's to close; or the bytes of one as any buffer, taken as they are.
                May be left out where there is a ``rom``.
            rom: A ROM image of it: its path, its bytes, or a ``Rom``, which stays the caller's
                to close. Pages are read from it; the image gives those that were left out of
                it. What reading it takes in RAM counts against the budget.
            ram: The budget: frames, compressed pool and metadata together, in bytes or as
                text such as ``"8MiB"``. None: enough for every page.
            page_size: Bytes of a page, a power of two from 512 to 65536; None is 4096. An
                ``Image`` and a ``rom`` have their own.
            codec: The name of the codec of compressed pages, or a ``Codec``.
            codec_level: The codec's level; None is its default.
            dictionary: Bytes that pages are likely to share; see
                ``pagestep.codecs.train_dictionary``.
            policy: Who leaves: ``"s3fifo"`` or ``"lru"``.
            pool_percent: How much of the budget clean compressed pages may take.
            timed: Measure the time of every fault.
            scratch: Let written pages go to a temporary file, made in this folder (True:
                in the system's own), when RAM is short. Else they stay in RAM, compressed,
                and a write is refused when there is no room.
            base: The address of page 0, for an image that does not say.

        Returns:
            The store; close it, or use it as a context manager.

        Raises:
            BadImage: The image cannot be read.
            BadRom: The ROM image cannot be read, or is another image's.
            BudgetExceeded: ``ram`` cannot hold the page table, what reading the ROM image
                takes, and the fewest frames.
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
            store = cls(
                image,
                rom=rom,
                ram=ram,
                codec=codec,
                codec_level=codec_level,
                dictionary=dictionary,
                policy=policy,
                pool_percent=pool_percent,
                timed=timed,
                scratch=scratch,
            )
            store._owned = opened.pop_all()
        return store

    def _open_core(self, ram: int | str | None, policy: str, pool_percent: int, timed: bool) -> Any:
        if policy not in _POLICIES:
            raise InvalidArgument(f"policy is {policy!r}: it is one of {', '.join(_POLICIES)}")
        if not 0 <= pool_percent <= 100:
            raise InvalidArgument(f"pool_percent is {pool_percent}: it is from 0 to 100")
        budget = self._ample_ram() if ram is None else parse_size(ram, "ram")
        params = ffi.new("struct pgs_store_params *")
        params.struct_size = ffi.sizeof("struct pgs_store_params")
        params.page_size = self.page_size
        params.budget_bytes = budget
        params.policy = _POLICIES[policy]
        params.flags = lib.PGS_STORE_TIMED if timed else 0
        params.pool_percent = pool_percent
        handle = ffi.new("pgs_store **")
        code = lib.pgs_store_open(params, handle)
        if code == lib.PGS_E_BUDGET:
            raise BudgetExceeded(
                f"{budget} bytes cannot hold the fewest frames of {self.page_size} bytes that a "
                "store needs, and what it keeps beside them: raise `ram`"
            )
        check(code, f"a store of {self.page_size}-byte pages cannot be opened in {budget} bytes")
        return handle[0]

    def _ample_ram(self) -> int:
        entry_bytes = int(lib.pgs_store_entry_bytes())
        pages = self.page_count * (self.page_size + entry_bytes) * 5 // 4
        return pages + _SLACK_BYTES + (self.rom.memory_bytes if self.rom else 0)

    def _add_object(self, backing: Any, codec: Any) -> int:
        image = self.image
        number = ffi.new("uint32_t *")
        code = lib.pgs_object_add(
            self._handle, self.page_count, image.base, backing, codec.pointer, number
        )
        if code < 0:
            close_backing(backing)
        check(code, f"{image.name} with {self.page_count} pages does not go into the store")
        return int(number[0])

    # -- life ---------------------------------------------------------------------------

    def close(self) -> None:
        """Close the store. Views that are alive stay valid. A second call does nothing."""
        self._handle = None
        self._owned.close()

    def __repr__(self) -> str:
        """Say what it is a store of."""
        state = "closed" if self._handle is None else f"{self.page_count} pages"
        return f"<PageStore of {self.image.name}: {state}>"

    def __len__(self) -> int:
        """Return the number of pages."""
        return self.page_count

    @property
    def core(self) -> Any:
        """The ``pgs_store *`` itself, for those who call the C interface beside this one."""
        return self._core()

    @property
    def object_no(self) -> int:
        """The number that the image has in the C interface."""
        return self._object

    def _core(self) -> Any:
        handle = self._handle
        if handle is None:
            raise Closed(f"the store of {self.image.name} is closed; open it again")
        return handle

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
            check(code, f"page {page_no} cannot be read")
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
            check_pages(code, statuses, numbers, "read")

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
        check(code, f"page {page_no} cannot be written")

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
        check_pages(code, statuses, numbers, "written")

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
        check(code, f"page {page_no} cannot be pinned for a view")
        one = ffi.new("uint64_t *", number)
        frame = ffi.gc(
            ffi.cast("const unsigned char *", address[0]),
            _unpinner(core, self._object, one),
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

    def pin(self, where: Where) -> None:
        """Pin pages into frames, all or none. Pins are counted.

        Raises:
            BudgetExceeded: Not all of them can be held; none is.
        """
        numbers = self._pages(where)
        code = lib.pgs_pin(
            self._core(), self._object, ffi.from_buffer("uint64_t[]", numbers), numbers.size
        )
        check(code, f"{_describe(where)} cannot be pinned")

    def unpin(self, where: Where) -> None:
        """Take back one pin of each page.

        Raises:
            InvalidArgument: One is not pinned.
        """
        numbers = self._pages(where)
        code = lib.pgs_unpin(
            self._core(), self._object, ffi.from_buffer("uint64_t[]", numbers), numbers.size
        )
        check(code, f"{_describe(where)} cannot be unpinned")

    @contextmanager
    def pinned(self, where: Where) -> Generator[None]:
        """Pin pages for the length of a ``with`` block."""
        numbers = self._pages(where)
        self.pin(numbers)
        try:
            yield
        finally:
            if self._handle is not None:
                self.unpin(numbers)

    def set_level(self, where: Where, level: Level) -> None:
        """Set how gladly pages leave RAM.

        ``Level.PINNED`` pages them in at once and holds them.

        Raises:
            BudgetExceeded: They cannot all be held; pages of runs before stay changed.
            InvalidArgument: There is no such level.
        """
        try:
            level = Level(level)
        except ValueError:
            raise InvalidArgument(
                f"level {level!r}: one of {', '.join(Level.__members__)}"
            ) from None
        numbers = self._pages(where)
        core = self._core()
        breaks = np.flatnonzero(np.diff(numbers.astype(np.int64)) != 1) + 1
        for run in np.split(numbers, breaks):
            if run.size:
                code = lib.pgs_set_level(core, self._object, int(run[0]), run.size, level)
                check(code, f"{_describe(where)} cannot be made {level.name}")

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

    # -- helpers ------------------------------------------------------------------------

    def _page_no(self, page_no: int) -> int:
        if not 0 <= page_no < self.page_count:
            raise NoSuchPage(f"page {page_no} does not exist: there are {self.page_count}")
        return page_no

    def _pages(self, where: Where) -> npt.NDArray[np.uint64]:
        if isinstance(where, str):
            found = [s for s in self.image.segments if s.name == where]
            if not found:
                names = ", ".join(s.name for s in self.image.segments[:8])
                raise NoSuchPage(f"no segment is named {where!r}; there are {names}, ...")
            return page_number_array(
                np.concatenate([np.arange(s.pages.start, s.pages.stop) for s in found])
            )
        if isinstance(where, int | np.integer):
            return page_number_array([self._page_no(int(where))])
        return page_number_array(where)

    def _move(self, move: Any, where: Where, verb: str) -> None:
        numbers = self._pages(where)
        statuses = ffi.new("int32_t[]", max(1, numbers.size))
        pointer = ffi.from_buffer("uint64_t[]", numbers)
        code = move(self._core(), self._object, pointer, numbers.size, statuses)
        check_pages(code, statuses, numbers, verb)


def _closer(kept: list[Any]) -> Callable[[Any], None]:
    """Return what closes a core; ``kept`` lives as long as that is not done."""

    def close(core: Any) -> None:
        lib.pgs_store_close(core)
        kept.clear()

    return close


def _unpinner(core: Any, object_no: int, page_no: Any) -> Callable[[Any], None]:
    """Return what takes back the pin of a view, which keeps the core alive until then."""
    return lambda _: lib.pgs_unpin(core, object_no, page_no, 1)


def _describe(where: Where) -> str:
    if isinstance(where, str):
        return f"segment {where}"
    if isinstance(where, int):
        return f"page {where}"
    return "the pages"
