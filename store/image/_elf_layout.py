# SPDX-License-Identifier: MIT
"""How an ELF file becomes pages.

An image's byte space is contiguous. It begins at page 0 and follows the load addresses,
as the kernel lies flat in memory; what lies between is zero. So a page number is a
distance in memory from the first page, which is what traces and page tables mean by it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pagestep.codecs.errors import BadImage, InvalidArgument

from ._elf import PF_R, PF_W, PF_X, SHF_EXECINSTR, SHF_TLS, SHF_WRITE, Elf, Section
from ._layout import ADDRESS_END, AddressMap, Extent, Layout, Segment, check_span, pages_of_run

ZERO_SCAN = 1 << 20  # bytes read at a time in looking for the last that is not zero


@dataclass(frozen=True, slots=True)
class _Run:
    """Bytes of the file with a place in the image: a PT_LOAD, or a section.

    Places are addresses too, physical or virtual ones: those the image is laid out by.
    """

    name: str
    place: int
    address: int
    file_offset: int
    size: int
    flags: int

    @property
    def end(self) -> int:
        return self.place + self.size


def elf_layout(elf: Elf, *, page_size: int, base: int | None, max_size: int) -> Layout:
    """Lay out an ELF file.

    By the physical addresses of its PT_LOADs where these are plausible, else by the
    virtual ones; without PT_LOADs by the addresses of the allocated sections; in a
    relocatable, which has no addresses yet, the allocated sections follow one another,
    aligned. The image ends with the last byte that the file holds, or already where a
    .bss begins behind which the file holds nothing but zeros: x86 kernels have a scratch
    section of 4 MiB of zeros there.

    Args:
        elf: The headers.
        page_size: Bytes of a page.
        base: Virtual address for page 0, None for the file's own (0 in a relocatable).
        max_size: The largest image that is taken, in bytes.

    Returns:
        The layout; segments are the allocated sections that have bytes.

    Raises:
        BadImage: Nothing to load, bytes that overlap, or the image is too large.
        InvalidArgument: A base, where the file's addresses are fixed.
    """
    return _Builder(elf, page_size, base, max_size).layout()


class _Builder:
    def __init__(self, elf: Elf, page_size: int, base: int | None, max_size: int) -> None:
        self._elf = elf
        self._name = elf.source.name
        self._page_size = page_size
        self._max_size = max_size
        by_section: dict[int, _Run] = {}
        if elf.loads:
            runs = self._place_loads()
        else:
            by_section = self._place_sections()
            runs = sorted(by_section.values(), key=_place)
        if not runs:
            raise BadImage(
                f"{self._name}: this ELF holds no bytes that are loaded (a debug file, a stub?): "
                "give the kernel or firmware itself"
            )
        self._runs = runs
        self._start = runs[0].place // page_size * page_size
        # Runs by file offset, all of them and those with the same distance between address
        # and offset: a section lies in the run that it is in step with.
        self._by_offset = sorted(runs, key=_file_offset)
        self._in_step: dict[int, list[_Run]] = {}
        for run in self._by_offset:
            self._in_step.setdefault(run.address - run.file_offset, []).append(run)
        self._parts = self._place_parts(by_section)
        self._end = self._trimmed_end()
        self._shift = self._shift_to(base)

    def _shift_to(self, base: int | None) -> int:
        if base is None:
            return 0
        if not self._elf.movable:
            raise InvalidArgument(
                f"{self._name}: base={base:#x}: this ELF is linked at fixed addresses; "
                "leave base= out"
            )
        first = self._runs[0]
        return base - (first.address - (first.place - self._start))

    def _moved(self, address: int) -> int:
        return (address + self._shift) % ADDRESS_END

    # Placing the runs

    def _place_loads(self) -> list[_Run]:
        loads = self._elf.loads
        physical = [
            _Run(x.name, x.paddr, x.vaddr, x.offset, x.size, x.flags)
            for x in sorted(loads, key=lambda load: load.paddr)
        ]
        plausible = (
            any(run.place for run in physical)
            and physical[-1].end - physical[0].place <= self._max_size
            and all(below.end <= above.place for below, above in pairwise(physical))
        )
        if plausible:
            return physical
        virtual = [
            _Run(x.name, x.vaddr, x.vaddr, x.offset, x.size, x.flags)
            for x in sorted(loads, key=lambda load: load.vaddr)
        ]
        self._check_disjoint(virtual)
        check_span(self._name, virtual[-1].end - virtual[0].place, self._max_size)
        return virtual

    def _place_sections(self) -> dict[int, _Run]:
        placed: dict[int, _Run] = {}
        end = 0
        for section in self._elf.sections:
            if not (section.allocated and section.has_bytes):
                continue
            place = section.address
            if self._elf.relocatable:
                place = -(-end // section.align) * section.align
            end = place + section.size
            flags = _load_flags(section)
            placed[section.index] = _Run(
                section.name, place, place, section.offset, section.size, flags
            )
        if placed:
            runs = sorted(placed.values(), key=_place)
            self._check_disjoint(runs)
            check_span(self._name, runs[-1].end - runs[0].place, self._max_size)
        return placed

    def _check_disjoint(self, runs: Sequence[_Run]) -> None:
        for below, above in pairwise(runs):
            if below.end > above.place:
                raise BadImage(
                    f"{self._name}: {below.name} ({below.place:#x} to {below.end:#x}) and "
                    f"{above.name} ({above.place:#x} to {above.end:#x}) overlap: the file is "
                    "damaged; fetch it again, or link it again"
                )

    # Placing the sections in the runs

    def _place_parts(self, by_section: dict[int, _Run]) -> list[tuple[Section, _Run]]:
        parts: list[tuple[Section, _Run]] = []
        for section in self._elf.sections:
            if section.allocated and section.has_bytes:
                part = by_section.get(section.index) or self._part_of(section)
                if part is not None:
                    parts.append((section, part))
        parts.sort(key=lambda pair: pair[1].place)
        self._check_disjoint([part for _, part in parts])
        return parts

    def _part_of(self, section: Section) -> _Run | None:
        in_step = self._in_step.get(section.address - section.offset, [])
        run = _last_at_or_below(in_step, section.offset, _file_offset)
        if run is not None and section.offset + section.size <= run.file_offset + run.size:
            place = run.place + section.offset - run.file_offset
            flags = _load_flags(section)
            return _Run(section.name, place, section.address, section.offset, section.size, flags)
        holder = _last_at_or_below(self._by_offset, section.offset, _file_offset)
        if holder is None or section.offset >= holder.file_offset + holder.size:
            return None  # a section outside every PT_LOAD is not loaded
        raise BadImage(
            f"{self._name}: section {section.name} of {section.size} bytes claims address "
            f"{section.address:#x}, and {holder.name} puts its bytes at "
            f"{holder.address + section.offset - holder.file_offset:#x} and ends at "
            f"{holder.address + holder.size:#x}: the file is damaged; fetch it again"
        )

    # The end

    def _trimmed_end(self) -> int:
        end = max(run.end for run in self._runs)
        by_address = sorted(self._runs, key=_address)
        blanks: list[int] = []
        for section in self._elf.sections:
            if section.type == "SHT_NOBITS" and section.allocated and not section.flags & SHF_TLS:
                run = _last_at_or_below(by_address, section.address, _address)
                if run is not None and section.address < run.address + run.size:
                    blanks.append(run.place + section.address - run.address)
        if not blanks:
            return end
        zeros_from = self._zeros_from(min(blanks))
        cut = min((blank for blank in blanks if blank >= zeros_from), default=end)
        # A section that only partly lies behind the cut stays whole.
        return max([cut, *(part.end for _, part in self._parts if part.place < cut)])

    def _zeros_from(self, lowest: int) -> int:
        """Return the place behind the last byte that is not zero, or ``lowest``."""
        for run in reversed(self._runs):
            at = run.end
            while at > max(run.place, lowest):
                size = min(ZERO_SCAN, at - max(run.place, lowest))
                data = self._elf.source.read(run.file_offset + at - size - run.place, size)
                used = len(data.rstrip(b"\0"))
                if used:
                    return at - size + used
                at -= size
        return lowest

    # The result

    def layout(self) -> Layout:
        size = self._end - self._start
        check_span(self._name, size, self._max_size)
        page_count = len(pages_of_run(0, size, self._page_size))
        runs = [run for run in self._runs if run.place < self._end]
        pieces = [
            (self._moved(run.address), run.place - self._start, min(run.end, self._end) - run.place)
            for run in runs
        ]
        section_addresses = np.zeros(len(self._elf.sections), np.uint64)
        for section, part in self._parts:
            section_addresses[section.index] = self._moved(part.address)
        return Layout(
            page_size=self._page_size,
            page_count=page_count,
            segments=tuple(self._segments()),
            extents=tuple(self._extents(runs)),
            addresses=AddressMap(pieces, page_count * self._page_size),
            section_addresses=section_addresses,
        )

    def _segments(self) -> Iterator[Segment]:
        parts = [part for _, part in self._parts]
        # A load that no section describes is a segment of its own.
        undescribed: list[_Run] = []
        for run in self._runs:
            inside = _last_at_or_below(parts, run.end - 1, _place)
            if inside is None or inside.place < run.place:
                undescribed.append(run)
        parts += undescribed
        for part in sorted(parts, key=_place):
            if part.place >= self._end:
                continue
            offset = part.place - self._start
            size = min(part.end, self._end) - part.place
            yield Segment(
                name=part.name,
                address=self._moved(part.address),
                size=size,
                offset=offset,
                pages=pages_of_run(offset, size, self._page_size),
                flags="".join(
                    letter if part.flags & bit else "-"
                    for letter, bit in (("r", PF_R), ("w", PF_W), ("x", PF_X))
                ),
                kind=_kind(part.flags),
            )

    def _extents(self, runs: Sequence[_Run]) -> Iterator[Extent]:
        for run in runs:
            size = min(run.end, self._end) - run.place
            yield Extent(run.place - self._start, run.file_offset, size)


def _place(run: _Run) -> int:
    return run.place


def _address(run: _Run) -> int:
    return run.address


def _file_offset(run: _Run) -> int:
    return run.file_offset


def _last_at_or_below(runs: Sequence[_Run], value: int, key: Callable[[_Run], int]) -> _Run | None:
    index = bisect_right(runs, value, key=key) - 1
    return runs[index] if index >= 0 else None


def _load_flags(section: Section) -> int:
    flags = PF_R
    flags |= PF_W if section.flags & SHF_WRITE else 0
    return flags | (PF_X if section.flags & SHF_EXECINSTR else 0)


def _kind(flags: int) -> str:
    if flags & PF_X:
        return "text"
    return "data" if flags & PF_W else "rodata"
