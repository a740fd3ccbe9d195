# SPDX-License-Identifier: MIT
"""A compressed page store for kernel and firmware images."""

from pagestep.codecs.errors import (
    BadImage,
    BadTrace,
    BudgetExceeded,
    Closed,
    CorruptPage,
    DirtyPage,
    InvalidArgument,
    NoSuchPage,
    PageStepError,
    PinnedPage,
    StoreIOError,
    SystemMemoryError,
    Unsupported,
    WouldFault,
)
from pagestep.store import Image, Level, PageStore, Replay, Segment, Stats, TierStats, replay

__all__ = [
    "BadImage",
    "BadTrace",
    "BudgetExceeded",
    "Closed",
    "CorruptPage",
    "DirtyPage",
    "Image",
    "InvalidArgument",
    "Level",
    "NoSuchPage",
    "PageStepError",
    "PageStore",
    "PinnedPage",
    "Replay",
    "Segment",
    "Stats",
    "StoreIOError",
    "SystemMemoryError",
    "TierStats",
    "Unsupported",
    "WouldFault",
    "replay",
]
