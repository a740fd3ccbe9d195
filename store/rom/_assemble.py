# SPDX-License-Identifier: MIT
"""The bytes of a ROM image, once it is known how each page is coded (docs/FORMAT.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import RomTooLarge
from pagestep.store._size import show_size

from ._choose import PAGE_US
from ._encode import Option, page_checksums
from ._format import (
    GROUP_SLOTS,
    ROM_SIZE_MAX,
    SIGNATURE_SIZE,
    Coding,
    DictEntry,
    Header,
    RomSegment,
    Table,
)
from ._rom import Rom
from ._sign import sign

if TYPE_CHECKING:
    from pagestep.store.image import Image

    from ._contents import Contents
    from ._plan import RomPlan

_PAGE_ENTRY_NARROW_MAX = 1 << 15
_SLOT_ENTRY_NARROW_PAGE_MAX = 4096
_WORDS_ALIGN = 8


@dataclass(frozen=True, slots=True, eq=False)
class RomImage:
    """A ROM image that was built, and what it took.

    Attributes:
        data: Its bytes.
        image_bytes: Of the image.
        page_count: Pages of the image.
        by_codec: Pages and stored bytes by what holds them: "raw", "lz4", "zstd", "same",
            "duplicate", "absent".
        header_bytes: Of header block and signature.
        index_bytes: Of checksums, groups, page and slot entries; words are by_codec's "same".
        dictionary_bytes: As they are stored.
        padding_bytes: Between tables and behind them.
        ram_bytes: That a target needs for dictionaries when it opens the image.
        time_us: Expected time of a page read, weighted by trace or level, by ``PAGE_US``.
        time_us_bound: What no choice of codecs that fits can be below; None without size_max.
        arch: The image's, as ``Image.arch``.
        byteorder: The image's.
    """

    data: bytes = field(repr=False)
    image_bytes: int
    page_count: int
    by_codec: dict[str, tuple[int, int]]
    header_bytes: int
    index_bytes: int
    dictionary_bytes: int
    padding_bytes: int
    ram_bytes: int
    time_us: float
    time_us_bound: float | None
    arch: str
    byteorder: str


def _end_of(image: Image) -> int:
    """Return the bytes of an image: what follows in the last page is padding."""
    ends = [each.image_offset + each.size for each in image.extents]
    ends += [each.offset + each.size for each in image.segments]
    return max(ends, default=0)


class Assembly:
    """The bytes of a ROM image, once it is known how each page is coded."""

    def __init__(
        self,
        image: Image,
        plan: RomPlan,
        contents: Contents,
        dicts: Sequence[DictEntry],
        dict_bytes: bytes,
    ) -> None:
        """Take what is known before pages are."""
        self.image, self.plan, self.contents = image, plan, contents
        self.slots, self.dicts, self.dict_bytes = contents.slots, dicts, dict_bytes
        narrow = (
            len(self.slots) <= _PAGE_ENTRY_NARROW_MAX
            and len(contents.words) < _PAGE_ENTRY_NARROW_MAX
        )
        self.page_entry_size = 2 if narrow else 4
        self.slot_entry_size = 2 if image.page_size <= _SLOT_ENTRY_NARROW_PAGE_MAX else 4
        self.segments = [
            RomSegment(
                segment.name,
                segment.address % (1 << 64),
                segment.size,
                segment.offset,
                segment.flags,
                segment.kind,
                int(level),
            )
            for level, segment in zip(contents.segment_levels, image.segments, strict=True)
        ]

    def _header(self, codings: Sequence[Coding], tables: dict[str, Table], rom_size: int) -> Header:
        image, contents = self.image, self.contents
        return Header(
            page_size=image.page_size,
            page_entry_size=self.page_entry_size,
            slot_entry_size=self.slot_entry_size,
            erased_value=self.plan.erased_value,
            rom_size=rom_size,
            base=image.base % (1 << 64),
            image_size=_end_of(image),
            arch=image.arch,
            identity=bytes.fromhex(image.identity),
            root=contents.root,
            codings=codings,
            dicts=self.dicts,
            segments=self.segments,
            tables=tables,
        )

    def _place(self, codings: Sequence[Coding], data_size: int) -> tuple[dict[str, Table], int]:
        """Return where the tables behind the header block are, and where the last one ends."""
        contents = self.contents
        _, at = self._header(codings, {}, 0).block_tables()
        at += 4
        page_size = self.image.page_size
        in_place = bool(contents.is_in_place.any())
        group_count = -(-len(self.slots) // GROUP_SLOTS)
        tables: dict[str, Table] = {}
        for name, size, count, align in (
            ("signature", 1, SIGNATURE_SIZE if self.plan.key else 0, 1),
            ("words", 8, len(contents.words), _WORDS_ALIGN),
            ("checksums", 4, len(contents.pages), 1),
            ("groups", 4, group_count, 1),
            ("pages", self.page_entry_size, len(contents.pages), 1),
            ("slots", self.slot_entry_size, len(self.slots), 1),
            ("dict_bytes", 1, len(self.dict_bytes), 1),
            ("data", 1, data_size, page_size if in_place else 1),
        ):
            at = -(-at // align) * align
            tables[name] = Table(at, count)
            at += size * count
        return tables, at

    def size_without_data(self, options: Sequence[Option]) -> int:
        """Return the bytes of everything but page data, with these options."""
        return self._place(list(dict.fromkeys(option.coding for option in options)), 0)[1]

    def assemble(
        self,
        options: Sequence[Option],
        coded: Sequence[Mapping[int, bytes]],
        chosen: npt.NDArray[np.int64],
        bound: float | None,
    ) -> RomImage:
        """Return the ROM image."""
        stored: list[bytes] = []
        numbers: list[int] = []
        for number, page_no in zip(map(int, chosen), self.slots.tolist(), strict=True):
            page = coded[number].get(page_no)
            # An option that was of no use for a page left it raw.
            numbers.append(0 if page is None else number)
            stored.append(self.contents.pages[page_no].tobytes() if page is None else page)
        sizes = np.array([len(each) for each in stored], np.int64)
        codings = list(dict.fromkeys(options[number].coding for number in sorted(set(numbers))))
        coding_nos = np.array(
            [codings.index(options[number].coding) for number in numbers], np.int64
        )
        tables, end = self._place(codings, int(sizes.sum()))
        rom_size = self.plan.padded(end)
        if rom_size > ROM_SIZE_MAX:
            raise RomTooLarge(
                f"{self.image.name}: {show_size(rom_size)}: at most 4 GiB are possible"
            )
        rom = bytearray([self.plan.erased_value]) * rom_size
        head = self._header(codings, tables, rom_size).pack()
        rom[: len(head)] = head
        parts = self._index(sizes, coding_nos)
        parts["dict_bytes"] = self.dict_bytes
        parts["data"] = b"".join(stored)
        parts["signature"] = sign(head, self.plan.key) if self.plan.key else b""
        for name, part in parts.items():
            rom[tables[name].offset : tables[name].offset + len(part)] = part
        return self._report(bytes(rom), head, parts, [options[number] for number in numbers], bound)

    def _index(
        self, sizes: npt.NDArray[np.int64], coding_nos: npt.NDArray[np.int64]
    ) -> dict[str, bytes]:
        """Return the index's tables."""
        contents = self.contents
        starts = np.cumsum(sizes) - sizes
        top_bit = 1 << (8 * self.page_entry_size - 1)
        slot_of = np.full(len(contents.pages), -1, np.int64)
        slot_of[self.slots] = np.arange(len(self.slots))
        entries = np.where(
            contents.word_no >= 0, contents.word_no + top_bit, slot_of[contents.owner]
        )
        entries[contents.is_absent] = 2 * top_bit - 1
        size_bits = 8 * self.slot_entry_size - 4
        return {
            "words": contents.words.astype("<u8").tobytes(),
            "checksums": page_checksums(contents).astype("<u4").tobytes(),
            "groups": starts[::GROUP_SLOTS].astype("<u4").tobytes(),
            "pages": entries.astype(f"<u{self.page_entry_size}").tobytes(),
            "slots": (sizes - 1 | coding_nos << size_bits)
            .astype(f"<u{self.slot_entry_size}")
            .tobytes(),
        }

    def _report(
        self,
        rom: bytes,
        head: bytes,
        parts: Mapping[str, bytes],
        options: Sequence[Option],
        bound: float | None,
    ) -> RomImage:
        contents = self.contents
        with Rom.open(rom, threads=1) as built:
            by_codec = built.by_codec
        weight = contents.slot_weights
        cost = np.array([PAGE_US[option.codec] for option in options])
        index = ("checksums", "groups", "pages", "slots")
        used = len(head) + sum(len(part) for part in parts.values())
        return RomImage(
            data=rom,
            image_bytes=_end_of(self.image),
            page_count=len(contents.pages),
            by_codec=by_codec,
            header_bytes=len(head) + len(parts["signature"]),
            index_bytes=sum(len(parts[name]) for name in index),
            dictionary_bytes=len(parts["dict_bytes"]),
            padding_bytes=len(rom) - used,
            ram_bytes=sum(each.size for each in self.dicts if each.codec_id),
            time_us=float((weight * cost).sum() / max(weight.sum(), 1e-9)) if options else 0.0,
            time_us_bound=bound,
            arch=self.image.arch,
            byteorder=self.image.byteorder,
        )
