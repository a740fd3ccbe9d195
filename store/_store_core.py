# SPDX-License-Identifier: MIT
"""A store's core: opened over an image, named in messages, closed after its last user."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from pagestep.codecs import Codec, filter_for
from pagestep.codecs.closing import Closing
from pagestep.codecs.errors import BudgetExceeded, Closed, InvalidArgument
from pagestep.store.image import Image
from pagestep.store.rom import Rom

from ._binding import PageFrame, check, ffi, lib, page_number_array
from ._budget import budget_remedy, object_bytes
from ._settings import Settings
from ._size import parse_size
from ._swapped import SwappedPages, said_of
from ._where import Where, page_name, pages_of
from .backing import check_pair, close_backing, open_backing
from .pager import shown_url

__all__ = ["StoreCore"]

# What a store costs beside its pages: tables, coders, a dictionary. Only used to size
# the budget of a store that was given none.
_SLACK_BYTES = 4 << 20

_NO_OBJECT = 2**32 - 1  # no object has it


class StoreCore(SwappedPages):
    """Holds a ``pgs_store *`` with an image or none, and knows what its pages are called.

    Attributes:
        rom: The ROM image behind it, or None.
        page_count: Number of pages of the image; 0 where there is none.
        page_size: Bytes of a page.
    """

    def __init__(
        self, image: Image | None, rom: Rom | None, settings: Settings, page_size: int = 4096
    ) -> None:
        """Take what is open, and stays the caller's to close; ``page_size`` is for neither."""
        of = image or rom
        if image is not None and rom is not None:
            check_pair(image, rom)
        self._image: Image | Rom | None = of
        self._name = of.name if of else "anonymous memory"
        self.rom = rom
        self.page_count = of.page_count if of else 0
        self.page_size = of.page_size if of else page_size
        self._owned = ExitStack()
        self._local = PageFrame(self.page_size)
        self._codec = self._codec_of(settings.codec, settings.codec_level, settings)
        # What the core uses must go after it; and it goes with the last reference, of which
        # a call that is under way, and a view, have one of their own.
        kept = [self._codec.handle]
        self._kept = kept
        self._parts: WeakSet[Closing] = WeakSet()
        self._handle: Any = ffi.gc(self._open_core(settings), _closer(kept))
        self._cold_codec: Codec | None = None
        if settings.cold_codec is not None:
            self._cold_codec = self._codec_of(settings.cold_codec, None, settings)
            kept.append(self._cold_codec.handle)
        self._object = _NO_OBJECT
        self._takes_changes = False  # whether changed pages of the image have a place to go to
        self._swap = None
        self._swap_url = ""
        self._swap_kept = kept
        if of is not None:
            backing = self._open_backing(image, rom, settings)
            self._object = self._add_object(of, backing)
            if settings.swap is not None:
                self._swap, self._swap_url = backing, shown_url(settings.swap)
            self._add_cold_codec(self._object)
            self._takes_changes = settings.swap is not None or settings.scratch is not False
        elif settings.swap is not None or settings.scratch is not False:
            raise InvalidArgument(
                "swap= and scratch= are for an image's pages: open the store with one; anonymous() "
                "has a swap= of its own"
            )

    def _open_backing(self, image: Image | None, rom: Rom | None, settings: Settings) -> Any:
        return open_backing(
            image,
            rom,
            settings.scratch,
            self._kept,
            swap=settings.swap,
            codec=self._codec,
            ram=None if settings.ram is None else parse_size(settings.ram, "ram"),
        )

    def _codec_of(self, codec: str | Codec, level: int | None, settings: Settings) -> Codec:
        if isinstance(codec, str):
            codec = Codec(
                codec,
                level=level,
                filter=filter_for(self._image.arch if self._image else ""),
                dictionary=settings.dictionary,
                page_size=self.page_size,
            )
        if codec.page_size != self.page_size:
            raise InvalidArgument(
                f"the codec is for pages of {codec.page_size} bytes, and the store has pages of "
                f"{self.page_size}: make one with page_size={self.page_size}"
            )
        return codec

    def _open_core(self, settings: Settings) -> Any:
        ram = settings.ram
        budget = self._ample_ram() if ram is None else parse_size(ram, "ram")
        params = ffi.new("struct pgs_store_params *")
        params.struct_size = ffi.sizeof("struct pgs_store_params")
        settings.fill(params, self.page_size, budget)
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

    def _add_object(self, image: Image | Rom, backing: Any) -> int:
        number = ffi.new("uint32_t *")
        code = lib.pgs_object_add(
            self._handle, self.page_count, image.base, backing, self._codec.handle.pointer, number
        )
        if code < 0:
            close_backing(backing)
        said = ""
        if code == lib.PGS_E_BUDGET:
            more = object_bytes(self.page_count, self.page_size, self._codec.handle.pointer)
            said = budget_remedy(self._handle, self.page_size, more=more)
        what = f"{image.name} with {self.page_count} pages does not go into the store"
        check(code, what, said=said)
        return int(number[0])

    def _add_cold_codec(self, object_no: int) -> None:
        codec = self._cold_codec
        if codec is None:
            return
        code = lib.pgs_object_add_codec(self._handle, object_no, codec.handle.pointer)
        what = f"cold pages cannot be coded with {codec.name}, or not beside the first codec"
        check(code, what, said=self._said(code))

    # -- life ---------------------------------------------------------------------------

    def close(self) -> None:
        """Close the store with its pools and its anonymous memory. Again is no error.

        Views that are alive stay valid.
        """
        for part in list(self._parts):
            part.close()
        self._handle = None
        self._owned.close()

    def __repr__(self) -> str:
        """Say what it is a store of."""
        state = "closed" if self._handle is None else f"{self.page_count} pages"
        return f"<PageStore of {self._name}: {state}>"

    @property
    def core(self) -> Any:
        """The ``pgs_store *`` itself, for those who call the C interface beside this one."""
        return self._core()

    @property
    def image(self) -> Image | Rom:
        """The image whose pages these are; the ROM image, where that is all there is.

        Raises:
            InvalidArgument: The store is for anonymous memory alone.
        """
        if self._image is None:
            raise InvalidArgument(
                "this store has no image; open one with it, as the first argument"
            )
        return self._image

    @property
    def object_no(self) -> int:
        """The number that the image has in the C interface; of a store without, none's."""
        return self._object

    def _core(self) -> Any:
        handle = self._handle
        if handle is None:
            raise Closed(f"the store of {self._name} is closed; open it again")
        return handle

    # -- pages --------------------------------------------------------------------------

    def _pages(self, where: Where) -> npt.NDArray[np.uint64]:
        if isinstance(where, int | np.integer):
            return page_number_array([self._page_no(int(where))])
        if not isinstance(where, str):
            return page_number_array(where)
        return pages_of(self.image, where)

    def _page_name(self, page_no: int) -> str:
        return f"page {page_no}" if self._image is None else page_name(self._image, page_no)

    def _is_in_swap(self, page_no: int | None) -> bool | None:
        if page_no is None:
            return None
        size = ffi.new("uint32_t *", self.page_size)
        return bool(self._swap.source(self._swap.ctx, page_no, size) == lib.PGS_SOURCE_SWAP)

    def _said(self, code: int, page_no: int | None = None) -> str:
        said = [super()._said(code, page_no)]
        if isinstance(self._image, Image) and self._image.pager is not None:
            said.append(said_of(code, [self._image.pager]))
        return "; ".join(each for each in said if each)


def _closer(kept: list[Any]) -> Callable[[Any], None]:
    """Return what closes a core; ``kept`` lives as long as that is not done."""

    def close(core: Any) -> None:
        lib.pgs_store_close(core)
        kept.clear()

    return close
