# SPDX-License-Identifier: MIT
"""``Rom``: a ROM image that is read where it lies."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

import numpy as np
import numpy.typing as npt

from pagestep.codecs import CODECS
from pagestep.codecs.closing import Closing
from pagestep.codecs.errors import AbsentPage, BadImage, BadRom, BadSignature, Closed
from pagestep.store._binding import page_number_array
from pagestep.store._files import WrittenBeside
from pagestep.store.image._layout import Segment, pages_of_run
from pagestep.store.image._source import bytes_of, open_source
from pagestep.store.policy import Level

from ._format import KEY_SIZE, SIGNATURE_SIZE, Coding, Header, unpack
from ._reader import RomReader, coder_sets_for
from ._sign import check_signature
from ._tree import leaf_hash, tree_root

if TYPE_CHECKING:
    from pagestep.codecs.buffers import AnyBuffer

__all__ = ["Rom", "RomCheck"]

_BATCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RomCheck:
    """What ``Rom.verify`` found.

    Attributes:
        bad_pages: Numbers of the pages that cannot be read.
        absent_count: Pages that were left out.
        root_holds: Whether all pages together are those that the header speaks of.
        is_signed: Whether it has a signature.
        signature_fault: What is wrong with the signature, or with there being none; or "".
    """

    bad_pages: tuple[int, ...]
    absent_count: int
    root_holds: bool
    is_signed: bool
    signature_fault: str

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.bad_pages and self.root_holds and not self.signature_fault


class Rom(Closing):
    """A ROM image, read where it lies (docs/FORMAT.md). Made by ``Rom.open``.

    Reading is safe from several threads, and ``close`` lets reads that are under way end.

    Attributes:
        name: The path it was opened by, or ``"buffer"``.
        page_size: Bytes of a page.
        page_count: Number of pages, those left out included.
        base: Virtual address of page 0.
        arch: Which instruction set, as ``Image.arch``.
        identity: SHA-256 of all the image's bytes, in hex, as ``Image.identity``.
        image_size: Bytes of the image.
        rom_size: Bytes of the ROM image.
        segments: The image's named runs, by offset.
        levels: The level that each of them was given, in their order.
        root: Root of the tree of pages, 32 bytes.
    """

    def __init__(self, reader: RomReader) -> None:
        """Take an open reader; ``Rom.open`` is the way to make one."""
        header = _header_of(reader)
        self._reader: RomReader | None = reader
        self._header: Header = header
        self.name = reader.name
        self.page_size = reader.page_size
        self.page_count = reader.page_count
        self.base = header.base
        self.arch = header.arch
        self.identity = header.identity.hex()
        self.image_size = header.image_size
        self.rom_size = header.rom_size
        self.root = header.root
        self.segments: tuple[Segment, ...] = tuple(
            Segment(
                each.name,
                each.address,
                each.size,
                each.offset,
                pages_of_run(each.offset, each.size, reader.page_size),
                each.flags,
                each.kind,
            )
            for each in header.segments
        )
        self.levels = tuple(Level(each.level) for each in header.segments)

    @classmethod
    def open(
        cls,
        path_or_buffer: str | os.PathLike[str] | AnyBuffer,
        *,
        threads: int | None = None,
        trusted: bytes | None = None,
    ) -> Self:
        """Open a ROM image. A file is mapped, not read: it must stay as it is.

        Args:
            path_or_buffer: The file's path, or its bytes, which are not copied.
            threads: How many threads may decode at once; others wait. Each costs RAM.
                None: as many as there are processors, at most 4.
            trusted: The public key that must have signed it, 32 bytes; None asks for no
                signature. A signature vouches for the header alone until ``verify`` has
                held all pages against it.

        Returns:
            The ROM image; close it, or use it as a context manager.

        Raises:
            BadRom: It is no ROM image, or damaged.
            BadSignature: It is not signed by whom it should be, or was changed since.
            Unsupported: It needs a codec that this reader lacks.
            StoreIOError: The file cannot be opened.
            InvalidArgument: ``threads`` is not from 1 to 64.
        """
        try:
            source = open_source(path_or_buffer)
        except BadImage as error:
            raise BadRom(str(error)) from error
        try:
            sets = coder_sets_for(None) if threads is None else threads
            rom = cls(RomReader(source.view(), source.name, sets))  # a view outlives its source
        finally:
            source.close()
        fault = "" if trusted is None else rom.signature_fault(trusted)
        if fault:
            raise BadSignature(f"{rom.name}: {fault}")
        return rom

    # -- life ---------------------------------------------------------------------------

    def close(self) -> None:
        """Let the file go. A store over it keeps what it needs. May be called twice."""
        self._reader = None

    def __repr__(self) -> str:
        """Say what it is."""
        state = "closed" if self._reader is None else f"{self.page_count} pages"
        return f"<Rom {self.name!r} {self.arch}: {state}>"

    @property
    def reader(self) -> RomReader:
        """The reader itself, for a store.

        Raises:
            Closed: The ROM image is closed.
        """
        if self._reader is None:
            raise Closed(f"{self.name}: the ROM image is closed: open it again")
        return self._reader

    @property
    def memory_bytes(self) -> int:
        """Bytes of RAM that reading takes: decoded dictionaries, and coders for each thread."""
        return self.reader.memory_bytes

    # -- pages --------------------------------------------------------------------------

    def read(self, page_no: SupportsIndex) -> bytes:
        """Return one page, checked.

        Args:
            page_no: From 0 to ``page_count - 1``.

        Returns:
            ``page_size`` bytes.

        Raises:
            NoSuchPage: There is no such page.
            AbsentPage: It was left out of the ROM image.
            CorruptPage: The ROM image is damaged there.
            Closed: The ROM image is closed.
        """
        return (self._reader or self.reader).read(operator.index(page_no))

    def read_into(
        self, page_nos: Iterable[int] | npt.NDArray[np.integer[Any]], out: AnyBuffer
    ) -> None:
        """Read many pages into one buffer, in one call of the core.

        Args:
            page_nos: Page numbers, shape (n,); uint64 is taken without a copy.
            out: A writable, contiguous buffer of at least ``n * page_size`` bytes; page
                ``page_nos[i]`` goes to bytes ``i * page_size`` and on.

        Raises:
            InvalidArgument: ``out`` is too small, read-only or not contiguous.
            PageStepError: What ``read`` raises, for the first page that cannot be read.
        """
        reader = self.reader
        numbers = page_number_array(page_nos)
        statuses = reader.read_into(numbers, out)
        if statuses is not None:
            first = int(np.flatnonzero(statuses)[0])
            raise reader.error_of(int(numbers[first]), int(statuses[first]))

    def flat(self) -> npt.NDArray[np.uint8]:
        """Return all pages decoded, in a new array of shape (page_count, page_size).

        Raises:
            AbsentPage: One was left out.
            CorruptPage: One is damaged.
        """
        pages = np.empty((self.page_count, self.page_size), np.uint8)
        self.read_into(range(self.page_count), pages)
        return pages

    def extract(self) -> bytes:
        """Return the image's bytes, ``image_size`` of them.

        Raises:
            AbsentPage: A page was left out.
            CorruptPage: One is damaged.
        """
        return self.flat().reshape(-1)[: self.image_size].tobytes()

    def extract_to(
        self, path: str | os.PathLike[str], *, progress: Callable[[int], Any] | None = None
    ) -> None:
        """Write the image's bytes to a file, which appears whole or not at all.

        Args:
            path: Of the file.
            progress: Called with the number of pages done since the last call.

        Raises:
            AbsentPage: A page was left out.
            CorruptPage: One is damaged.
            OSError: The file cannot be written.
        """
        left = self.image_size
        with WrittenBeside(path) as file:
            for first, pages, statuses in self._batches():
                for number, status in enumerate(statuses.tolist()):
                    if status:
                        raise self.reader.error_of(first + number, status)
                file.write(bytes_of(pages)[:left])
                left = max(0, left - pages.nbytes)
                if progress:
                    progress(len(pages))

    def _batches(
        self,
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.int32]]]:
        """Yield page number of the first, pages, and an error or 0 for each."""
        reader = self.reader
        count = max(1, _BATCH_BYTES // self.page_size)
        room = np.empty((count, self.page_size), np.uint8)
        for first in range(0, self.page_count, count):
            numbers = np.arange(first, min(first + count, self.page_count), dtype=np.uint64)
            pages = room[: numbers.size]
            statuses = reader.read_into(numbers, pages)
            yield first, pages, np.zeros(numbers.size, np.int32) if statuses is None else statuses

    # -- what is in it ------------------------------------------------------------------

    def _entries(self, name: str, entry_size: int) -> npt.NDArray[Any]:
        table = self._header.tables[name]
        end = table.offset + table.count * entry_size
        found: npt.NDArray[Any] = self.reader.data[table.offset : end].view(f"<u{entry_size}")
        return found

    @property
    def signer(self) -> bytes | None:
        """The public key that it says it was signed with, 32 bytes; None: it is not signed."""
        signature = self._signature()
        return signature[:KEY_SIZE] if len(signature) == SIGNATURE_SIZE else None

    @property
    def dictionaries(self) -> tuple[bytes, ...]:
        """Its dictionaries, decoded: of use for a store's compressed pages as well."""
        return self.reader.dictionaries(len(self._header.dicts))

    @property
    def codings(self) -> tuple[Coding, ...]:
        """How slots are coded: codec, branch filter, dictionary."""
        return tuple(self._header.codings)

    @property
    def ram_size(self) -> int:
        """Bytes of RAM that a target needs for dictionaries when it opens the image."""
        return sum(each.size for each in self._header.dicts if each.codec_id)

    @property
    def stored(self) -> npt.NDArray[np.bool_]:
        """Which pages it can give, those of one repeated word too; shape (page_count,)."""
        entry_size = self._header.page_entry_size
        left_out = (1 << 8 * entry_size) - 1
        found: npt.NDArray[np.bool_] = self._entries("pages", entry_size) != left_out
        return found

    @property
    def by_codec(self) -> dict[str, tuple[int, int]]:
        """Pages and stored bytes by what holds them.

        The names are those of the codecs, and ``"same"`` (one repeated word), ``"duplicate"``
        (stored for another page already), ``"absent"`` (left out).
        """
        header = self._header
        size_bits = 8 * header.slot_entry_size - 4
        pages = self._entries("pages", header.page_entry_size).astype(np.int64)
        slots = self._entries("slots", header.slot_entry_size).astype(np.int64)
        sizes = (slots & ((1 << size_bits) - 1)) + 1
        codec_ids = np.array([each.codec_id for each in header.codings], np.int64)
        codec_of = codec_ids[slots >> size_bits] if slots.size else np.empty(0, np.int64)
        found: dict[str, tuple[int, int]] = {}
        for name, info in CODECS.items():
            if name != "same":
                of_codec = codec_of == info.id
                found[name] = int(of_codec.sum()), int(sizes[of_codec].sum())
        absent = len(pages) - int(self.stored.sum())
        same = int((pages >= 1 << (8 * header.page_entry_size - 1)).sum()) - absent
        found["same"] = same, 8 * header.tables["words"].count
        found["duplicate"] = len(pages) - same - absent - len(slots), 0
        found["absent"] = absent, 0
        return found

    # -- whether it is whole ------------------------------------------------------------

    def verify(
        self, *, trusted: bytes | None = None, progress: Callable[[int], Any] | None = None
    ) -> RomCheck:
        """Read every page, and hold all of them against the header's root and its signature.

        Args:
            trusted: The public key that must have signed it, 32 bytes; None takes the one
                that it names.
            progress: Called with the number of pages done since the last call.

        Raises:
            Unsupported: It is signed, and the package cryptography is not installed.
            Closed: The ROM image is closed.
        """
        fault = self.signature_fault(trusted)
        bad: list[int] = []
        root = tree_root(self._leaves(bad, progress))
        return RomCheck(
            tuple(bad),
            self.by_codec["absent"][0],
            root == self.root and not bad,
            bool(self._signature()),
            fault,
        )

    def _leaves(self, bad: list[int], progress: Callable[[int], Any] | None) -> Iterator[bytes]:
        for first, pages, statuses in self._batches():
            for number, (page, status) in enumerate(zip(pages, statuses.tolist(), strict=True)):
                if status:
                    error = self.reader.error_of(first + number, status)
                    if not isinstance(error, AbsentPage):
                        bad.append(first + number)
                yield leaf_hash(b"" if status else page)
            if progress:
                progress(len(pages))

    def _signature(self) -> bytes:
        return self._entries("signature", 1).tobytes()

    def signature_fault(self, trusted: bytes | None = None) -> str:
        """Return what is wrong with the signature; nothing where there need not be one.

        Args:
            trusted: The public key that must have signed it, 32 bytes; None takes the one
                that it names, which anybody can make.

        Raises:
            Unsupported: The package cryptography is not installed.
        """
        signature = self._signature()
        if signature or trusted is not None:
            signed = self.reader.data[: self._header.block_size + 4].tobytes()
            try:
                check_signature(signed, signature, trusted)
            except BadSignature as error:
                return str(error)
        return ""


def _header_of(reader: RomReader) -> Header:
    try:
        header = unpack(bytes_of(reader.data))
        if header.image_size > reader.page_count * reader.page_size:
            raise BadRom(f"{reader.page_count} pages cannot hold {header.image_size} bytes")
    except BadRom as error:
        raise BadRom(f"{reader.name}: {error}") from error
    return header
