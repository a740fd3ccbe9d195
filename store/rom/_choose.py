# SPDX-License-Identifier: MIT
"""Which codec for which page: the least expected fault time that fits.

A multiple-choice knapsack (Kellerer, Pferschy and Pisinger, "Knapsack Problems", 2004, chapter
11): its relaxed problem, in which pages may be cut in two, is solved by taking the steps along
each page's convex hull in the order of time saved for each byte. Stopping before a step is cut
is at most that one step above the relaxed optimum, which is returned beside the choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

# Microseconds for a page of 4 KiB, to compare codecs with; measured on a desktop processor
# (docs/decisions/0011-rom-building.md). On others their relation is much the same.
PAGE_US: Final = {"raw": 0.3, "lz4": 1.5, "zstd": 8.0}


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What was chosen, and how near it is to the relaxed optimum.

    Attributes:
        option: For each page, shape (pages,).
        size: Of all pages together, in bytes.
        time: Weighted, in the unit of the costs.
        time_bound: The relaxed problem's optimum: no choice that fits takes less.
    """

    option: npt.NDArray[np.int64]
    size: int
    time: float
    time_bound: float


def choose(
    sizes: npt.NDArray[np.int64], times: npt.NDArray[np.float64], size_max: int
) -> Choice | None:
    """Choose an option for each page.

    Args:
        sizes: In bytes, shape (pages, options).
        times: Weighted expected time, shape (pages, options).
        size_max: For all pages together.

    Returns:
        The choice; None where not even the smallest options fit.
    """
    page_count = len(sizes)
    rows = np.arange(page_count)
    # The smallest option, among equals the quickest.
    option = np.lexsort((times, sizes), axis=1)[:, 0] if page_count else np.empty(0, np.int64)
    size = int(sizes[rows, option].sum())
    time = float(times[rows, option].sum())
    if size > size_max:
        return None
    bound: float | None = None
    stopped: set[int] = set()  # a page's later steps begin where the one that did not fit ends
    for page, new, extra, saved in _steps(sizes, times, option):
        if page not in stopped and size + extra <= size_max:
            option[page] = new
            size += extra
            time -= saved
            continue
        stopped.add(page)
        if bound is None:
            bound = time - saved * (size_max - size) / extra
    time = float(times[rows, option].sum())
    return Choice(option, size, time, time if bound is None else bound)


def _steps(
    sizes: npt.NDArray[np.int64], times: npt.NDArray[np.float64], smallest: npt.NDArray[np.int64]
) -> list[tuple[int, int, int, float]]:
    """Return (page, option, bytes more, time saved), most time saved for each byte first.

    The steps of a page come in its own order: along a hull they get less and less worth while,
    and where rounding says otherwise they count as worth no more than the step before.
    """
    found: list[tuple[float, int, int, int, int, float]] = []
    for page, start in enumerate(smallest.tolist()):
        at, least = start, np.inf
        for number in range(sizes.shape[1]):
            extra = sizes[page] - sizes[page, at]
            saved = times[page, at] - times[page]
            worth = np.where((extra > 0) & (saved > 0), saved / np.maximum(extra, 1), 0)
            new = int(worth.argmax())
            if worth[new] <= 0:
                break
            least = min(least, float(worth[new]))
            found.append((-least, page, number, new, int(extra[new]), float(saved[new])))
            at = new
    found.sort()
    return [(page, new, extra, saved) for _, page, _, new, extra, saved in found]
