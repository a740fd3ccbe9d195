# SPDX-License-Identifier: MIT
"""An image: a kernel or firmware file as pages."""

from __future__ import annotations

import hashlib
import operator
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pagestep.codecs.closing import Closing
from pagestep.codecs.errors import BadImage, Closed, InvalidArgument, NoSuchPage
from pagestep.store._size import parse_size, show_size
from pagestep.store.pager import Pager

from ._arm import with_arm_state
from ._boot import boot_format, find_base
from ._btf import Btf, find_btf
from ._debug import SourceRanges, source_ranges
from ._elf import Elf, printable, read_elf
from ._elf_layout import elf_layout
from ._kallsyms import kallsyms_symbols
from ._layout import ADDRESS_END, Extent, Layout, Segment, raw_layout
from ._pointers import pointers_of
from ._source import Bytes, Source, bytes_of, open_source
from ._symbols import Symbol, Symbols, elf_symbols, map_symbols
from ._unpack import Unpacked, unpack

if TYPE_CHECKING:
    from ._source import AnyBuffer

PAGE_SIZE_MIN, PAGE_SIZE_MAX = 512, 64 << 10
_HASH_BYTES = 1 << 20
_BITS = {"x86": 32, "x86_64": 64, "arm": 32, "arm64": 64, "riscv32": 32, "riscv64": 64}


