# SPDX-License-Identifier: MIT
"""Edges of a call graph: who may go on in whom, from where, and how."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class How(IntEnum):
    """How one function goes on in another."""

    CALL = 0
    JUMP = 1
    FALL = 2
    SLOT = 3
    ALTERNATIVE = 4
    JUMP_LABEL = 5
    EXCEPTION = 6
    DECLARED = 7
    PROTOTYPE = 8

    @property
    def words(self) -> str:
        """What a report says."""
        return _WORDS[self]


_WORDS = {
    How.CALL: "calls",
    How.JUMP: "jumps to",
    How.FALL: "runs on into",
    How.SLOT: "calls, through a pointer that the image holds,",
    How.ALTERNATIVE: "may be patched to call",
    How.JUMP_LABEL: "may be patched to jump to",
    How.EXCEPTION: "goes on, where an access fails, in",
    How.DECLARED: "is declared to call",
    How.PROTOTYPE: "calls, by its type,",
}


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges by their source; one for each pair of functions, the one with the lowest site.

    Attributes:
        sources: Functions, ascending, shape (n,), dtype int64.
        targets: Functions, shape (n,), dtype int64.
        sites: Address of the instruction, 0 where no single one is known, shape (n,),
            dtype uint64.
        hows: ``How``, shape (n,), dtype uint8.
    """

    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    sites: NDArray[np.uint64]
    hows: NDArray[np.uint8]

    @classmethod
    def of(
        cls,
        sources: NDArray[np.int64],
        targets: NDArray[np.int64],
        sites: NDArray[np.uint64],
        hows: NDArray[np.uint8],
    ) -> Edges:
        """Sort edges, and keep one of each pair: what the code says before what is declared."""
        order = np.lexsort((sites, hows, targets, sources))
        sources, targets, sites, hows = sources[order], targets[order], sites[order], hows[order]
        first = np.ones(len(sources), bool)
        first[1:] = (sources[1:] != sources[:-1]) | (targets[1:] != targets[:-1])
        return cls(sources[first], targets[first], sites[first], hows[first])

    @classmethod
    def none(cls) -> Edges:
        """Return no edges."""
        no = np.empty(0, np.int64)
        return cls(no, no, np.empty(0, np.uint64), np.empty(0, np.uint8))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.sources)

    def joined(self, more: Edges) -> Edges:
        """Return these and more."""
        return Edges.of(
            np.concatenate([self.sources, more.sources]),
            np.concatenate([self.targets, more.targets]),
            np.concatenate([self.sites, more.sites]),
            np.concatenate([self.hows, more.hows]),
        )
