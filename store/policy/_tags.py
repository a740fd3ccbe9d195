# SPDX-License-Identifier: MIT
"""Tags that ``pagestep/pageable.h`` puts into a program, read back from its sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pagestep.codecs.errors import BadImage

from ._level import ONCE, Level
from ._rules_check import nearest

if TYPE_CHECKING:
    from pagestep.store.image import Image

__all__ = ["Tag", "fault_marks", "include_folder", "section_tags"]

MAY_FAULT: Final = ".pagestep.may_fault"
NO_FAULT: Final = ".pagestep.no_fault"
_SECTION = re.compile(r"\.pageable\.(text|data|rodata)\.(.+)")


@dataclass(frozen=True, slots=True)
class Tag:
    """What the source of a program says of a section's bytes.

    Attributes:
        name: As in ``pageable.h``, without ``__``.
        level: How gladly its pages leave RAM.
        once: Whether they are dropped for good when start-up ends.
    """

    name: str
    level: Level
    once: bool


_LEVELS: Final = {
    **{level.name.lower(): (level, False) for level in Level},
    "once": (ONCE.level, True),
}
"""By the end of a section's name: the level, and whether it is for start-up alone."""


def include_folder() -> Path:
    """Return the folder to give a compiler with -I, for ``pagestep/pageable.h``.

    The linker script beside it is ``pagestep/pageable.ld``.
    """
    with as_file(files("pagestep").joinpath("include/pagestep/pageable.h")) as header:
        return header.resolve().parents[1]


def section_tags(image: Image) -> dict[int, Tag]:
    """Return the tags of an image's sections, by their numbers in ``Image.segments``.

    Object files and linked images name them alike.

    Raises:
        BadImage: A section of tags whose level is not known, or a symbol that reaches from one
            into another.
    """
    found: dict[int, Tag] = {}
    for number, segment in enumerate(image.segments):
        match = _SECTION.fullmatch(segment.name)
        if match is None:
            continue
        kind, name = match.groups()
        if name not in _LEVELS:
            raise BadImage(
                f"{image.name}: section {segment.name} is tagged with a level that is not known; "
                f"{nearest(name, _LEVELS)}"
            )
        level, once = _LEVELS[name]
        of_kind = "" if kind == "text" else f"_{kind}"
        is_pinned = level == Level.PINNED
        found[number] = Tag(
            f"nonpageable{of_kind}" if is_pinned else f"pageable{of_kind}_{name}", level, once
        )
    if len(set(found.values())) > 1:
        _check_levels(image, found)
    return found


def _check_levels(image: Image, tags: dict[int, Tag]) -> None:
    """Refuse a symbol that begins in a section of one tag and ends in a section of another."""
    symbols = image.symbols
    for number, tag in tags.items():
        segment = image.segments[number]
        first, end = segment.address, segment.address + segment.size
        low, high = np.searchsorted(symbols.addresses, np.array([first, end], np.uint64)).tolist()
        behind = symbols.addresses[low:high] + symbols.sizes[low:high]
        for index in (low + np.flatnonzero(behind > np.uint64(end))).tolist():
            last = int(symbols.addresses[index] + symbols.sizes[index]) - 1
            for other, other_tag in tags.items():
                beyond = image.segments[other]
                if beyond.address <= last < beyond.address + beyond.size and other_tag != tag:
                    raise BadImage(
                        f"{image.name}: {symbols.name(index)} is tagged __{tag.name} and "
                        f"__{other_tag.name}: it begins in {segment.name} and ends in "
                        f"{beyond.name}; give it one tag"
                    )


def fault_marks(image: Image) -> tuple[set[int], set[int]]:
    """Return the addresses of functions that are marked as they may fault, or must not.

    Returns:
        Those of ``__may_fault`` and those of ``__no_fault``; no marks, no addresses.

    Raises:
        BadImage: A function has both marks; or must not fault and is tagged pageable; or a mark
            cannot be read.
    """
    may, no = (_marked(image, name) for name in (MAY_FAULT, NO_FAULT))
    both = may & no
    if both:
        raise BadImage(
            f"{image.name}: {_name(image, min(both))} is marked __may_fault and __no_fault: "
            "take one of the marks out"
        )
    for number, tag in section_tags(image).items():
        segment = image.segments[number]
        inside = [at for at in no if 0 <= at - segment.address < segment.size]
        if inside and tag.level != Level.PINNED:
            raise BadImage(
                f"{image.name}: {_name(image, min(inside))} is marked __no_fault and tagged "
                f"__{tag.name}: its own page could be missing; tag it __nonpageable"
            )
    return may, no


def _marked(image: Image, section: str) -> set[int]:
    addresses = image.pointers_of(section)
    is_thumb = image.arch in ("arm", "armeb", "thumb", "thumbeb")
    found = {address & ~1 if is_thumb else address for address in addresses}
    astray = [address for address in found if image.pages_of([address])[0] < 0]
    if astray:
        raise BadImage(
            f"{image.name}: {section} speaks of address {min(astray):#x}, which is in no page: "
            "link without -pie, or check the object files"
        )
    return found


def _name(image: Image, address: int) -> str:
    symbol = image.symbol_at(address)
    return symbol.name if symbol else f"the function at {address:#x}"
