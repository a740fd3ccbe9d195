# SPDX-License-Identifier: MIT
"""The page store: images, policy, traces."""

from ._files import WrittenBeside
from ._level import Level
from ._page_store import PageStore
from ._pool import NonPagedPool, PagedPool, PoolBlock, PoolStats
from ._replay import Replay, replay
from ._size import parse_size, show_size
from ._stats import Stats, TierStats
from .image import Image, Segment
from .rom import Rom, RomCheck, RomImage, RomPlan, build_rom

__all__ = [
    "Image",
    "Level",
    "NonPagedPool",
    "PageStore",
    "PagedPool",
    "PoolBlock",
    "PoolStats",
    "Replay",
    "Rom",
    "RomCheck",
    "RomImage",
    "RomPlan",
    "Segment",
    "Stats",
    "TierStats",
    "WrittenBeside",
    "build_rom",
    "parse_size",
    "replay",
    "show_size",
]
