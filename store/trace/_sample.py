# SPDX-License-Identifier: MIT
"""What a replay notes of the store from time to time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """The store at one moment of a replay.

    Attributes:
        time: In the trace's clock; not before the sample before.
        events: Events replayed so far.
        hot_bytes: Bytes of frames in use.
        pool_bytes: Bytes that the compressed pool takes.
        metadata_bytes: Bytes of page tables and the like.
        budget_bytes: The budget; the three together never exceed it.
        faults_by_tier: Faults since the sample before, by the tier that had the page:
            "compressed", "same" (one repeated word), "rom", "disk", "swap" or "zero" (never
            written).
    """

    time: int
    events: int
    hot_bytes: int
    pool_bytes: int
    metadata_bytes: int
    budget_bytes: int
    faults_by_tier: Mapping[str, int]
