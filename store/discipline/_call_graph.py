# SPDX-License-Identifier: MIT
"""The call graph of an image, from its code alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagestep.store.image import Image

from ._edges import Edges, How
from ._functions import Functions, functions_of
from ._memory import Memory
from ._patched import Jumps, Patched
from ._references import References, is_data
from .code import JUMP, Found, Reader, open_reader

Progress = Callable[[str, int, int], None]

_EVERY = 512  # functions between two reports of progress
_FALL_GAP_MAX = 64  # padding between a function and the one it runs on into
# What compilers make of indirect calls and jumps where the processor may not guess them.
_THUNK = re.compile(r"__x86_indirect_\w*thunk\w*")


@dataclass(frozen=True, slots=True)
class CallGraph:
    """Functions, and who goes on in whom.

    Attributes:
        functions: The functions.
        edges: What the code says.
        indirect_sites: Address of each call or jump whose target the code does not say,
            shape (n,), dtype uint64.
        indirect_sources: The function that each belongs to, shape (n,), dtype int64.
        references: Data that the code names.
        taken: Which functions' addresses are in data or formed by code, shape
            (functions,), dtype bool.
        outside: Calls and jumps to addresses that are in no function.
        not_decoded_bytes: Bytes of functions that are no instructions.
        notes: What was skipped, and why.
    """

    functions: Functions
    edges: Edges
    indirect_sites: NDArray[np.uint64]
    indirect_sources: NDArray[np.int64]
    references: References
    taken: NDArray[np.bool_]
    outside: int
    not_decoded_bytes: int
    notes: tuple[str, ...]


def _silent(_what: str, _done: int, _total: int) -> None:
    """Show nothing."""


def build_call_graph(
    image: Image, functions: Functions | None = None, *, progress: Progress = _silent
) -> CallGraph:
    """Read the code of every function.

    Args:
        image: The image.
        functions: Its functions, where they were found before.
        progress: Called now and then with what is done, how much of it, of how much.

    Returns:
        The graph. Calls and jumps by a register have no edges: they are counted.

    Raises:
        Unsupported: The image has no symbols, its instruction set is not known, or
            Capstone is not installed.
    """
    reader = open_reader(image.arch, _global_pointer(image))
    return _Builder(image, functions or functions_of(image), reader).build(progress)


def _global_pointer(image: Image) -> int | None:
    """Return what register gp holds; only RISC-V has one."""
    if not image.arch.startswith("riscv"):
        return None
    symbol = image.symbols.find("__global_pointer$")
    return None if symbol is None else symbol.address


class _Builder:
    """Puts a call graph together."""

    def __init__(self, image: Image, functions: Functions, reader: Reader) -> None:
        self._image = image
        self._functions = functions
        self._reader = reader
        self._memory = Memory(image)
        self._found = Found()
        self._parts: list[Edges] = []
        self._jumped: list[tuple[int, int]] = []  # who goes on in whom without coming back
        self._outside = 0
        self._thunks = np.array(
            [any(map(_THUNK.fullmatch, names)) for names in functions.aliases], bool
        )

    def build(self, progress: Progress) -> CallGraph:
        found, functions = self._found, self._functions
        self._read_all(progress)
        progress("joining calls", 0, 0)
        patched = Patched(self._image, self._memory, functions)
        patches = self._alternatives(patched)
        self._transfers(found, None)
        self._transfers(patches, How.ALTERNATIVE)
        self._slots(found, None)
        self._slots(patches, How.ALTERNATIVE)
        self._jumps(patched.jump_labels(), How.JUMP_LABEL)
        self._jumps(patched.exceptions(), How.EXCEPTION)
        self._falls()
        sites = np.array(found.indirect_sites + patches.indirect_sites, np.uint64)
        sources = np.array(found.indirect_sources + patches.indirect_sources, np.int64)
        own = ~self._thunks[sources]  # a thunk's jump is that of its callers
        sites, first = np.unique(sites[own], return_index=True)
        edges = Edges.none()
        for part in self._parts:
            edges = edges.joined(part)
        return CallGraph(
            functions=functions,
            edges=edges,
            indirect_sites=sites,
            indirect_sources=sources[own][first],
            references=self._references(patches),
            taken=self._taken(),
            outside=self._outside,
            not_decoded_bytes=sum(found.not_decoded.values()),
            notes=tuple(patched.notes),
        )

    def _read_all(self, progress: Progress) -> None:
        functions, found = self._functions, self._found
        count = len(functions)
        starts, sizes = functions.starts.tolist(), functions.sizes().tolist()
        for number in range(count):
            if number % _EVERY == 0:
                progress("reading code", number, count)
            found.function = number
            code = self._memory.read(starts[number], sizes[number])
            self._reader.read(code, starts[number], found)

    def _alternatives(self, patched: Patched) -> Found:
        """Read the code that may replace some, as that of the function that it changes."""
        patches = Found()
        for each in patched.alternatives():
            patches.function = each.function
            self._reader.read(self._memory.read(each.address, each.size), each.address, patches)
        return patches

    # Edges

    def _add(
        self,
        sources: NDArray[np.int64],
        targets: NDArray[np.int64],
        sites: NDArray[np.uint64],
        hows: NDArray[np.uint8],
        jumps: NDArray[np.bool_],
    ) -> None:
        # A function that calls itself reaches nothing new.
        keep = (targets >= 0) & (sources >= 0) & (sources != targets)
        gone = keep & jumps
        self._jumped += zip(sources[gone].tolist(), targets[gone].tolist(), strict=True)
        self._parts.append(Edges.of(sources[keep], targets[keep], sites[keep], hows[keep]))

    def _transfers(self, found: Found, how: How | None) -> None:
        functions = self._functions
        addresses = np.array(found.targets, np.uint64)
        targets = functions.at(addresses)
        sources = np.array(found.sources, np.int64)
        sites = np.array(found.sites, np.uint64)
        kinds = np.array(found.kinds, np.uint8)
        # Code that replaces some may jump back to what follows it: that is no new target.
        if how is None:
            self._outside += int(np.count_nonzero((targets < 0) & ~self._is_early(addresses)))
        hows = kinds if how is None else np.full(len(kinds), how, np.uint8)
        self._add(sources, targets, sites, hows, kinds == JUMP)
        through = targets >= 0
        through[through] = self._thunks[targets[through]]
        found.indirect_sites += sites[through].tolist()
        found.indirect_sources += sources[through].tolist()
        found.indirect_kinds += kinds[through].tolist()

    def _is_early(self, addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return what lies in code that x86 kernels leave for good as they patch alternatives."""
        early = np.zeros(len(addresses), bool)
        for segment in self._image.segments:
            if segment.name == ".altinstr_aux":
                start = np.uint64(segment.address)
                early = (addresses >= start) & (addresses - start < np.uint64(segment.size))
        return early

    def _slots(self, found: Found, how: How | None) -> None:
        """Follow calls through pointers to what these are in the image."""
        pointers = [self._memory.pointer(slot) for slot in found.slots]
        addresses = np.array(pointers, np.uint64)
        targets = self._functions.at(addresses)
        sources = np.array(found.slot_sources, np.int64)
        sites = np.array(found.slot_sites, np.uint64)
        kinds = np.array(found.slot_kinds, np.uint8)
        hows = np.full(len(sites), How.SLOT if how is None else how, np.uint8)
        self._add(sources, targets, sites, hows, kinds == JUMP)
        unknown = targets < 0
        found.indirect_sites += sites[unknown].tolist()
        found.indirect_sources += sources[unknown].tolist()
        found.indirect_kinds += kinds[unknown].tolist()

    def _jumps(self, jumps: Jumps, how: How) -> None:
        sources = self._functions.at(jumps.sites)
        targets = self._functions.at(jumps.targets)
        hows = np.full(len(sources), how, np.uint8)
        self._add(sources, targets, jumps.sites, hows, np.ones(len(sources), bool))

    def _falls(self) -> None:
        """Add where a function runs on into the next."""
        found, following = self._found, self._following()
        may_return = self._may_return(following)
        sources = [number for number in found.falls if following[number] >= 0]
        called = np.array([target for _, target in found.falls_after_call], np.uint64)
        targets = self._functions.at(called).tolist()
        for (number, _), target in zip(found.falls_after_call, targets, strict=True):
            if following[number] >= 0 and (target < 0 or may_return[target]):
                sources.append(number)
        numbers = np.array(sources, np.int64)
        self._add(
            numbers,
            np.array([following[number] for number in sources], np.int64),
            np.zeros(len(sources), np.uint64),
            np.full(len(sources), How.FALL, np.uint8),
            np.ones(len(sources), bool),
        )

    def _following(self) -> list[int]:
        """Return the function that each would run on into, -1 where there is none."""
        starts, ends = self._functions.starts, self._functions.ends
        following = np.arange(1, len(starts) + 1)
        following[-1] = -1
        gaps = starts[1:] - ends[:-1]
        following[:-1][gaps > np.uint64(_FALL_GAP_MAX)] = -1
        return following.tolist()

    def _may_return(self, following: list[int]) -> list[bool]:
        """Return which functions may return to their callers.

        Compilers put nothing behind a call that never returns, so a function may end in
        one. One returns if it has such an instruction, or goes on in one that does.
        """
        found = self._found
        returns = [False] * len(self._functions)
        goes_on: list[list[int]] = [[] for _ in returns]  # by where to, from where
        ready = list(found.returns)
        for source, kind in zip(found.indirect_sources, found.indirect_kinds, strict=True):
            if kind == JUMP:
                ready.append(source)
        for source, target in self._jumped:
            goes_on[target].append(source)
        for number in found.falls:
            if following[number] >= 0:
                goes_on[following[number]].append(number)
        while ready:
            number = ready.pop()
            if not returns[number]:
                returns[number] = True
                ready += goes_on[number]
        return returns

    def _references(self, patches: Found) -> References:
        """Return what names data."""
        parts = (self._found, patches)
        addresses = np.concatenate([np.array(part.references, np.uint64) for part in parts])
        sites = np.concatenate([np.array(part.reference_sites, np.uint64) for part in parts])
        sources = np.concatenate([np.array(part.reference_sources, np.int64) for part in parts])
        per_cpu = np.concatenate([np.array(part.per_cpu, bool) for part in parts])
        data = is_data(self._image, self._functions, addresses, per_cpu)
        return References.of(sources[data], addresses[data], sites[data])

    def _taken(self) -> NDArray[np.bool_]:
        """Return whose address is in data, or formed by code."""
        functions = self._functions
        addresses = [np.array(self._found.references, np.uint64), self._memory.pointers()]
        taken = np.zeros(len(functions), bool)
        for each in addresses:
            if self._image.arch in ("arm", "thumb"):
                each = each & ~np.uint64(1)
            near = each[(each >= functions.starts[0]) & (each < functions.ends[-1])]
            numbers = functions.starting_at(near)
            taken[numbers[numbers >= 0]] = True
        return taken
