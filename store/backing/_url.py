# SPDX-License-Identifier: MIT
"""A backing by its URL: what keeps compressed pages outside RAM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pagestep.codecs import Codec
from pagestep.codecs.errors import InvalidArgument
from pagestep.store._binding import check, ffi, lib
from pagestep.store.pager import shown_url

from ._in_pager import PAGER_SCHEMES, open_in_pager
from ._options import COMMON, TIMEOUT_MS, Options
from ._swap import RAM_OPTIONS, SWAP_OPTIONS, open_ram, open_swap

__all__ = ["Backed", "open_backing_url"]

_PAGES_MAX = 32  # the most that wait, or are read ahead, unless a URL says otherwise
_RAM_SHARE = 64  # and no more than this part of the budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Backed:
    """The pages that a backing is for.

    Attributes:
        page_count: How many.
        page_size: Bytes of each.
        codec: Codes them; must live as long as the backing.
        base_address: Of page 0, as branch filters see it.
        owner: 32 bytes that say whose pages they are, such as an image's SHA-256.
        ram: The store's budget in bytes, of which buffers take a small part; None: no limit.
        kept: Gets what must live as long as the backing.
        temporary: Nobody will ask for these pages again once the backing is closed.
    """

    page_count: int
    page_size: int
    codec: Codec
    base_address: int = 0
    owner: bytes = bytes(32)
    ram: int | None = None
    kept: list[Any] = field(default_factory=list[Any])
    temporary: bool = False


# What opens a scheme's blobs: a `struct pgs_blobs *`, and which options it takes.
_Opener = Callable[[SplitResult, Options, Backed], Any]
_SCHEMES: dict[str, tuple[_Opener, tuple[str, ...] | None]] = {
    "file": (open_swap, SWAP_OPTIONS),
    "swap": (open_swap, SWAP_OPTIONS),
    "ram": (open_ram, RAM_OPTIONS),
    **dict.fromkeys(PAGER_SCHEMES, (open_in_pager, None)),
}


def open_backing_url(url: str, backed: Backed, base: Any = None) -> Any:
    """Return a ``struct pgs_backing *`` over what a URL names.

    Args:
        url: Such as ``file:///var/tmp/pages.swap?size=64MiB``, or ``ram:`` (docs/BACKINGS.md).
        backed: The pages that it is for.
        base: A read-only ``struct pgs_backing *`` with the pages that were never written; it
            is taken over. None: they are zeros. On error it is not closed.

    Raises:
        BackingFull: There is no room for it.
        BackingInUse: Another process, or another store, uses it.
        BadSwap: The file is no swap file, or one of other pages.
        InvalidArgument: The URL, or one of its options, is wrong.
        StoreIOError: It cannot be opened.
    """
    parts = _split(url)
    opener, known = _SCHEMES[parts.scheme]
    options = Options(url, parts, known)
    params = _params(options, backed)
    blobs = opener(parts, options, backed)
    backing = ffi.new("struct pgs_backing *")
    code = lib.pgs_backing_coded(
        params, blobs, base or ffi.NULL, backed.codec.handle.pointer, backing
    )
    if code < 0:
        blobs.close(blobs.ctx)
    check(code, f"{options.url} cannot back {backed.page_count} pages of {backed.page_size} bytes")
    return backing


def _split(url: str) -> SplitResult:
    given: Any = url
    if not isinstance(given, str):
        raise InvalidArgument(
            f"a backing is named by a URL, such as file:///var/tmp/pages.swap, and not {url!r}"
        )
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidArgument(f"{url!r} is no URL: {error}") from None
    if parts.scheme not in _SCHEMES:
        raise InvalidArgument(
            f"{shown_url(url)!r}: there is no backing of scheme {parts.scheme!r}: there are "
            f"{', '.join(f'{scheme}:' for scheme in _SCHEMES)}"
        )
    if parts.fragment:
        raise InvalidArgument(f"{shown_url(url)!r} has a fragment; write # in a name as %23")
    return parts


def _params(options: Options, backed: Backed) -> Any:
    pages = _PAGES_MAX
    if backed.ram is not None:
        pages = min(pages, max(4, backed.ram // backed.page_size // _RAM_SHARE))
    buffer, ahead, timeout = COMMON
    params = ffi.new("struct pgs_coded_params *")
    params.struct_size = ffi.sizeof("struct pgs_coded_params")
    params.page_size = backed.page_size
    params.page_count = backed.page_count
    params.base_address = backed.base_address
    params.buffer_pages = options.count(buffer, pages, 1, 4096)
    params.ahead_pages = options.count(ahead, pages, 0, 4096)
    params.deadline_ms = options.milliseconds(timeout, TIMEOUT_MS)
    params.flags = lib.PGS_CODED_TEMPORARY if backed.temporary else 0
    return params
