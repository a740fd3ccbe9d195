# SPDX-License-Identifier: MIT
"""The policy of an image's pages: each takes the most careful of what its owners ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ._decisions import Decisions, UnmatchedRule, decide_pieces, owner_name
from ._explain import explain
from ._explanation import Explanation
from ._level import CODEC_NAMES, LEVELS, ONCE, Level, Tier
from ._owners import Ints
from ._rules import RuleSet
from ._tags import section_tags

if TYPE_CHECKING:
    from pagestep.store.image import Image

__all__ = ["ForcedBy", "PagePolicy", "SharingCost", "decide"]


@dataclass(frozen=True, slots=True)
class ForcedBy:
    """An owner that makes pages more careful than others on them asked for.

    Attributes:
        owner: A symbol's name, or a section's.
        level: What it asked for.
        pages: How many pages it makes so.
        bytes: Bytes on them whose owners asked for less care.
    """

    owner: str
    level: Level
    pages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SharingCost:
    """What it costs that owners of different levels lie on one page.

    Attributes:
        pages: Pages that are more careful than an owner on them asked for.
        bytes: The bytes of such owners on them.
        pinned_pages: Of the pages, those that are PINNED.
        forced_by: Who forces it, the most pages first; of several on a page the first counts.
    """

    pages: int
    bytes: int
    pinned_pages: int
    forced_by: tuple[ForcedBy, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Every piece of an owner's on every page that it lies on, by page and then by place.

    Attributes:
        page: Page numbers, shape (pairs,).
        piece: Numbers of pieces.
        size: Bytes of the piece on the page.
        first: Where in these arrays each page's pairs begin, shape (owned pages,).
    """

    page: Ints
    piece: Ints
    size: Ints
    first: Ints

    @classmethod
    def of(cls, decisions: Decisions, page_size: int) -> Pairs:
        """Spread the pieces that somebody owns over the pages."""
        owners = decisions.owners
        piece = np.flatnonzero(~owners.is_fill)
        start, end = owners.start[piece], owners.end[piece]
        first_page = start // page_size
        counts = (end - 1) // page_size - first_page + 1
        before = np.cumsum(counts) - counts
        page = np.repeat(first_page - before, counts) + np.arange(int(counts.sum()))
        low = np.maximum(np.repeat(start, counts), page * page_size)
        high = np.minimum(np.repeat(end, counts), (page + 1) * page_size)
        first = np.flatnonzero(np.diff(page, prepend=-1))
        return cls(page, np.repeat(piece, counts), high - low, first)


