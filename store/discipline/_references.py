# SPDX-License-Identifier: MIT
"""Which data instructions name, by address."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagestep.store.image import Image, Segment

from ._functions import Functions

# Where Linux keeps what each processor has a copy of. x86 counts addresses in it from a
# segment register; where the section is linked at 0, such look like small numbers.
_PER_CPU = (".data..percpu", ".data.percpu")


@dataclass(frozen=True, slots=True)
class References:
    """Addresses of data, by function; one for each pair of these, that of the lowest site.

    Attributes:
        sources: The function whose instruction names it, ascending, shape (n,), dtype int64.
        addresses: What it names, shape (n,), dtype uint64.
        sites: Address of the instruction, shape (n,), dtype uint64.
    """

    sources: NDArray[np.int64]
    addresses: NDArray[np.uint64]
    sites: NDArray[np.uint64]

    @classmethod
    def of(
        cls,
        sources: NDArray[np.int64],
        addresses: NDArray[np.uint64],
        sites: NDArray[np.uint64],
    ) -> References:
        """Sort references, and keep one of each pair."""
        order = np.lexsort((sites, addresses, sources))
        sources, addresses, sites = sources[order], addresses[order], sites[order]
        first = np.ones(len(sources), bool)
        first[1:] = (sources[1:] != sources[:-1]) | (addresses[1:] != addresses[:-1])
        return cls(sources[first], addresses[first], sites[first])

    @classmethod
    def none(cls) -> References:
        """Return no references."""
        no = np.empty(0, np.uint64)
        return cls(np.empty(0, np.int64), no, no)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.sources)


def is_data(
    image: Image,
    functions: Functions,
    addresses: NDArray[np.uint64],
    per_cpu: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return which addresses are of data that the image holds.

    That is what lies in a section without code; where no section says what is code, what
    lies in no function.

    Args:
        image: The image.
        functions: Its functions.
        addresses: Shape (n,), dtype uint64.
        per_cpu: Which count from where a processor's own data begins, shape (n,), dtype bool.
    """
    found = np.zeros(len(addresses), bool)
    in_code = np.zeros(len(addresses), bool)
    for segment in image.segments:
        inside = addresses >= np.uint64(segment.address)
        inside &= addresses - np.uint64(segment.address) < np.uint64(segment.size)
        if segment.name in _PER_CPU:
            inside &= per_cpu if segment.address == 0 else True
        else:
            inside &= ~per_cpu
        if "x" not in segment.flags:
            found |= inside
        elif _may_hold_data(segment):
            in_code |= inside
    in_code[in_code] = functions.at(addresses[in_code]) < 0
    return found | in_code


def _may_hold_data(segment: Segment) -> bool:
    """Return whether a run of code is so only because nothing says where its data is."""
    return segment.kind == "raw" or segment.name.startswith("PT_LOAD ")
