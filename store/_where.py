# SPDX-License-Identifier: MIT
"""What a caller means by a place in an image, and what a page is called in a message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import NoSuchPage

from ._binding import page_number_array
from .image import Image

if TYPE_CHECKING:
    from .rom import Rom

__all__ = ["Where", "describe", "page_name", "pages_of"]

Where = int | str | range | Iterable[int]
"""A page number, a range or sequence of them, or the name of a segment."""


def pages_of(image: Image | Rom, where: str | Iterable[int]) -> npt.NDArray[np.uint64]:
    """Return the numbers of the pages that a caller means, shape (n,).

    Raises:
        NoSuchPage: The image has nothing of that name.
    """
    if not isinstance(where, str):
        return page_number_array(where)
    found = [segment.pages for segment in image.segments if segment.name == where]
    if not found:
        names = ", ".join(segment.name for segment in image.segments[:8])
        raise NoSuchPage(f"no segment is named {where!r}; there are {names}, ...")
    return page_number_array(np.concatenate([np.arange(run.start, run.stop) for run in found]))


def describe(where: Where) -> str:
    """Say what a caller named, for a message."""
    if isinstance(where, str):
        return f"segment {where}"
    if isinstance(where, int | np.integer):
        return f"page {where}"
    return "the pages"


def page_name(image: Image | Rom, page_no: int) -> str:
    """Say which page it is: its number, the first symbol on it, its segments."""
    if not 0 <= page_no < image.page_count:
        return f"page {page_no}"
    names = list(dict.fromkeys(each.name for each in image.segments if page_no in each.pages))
    place = ", ".join(names)
    if isinstance(image, Image):
        address = image.address_of(page_no)
        symbol = image.symbol_at(address)
        if symbol is not None:
            place = f"{symbol.name}+{address - symbol.address:#x} in {place}"
    return f"page {page_no} ({place})" if place else f"page {page_no}"
