# SPDX-License-Identifier: MIT
"""``PageStore``: an image's pages under a budget of RAM."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from pagestep.codecs import Codec
from pagestep.codecs.errors import Closed, InvalidArgument, PageStepError
from pagestep.store.image import Image
from pagestep.store.policy import Level, RuleSet, decide
from pagestep.store.rom import Rom
from pagestep.store.rom._reader import coder_sets_for

from ._anonymous import Anonymous, Host, add_anonymous
from ._binding import check, lib
from ._budget import budget_remedy
from ._pool import NonPagedPool, PagedPool
from ._settings import Settings
from ._size import parse_size
from ._stats import Stats, snapshot
from ._store_discipline import DisciplinedStore
from ._where import Where

if TYPE_CHECKING:
    from pagestep.codecs.buffers import AnyBuffer

__all__ = ["PageStore"]


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
                May be left out where there is a ``rom``; without either the store has a
                budget, ``ram``, and is for anonymous memory and pools alone.
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
            if image is None and rom is None:
                _check_without_image(how)
            store = cls(image, rom, how, 4096 if page_size is None else page_size)
            if image is not None:
                store._apply(decide(image, _rules(rules)))
            elif rules is not None:
                raise InvalidArgument("rules speak of an image: open the store with it too")
            store._owned = opened.pop_all()
        return store

    def discard(self, where: Where) -> None:
        """Drop pages from RAM; the next read takes them from the image's file.

        Raises:
            DirtyPage: One was written to since; it is kept. The others are dropped.
            PinnedPage: One is pinned; it is kept. The others are dropped.
        """
        self._move(lib.pgs_discard, where, "discarded")

    def flush(self) -> int:
        """Write all changed pages that have a place to go to there, and make them durable.

        These are the image's, where the store has ``swap`` or ``scratch``, and those of all
        anonymous memory with a ``swap`` of its own, forks among it. All other changed pages stay
        where they are: in RAM. Pages that are written meanwhile may be among them or not. After an
        error it goes on, and raises the first.

        Returns:
            How many pages were written; 0 where there is no image, and no memory with a ``swap``.

        Raises:
            BackingFull: There is no room for one; it stays in RAM, changed.
            BackingLost: Nobody answers; pages that were not written stay in RAM.
            BackingTimeout: They could not be written in time; the same.
            Unsupported: There is an image, and no such place at all.
        """
        self._core()
        parts = [part for part in list(self._parts) if isinstance(part, Anonymous)]
        flushes = [part.flush for part in parts if part.has_swap]
        if self._takes_changes or (self._image is not None and not flushes):
            flushes.insert(0, super().flush)
        written, errors = 0, list[PageStepError]()
        for flush in flushes:
            try:
                written += flush()
            except Closed:
                self._core()  # that memory was closed meanwhile, and has no pages; or the store was
            except PageStepError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return written

    def set_ram(self, ram: int | str) -> None:
        """Change the budget; pages leave until it holds.

        Raises:
            BudgetExceeded: What must stay does not fit; the old budget stays in force.
        """
        budget = parse_size(ram, "ram")
        code = lib.pgs_store_set_budget(self._core(), budget)
        said = ""
        if code == lib.PGS_E_BUDGET:
            swap = self._remedy_of_full()
            said = budget_remedy(self._core(), self.page_size, swap=swap, budget=budget)
        check(code, f"the budget cannot become {budget} bytes", said=said)

    def stats(self) -> Stats:
        """Take a snapshot of what the store holds and has done."""
        return snapshot(self._core())

    # -- anonymous memory ---------------------------------------------------------------

    def anonymous(
        self,
        pages: int,
        *,
        level: Level = Level.NORMAL,
        swap: str | None = None,
        swap_pages: int | None = None,
    ) -> Anonymous:
        """Make memory that reads as zeros until written, and takes RAM only where it was.

        Args:
            pages: How many pages; they may be far more than RAM could hold.
            level: How gladly they leave RAM; not ``PINNED``.
            swap: Let written pages go, compressed, to what this URL names when RAM is short
                (docs/BACKINGS.md): ``"file:///var/tmp/"`` is a file without a name in that folder,
                ``"redis://…?namespace=…"`` a server. They are found by nobody else, and given up
                when the memory and all its forks are closed. None: they stay in RAM.
            swap_pages: For how many pages there is to be room at ``swap``; each costs about 8
                bytes of RAM. None: for ``pages``. Pages that forks write are pages beside; what
                finds no number free there stays in RAM, compressed.

        Raises:
            BackingFull: There is no room for ``swap``.
            BadSwap: ``swap`` names a file that is there, and no empty one.
            BudgetExceeded: The budget has no room for it.
            InvalidArgument: An argument is out of range.
            StoreIOError: ``swap`` cannot be opened.
        """
        if level not in tuple(Level) or level is Level.PINNED:
            raise InvalidArgument(
                f"level {level!r} of anonymous memory: one of LAST_RESORT to STEP_ON_IT; what is "
                "to stay in RAM belongs into a non-paged pool, or has a view"
            )
        if swap is None and swap_pages is not None:
            raise InvalidArgument(f"swap_pages is {swap_pages!r}: say where they go, with swap=")
        treatment = int(self._treatments.of_level(level, 1)[0])
        host = Host(
            core=self._core(),
            kept=self._kept,
            page_size=self.page_size,
            frame=self._local,
            explain=self._explain,
            adopt=self._parts.add,
        )
        memory = add_anonymous(
            host, pages, treatment, self._codec, None if swap is None else (swap, swap_pages)
        )
        self._add_cold_codec(memory.object_no)
        return memory

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
        self._parts.add(pool)
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
        self._parts.add(pool)
        return pool


def _check_without_image(how: Settings) -> None:
    """Refuse a store for anonymous memory alone that is told what only an image has a use for."""
    if how.ram is None:
        raise InvalidArgument(
            "a store needs an image, a ROM image (rom=), or both; or, for anonymous memory alone, "
            "a budget (ram=)"
        )
    if how.scratch is not False:
        raise InvalidArgument("scratch is for an image's pages: open the store with one")


def _rules(rules: str | os.PathLike[str] | RuleSet | None) -> RuleSet | None:
    return rules if rules is None or isinstance(rules, RuleSet) else RuleSet.load(rules)
