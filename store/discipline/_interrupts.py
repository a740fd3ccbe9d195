# SPDX-License-Identifier: MIT
"""Pages that a recording saw in use in interrupt or fault context."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagestep.store.trace import KIND_FETCH, KIND_WRITE, Trace


@dataclass(frozen=True, slots=True)
class InterruptPages:
    """Pages by the way they were used.

    Attributes:
        name: What to call the recording.
        fetched: Page numbers, ascending, shape (n,), dtype int64.
        read: The same, read but not written.
        written: The same.
    """

    name: str
    fetched: NDArray[np.int64]
    read: NDArray[np.int64]
    written: NDArray[np.int64]

    @classmethod
    def of(cls, trace: Trace, name: str) -> InterruptPages:
        """Read a trace that holds only what was done in interrupt or fault context.

        Raises:
            BadTrace: It is damaged.
        """
        uses = np.zeros((3, trace.page_count), bool)
        for block in trace:
            for row, kind in enumerate((KIND_FETCH, None, KIND_WRITE)):
                if kind is None:
                    chosen = (block.kinds != KIND_FETCH) & (block.kinds != KIND_WRITE)
                else:
                    chosen = block.kinds == kind
                uses[row][block.pages[chosen]] = True
        uses[1] &= ~uses[2]
        return cls(name, *(np.flatnonzero(row) for row in uses))
