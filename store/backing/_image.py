# SPDX-License-Identifier: MIT
"""What gives a store's pages back: an image's file, a ROM image, a file for changed pages."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from pagestep.codecs.errors import BadRom, InvalidArgument, StoreIOError
from pagestep.store._binding import check, ffi, lib

from ._url import Backed, open_backing_url

if TYPE_CHECKING:
    from pagestep.codecs import Codec
    from pagestep.store.image import Image
    from pagestep.store.rom import Rom

__all__ = ["check_pair", "close_backing", "open_backing"]


def check_pair(image: Image, rom: Rom) -> None:
    """Refuse a ROM image that was made from another image.

    Raises:
        BadRom: Their bytes differ.
        InvalidArgument: The image was opened with another page size.
    """
    if image.page_size != rom.page_size:
        raise InvalidArgument(
            f"{image.name} has pages of {image.page_size} bytes, and {rom.name} of "
            f"{rom.page_size}: open it with page_size={rom.page_size}"
        )
    if image.identity != rom.identity:
        raise BadRom(
            f"{rom.name} was made from another image than {image.name}: it is of "
            f"{rom.identity[:16]}..., and that is {image.identity[:16]}...: build it anew, or open "
            "the image that it was made from"
        )


def open_backing(
    image: Image | None,
    rom: Rom | None,
    scratch: bool | str | os.PathLike[str],
    kept: list[Any],
    *,
    swap: str | None = None,
    codec: Codec | None = None,
    ram: int | None = None,
) -> Any:
    """Return a ``struct pgs_backing`` over an image, a ROM image, or both.

    Args:
        image: Or None where there is a ROM image.
        rom: Comes first where there are both; what was left out of it is the image's.
        scratch: As ``PageStore.open`` has it.
        kept: Gets what must live as long as the backing.
        swap: As ``PageStore.open`` has it.
        codec: Codes what goes there.
        ram: The store's budget, in bytes.

    Raises:
        StoreIOError: The image's file or the scratch file cannot be used.
        SystemMemoryError: There is no memory for it.
    """
    backing: Any = None
    try:
        if image is not None:
            backing = _of_image(image, kept)
        if rom is not None:
            backing = _of_rom(rom, backing, kept)
        if scratch is not False:
            backing = _with_scratch(backing, scratch, image or rom)
        of = image or rom
        if swap is not None and codec is not None and of is not None:
            backing = open_backing_url(swap, _backed(of, codec, ram, kept), backing)
    except BaseException:
        close_backing(backing)
        raise
    return backing


def close_backing(backing: Any) -> None:
    """Close a backing that no store has taken over; None is accepted."""
    if backing is not None and backing.close:
        backing.close(backing.ctx)


def _of_image(image: Image, kept: list[Any]) -> Any:
    backing = ffi.new("struct pgs_backing *")
    pager = image.pager
    if image.file is None and pager is None:
        flat = np.ascontiguousarray(image.flat()).reshape(-1)
        kept.append(ffi.from_buffer(flat))
        code = lib.pgs_backing_memory(kept[-1], flat.size, image.page_size, backing)
    else:
        extents = ffi.new("struct pgs_extent[]", max(1, len(image.extents)))
        for row, extent in zip(extents, image.extents, strict=False):
            row.object_offset = extent.image_offset
            row.file_offset = extent.file_offset
            row.size = extent.size
        call = lib.pgs_backing_file if pager is None else lib.pgs_backing_pager
        where = image.file if pager is None else pager.handle
        code = call(where, extents, len(image.extents), image.page_size, backing)
    check(code, f"{image.name} cannot back a store")
    return backing


def _of_rom(rom: Rom, rest: Any, kept: list[Any]) -> Any:
    backing = ffi.new("struct pgs_backing *")
    kept.append(rom.reader)
    code = lib.pgs_backing_rom(rom.reader.pointer, rest or ffi.NULL, backing)
    check(code, f"{rom.name} cannot back a store")
    return backing


def _backed(of: Image | Rom, codec: Codec, ram: int | None, kept: list[Any]) -> Backed:
    return Backed(
        page_count=of.page_count,
        page_size=of.page_size,
        codec=codec,
        base_address=of.base,
        owner=bytes.fromhex(of.identity),
        ram=ram,
        kept=kept,
    )


def _with_scratch(base: Any, scratch: Any, of: Any) -> Any:
    over = ffi.new("struct pgs_backing *")
    try:
        with tempfile.TemporaryFile(dir=None if scratch is True else scratch) as file:
            code = lib.pgs_backing_scratch(base, file.fileno(), of.page_count, of.page_size, over)
    except OSError as error:
        raise StoreIOError(f"no scratch file can be made: {error}") from error
    check(code, "the scratch file cannot be used")
    return over
