# SPDX-License-Identifier: MIT
"""What a caller means by a place in an image, and what a page is called in a message."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import InvalidArgument, NoSuchPage, PageStepError
from pagestep.store.image import Image
from pagestep.store.policy import Rule, pages_matching

from ._binding import page_number_array

if TYPE_CHECKING:
    from pagestep.store.rom import Rom

__all__ = ["Where", "describe", "page_name", "pages_of"]

Where = int | str | range | Iterable[int]
"""A page number; a range or sequence of them; or text: the name of a segment, or
``"section:GLOB"``, ``"symbol:GLOB"``, ``"module:GLOB"``, ``"source:GLOB"`` as rules have them,
or ``"0xFIRST-0xEND"``, addresses of which the last is behind."""

_NAMES_SHOWN = 8
_KINDS = ("section", "symbol", "module", "source")
_ADDRESSES = re.compile(r"(0x[0-9a-f]+)-(0x[0-9a-f]+)", re.IGNORECASE)


def pages_of(image: Image | Rom, where: str | Iterable[int]) -> npt.NDArray[np.uint64]:
    """Return the numbers of the pages that a caller means, shape (n,).

    Raises:
        NoSuchPage: The image has nothing of that name.
        InvalidArgument: Only an image, and not a ROM image, knows symbols, modules and sources.
    """
    if not isinstance(where, str):
        return page_number_array(where)
    found = [segment.pages for segment in image.segments if segment.name == where]
    if found:
        return page_number_array(np.concatenate([np.arange(run.start, run.stop) for run in found]))
    rule = _rule_of(where)
    if rule is None:
        names = ", ".join(segment.name for segment in image.segments[:_NAMES_SHOWN])
        more = ", ..." if len(image.segments) > _NAMES_SHOWN else ""
        raise NoSuchPage(
            f"no segment is named {where!r}; there are {names}{more}; or write section:GLOB, "
            "symbol:GLOB, module:GLOB, source:GLOB or 0xFIRST-0xEND"
        )
    if not isinstance(image, Image):
        raise InvalidArgument(f"{where}: a ROM image has only segments: open the image with it")
    pages, reason = pages_matching(image, rule)
    if not len(pages):
        raise NoSuchPage(f"{where}: {reason}")
    return page_number_array(pages)


def _rule_of(where: str) -> Rule | None:
    """Return the rule that matches what a text names, or None."""
    addresses = _ADDRESSES.fullmatch(where)
    if addresses:
        first, end = (int(each, 16) for each in addresses.groups())
        return Rule(file=where, line=0, address=(first, end))
    kind, _, glob = where.partition(":")
    if kind not in _KINDS or not glob:
        return None
    section, symbol, module, source = ((glob,) if kind == each else () for each in _KINDS)
    return Rule(file=where, line=0, section=section, symbol=symbol, module=module, source=source)


def describe(where: Where) -> str:
    """Say what a caller named, for a message."""
    if isinstance(where, str):
        return where if _rule_of(where) else f"segment {where}"
    if isinstance(where, int | np.integer):
        return f"page {where}"
    return "the pages"


def page_name(image: Image | Rom, page_no: int) -> str:
    """Say which page it is: its number, the first symbol on it, its segments."""
    if not 0 <= page_no < image.page_count:
        return f"page {page_no}"
    names = list(dict.fromkeys(each.name for each in image.segments if page_no in each.pages))
    place = ", ".join(names)
    if isinstance(image, Image) and image.has_symbols_at_hand:
        address = image.address_of(page_no)
        # It is for a message about an image that may not be readable any more.
        with suppress(PageStepError):
            symbol = image.symbol_at(address)
            if symbol is not None:
                place = f"{symbol.name}+{address - symbol.address:#x} in {place}"
    return f"page {page_no} ({place})" if place else f"page {page_no}"
