# SPDX-License-Identifier: MIT
"""How a store treats each page: by its policy, unless it is forbidden to page it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import InvalidArgument
from pagestep.store.policy import CODEC_NAMES, LEVELS, Level, Tier

from ._binding import lib

if TYPE_CHECKING:
    from pagestep.store.policy import PagePolicy

__all__ = ["Treatments"]

_EFFORTS = {
    "fast": lib.PGS_EFFORT_FAST,
    "fast, balanced when cold": lib.PGS_EFFORT_SETTLING,
    "balanced": lib.PGS_EFFORT_BALANCED,
    "dense": lib.PGS_EFFORT_BALANCED,  # the densest that RAM has
    None: lib.PGS_EFFORT_FAST,
}
_BY_LEVEL = np.array([_EFFORTS[LEVELS[level].ram_codec] for level in Level], np.uint8)
_TIER_BY_LEVEL = np.array([LEVELS[level].lowest_tier for level in Level], np.uint8)
# By number of a codec in rules; 0, which leaves it to the level, is never looked up.
_BY_CODEC = np.array([_EFFORTS[name or None] for name in CODEC_NAMES], np.uint8)

Bytes = npt.NDArray[np.uint8]
Pages = npt.NDArray[np.uint64]


class Treatments:
    """What each page's level, codec and lowest tier are, and which pages may not be paged.

    Attributes:
        once: Pages whose bytes are given up when start-up ends, shape (page_count,), bool.
    """

    def __init__(self, page_count: int) -> None:
        """Begin with pages of plain data."""
        self.once = np.zeros(page_count, np.bool_)
        self._wanted = _treatment(np.full(page_count, Level.NORMAL, np.uint8))
        self._forbids = np.zeros(page_count, np.uint32)
        self._forbidden: dict[Hashable, Pages] = {}

    def of_policy(self, policy: PagePolicy, in_rom: npt.NDArray[np.bool_]) -> Bytes:
        """Return the treatments that a policy asks for, shape (page_count,).

        Args:
            policy: What rules and tags say of each page.
            in_rom: The pages that a ROM image gives back, shape (page_count,).
        """
        self.once = policy.once.copy()
        return _treatment(policy.level, policy.codec, policy.lowest_tier, in_rom)

    def of_level(self, level: Level, count: int) -> Bytes:
        """Return the treatment that goes with a level, ``count`` times."""
        return _treatment(np.full(count, level, np.uint8))

    def effective(self, pages: Pages, wanted: Bytes) -> Bytes:
        """Return how pages are to be treated, of which that is wanted."""
        return np.where(self._forbids[pages] > 0, np.uint8(Level.PINNED), wanted)

    def want(self, pages: Pages, wanted: Bytes) -> None:
        """Note what is wanted of pages."""
        self._wanted[pages] = wanted

    # -- forbidding ---------------------------------------------------------------------

    def forbid(self, key: Hashable, pages: Pages) -> None:
        """Note that pages may not be paged, for a reason of that name."""
        self._forbidden[key] = np.unique(pages)
        self._forbids[self._forbidden[key]] += 1

    def is_forbidden(self, key: Hashable) -> bool:
        """Return whether that was forbidden."""
        return key in self._forbidden

    def allowing(self, key: Hashable, name: str) -> tuple[Pages, Bytes]:
        """Return the pages that were forbidden, and how they are to be treated without that.

        Raises:
            InvalidArgument: It was not forbidden.
        """
        if key not in self._forbidden:
            raise InvalidArgument(
                f"{name}: paging was not forbidden by that name, or is allowed again already"
            )
        pages = self._forbidden[key]
        others = self._forbids[pages] > 1
        return pages, np.where(others, np.uint8(Level.PINNED), self._wanted[pages])

    def allowed(self, key: Hashable) -> None:
        """Note that the pages are treated so."""
        self._forbids[self._forbidden.pop(key)] -= 1

    def level_of(self, pages: npt.NDArray[np.int64]) -> Bytes:
        """Return the levels in force, shape (n,)."""
        wanted: Bytes = self._wanted[pages] & lib.PGS_TREAT_LEVEL_MASK
        return np.where(self._forbids[pages] > 0, np.uint8(Level.PINNED), wanted)

    def startup_pages(self) -> npt.NDArray[np.int64]:
        """Return the pages that are to be given up when start-up ends, unless forbidden."""
        found: npt.NDArray[np.int64] = np.flatnonzero(self.once & (self._forbids == 0))
        return found

    def forbidden_among(self, pages: npt.NDArray[np.int64]) -> int:
        """Return how many of some pages may not be paged."""
        return int(np.count_nonzero(self._forbids[pages]))


def _treatment(
    level: Bytes,
    codec: Bytes | None = None,
    lowest_tier: Bytes | None = None,
    in_rom: npt.NDArray[np.bool_] | None = None,
) -> Bytes:
    """Return treatments of ``pgs_treat`` by level, and by what a rule says beside it."""
    effort = _BY_LEVEL[level]
    if codec is not None:
        effort = np.where(codec > 0, _BY_CODEC[codec], effort)
    tier = _TIER_BY_LEVEL[level] if lowest_tier is None else lowest_tier
    stays = tier <= Tier.COMPRESSED
    if in_rom is not None:
        stays |= (tier == Tier.ROM) & ~in_rom
    found: Bytes = level + effort * np.uint8(lib.PGS_TREAT_EFFORT)
    return found + stays * np.uint8(lib.PGS_TREAT_STAYS)
