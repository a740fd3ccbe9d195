# SPDX-License-Identifier: MIT
"""What a Linux kernel writes into its own code as it runs, as far as the image says it.

Three tables of the kernel name places in its code. All count from the place of the number
itself, on x86-64, ARM64 and RISC-V 64.

- alternatives: code that replaces other code where the processor is of some kind
- jump labels: places where a jump is put, and where it goes
- exceptions: instructions that may fail, and where the kernel goes on then
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagestep.store.image import Image

from ._functions import Functions
from ._memory import Memory

RELATIVE_ARCHES = ("x86_64", "arm64", "riscv64")
_ALTERNATIVE_SIZES = {"x86_64": (12, 14), "arm64": (12,)}  # before and from Linux 6.3
REPLACEMENT_MAX = 255


@dataclass(frozen=True, slots=True)
class Alternative:
    """Code that may replace some of a function's.

    Attributes:
        function: Whose code.
        address: Of the replacement.
        size: Its bytes.
    """

    function: int
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class Jumps:
    """Jumps that a table names.

    Attributes:
        sites: Where from, shape (n,), dtype uint64.
        targets: Where to, shape (n,), dtype uint64.
    """

    sites: NDArray[np.uint64]
    targets: NDArray[np.uint64]


class Patched:
    """Reads the tables; what cannot be read is skipped, and a note says so."""

    def __init__(self, image: Image, memory: Memory, functions: Functions) -> None:
        """Take an image and its functions."""
        self._image = image
        self._memory = memory
        self._functions = functions
        self.notes: list[str] = []

    def _table(self, section: str, start: str, stop: str) -> tuple[int, bytes]:
        """Return where a table is and its bytes; none where there is no such table."""
        for segment in self._image.segments:
            if segment.name == section:
                return segment.address, self._memory.read(segment.address, segment.size)
        first, behind = self._image.symbols.find(start), self._image.symbols.find(stop)
        if first is None or behind is None or behind.address <= first.address:
            return 0, b""
        return first.address, self._memory.read(first.address, behind.address - first.address)

    def _applies(self) -> bool:
        return self._image.arch in RELATIVE_ARCHES

    def alternatives(self) -> list[Alternative]:
        """Return the alternatives, each with the function that it changes."""
        if self._image.arch not in _ALTERNATIVE_SIZES:
            return []
        address, data = self._table(
            ".altinstructions", "__alt_instructions", "__alt_instructions_end"
        )
        if not data:
            return []
        for size in _ALTERNATIVE_SIZES[self._image.arch]:
            found = self._alternatives(address, data, size)
            if found is not None:
                return found
        self.notes.append(
            f"alternatives are not followed: their table of {len(data)} bytes has a form that "
            "is not known"
        )
        return []

    def _alternatives(self, address: int, data: bytes, size: int) -> list[Alternative] | None:
        if len(data) % size:
            return None
        rows = np.frombuffer(data, np.uint8).reshape(-1, size)
        fields = np.ascontiguousarray(rows[:, :8]).view("<i4").astype(np.int64)
        here = np.uint64(address) + np.arange(len(rows), dtype=np.uint64) * np.uint64(size)
        sites = here + fields[:, 0].astype(np.uint64)
        replacements = here + np.uint64(4) + fields[:, 1].astype(np.uint64)
        owners = self._functions.at(sites)
        # A table read in the wrong form names places all over: the right one names code.
        if not self._memory.is_code(sites).all():
            return None
        lengths = rows[:, size - 1].astype(np.int64)
        chosen = np.flatnonzero((owners >= 0) & (lengths > 0))
        return [Alternative(int(owners[i]), int(replacements[i]), int(lengths[i])) for i in chosen]

    def jump_labels(self) -> Jumps:
        """Return where jumps may be put."""
        address, data = self._table("__jump_table", "__start___jump_table", "__stop___jump_table")
        return self._jumps("jump labels", address, data, 16)

    def exceptions(self) -> Jumps:
        """Return where the kernel goes on where an instruction failed."""
        address, data = self._table("__ex_table", "__start___ex_table", "__stop___ex_table")
        return self._jumps("exceptions", address, data, 12)

    def _jumps(self, what: str, address: int, data: bytes, size: int) -> Jumps:
        none = Jumps(np.empty(0, np.uint64), np.empty(0, np.uint64))
        if not data or not self._applies():
            return none
        rows = np.frombuffer(data, np.uint8)[: len(data) // size * size].reshape(-1, size)
        fields = np.ascontiguousarray(rows[:, :8]).view("<i4").astype(np.int64)
        here = np.uint64(address) + np.arange(len(rows), dtype=np.uint64) * np.uint64(size)
        sites = here + fields[:, 0].astype(np.uint64)
        targets = here + np.uint64(4) + fields[:, 1].astype(np.uint64)
        if len(data) % size or not self._memory.is_code(sites).all():
            self.notes.append(
                f"{what} are not followed: their table of {len(data)} bytes has a form that is "
                "not known"
            )
            return none
        return Jumps(sites, targets)
