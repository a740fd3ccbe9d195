# SPDX-License-Identifier: MIT
"""What each piece of an image gets: rules go before tags, tags before the default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from ._level import LEVELS, Level, Tier
from ._match import Matcher
from ._owners import NOBODY, Ints, Owners, find_owners

if TYPE_CHECKING:
    from pagestep.store.image import Image

    from ._rules import Rule
    from ._tags import Tag

KEYS: Final = ("level", "lifecycle", "codec", "lowest_tier")
DEFAULT: Final = -1
TAG: Final = -2


@dataclass(frozen=True, slots=True)
class UnmatchedRule:
    """A rule that matches nothing, or some of whose globs match nothing.

    Attributes:
        rule: Which.
        reason: What there is not.
        is_partial: It does match something.
    """

    rule: Rule
    reason: str
    is_partial: bool

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.rule.place}: {self.reason}"


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """One decision for each piece of an image.

    Attributes:
        owners: The pieces.
        rules: All rules, in order.
        matches: For each rule the pieces that it matches, ascending.
        tags: By number of section.
        default: The level of what neither rule nor tag speaks of.
        level: Of each piece, shape (pieces,), dtype uint8.
        once: Whether it is dropped when start-up ends.
        codec: 0, or the number in CODEC_NAMES that a rule gives.
        lowest_tier: The rule's, else the level's.
        level_by: The number of the rule that decided the level, or TAG, or DEFAULT.
    """

    owners: Owners
    rules: Sequence[Rule]
    matches: Sequence[Ints]
    tags: dict[int, Tag]
    default: Level
    level: npt.NDArray[np.uint8]
    once: npt.NDArray[np.bool_]
    codec: npt.NDArray[np.uint8]
    lowest_tier: npt.NDArray[np.uint8]
    level_by: Ints

    def rules_of(self, piece: int) -> list[Rule]:
        """Return the rules that match a piece, the last one first."""
        found: list[Rule] = []
        for rule, pieces in zip(self.rules, self.matches, strict=True):
            index = int(np.searchsorted(pieces, piece))
            if index < len(pieces) and pieces[index] == piece:
                found.append(rule)
        return found[::-1]

    def tag_of(self, piece: int) -> Tag | None:
        """Return the tag of a piece, or None."""
        return self.tags.get(int(self.owners.section[piece]))


def decide_pieces(
    image: Image, rules: Sequence[Rule], tags: dict[int, Tag], default: Level
) -> tuple[Decisions, list[UnmatchedRule]]:
    """Decide for every piece of an image.

    Returns:
        The decisions, and the rules that matched nothing, or not with all their globs.

    Raises:
        BadImage: Its symbols or its debug information cannot be read.
    """
    matcher = Matcher(image, rules)
    owners = find_owners(image, matcher.cuts(rules))
    bound = matcher.bind(owners)
    count = len(owners.start)
    level, level_by, once = _tagged(owners, tags, default)
    codec = np.zeros(count, np.uint8)
    tier = np.full(count, 255, np.uint8)
    matches: list[Ints] = []
    unmatched: list[UnmatchedRule] = []
    for number, rule in enumerate(rules):
        pieces, reason = bound.match(rule)
        matches.append(pieces)
        if reason:
            unmatched.append(UnmatchedRule(rule, reason, len(pieces) > 0))
        if rule.level is not None:
            level[pieces] = rule.level
            level_by[pieces] = number
        for values, value in ((once, rule.once), (codec, rule.codec), (tier, rule.lowest_tier)):
            if value is not None:
                values[pieces] = value
    level[tier == Tier.HOT] = Level.PINNED  # what may not leave its frame is pinned
    by_level = np.array([LEVELS[each].lowest_tier for each in Level], np.uint8)
    tier = np.where((tier == 255) | (level == Level.PINNED), by_level[level], tier)
    found = Decisions(
        owners, rules, matches, tags, default, level, once, codec, tier.astype(np.uint8), level_by
    )
    return found, unmatched


def _tagged(
    owners: Owners, tags: dict[int, Tag], default: Level
) -> tuple[npt.NDArray[np.uint8], Ints, npt.NDArray[np.bool_]]:
    level = np.full(len(owners.start), default, np.uint8)
    level_by = np.full(len(owners.start), DEFAULT, np.int64)
    once = np.zeros(len(owners.start), np.bool_)
    for section, tag in tags.items():
        of_section = owners.section == section
        level[of_section], level_by[of_section], once[of_section] = tag.level, TAG, tag.once
    return level, level_by, once


def owner_name(image: Image, owners: Owners, piece: int) -> str:
    """Return what to call the owner of a piece."""
    symbol, section = int(owners.symbol_no[piece]), int(owners.section[piece])
    if symbol != NOBODY:
        return image.symbols.name(symbol)
    if section == NOBODY:
        return "bytes outside any section"
    name = image.segments[section].name
    return f"rest of {name}" if (owners.symbol_section == section).any() else name
