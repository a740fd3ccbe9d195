# SPDX-License-Identifier: MIT
"""The scale: how gladly a page leaves RAM."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Level"]


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
