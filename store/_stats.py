# SPDX-License-Identifier: MIT
"""A snapshot of what a store holds and has done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pagestep.store.policy import Level

from ._binding import check, ffi, lib

__all__ = ["Stats", "TierStats", "snapshot"]

_SOURCES = {
    "compressed": lib.PGS_SOURCE_COMPRESSED,
    "same": lib.PGS_SOURCE_SAME,
    "rom": lib.PGS_SOURCE_ROM,
    "disk": lib.PGS_SOURCE_BACKING,
    "swap": lib.PGS_SOURCE_SWAP,
    "zero": lib.PGS_SOURCE_ZERO,
}


@dataclass(frozen=True)
class TierStats:
    """Faults that one source served.

    Attributes:
        faults: How many.
        bytes: Bytes read from the source to serve them.
        ns: Nanoseconds they took, or 0 where the store is not timed.
    """

    faults: int
    bytes: int
    ns: int


@dataclass(frozen=True)
class Stats:
    """What a store holds now, and what it has done since it was opened.

    Attributes:
        budget_bytes: RAM it may use.
        used_bytes: RAM it uses: ``hot_bytes + pool_bytes + metadata_bytes``.
        used_bytes_max: The most it ever used.
        hot_bytes: RAM in frames.
        pool_bytes: RAM in the compressed pool.
        stored_bytes: Compressed bytes in the pool.
        metadata_bytes: Page tables, frame table, codecs and coders, those of a ROM image too.
        page_count: Pages of all objects.
        hot_pages: Pages in frames.
        compressed_pages: Pages in the pool, and in no frame.
        same_pages: Same-filled pages in no frame; they take no bytes.
        absent_pages: Pages that only their backing has, or that are zeros.
        shared_pages: Pages of forks that are counted where they have them from; with the four
            before all pages.
        shared_bytes: RAM of pages that several forks have, each counted once.
        private_bytes: RAM of all other pages.
        dirty_pages: Pages whose bytes their backing may not have. Of a map whose writes the kernel
            notes (``MapStats.writes``), those written are counted only from when the map is next
            looked at: when they leave, by ``flush``, ``detach``, or its end.
        pinned_pages: Pages that cannot leave their frame.
        reads: Pages read.
        writes: Pages written.
        hits: Of these, found in a frame.
        page_outs: Pages that left a frame.
        encodes: Pages compressed.
        encode_ns: Nanoseconds that took, or 0 where the store is not timed.
        discards: Pages of which the last copy in RAM was dropped.
        writebacks: Pages given to their backing.
        corrupt: Page-ins refused because of their bytes.
        by_tier: Faults by where the page was found: ``compressed``, ``same`` (one repeated
            word), ``rom``, ``disk``, ``swap``, ``zero`` (never written).
        audited: Evictions that were held against all frames; 0 where the store is not audited.
        shortfalls: Of these, by how far the victim fell short of the greatest idle time times
            weight: [0] not at all, [k] by less than 2**k times, and not less than 2**(k-1).
        held_victims: Of these, pages that were pinned or ``PINNED``: never.
        fresh_victims: Of these, pages that the same thread had just faulted in.
        by_level: Faults by level name.
        pages_by_level: Pages by level name.
        hot_by_level: Pages in frames by level name.
    """

    budget_bytes: int
    used_bytes: int
    used_bytes_max: int
    hot_bytes: int
    pool_bytes: int
    stored_bytes: int
    metadata_bytes: int
    page_count: int
    hot_pages: int
    compressed_pages: int
    same_pages: int
    absent_pages: int
    shared_pages: int
    shared_bytes: int
    private_bytes: int
    dirty_pages: int
    pinned_pages: int
    reads: int
    writes: int
    hits: int
    page_outs: int
    encodes: int
    encode_ns: int
    discards: int
    writebacks: int
    corrupt: int
    audited: int
    held_victims: int
    fresh_victims: int
    shortfalls: tuple[int, ...]
    by_tier: dict[str, TierStats]
    by_level: dict[str, int]
    pages_by_level: dict[str, int]
    hot_by_level: dict[str, int]

    @property
    def faults(self) -> int:
        """Accesses to a page that was in no frame."""
        return sum(tier.faults for tier in self.by_tier.values())

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and dicts, ready for JSON."""
        return asdict(self) | {"faults": self.faults}


_PLAIN = [
    name
    for name in Stats.__dataclass_fields__
    if name not in ("by_tier", "by_level", "pages_by_level", "hot_by_level", "shortfalls")
]


def snapshot(store: Any) -> Stats:
    """Take the statistics of a ``pgs_store *``."""
    raw = ffi.new("struct pgs_stats *")
    check(lib.pgs_store_stats(store, raw), "statistics cannot be taken")
    return Stats(
        **{name: int(getattr(raw, name)) for name in _PLAIN},
        shortfalls=tuple(raw.shortfalls),
        by_tier={
            name: TierStats(int(raw.faults[i]), int(raw.fault_bytes[i]), int(raw.fault_ns[i]))
            for name, i in _SOURCES.items()
        },
        by_level={level.name: int(raw.level_faults[level]) for level in Level},
        pages_by_level={level.name: int(raw.level_pages[level]) for level in Level},
        hot_by_level={level.name: int(raw.level_hot[level]) for level in Level},
    )
