# SPDX-License-Identifier: MIT
"""What gives pages back, and takes changed ones: images, ROM images, swap files, pagers."""

from ._image import check_pair, close_backing, open_backing
from ._in_pager import KeptPager
from ._swap import SwapStats, swap_stats
from ._url import Backed, open_backing_url

__all__ = [
    "Backed",
    "KeptPager",
    "SwapStats",
    "check_pair",
    "close_backing",
    "open_backing",
    "open_backing_url",
    "swap_stats",
]
