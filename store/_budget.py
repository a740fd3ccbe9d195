# SPDX-License-Identifier: MIT
"""What to do about a budget that has no room, which depends on what it is full of."""

from __future__ import annotations

from typing import Any

from ._binding import check, ffi, lib, usual_remedy
from ._size import show_size
from ._stats import snapshot

__all__ = ["FRAMES_MIN", "budget_remedy", "object_bytes"]

FRAMES_MIN = 8  # that a store keeps beside those that are held


def budget_remedy(
    core: Any, page_size: int, *, swap: str = "", more: int = 0, budget: int | None = None
) -> str:
    """Return what to do after ``PGS_E_BUDGET``.

    Args:
        core: The ``pgs_store *``, open.
        page_size: Bytes of a page.
        swap: What is to be done about where changed pages go, if they go anywhere.
        more: Bytes beside the pages themselves that were asked for, as far as is known.
        budget: The budget that was to be, in bytes; None: the store's.
    """
    stats = snapshot(core)
    if stats.pinned_pages or stats.dirty_pages:
        return swap or usual_remedy(lib.PGS_E_BUDGET)
    # Whatever is in RAM could leave it: so no page is to blame.
    budget = stats.budget_bytes if budget is None else budget
    least = stats.metadata_bytes + more + FRAMES_MIN * page_size
    needed = f", and {show_size(least)} or more are needed" if least > budget else ""
    return f"{show_size(budget)} are too small, though no page in it is held{needed}; raise `ram`"


def object_bytes(page_count: int, page_size: int, codec: Any) -> int:
    """Return how many bytes an object's table, its codec and one coder take at least.

    Args:
        page_count: The object's pages that have an entry from the start.
        page_size: Bytes of a page.
        codec: The ``pgs_codec *`` of its pages.
    """
    opened = ffi.new("pgs_coder **")
    check(lib.pgs_coder_open(codec, 1, opened), "a coder cannot be opened")
    coder = int(lib.pgs_coder_memory_bytes(opened[0])) + 2 * page_size
    lib.pgs_coder_close(opened[0])
    tables = page_count * int(lib.pgs_store_entry_bytes())
    return tables + int(lib.pgs_codec_memory_bytes(codec)) + coder
