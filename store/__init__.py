# SPDX-License-Identifier: MIT
"""The page store: images, policy, discipline, traces."""

from ._anonymous import Anonymous, AnonymousStats
from ._files import WrittenBeside
from ._map_support import MapSupport, map_support
from ._mapped_array import MappedArray
from ._mapping import Mapping, MapStats
from ._page_store import PageStore
from ._pool import NonPagedPool, PagedPool, PoolBlock, PoolStats
from ._pressure import PressureEvent, PressureStats, PressureWatcher
from ._replay import Replay, replay
from ._size import parse_size, show_size
from ._stats import Stats, TierStats
from .backing import SwapStats
from .discipline import StoreLock
from .image import Image, Segment
from .policy import Explanation, Level, PagePolicy, RuleSet, Tier, decide, include_folder
from .rom import Rom, RomCheck, RomImage, RomPlan, build_rom

__all__ = [
    "Anonymous",
    "AnonymousStats",
    "Explanation",
    "Image",
    "Level",
    "MapStats",
    "MapSupport",
    "MappedArray",
    "Mapping",
    "NonPagedPool",
    "PagePolicy",
    "PageStore",
    "PagedPool",
    "PoolBlock",
    "PoolStats",
    "PressureEvent",
    "PressureStats",
    "PressureWatcher",
    "Replay",
    "Rom",
    "RomCheck",
    "RomImage",
    "RomPlan",
    "RuleSet",
    "Segment",
    "Stats",
    "StoreLock",
    "SwapStats",
    "Tier",
    "TierStats",
    "WrittenBeside",
    "build_rom",
    "decide",
    "include_folder",
    "map_support",
    "parse_size",
    "replay",
    "show_size",
]
