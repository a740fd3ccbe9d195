# SPDX-License-Identifier: MIT
"""The scale: how gladly a page leaves RAM, and what follows from each level."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pagestep.store._binding import lib

__all__ = ["CODEC_NAMES", "LEVELS", "ONCE", "Level", "LevelTraits", "OnceTraits", "Tier"]


class Level(IntEnum):
    """How gladly a page leaves RAM; the numbers are the core's ``enum pgs_level``."""

    PINNED = 0
    """Never."""
    LAST_RESORT = 1
    """Only if you absolutely have to."""
    RELUCTANT = 2
    NORMAL = 3
    EAGER = 4
    STEP_ON_IT = 5
    """We'll never need it in a hurry."""

    @property
    def weight(self) -> int:
        """What idle time is multiplied with in the choice of a victim; 0: it is no candidate."""
        return int(lib.pgs_level_weight(self))


class Tier(IntEnum):
    """Where a page's bytes are; the deeper, the longer it takes to have them back."""

    HOT = 0
    COMPRESSED = 1
    ROM = 2
    DISK = 3


CODEC_NAMES: Final = ("", "fast", "balanced", "dense")
"""Names of codecs in rules, by number, the fastest first; number 0 leaves it to the level."""


@dataclass(frozen=True, slots=True)
class LevelTraits:
    """What a level means.

    Attributes:
        ram_codec: What codes the page in RAM, of CODEC_NAMES, or "fast, balanced when cold";
            None where it is never coded.
        rom_codec: What codes the page in a ROM image, of CODEC_NAMES.
        lowest_tier: The deepest tier that the page may sink to.
        expected_reads: How often the page is expected to be read from ROM, in relation to the
            others, where no trace says it.
        cold: What becomes of the page when it is cold.
    """

    ram_codec: str | None
    rom_codec: str
    lowest_tier: Tier
    expected_reads: float
    cold: str


_SETTLING: Final = "fast, balanced when cold"

# An engineer who says "step on it" expects not to need the page, one who says "last resort"
# expects to need it all the time; a pinned page is read once.
LEVELS: Final = {
    Level.PINNED: LevelTraits(None, "balanced", Tier.HOT, 1.0, "stays in its frame"),
    Level.LAST_RESORT: LevelTraits(
        "fast", "fast", Tier.DISK, 16.0, "compressed; dropped last of all"
    ),
    Level.RELUCTANT: LevelTraits(
        "fast", "fast", Tier.DISK, 8.0, "compressed; dropped when the pool is full"
    ),
    Level.NORMAL: LevelTraits(
        _SETTLING, "balanced", Tier.DISK, 4.0, "compressed; dropped when the pool is full"
    ),
    Level.EAGER: LevelTraits(
        _SETTLING, "balanced", Tier.DISK, 2.0, "dropped where it is clean, else compressed"
    ),
    Level.STEP_ON_IT: LevelTraits(
        "balanced", "dense", Tier.DISK, 1.0, "dropped where it is clean, else compressed"
    ),
}
"""The table of levels, of which docs/LEVELS.md is made."""


@dataclass(frozen=True, slots=True)
class OnceTraits:
    """What the lifecycle ``once`` means, whatever the page's level.

    Attributes:
        rom_codec: What codes the page in a ROM image, of CODEC_NAMES.
        level: Of what is tagged ``__pageable_once``, which names no level.
        cold: What becomes of the page.
    """

    rom_codec: str
    level: Level
    cold: str


ONCE: Final = OnceTraits("dense", Level.STEP_ON_IT, "dropped for good when start-up ends")
