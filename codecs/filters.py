# SPDX-License-Identifier: MIT
"""Branch filters: targets of calls become absolute, so that calls look alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from . import _lib
from .errors import InvalidArgument

if TYPE_CHECKING:
    from .buffers import AnyBuffer

__all__ = ["FILTERS", "apply_filter", "filter_for", "filter_id", "undo_filter"]

FILTERS: Final[Mapping[str, int]] = MappingProxyType(_lib.FILTER_IDS)
"""Name to stable id."""

_BY_ARCH: Final[Mapping[str, str]] = {
    "x86": "x86",
    "x86_64": "x86",
    "arm": "arm",
    "thumb": "thumb",
    "arm64": "arm64",
    "riscv32": "riscv",
    "riscv64": "riscv",
}


def filter_for(arch: str) -> str:
    """Return the name of the filter for an architecture; "none" where there is none.

    >>> filter_for("x86_64"), filter_for("mips")
    ('x86', 'none')
    """
    return _BY_ARCH.get(arch, "none")


def filter_id(name_or_id: str | int) -> int:
    """Return the stable id of a filter.

    Raises:
        InvalidArgument: There is no such filter.
    """
    if isinstance(name_or_id, str):
        if name_or_id in FILTERS:
            return FILTERS[name_or_id]
    elif name_or_id in FILTERS.values():
        return name_or_id
    raise InvalidArgument(f"filter {name_or_id!r}: not one of {', '.join(FILTERS)}")


def apply_filter(name_or_id: str | int, data: AnyBuffer, *, address: int = 0) -> None:
    """Make the targets of calls absolute, in place.

    Args:
        name_or_id: A filter of `FILTERS`.
        data: Any writable buffer, of any size.
        address: Of its first byte.

    Raises:
        InvalidArgument: No such filter, or a buffer that cannot be written.
    """
    _run(_lib.filter_apply, name_or_id, data, address)


def undo_filter(name_or_id: str | int, data: AnyBuffer, *, address: int = 0) -> None:
    """Undo `apply_filter` with the same arguments, in place.

    Args:
        name_or_id: A filter of `FILTERS`.
        data: Any writable buffer, of any size.
        address: Of its first byte.

    Raises:
        InvalidArgument: No such filter, or a buffer that cannot be written.
    """
    _run(_lib.filter_undo, name_or_id, data, address)


def _run(way: Callable[..., None], name_or_id: str | int, data: AnyBuffer, address: int) -> None:
    content = _lib.writable(data, "data")
    way(filter_id(name_or_id), content, len(content), _lib.checked_address(address))
