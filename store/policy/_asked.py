# SPDX-License-Identifier: MIT
"""What the owners of a run of bytes ask for, and who makes its pages more careful than that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._decisions import owner_name
from ._explanation import Asked, Forcing, Wish
from ._owners import NOBODY, Ints

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._decide import PagePolicy

__all__ = ["AskedFor", "asked_for"]

_FORCING_TOLD = 16


@dataclass(frozen=True, slots=True)
class AskedFor:
    """What a run of bytes gets, in sum.

    Attributes:
        piece: One of the pieces that ask for what most bytes get; NOBODY: nobody owns a byte.
        asked: Who asks for what, the most bytes first.
        forced_pages: Pages that are more careful than that piece asks.
        forcing: Who makes them so, the most pages first.
    """

    piece: int
    asked: tuple[Asked, ...]
    forced_pages: int
    forcing: tuple[Forcing, ...]


def asked_for(
    policy: PagePolicy, offset: int, end: int, wish_of: Callable[[int], Wish]
) -> AskedFor:
    """Sum up a run of bytes.

    Args:
        policy: Whose image it is.
        offset: Of the first byte in the image.
        end: The offset behind the last one.
        wish_of: Gives what decided the level of a piece.
    """
    decisions, page_size = policy.decisions, policy.image.page_size
    owners = decisions.owners
    pieces = np.flatnonzero((owners.start < end) & (owners.end > offset) & ~owners.is_fill)
    if not len(pieces):
        return AskedFor(NOBODY, (), 0, ())
    keys = np.stack([decisions.level_by[pieces], decisions.level[pieces].astype(np.int64)])
    _, firsts, groups = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    groups = groups.reshape(-1)
    sizes = np.minimum(owners.end[pieces], end) - np.maximum(owners.start[pieces], offset)
    first_page, end_page = offset // page_size, -(-end // page_size)
    low, high = np.searchsorted(policy.pairs.page, [first_page, end_page]).tolist()
    page, on_page = policy.pairs.page[low:high], policy.pairs.piece[low:high]
    inside = np.isin(on_page, pieces)
    pages = _distinct(groups[np.searchsorted(pieces, on_page[inside])], page[inside])
    askers = _distinct(groups, owners.symbol_no[pieces])
    bytes_of = np.bincount(groups, sizes).astype(np.int64).tolist()
    found = [
        (int(pieces[first]), Asked(wish_of(int(pieces[first])), *counts))
        for first, *counts in zip(firsts.tolist(), askers, bytes_of, pages, strict=True)
    ]
    found.sort(key=lambda each: -each[1].bytes)
    piece = found[0][0]
    count, forcing = _forcing(policy, first_page, end_page, piece, wish_of)
    return AskedFor(piece, tuple(asked for _, asked in found), count, forcing)


def _distinct(groups: Ints, values: Ints) -> list[int]:
    """Return how many different values each group has; every group has one."""
    pairs = np.unique(np.stack([groups, values]), axis=1)
    counts: list[int] = np.bincount(pairs[0]).tolist()
    return counts


def _forcing(
    policy: PagePolicy, first: int, end: int, piece: int, wish_of: Callable[[int], Wish]
) -> tuple[int, tuple[Forcing, ...]]:
    """Return how many pages are more careful than a piece asks, and who makes them so."""
    pairs, decisions = policy.pairs, policy.decisions
    low, high = np.searchsorted(pairs.page, [first, end]).tolist()
    page, on_page = pairs.page[low:high], pairs.piece[low:high]
    got = policy.level[page]
    makes = np.flatnonzero((decisions.level[on_page] == got) & (got < decisions.level[piece]))
    # Of several on a page the first counts, as in `inspect`.
    _, index = np.unique(page[makes], return_index=True)
    by, counts = np.unique(on_page[makes[index]], return_counts=True)
    order = np.lexsort((by, -counts))[:_FORCING_TOLD]
    return len(index), tuple(
        Forcing(
            owner=owner_name(policy.image, decisions.owners, each),
            wish=wish_of(each),
            pages=pages,
        )
        for each, pages in zip(by[order].tolist(), counts[order].tolist(), strict=True)
    )