class PagePolicy:
    """What becomes of each page of an image. Made by ``decide``.

    Attributes:
        image: Whose pages they are.
        rules: The rules that were given.
        is_plain: There are neither rules nor tags, and so every page is NORMAL.
        level: Of each page, values of Level, shape (page_count,), dtype uint8.
        once: Pages that are dropped for good when start-up ends, shape (page_count,).
        codec: 0: what the level says; else the number of one in ``codec_names``.
        codec_names: Names of codecs by number.
        lowest_tier: The deepest tier that each may sink to, values of Tier.
        unmatched: Rules that match nothing, or not with all their globs.
    """

    codec_names = CODEC_NAMES

    def __init__(self, image: Image, rules: RuleSet | None) -> None:
        """Made by ``decide``."""
        self.image = image
        self.rules = rules or RuleSet()
        self._tags = section_tags(image)
        self.is_plain = rules is None and not self._tags
        count = image.page_count
        # What nobody owns holds nothing that could be needed.
        self.level = np.full(count, Level.NORMAL, np.uint8)
        self.once = np.zeros(count, np.bool_)
        self.codec = np.zeros(count, np.uint8)
        self.lowest_tier = np.full(count, Tier.DISK, np.uint8)
        self.unmatched: tuple[UnmatchedRule, ...] = ()
        if not self.is_plain:
            self._merge()

    @cached_property
    def _decided(self) -> tuple[Decisions, list[UnmatchedRule]]:
        default = Level.NORMAL if self.is_plain else Level.PINNED
        return decide_pieces(self.image, self.rules.rules, self._tags, default)

    @property
    def decisions(self) -> Decisions:
        """What each piece of the image asks for."""
        return self._decided[0]

    @cached_property
    def pairs(self) -> Pairs:
        """Which piece lies on which page."""
        return Pairs.of(self.decisions, self.image.page_size)

    def _merge(self) -> None:
        decisions, unmatched = self._decided
        self.unmatched = tuple(unmatched)
        pairs = self.pairs
        if not len(pairs.first):
            return
        pages = pairs.page[pairs.first]
        for mine, theirs in (
            (self.level, decisions.level),
            (self.lowest_tier, decisions.lowest_tier),
            (self.once, decisions.once),
        ):
            mine[pages] = np.minimum.reduceat(theirs[pairs.piece], pairs.first)
        asked = np.maximum.reduceat(decisions.codec[pairs.piece], pairs.first) > 0
        codec = np.where(decisions.codec > 0, decisions.codec, rom_codecs(decisions))
        fastest = np.minimum.reduceat(codec[pairs.piece], pairs.first)
        self.codec[pages] = np.where(asked, fastest, 0)

    @property
    def rom_codec(self) -> npt.NDArray[np.uint8]:
        """What codes each page in a ROM image, numbers in ``codec_names``; shape (page_count,)."""
        found: npt.NDArray[np.uint8] = np.where(
            self.codec > 0, self.codec, _by_level(self.level, self.once)
        )
        return found

    @cached_property
    def pages_by_level(self) -> dict[Level, int]:
        """How many pages have each level."""
        counts = np.bincount(self.level, minlength=len(Level))
        return {level: int(counts[level]) for level in Level}

    @property
    def has_tags(self) -> bool:
        """Whether the image's own sections say levels."""
        return bool(self._tags)

    @property
    def pageable_pages(self) -> int:
        """How many pages are not PINNED, those that nobody owns among them."""
        return len(self.level) - self.pages_by_level[Level.PINNED]

    @property
    def unowned_pages(self) -> int:
        """How many pages hold nothing but fill, and zeros between what is loaded: NORMAL."""
        return self.image.page_count - len(self.pairs.first)

    @cached_property
    def sharing(self) -> SharingCost:
        """What it costs that owners of different levels lie on one page."""
        pairs = self.pairs
        asked = self.decisions.level[pairs.piece]
        got = self.level[pairs.page]
        more = asked > got
        pages = np.unique(pairs.page[more])
        lost = np.bincount(pairs.page[more], pairs.size[more], minlength=len(self.level))
        # Who forces a page: the first on it that asks for what it got.
        forcing = np.flatnonzero(asked == got)
        _, index = np.unique(pairs.page[forcing], return_index=True)
        first = forcing[index]
        first = first[np.isin(pairs.page[first], pages)]
        found: dict[tuple[str, int], list[int]] = {}
        owners = self.decisions.owners
        for page, piece in zip(
            pairs.page[first].tolist(), pairs.piece[first].tolist(), strict=True
        ):
            name = owner_name(self.image, owners, piece)
            entry = found.setdefault((name, int(self.level[page])), [0, 0])
            entry[0] += 1
            entry[1] += int(lost[page])
        forced = [ForcedBy(name, Level(level), *counts) for (name, level), counts in found.items()]
        return SharingCost(
            pages=len(pages),
            bytes=int(pairs.size[more].sum()),
            pinned_pages=int((self.level[pages] == Level.PINNED).sum()),
            forced_by=tuple(
                sorted(forced, key=lambda each: (-each.pages, -each.bytes, each.owner))
            ),
        )

    def explain(self, where: int | str) -> Explanation:
        """Say why something has its level.

        Args:
            where: A page number, or beyond the last page an address. As text, a page number, an
                address (``"0xc0008000"``), a symbol, ``"symbol+0x10"``, or a section's name.

        Raises:
            InvalidArgument: The image has nothing of that name.
            NoSuchPage: The image has no such page or address.
            BadImage: The symbols cannot be read.
        """
        return explain(self, where)


def rom_codecs(decisions: Decisions) -> npt.NDArray[np.uint8]:
    """Return what codes each piece in a ROM image, where no rule says it."""
    return _by_level(decisions.level, decisions.once)


def _by_level(level: npt.NDArray[np.uint8], once: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    table = _numbers([LEVELS[each].rom_codec for each in Level])
    return np.where(once, np.uint8(CODEC_NAMES.index(ONCE.rom_codec)), table[level])


def _numbers(names: Sequence[str]) -> npt.NDArray[np.uint8]:
    return np.array([CODEC_NAMES.index(name) for name in names], np.uint8)


def decide(image: Image, rules: RuleSet | None) -> PagePolicy:
    """Decide what becomes of each page of an image.

    Rules go before tags in the image, later rules before earlier ones, key by key. Where there
    are rules or tags, what neither speaks of is PINNED; else every page is NORMAL. A page takes
    the most careful of what its owners ask for: the lowest level, the shallowest lowest tier, the
    fastest codec; ``once`` only where all ask for it.

    Args:
        image: Whose pages they are.
        rules: None: no rules, which is not the same as rules of which none matches.

    Raises:
        BadImage: Tags that contradict each other, or symbols that cannot be read.
    """
    return PagePolicy(image, rules)
