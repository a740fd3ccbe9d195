#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads a crash dump of a kernel through a page store: any address, in little RAM.

    python examples/crash_dump.py vmcore                                 # what is in it
    python examples/crash_dump.py vmcore 0xffffffff81000000 64           # bytes there
    python examples/crash_dump.py vmcore 0x1000000 64 --physical --ram 16MiB

The dump is an ELF core, as kdump, /proc/vmcore and QEMU's dump-guest-memory write it. Its file is
what the store pages; ``CrashDump.read`` finds where an address lies in it. That is the callback
that drgn asks for, so drgn can read through the store as well (``attach``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import click
import numpy as np
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from pagestep import BadImage, Image, PageStepError, PageStore, Stats
from pagestep.codecs.closing import Closing

_NOTES_MAX = 1 << 20
_NO_ADDRESS = ((1 << 64) - 1, (1 << 32) - 1)  # what has no physical address says so


class NotDumped(PageStepError, LookupError):
    """The dump does not hold what was asked for."""


@dataclass(frozen=True)
class Segment:
    """A PT_LOAD: a run of memory, and where its bytes are in the file.

    Attributes:
        virtual: Virtual address of its first byte.
        physical: Physical address of its first byte; None where it has none.
        offset: Of its first byte in the file.
        size: Bytes of it that the file holds.
    """

    virtual: int
    physical: int | None
    offset: int
    size: int

    def start(self, physical: bool) -> int | None:
        """Return its first address, of either kind."""
        return self.physical if physical else self.virtual


class CrashDump(Closing):
    """An ELF core, whose bytes are read by address through a page store.

    Attributes:
        segments: What the dump holds, in its own order.
        vmcoreinfo: What the kernel says about itself, such as ``OSRELEASE``; may be empty.
    """

    def __init__(
        self, store: PageStore, segments: tuple[Segment, ...], vmcoreinfo: dict[str, str]
    ) -> None:
        """Take what ``open`` opened."""
        self._store = store
        self.segments = segments
        self.vmcoreinfo = vmcoreinfo

    @classmethod
    def open(cls, path: str | Path, *, ram: int | str = "8MiB") -> Self:
        """Open a dump.

        Args:
            path: The ELF core.
            ram: What the store may use, in bytes or as text. A page of the dump costs 32 bytes
                of it, whether it is read or not.

        Raises:
            BadImage: It is no ELF core, or damaged.
            BudgetExceeded: ``ram`` is too small for so large a dump.
            StoreIOError: It cannot be read.
        """
        path = Path(path)
        # Raw: an ELF image's pages are those of memory, and a dump's memory has wide holes.
        with Image.open(path, raw=True, max_size=1 << 62) as image:
            segments, vmcoreinfo = _headers(path)
            store = PageStore.open(image, ram=ram)
        return cls(store, segments, vmcoreinfo)

    def read(self, address: int, count: int, offset: int = 0, physical: bool = False) -> bytes:
        """Return bytes of the crashed system's memory.

        Args:
            address: Of the first byte.
            count: How many; they may cross pages and segments.
            offset: Of the address in the segment that drgn knows; not needed here.
            physical: Whether the address is a physical one.

        Raises:
            NotDumped: A byte of them is in no segment.
        """
        del offset
        return b"".join(
            self._file_bytes(start, size) for start, size in self._runs(address, count, physical)
        )

    def _runs(self, address: int, count: int, physical: bool) -> Iterator[tuple[int, int]]:
        """Yield offsets and sizes of the runs of the file that make up a run of memory."""
        end = address + count
        while address < end:
            # Segments may overlap, as the kernel's own mapping lies within that of all memory;
            # what they hold there is the same.
            segment = self._segment_at(address, physical)
            if segment is None:
                kind = "physical" if physical else "virtual"
                raise NotDumped(f"{kind} address {address:#x} is not in the dump")
            into = address - (segment.start(physical) or 0)
            size = min(segment.size - into, end - address)
            yield segment.offset + into, size
            address += size

    def _segment_at(self, address: int, physical: bool) -> Segment | None:
        for segment in self.segments:
            start = segment.start(physical)
            if start is not None and start <= address < start + segment.size:
                return segment
        return None

    def _file_bytes(self, start: int, size: int) -> bytes:
        page_size = self._store.page_size
        first, last = start // page_size, (start + size - 1) // page_size
        out = np.empty((last - first + 1) * page_size, np.uint8)
        self._store.read_into(np.arange(first, last + 1, dtype=np.uint64), out)
        return out[start - first * page_size :][:size].tobytes()

    def attach(self, program: Any) -> None:
        """Have a ``drgn.Program`` read this dump's memory through the store."""
        for segment in self.segments:
            program.add_memory_segment(segment.virtual, segment.size, self.read, False)
            if segment.physical is not None:
                program.add_memory_segment(segment.physical, segment.size, self.read, True)

    def stats(self) -> Stats:
        """Return the store's statistics."""
        return self._store.stats()

    def close(self) -> None:
        """Close the store. Again is no error."""
        self._store.close()


def _headers(path: Path) -> tuple[tuple[Segment, ...], dict[str, str]]:
    """Return what an ELF core says that it holds, and what the kernel says of itself."""
    size = path.stat().st_size
    segments: list[Segment] = []
    info = ""
    with path.open("rb") as file:
        try:
            elf: Any = ELFFile(file)  # its types leave half of it unknown
            if elf["e_type"] != "ET_CORE":
                raise BadImage(f"{path}: {elf['e_type']}, not ET_CORE: give a dump, not a program")
            for part in elf.iter_segments():
                head = part.header
                if head.p_type == "PT_LOAD" and head.p_filesz:
                    if head.p_offset + head.p_filesz > size:
                        raise BadImage(f"{path}: cut off: its headers speak of more than {size} B")
                    physical = None if head.p_paddr in _NO_ADDRESS else head.p_paddr
                    segments.append(Segment(head.p_vaddr, physical, head.p_offset, head.p_filesz))
                elif head.p_type == "PT_NOTE" and head.p_filesz <= _NOTES_MAX:
                    for note in part.iter_notes():
                        if note["n_name"] == "VMCOREINFO":
                            info = note["n_descdata"].decode("latin-1")
        except (ELFError, OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
            raise BadImage(
                f"{path}: no ELF core that can be read ({error}); one that makedumpfile has "
                "compressed, `makedumpfile -E` makes into one"
            ) from error
    pairs = (line.partition("=") for line in info.splitlines())
    return tuple(segments), {key: value for key, equals, value in pairs if equals}


def _show(dump: CrashDump) -> None:
    click.echo(f"{dump.vmcoreinfo.get('OSRELEASE', 'a system that does not say its release')}")
    for segment in dump.segments:
        physical = "no physical" if segment.physical is None else f"physical {segment.physical:#x}"
        click.echo(f"{segment.virtual:#018x}  {segment.size:>14,} bytes, {physical}")
    stats = dump.stats()
    click.echo(f"{stats.used_bytes:,} of {stats.budget_bytes:,} bytes of RAM are used")


def _hex_lines(address: int, content: bytes) -> Iterator[str]:
    for at in range(0, len(content), 16):
        row = content[at : at + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{address + at:#018x}  {row.hex(' '):47}  {letters}"


@click.command()
@click.argument("vmcore", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("address", required=False, type=str)
@click.argument("count", default="64")
@click.option("--physical", is_flag=True, help="The address is a physical one.")
@click.option("--ram", default="8MiB", show_default=True, help="What the store may use.")
def main(vmcore: Path, address: str | None, count: str, physical: bool, ram: str) -> None:
    """Show what a crash dump holds, or COUNT bytes at ADDRESS."""
    try:
        wanted = None if address is None else (int(address, 0), int(count, 0))
    except ValueError as error:
        raise click.UsageError(f"{error}: write a number such as 0x8000") from None
    try:
        with CrashDump.open(vmcore, ram=ram) as dump:
            if wanted is None:
                _show(dump)
            else:
                lines = _hex_lines(wanted[0], dump.read(*wanted, physical=physical))
                click.echo("\n".join(lines))
    except NotDumped as error:
        click.echo(f"crash_dump: {error}", err=True)
        sys.exit(1)
    except PageStepError as error:
        click.echo(f"crash_dump: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