class Image(Closing):
    """A kernel, any ELF file, or raw firmware, as pages. Made by ``Image.open``.

    The byte space of an image is contiguous: page ``n`` is bytes ``n * page_size`` to
    ``(n + 1) * page_size``, by load address. Where the file holds nothing, it is zero.
    Reading is safe from several threads; closing while another thread reads is not.

    Attributes:
        arch: Which instruction set: ``"x86"``, ``"x86_64"``, ``"arm"``, ``"thumb"``,
            ``"arm64"``, ``"riscv32"``, ``"riscv64"``, ``"mips"``, ``"mips64"``, ``"ppc"``,
            ``"ppc64"``, ... or ``"unknown"``. Big-endian ARM, ARM64 and RISC-V end in
            ``"eb"``, and so pick no branch filter.
        byteorder: ``"little"`` or ``"big"``.
        kind: ``"elf"``, ``"bzImage"``, ``"zImage"``, ``"EFI zboot"``, ``"arm64 Image"``,
            ``"riscv Image"`` or ``"raw"``.
        payload: How the kernel was packed: ``"gzip"``, ``"xz"``, ``"lzma"``, ``"lz4"``,
            ``"lz4-legacy"``, ``"zstd"``, ``"bzip2"``, ``"lzo"``; several joined by ``+``,
            outermost first; None if it was not packed.
        page_size: Bytes of a page.
        page_count: Number of pages.
        base: Virtual address of page 0.
        segments: The named runs, by offset; several may share a page.
        extents: How image bytes map onto bytes of ``file``, by offset and not
            overlapping; all other bytes of the image are zero.
        build_id: The ELF's build-id in hex, or None.
        name: The path or URL it was opened by, or ``"buffer"``.
    """

    def __init__(
        self,
        unpacked: Unpacked,
        layout: Layout,
        elf: Elf | None,
        arch: str,
        byteorder: str,
        system_map: str | os.PathLike[str] | None,
    ) -> None:
        """Take the parts; ``Image.open`` is the way to make one."""
        self._source: Source | None = unpacked.source
        self._layout = layout
        self._elf = elf
        self._system_map = system_map
        self._symbols: Symbols | None = None
        self._identity: str | None = None
        self._starts = [extent.image_offset for extent in layout.extents]
        self.arch = arch
        self.byteorder = byteorder
        self.kind = unpacked.kind
        self.payload = unpacked.payload
        self.page_size: int = layout.page_size
        self.page_count: int = layout.page_count
        self.base: int = layout.addresses.address_of(0)
        self.segments: tuple[Segment, ...] = layout.segments
        self.extents: tuple[Extent, ...] = layout.extents
        self.build_id: str | None = elf.build_id if elf else None
        self.name = unpacked.source.name

    @classmethod
    def open(
        cls,
        path_or_buffer: str | os.PathLike[str] | AnyBuffer,
        *,
        page_size: int = 4096,
        base: int | None = None,
        system_map: str | os.PathLike[str] | None = None,
        arch: str | None = None,
        raw: bool = False,
        max_size: int | str = "4GiB",
        max_payload: int | str = "1GiB",
        scratch_dir: str | os.PathLike[str] | None = None,
    ) -> Image:
        """Open a kernel, an ELF file or raw firmware.

        A compressed kernel is decoded into an unlinked temporary file, which is then
        what ``file`` and ``extents`` are about, wherever the kernel came from.

        Args:
            path_or_buffer: The file's path, or its bytes, which are not copied; or the URL
                of one elsewhere (``https://…``, ``s3://…``, any that fsspec opens). Of that
                only what is needed is fetched, by a process of its own that ends with the
                image; it must not be changed meanwhile.
            page_size: Bytes of a page, a power of two from 512 to 65536.
            base: Virtual address of page 0. For a raw image, and for an ARM, arm64 or
                riscv kernel whose header does not give it (where it is guessed from the
                pointers in it). A relocatable or position-independent ELF is moved there.
            system_map: The path of a System.map, plain or gzipped, or of an ELF file
                with symbols, read when ``symbols`` is first asked for.
            arch: Overrides what the file says; needed to filter raw firmware.
            raw: Take the file's bytes as they are, whatever they look like. A file of
                no known format is refused unless this or ``base`` is given.
            max_size: The largest image that is taken, holes included.
            max_payload: The most bytes that a compressed payload may decode to.
            scratch_dir: Where decoded bytes go; None means /var/tmp.

        Returns:
            The image; close it, or use it as a context manager.

        Raises:
            BadImage: The file is damaged, too large, or of no known format.
            StoreIOError: It cannot be opened or read, or the scratch file not written.
            InvalidArgument: An argument is outside its range.
        """
        if page_size & (page_size - 1) or not PAGE_SIZE_MIN <= page_size <= PAGE_SIZE_MAX:
            raise InvalidArgument(f"page_size={page_size}: must be a power of two, 512 to 65536")
        if base is not None and not 0 <= base < ADDRESS_END:
            raise InvalidArgument(f"base={base}: must be a 64-bit address, 0 or more")
        largest = parse_size(max_size, "max_size")
        payload_max = parse_size(max_payload, "max_payload")
        source = open_source(path_or_buffer)
        if raw:
            unpacked = Unpacked(source, "raw", None, False, None)
        else:
            scratch = None if scratch_dir is None else Path(scratch_dir)
            unpacked = unpack(source, max_payload=payload_max, scratch_dir=scratch)
        try:
            return cls._laid_out(
                unpacked,
                page_size=page_size,
                base=base,
                max_size=largest,
                arch=arch,
                raw=raw,
                system_map=system_map,
            )
        except BaseException:
            unpacked.source.close()
            raise

    @classmethod
    def _laid_out(
        cls,
        unpacked: Unpacked,
        *,
        page_size: int,
        base: int | None,
        max_size: int,
        arch: str | None,
        raw: bool,
        system_map: str | os.PathLike[str] | None,
    ) -> Image:
        source, kernel = unpacked.source, unpacked.kernel
        if unpacked.is_elf:
            elf = with_arm_state(read_elf(source))
            layout = elf_layout(elf, page_size=page_size, base=base, max_size=max_size)
            return cls(unpacked, layout, elf, arch or elf.arch, elf.byteorder, system_map)
        if kernel is None and base is None and not raw:
            if source.read(0, 8) == b"\x89PGSROM\n":
                raise BadImage(f"{source.name}: a ROM image: what it holds, `pagestep rom` says")
            head = source.read(0, 8).hex(" ")
            raise BadImage(
                f"{source.name}: begins with {head}, which is no ELF file, kernel or compressed "
                "kernel: if it is raw firmware, say so with raw=True or base= (--raw or --base)"
            )
        if base is None:
            base = find_base(source, kernel) if kernel else 0
        layout = raw_layout(source, page_size=page_size, base=base, max_size=max_size)
        arch = arch or (kernel.arch if kernel else "unknown")
        byteorder = kernel.byteorder if kernel else "little"
        return cls(unpacked, layout, None, arch, byteorder, system_map)

    # Life

    def close(self) -> None:
        """Let the file go. Arrays handed out before stay valid. May be called twice."""
        source, self._source, self._elf = self._source, None, None
        if source is not None:
            source.close()

    def __del__(self) -> None:
        """Close it, should nobody have."""
        source = getattr(self, "_source", None)
        if source is not None:
            source.close()

    def __repr__(self) -> str:
        """Show what it is."""
        return f"<Image {self.name!r} {self.kind} {self.arch}, {self.page_count} pages>"

    def _open(self) -> Source:
        if self._source is None:
            raise Closed(f"{self.name}: the image is closed: open it again")
        return self._source

    @property
    def file(self) -> int | None:
        """The open file that ``extents`` speak of, a descriptor; None for a buffer.

        It belongs to the image and is closed with it: ``os.dup`` one to keep. For a
        packed kernel it is an unlinked temporary file.
        """
        return self._open().fd

    @property
    def pager(self) -> Pager | None:
        """The pager that reads the file that ``extents`` speak of; None where it is here."""
        return self._source.pager if self._source is not None else None

    @property
    def has_symbols_at_hand(self) -> bool:
        """Whether ``symbols`` can be had without fetching anything from elsewhere."""
        return self._symbols is not None or self.pager is None

    # Pages

    def _check_page(self, page_no: SupportsIndex) -> int:
        number = operator.index(page_no)
        if not 0 <= number < self.page_count:
            raise NoSuchPage(
                f"{self.name}: page {number} does not exist: it has pages 0 to "
                f"{self.page_count - 1}"
            )
        return number

    def _fill(self, offset: int, out: memoryview) -> None:
        """Copy image bytes to a buffer, zeros where the file holds none."""
        source = self._open()
        end = offset + out.nbytes
        index = max(0, bisect_right(self._starts, offset) - 1)
        at = offset
        while at < end:
            extent = self.extents[index] if index < len(self.extents) else None
            start = min(extent.image_offset, end) if extent else end
            if at < start:
                out[at - offset : start - offset] = bytes(start - at)
                at = start
            if extent and at < end:
                stop = min(end, extent.image_offset + extent.size)
                if at < stop:
                    into = extent.file_offset + at - extent.image_offset
                    source.read_into(into, out[at - offset : stop - offset])
                    at = stop
            index += 1

    def read(self, page_no: SupportsIndex) -> bytes:
        """Return one page, ``page_size`` bytes.

        Raises:
            NoSuchPage: The number is out of range.
            StoreIOError: The file has become shorter.
            Closed: The image is closed.
        """
        out = bytearray(self.page_size)
        self._fill(self._check_page(page_no) * self.page_size, memoryview(out))
        return bytes(out)

    def read_into(self, page_nos: Iterable[SupportsIndex], out: AnyBuffer) -> None:
        """Read many pages into one buffer, in the order given.

        Args:
            page_nos: Page numbers, in a list, range or integer array of shape (n,).
            out: A writable contiguous buffer of at least ``n * page_size`` bytes.

        Raises:
            NoSuchPage: A number is out of range; nothing has been read then.
            InvalidArgument: ``out`` is too small or cannot be written.
            StoreIOError: The file has become shorter.
            Closed: The image is closed.
        """
        numbers = [self._check_page(page_no) for page_no in page_nos]
        size = self.page_size
        try:
            target = bytes_of(out)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"out: not one contiguous run of bytes: {error}") from error
        if target.readonly or target.nbytes < len(numbers) * size:
            raise InvalidArgument(
                f"out: {target.nbytes} bytes, {'read-only' if target.readonly else 'writable'}: "
                f"{len(numbers)} pages need {len(numbers) * size} writable ones"
            )
        at = 0
        while at < len(numbers):
            run = 1
            while at + run < len(numbers) and numbers[at + run] == numbers[at] + run:
                run += 1
            self._fill(numbers[at] * size, target[at * size : (at + run) * size])
            at += run

    def page(self, page_no: SupportsIndex) -> Bytes:
        """Return one page as a read-only array, a view of the mapped file where it can be.

        Returns:
            Shape (page_size,), dtype uint8. It stays valid after ``close``. Should the
            file be cut short meanwhile, touching a view ends the process with SIGBUS;
            ``read`` raises instead.

        Raises:
            NoSuchPage: The number is out of range.
            Closed: The image is closed.
        """
        offset = self._check_page(page_no) * self.page_size
        return self._bytes(offset, self.page_size)

    def _bytes(self, offset: int, size: int) -> Bytes:
        source = self._open()
        index = bisect_right(self._starts, offset) - 1
        if index >= 0:
            extent = self.extents[index]
            into = offset - extent.image_offset
            if into + size <= extent.size and source.pager is None:
                start = extent.file_offset + into
                return source.view()[start : start + size]
        copy = np.empty(size, np.uint8)
        self._fill(offset, copy.data)
        copy.flags.writeable = False
        return copy

    def pages(self) -> Iterator[Bytes]:
        """Yield every page in order, as ``page`` returns it."""
        return map(self.page, range(self.page_count))

    def flat(self) -> NDArray[np.uint8]:
        """Return the whole image as one read-only array.

        Returns:
            Shape (page_count, page_size), dtype uint8. A view of the mapped file where
            all bytes lie there as they are in memory, else a new copy at each call.

        Raises:
            Closed: The image is closed.
        """
        whole = self._bytes(0, self.page_count * self.page_size)
        return whole.reshape(self.page_count, self.page_size)

    @property
    def identity(self) -> str:
        """SHA-256 of all the image's bytes, in hex; the same for the same memory image.

        Computed when it is first asked for, at about 1 GB/s.
        """
        if self._identity is None:
            digest = hashlib.sha256()
            buffer = memoryview(bytearray(_HASH_BYTES))
            size = self.page_count * self.page_size
            for offset in range(0, size, _HASH_BYTES):
                piece = buffer[: min(_HASH_BYTES, size - offset)]
                self._fill(offset, piece)
                digest.update(piece)
            self._identity = digest.hexdigest()
        return self._identity

    # Addresses

    def address_of(self, page_no: SupportsIndex) -> int:
        """Return the virtual address of a page's first byte.

        Raises:
            NoSuchPage: The number is out of range.
        """
        return self._layout.addresses.address_of(self._check_page(page_no) * self.page_size)

    def page_of(self, address: int) -> int:
        """Return the number of the page that holds a virtual address.

        Raises:
            NoSuchPage: No page does; addresses of .bss behind the image are such.
        """
        number = -1
        if 0 <= address < ADDRESS_END:
            number = int(self.pages_of([address])[0])
        if number < 0:
            raise NoSuchPage(
                f"{self.name}: address {address:#x} is in no page: the image holds "
                f"{show_size(self.page_count * self.page_size)} from {self.base:#x}"
            )
        return number

    def pages_of(self, addresses: ArrayLike | Iterable[int]) -> NDArray[np.int64]:
        """Return the numbers of the pages that hold virtual addresses.

        Args:
            addresses: Shape (n,), dtype uint64.

        Returns:
            Page numbers, -1 where no page holds an address, shape (n,), dtype int64.
        """
        wanted = np.atleast_1d(np.asarray(addresses, np.uint64))
        offsets = self._layout.addresses.offsets_of(wanted)
        return np.where(offsets < 0, -1, offsets // self.page_size)

    # Symbols

    @property
    def symbols(self) -> Symbols:
        """The symbols, from ``system_map`` where that was given, else from the file.

        That is the ELF's table, or without one what a Linux kernel carries for its own
        messages (kallsyms). Read when first asked for; empty where there are none.

        Raises:
            BadImage: The table or the map cannot be read.
            StoreIOError: The map cannot be opened.
            Closed: The image was closed before they were read.
        """
        if self._symbols is None:
            self._open()
            if self._system_map is not None:
                self._symbols = _symbols_of_file(self._system_map)
            else:
                self._symbols = self._own_symbols()
        return self._symbols

    def _own_symbols(self) -> Symbols:
        found = Symbols.none()
        if self._elf is not None:
            found = elf_symbols(self._elf, self._layout.section_addresses)
        # Extent by extent: a table lies in one, and no byte of a large image is copied.
        for extent in self.extents if not len(found) else ():
            found = kallsyms_symbols(
                self._open().view()[extent.file_offset : extent.file_offset + extent.size],
                byteorder=self.byteorder,
                bits=self._elf.bits if self._elf else _BITS.get(self.arch),
                base=self.base,
                segments=self.segments,
            )
            if len(found):
                break
        return found

    def btf(self) -> Btf | None:
        """Return the types of a kernel's functions, or None where it has none.

        Raises:
            BadImage: They are damaged.
            Closed: The image is closed.
        """
        source, found = self._open(), None
        for segment in self.segments:
            if segment.name == ".BTF":
                return Btf(self._bytes(segment.offset, segment.size).tobytes(), name=self.name)
        for extent in self.extents if self._elf is None else ():
            part = source.view()[extent.file_offset : extent.file_offset + extent.size]
            found = found or find_btf(part, name=self.name)
        return found

    def symbol_at(self, address: int) -> Symbol | None:
        """Return the symbol that a virtual address of the image belongs to, or None."""
        if not 0 <= address < ADDRESS_END or self.pages_of([address])[0] < 0:
            return None
        return self.symbols.symbol_at(address)

    # What an ELF says beside

    @property
    def module_name(self) -> str | None:
        """The name of a kernel module (a .ko file), by its .modinfo; None: it is none."""
        if self._elf is None or not self._elf.relocatable:
            return None
        for segment in self.segments:
            if segment.name == ".modinfo":
                for entry in self._bytes(segment.offset, segment.size).tobytes().split(b"\0"):
                    if entry.startswith(b"name="):
                        return printable(entry.removeprefix(b"name="))
        return None

    def pointers_of(self, section: str) -> list[int]:
        """Return the addresses that a table of addresses holds, whether it is loaded or not.

        Args:
            section: Its name; where the image has no such section there are none.

        Raises:
            BadImage: The section or its relocations cannot be read.
            Closed: The image is closed.
        """
        self._open()
        if self._elf is None:
            return []
        return pointers_of(self._elf, self._layout.section_addresses, section)

    def source_ranges(self) -> SourceRanges:
        """Return which code comes from which source file, by debug information.

        It is looked for in ``system_map`` where that is an ELF file, else in the image.

        Returns:
            Pairs of a path and of runs of virtual addresses; none without debug information.

        Raises:
            BadImage: The debug information cannot be read.
            StoreIOError: The map cannot be opened.
            Closed: The image is closed.
        """
        self._open()
        if self._system_map is not None:
            source = open_source(self._system_map)
            try:
                if boot_format(source.read(0, 64)) == "elf":
                    return source_ranges(source)
            finally:
                source.close()
        return source_ranges(self._elf.source) if self._elf is not None else ()


def _symbols_of_file(path: str | os.PathLike[str]) -> Symbols:
    source = open_source(path)
    try:
        if boot_format(source.read(0, 64)) != "elf":
            return map_symbols(source)
        elf = read_elf(source, loadable=False)
        addresses = np.array([section.address for section in elf.sections], np.uint64)
        return elf_symbols(elf, addresses)
    finally:
        source.close()
