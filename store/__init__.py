# SPDX-License-Identifier: MIT
"""The page store: images, policy, traces."""

from ._files import WrittenBeside
from ._page_store import PageStore
from ._replay import Replay, replay
from ._size import parse_size, show_size
from ._stats import Stats, TierStats
from .image import Image, Segment
from .policy import Explanation, Level, PagePolicy, RuleSet, Tier, decide, include_folder
from .rom import Rom, RomCheck, RomImage, RomPlan, build_rom

__all__ = [
    "Explanation",
    "Image",
    "Level",
    "PagePolicy",
    "PageStore",
    "Replay",
    "Rom",
    "RomCheck",
    "RomImage",
    "RomPlan",
    "RuleSet",
    "Segment",
    "Stats",
    "Tier",
    "TierStats",
    "WrittenBeside",
    "build_rom",
    "decide",
    "include_folder",
    "parse_size",
    "replay",
    "show_size",
]
