# SPDX-License-Identifier: MIT
"""Memory that faults in by itself: an object's pages as a numpy array.

What a touch does is the core's alone. No Python runs then, and no lock of the interpreter is
needed: the thread that touches may hold it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import InvalidArgument, error_for

from ._binding import check, ffi, lib
from ._map_support import why_not
from ._mapped_array import MappedArray
from ._mapping import MapHost, Mapping

__all__ = ["open_map"]

_SERVICES = {
    "auto": lib.PGS_MAP_AUTO,
    "sigbus": lib.PGS_MAP_SIGBUS,
    "thread": lib.PGS_MAP_THREAD,
}
_AROUND_MAX = 16


def open_map(
    host: MapHost, *, writable: bool, service: str, around: int, dtype: npt.DTypeLike
) -> MappedArray:
    """Map all pages of an object; ``Pages.map`` says what the arguments are."""
    _check_pages(host)
    item = _item_of(host, dtype)
    if service not in tuple(_SERVICES):
        raise InvalidArgument(f"service is {service!r}: it is one of {', '.join(_SERVICES)}")
    if around not in range(1, _AROUND_MAX + 1):
        raise InvalidArgument(f"around is {around!r}: a fault brings 1 to {_AROUND_MAX} pages")
    params = ffi.new("struct pgs_map_params *")
    params.struct_size = ffi.sizeof("struct pgs_map_params")
    params.service = _SERVICES[service]
    params.writes = lib.PGS_MAP_WRITES_AUTO if writable else lib.PGS_MAP_READ_ONLY
    params.around = around
    opened = ffi.new("pgs_map **")
    code = lib.pgs_map_open(host.core, host.object_no, params, opened)
    _check_open(host, code, service, writable)
    handle = ffi.gc(opened[0], _closer(host.core, host.kept))
    memory = ffi.gc(
        ffi.cast("unsigned char *", lib.pgs_map_address(handle)), _keeper_until_then(handle)
    )
    view = memoryview(ffi.buffer(memory, host.page_count * host.page_size))
    mapping = Mapping(host, handle, memory)
    return MappedArray.over(view if writable else view.toreadonly(), item, mapping)


def _item_of(host: MapHost, dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return a dtype that a map's bytes can have."""
    item = np.dtype(dtype)
    size = host.page_count * host.page_size
    if item.hasobject or not item.itemsize or size % item.itemsize:
        raise InvalidArgument(
            f"dtype {item!r} does not fit: a map is of plain values (no objects), whose size "
            f"divides its {size} bytes"
        )
    return item


def _check_pages(host: MapHost) -> None:
    """Refuse pages that no map can have."""
    system = os.sysconf("SC_PAGE_SIZE")
    if not host.page_count:
        raise InvalidArgument(f"{host.name} has no pages to map: open the store with an image")
    if host.page_size % system:
        raise InvalidArgument(
            f"{host.name} has pages of {host.page_size} bytes, and can only be mapped by whole "
            f"pages of the system's, of {system}: open the store with page_size={system}"
        )


def _check_open(host: MapHost, code: int, service: str, writable: bool) -> None:
    why = {
        lib.PGS_E_MAPPED: "it is mapped already; use that array, or let it and its views go",
        lib.PGS_E_PINNED: "a view, or a pin, holds one of its pages; map first, and pin then",
    }.get(code)
    if code == lib.PGS_E_NO_FAULTS:
        why = why_not(service, writable)
    if why is not None:
        raise error_for(code, f"{host.name} cannot be mapped: {why}")
    check(code, f"{host.name} cannot be mapped")


def _closer(core: Any, open_store: list[Any]) -> Callable[[Any], None]:
    """Return what closes a map, and keeps its store, or its anonymous memory, open until then.

    Where both are part of one cycle of garbage the store may go first nevertheless, with all
    its maps, and has emptied ``open_store`` then.
    """
    kept = [core]

    def close(map_: Any) -> None:
        if open_store:
            lib.pgs_map_close(map_)
        kept.clear()

    return close


def _keeper_until_then(handle: Any) -> Callable[[Any], None]:
    """Return what lets a map go when its memory has gone."""
    kept = [handle]

    def let_go(_: Any) -> None:
        kept.clear()

    return let_go
