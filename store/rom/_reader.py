# SPDX-License-Identifier: MIT
"""The core's reader of ROM images, as Python has it: buffers, arrays and exceptions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import InvalidArgument, error_for
from pagestep.store._binding import PageFrame, ffi, lib, readable, writable

if TYPE_CHECKING:
    from pagestep.codecs.buffers import AnyBuffer

__all__ = ["RomReader", "coder_sets_for"]

_read_page = lib.pgs_rom_reader_page  # looked up once
_CODER_SETS = 4
_AGAIN = "copy or write it again, or build it anew"
_REMEDIES = {
    lib.PGS_E_ROM_MAGIC: "it does not begin as one, or ends at once; make one of an image with "
    "`pagestep rom build`, or its raw bytes of what was built for a flash tool or linker",
    lib.PGS_E_ROM_FEATURE: "use a newer pagestep, or build it with this one",
    lib.PGS_E_ROM_TRUNCATED: _AGAIN,
    lib.PGS_E_ROM_HEADER: _AGAIN,
    lib.PGS_E_ROM_TABLE: _AGAIN,
    lib.PGS_E_ROM_EXTENT: _AGAIN,
    lib.PGS_E_ROM_DICT: _AGAIN,
    lib.PGS_E_ROM_CODEC: "use a newer pagestep, or build it with this one",
}
_PAGE_REASONS = {
    lib.PGS_E_RANGE: "does not exist",
    lib.PGS_E_CORRUPT: f"is not what was stored: the ROM image is damaged there; {_AGAIN}",
    lib.PGS_E_ROM_ABSENT: "was left out of the ROM image; the image that it was made from has it",
}


def coder_sets_for(ram: int | None) -> int:
    """Return how many threads should decode at once in a store of so much RAM.

    What a thread needs counts against the budget, and may be half a megabyte with a large
    dictionary: one thread for each 16 MiB.
    """
    useful = min(len(os.sched_getaffinity(0)), _CODER_SETS)
    return useful if ram is None else max(1, min(useful, ram >> 24))


class RomReader:
    """An open ``pgs_rom_reader``, and the bytes that it reads.

    It closes itself when the last reference goes: a call that is under way, and a store over
    it, have one of their own.

    Attributes:
        name: What to call the ROM image in messages.
        data: Its bytes, and what lies behind them.
        page_size: Bytes of a page.
        page_count: Number of pages.
    """

    def __init__(self, data: npt.NDArray[np.uint8], name: str, coder_sets: int) -> None:
        """Open a ROM image, which is not copied.

        Raises:
            BadRom: It is none, or damaged.
            Unsupported: It needs a codec that this reader lacks.
            InvalidArgument: ``coder_sets`` is out of range.
            SystemMemoryError: There is no memory for dictionaries and coders.
        """
        base = readable(data, name)
        opened = ffi.new("pgs_rom_reader **")
        code = lib.pgs_rom_reader_open(base, len(base), coder_sets, opened)
        if code == lib.PGS_E_INVALID:
            most = lib.PGS_ROM_CODER_SETS_MAX
            raise InvalidArgument(f"threads is {coder_sets}: it is from 1 to {most}")
        if code < 0:
            reason = ffi.string(lib.pgs_error_text(code)).decode()
            remedy = _REMEDIES.get(code)
            raise error_for(code, f"{name}: {reason}" + (f": {remedy}" if remedy else ""))
        self.pointer = ffi.gc(opened[0], lib.pgs_rom_reader_close)
        self.name = name
        self.data = data
        self._rom: Any = lib.pgs_rom_reader_rom(self.pointer)
        self.page_size = int(self._rom.page_size)
        self.page_count = int(self._rom.page_count)
        self._local = PageFrame(self.page_size)

    def read(self, page_no: int) -> bytes:
        """Return one page.

        Raises:
            PageStepError: What keeps it from being read.
        """
        local = self._local
        try:
            code = _read_page(self.pointer, page_no, local.frame)
        except OverflowError:
            code = lib.PGS_E_RANGE
        if code:
            raise self.error_of(page_no, code)
        return local.to_bytes()

    @property
    def memory_bytes(self) -> int:
        """Bytes of RAM that it takes: decoded dictionaries and what decoding needs."""
        return int(lib.pgs_rom_reader_memory_bytes(self.pointer))

    def dictionaries(self, count: int) -> tuple[bytes, ...]:
        """Return the dictionaries, decoded."""
        dicts = (self._rom.dicts[number] for number in range(count))
        return tuple(bytes(ffi.buffer(each.bytes, each.size)) for each in dicts)

    def read_into(
        self, page_nos: npt.NDArray[np.uint64], out: AnyBuffer
    ) -> npt.NDArray[np.int32] | None:
        """Read pages, one after the other, into a writable buffer.

        Returns:
            None; or, where a page could not be read, an error or 0 for each, shape (n,).

        Raises:
            InvalidArgument: ``out`` is too small or cannot be written.
        """
        target = writable(out, "out")
        if len(target) < page_nos.size * self.page_size:
            raise InvalidArgument(
                f"out has {len(target)} bytes: {page_nos.size} pages need "
                f"{page_nos.size * self.page_size}"
            )
        statuses = np.zeros(page_nos.size, np.int32)
        code = lib.pgs_rom_reader_pages(
            self.pointer,
            ffi.from_buffer("uint64_t[]", page_nos),
            page_nos.size,
            target,
            ffi.from_buffer("int32_t[]", statuses, require_writable=True),
        )
        return statuses if code else None

    def error_of(self, page_no: int, code: int) -> Exception:
        """Return the exception for a page's error."""
        return error_for(code, f"{self.name}: page {page_no} {_PAGE_REASONS[code]}")
