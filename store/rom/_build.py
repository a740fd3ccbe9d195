# SPDX-License-Identifier: MIT
"""A ROM image made from an image: what to store how, and the bytes of it (docs/FORMAT.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pagestep.codecs import filter_for
from pagestep.codecs.errors import InvalidArgument, RomTooLarge
from pagestep.store._level import Level
from pagestep.store._size import parse_size, show_size

from ._choose import choose
from ._contents import Contents, examine
from ._encode import (
    DictionaryUse,
    Option,
    Progress,
    dictionary_size,
    encode,
    make_dictionary,
    page_checksums,
    processors,
    store_dictionaries,
)
from ._format import (
    GROUP_SLOTS,
    NO_DICT,
    ROM_SIZE_MAX,
    SIGNATURE_SIZE,
    Coding,
    DictEntry,
    Header,
    RomSegment,
    Table,
)
from ._sign import sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from pagestep.store.image import Image
    from pagestep.store.trace import Block

_CODECS = ("raw", "lz4", "zstd")
_FAST = (Level.LAST_RESORT, Level.RELUCTANT)
_DENSE = (Level.STEP_ON_IT,)

# Microseconds for a page of 4 KiB, to compare codecs with; measured on a desktop processor
# (docs/BENCHMARKS.md). On others their relation is much the same.
_PAGE_US = {"raw": 0.3, "lz4": 1.5, "zstd": 8.0}

_PAGE_ENTRY_NARROW_MAX = 1 << 15
_SLOT_ENTRY_NARROW_PAGE_MAX = 4096
_WORDS_ALIGN = 8
_NEED_NAMES_MAX = 4
_SLOTS_FEW = 256  # too few for a dictionary to pay for sure


@dataclass(frozen=True, slots=True, kw_only=True)
class RomPlan:
    """How a ROM image is to be built.

    Attributes:
        codecs: What the target can decode, of "raw", "lz4" and "zstd".
        levels: Of segments by name; the others are NORMAL. A page that several segments
            share has the most careful of their levels.
        in_place: Segments whose pages are stored raw and aligned, to be used where they lie.
        leave_out: Segments whose pages are not stored, if no other segment needs them.
        trace: Blocks of a trace of the image: what it touches first is laid out first, and
            weighs by use where size is limited.
        size_max: Bytes that the ROM image may have, an int or text such as "2MiB"; None: the
            levels alone decide.
        dictionary: "compressed", so that it needs RAM when it is opened; "in-place", so that
            it needs none; "none".
        dictionary_size: Bytes at most; None: what the image's size makes best.
        align: The ROM image's size is a multiple of this, such as an erase block.
        erased_value: What padding is filled with.
        key: An Ed25519 private key to sign the header with.
    """

    codecs: Sequence[str] = _CODECS
    levels: Mapping[str, Level] = field(default_factory=dict[str, Level])
    in_place: Sequence[str] = ()
    leave_out: Sequence[str] = ()
    trace: Iterable[Block] | None = None
    size_max: int | str | None = None
    dictionary: DictionaryUse = "compressed"
    dictionary_size: int | str | None = None
    align: int | str = 1
    erased_value: int = 0xFF
    key: Ed25519PrivateKey | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            InvalidArgument: A codec, dictionary use, alignment or erased value out of range.
        """
        unknown = [name for name in self.codecs if name not in _CODECS]
        if unknown:
            raise InvalidArgument(f"codec {unknown[0]!r}: not one of {', '.join(_CODECS)}")
        if self.dictionary not in ("compressed", "in-place", "none"):
            raise InvalidArgument(
                f"dictionary {self.dictionary!r}: not one of compressed, in-place, none"
            )
        align = parse_size(self.align, "align")
        if align < 1 or align & (align - 1):
            raise InvalidArgument(f"align {align}: must be a power of two")
        if not 0 <= self.erased_value <= 0xFF:
            raise InvalidArgument(f"erased value {self.erased_value}: must be a byte, 0 to 255")


@dataclass(frozen=True, slots=True, eq=False)
class RomImage:
    """A ROM image that was built, and what it took.

    Attributes:
        data: Its bytes.
        image_bytes: Of the image's pages.
        page_count: Pages of the image.
        by_codec: Pages and stored bytes by what holds them: "raw", "lz4", "zstd", "same",
            "duplicate", "absent".
        header_bytes: Of header block and signature.
        index_bytes: Of words, checksums, groups, page and slot entries.
        dictionary_bytes: As they are stored.
        padding_bytes: Between tables and behind them.
        time_us: Expected time of a page read, weighted by trace or level, by ``PAGE_US``.
        time_us_bound: What no choice of codecs that fits can be below; None without size_max.
        arch: The image's, as ``Image.arch``.
        byteorder: The image's.
    """

    data: bytes
    image_bytes: int
    page_count: int
    by_codec: dict[str, tuple[int, int]]
    header_bytes: int
    index_bytes: int
    dictionary_bytes: int
    padding_bytes: int
    time_us: float
    time_us_bound: float | None
    arch: str
    byteorder: str


def _no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def build_rom(
    image: Image,
    plan: RomPlan | None = None,
    *,
    threads: int | None = None,
    progress: Progress = _no_progress,
) -> RomImage:
    """Build a ROM image.

    The same image and plan give the same bytes, whatever the number of threads, the machine
    and the time, with the same versions of liblz4 and libzstd.

    Args:
        image: What to store.
        plan: How; None: every page NORMAL, with all codecs.
        threads: How many code pages at once; None: as many as there are processors.
        progress: Called with what is being done, how much is done and how much there is.

    Raises:
        InvalidArgument: A segment that the image does not have, or pages of an image beyond
            what the format can hold.
        RomTooLarge: It does not fit into the plan's size_max, or beyond 4 GiB.
    """
    return _Build(image, plan or RomPlan(), threads or processors(), progress).run()


class _Build:
    """One run of ``build_rom``."""

    def __init__(self, image: Image, plan: RomPlan, threads: int, progress: Progress) -> None:
        self.image, self.plan, self.threads, self.progress = image, plan, threads, progress
        progress("examining pages", 0, 0)
        self.contents: Contents = examine(
            image,
            levels=plan.levels,
            in_place=plan.in_place,
            leave_out=plan.leave_out,
            trace=plan.trace,
        )
        self.slots = self.contents.slots
        self.checksums = page_checksums(self.contents)
        self.filter = filter_for(image.arch)

    def run(self) -> RomImage:
        """Build with dictionaries, and without where that may be smaller."""
        dictionaries = self._dictionaries()
        with_them = self._with(dictionaries)
        if not any(dictionaries) or len(self.slots) > _SLOTS_FEW:
            return with_them
        without = self._with([])
        return min(with_them, without, key=lambda built: len(built.data))

    def _groups(self) -> npt.NDArray[np.int64]:
        """Return the number of each slot's dictionary: code and data have little in common."""
        is_code = self.contents.is_code[self.slots]
        if min(is_code.sum(), (~is_code).sum()) < _SLOTS_FEW:
            return np.zeros(len(self.slots), np.int64)
        return np.where(is_code, 0, 1)

    def _dictionaries(self) -> list[bytes]:
        plan, found = self.plan, list[bytes]()
        group = self._groups()
        for number in np.unique(group).tolist():
            slots = self.slots[(group == number) & ~self.contents.is_in_place[self.slots]]
            size = dictionary_size(len(slots) * self.image.page_size, plan.dictionary, plan.codecs)
            if plan.dictionary_size is not None:
                size = min(size, parse_size(plan.dictionary_size, "dictionary size"))
            self.progress("choosing dictionaries", 0, 0)
            found.append(
                make_dictionary(
                    self.contents, self.image.base, slots, self.filter, size, plan.codecs
                )
            )
        return found

    def _with(self, dictionaries: list[bytes]) -> RomImage:
        """Build with these dictionaries; an empty one stands for none."""
        numbers = [NO_DICT] * 2
        for number, dictionary in enumerate(dictionaries):
            if dictionary:
                numbers[number] = sum(map(bool, dictionaries[:number]))
        dictionaries = [each for each in dictionaries if each]
        ways = self._ways(np.array(numbers)[self._groups()])
        coded = encode(
            self.contents,
            self.image.base,
            [(option, self.slots[mask]) for option, mask in ways],
            dictionaries,
            threads=self.threads,
            progress=self.progress,
        )
        options = [Option("raw", "none"), *(option for option, _ in ways)]
        coded = [{}, *coded]
        entries, stored = store_dictionaries(dictionaries, self.plan.dictionary, self.plan.codecs)
        sizes = self._sizes(coded)
        assembly = _Assembly(self, entries, stored)
        chosen, bound = self._choose(options, sizes, assembly)
        return assembly.assemble(options, coded, chosen, bound)

    def _ways(self, dict_no: npt.NDArray[np.int64]) -> list[tuple[Option, npt.NDArray[np.bool_]]]:
        """Return the ways to code pages beside raw, and which slots each is for."""
        filtered = self._is_filtered()
        ways: list[tuple[Option, npt.NDArray[np.bool_]]] = []
        for codec in ("lz4", "zstd"):
            if codec not in self.plan.codecs:
                continue
            fits = self._may_use(codec)
            for number in np.unique(dict_no).tolist():
                for is_filtered in (True, False):
                    mask = fits & (dict_no == number) & (filtered == is_filtered)
                    if mask.any():
                        name = self.filter if is_filtered else "none"
                        ways.append((Option(codec, name, number), mask))
        return ways

    def _is_filtered(self) -> npt.NDArray[np.bool_]:
        """Return which slots are coded behind the branch filter.

        In data it does more harm than good. A slot that several pages share cannot be: the
        filter takes a page's address into its bytes.
        """
        if self.filter == "none":
            return np.zeros(len(self.slots), np.bool_)
        pages = np.bincount(self.contents.owner, minlength=len(self.contents.owner))
        found: npt.NDArray[np.bool_] = self.contents.is_code[self.slots] & (pages[self.slots] == 1)
        return found

    def _may_use(self, codec: str) -> npt.NDArray[np.bool_]:
        """Return which slots a codec is for, by their level where size is not limited."""
        level = self.contents.level[self.slots]
        fits = ~self.contents.is_in_place[self.slots]
        if self.plan.size_max is None and {"lz4", "zstd"} <= set(self.plan.codecs):
            fast, dense = np.isin(level, _FAST), np.isin(level, _DENSE)
            fits &= (fast | dense) if codec == "lz4" else ~fast
        return fits

    def _sizes(self, coded: Sequence[Mapping[int, bytes]]) -> npt.NDArray[np.int64]:
        """Return stored sizes, shape (slots, options): a page's where an option is not for it."""
        sizes = np.full((len(self.slots), len(coded)), self.image.page_size, np.int64)
        for number, found in enumerate(coded):
            for row, page_no in enumerate(self.slots.tolist()):
                if page_no in found:
                    sizes[row, number] = len(found[page_no])
        return sizes

    def _choose(
        self, options: Sequence[Option], sizes: npt.NDArray[np.int64], assembly: _Assembly
    ) -> tuple[npt.NDArray[np.int64], float | None]:
        """Return each slot's option, and the bound of the expected time where size is limited."""
        cost = np.array([_PAGE_US[option.codec] for option in options])
        if self.plan.size_max is None:
            # The smallest of those that the level allows; a tie goes to the quicker.
            return np.lexsort((np.broadcast_to(cost, sizes.shape), sizes), axis=1)[:, 0], None
        size_max = parse_size(self.plan.size_max, "size_max")
        align = parse_size(self.plan.align, "align")
        room = size_max // align * align - assembly.size_without_data(options)
        weight = self._slot_weights()
        found = choose(sizes, weight[:, None] * cost, room)
        if found is None:
            smallest = int(sizes.min(axis=1).sum()) + assembly.size_without_data(options)
            raise RomTooLarge(self._too_large(-(-smallest // align) * align, size_max, sizes))
        return found.option, found.time_bound / max(float(weight.sum()), 1e-9)

    def _slot_weights(self) -> npt.NDArray[np.float64]:
        """Return the expected reads of each slot: of all pages that it holds."""
        stored = (self.contents.word_no < 0) & ~self.contents.is_absent
        weights = np.bincount(
            self.contents.owner[stored],
            self.contents.weight[stored],
            minlength=len(self.contents.owner),
        )
        found: npt.NDArray[np.float64] = weights[self.slots]
        return found

    def _too_large(self, smallest: int, size_max: int, sizes: npt.NDArray[np.int64]) -> str:
        """Say the smallest size, and which segments to leave out: eager ones first, then large."""
        stored = np.zeros(self.image.page_count, np.int64)
        stored[self.slots] = sizes.min(axis=1)
        segments = sorted(
            (
                (
                    self.plan.levels.get(segment.name, Level.NORMAL),
                    int(stored[list(segment.pages)].sum()),
                    segment.name,
                )
                for segment in self.image.segments
                if len(segment.pages) and segment.name not in self.plan.leave_out
            ),
            reverse=True,
        )
        missing, names = smallest - size_max, list[str]()
        for _, size, name in segments:
            if missing <= 0 or len(names) == _NEED_NAMES_MAX:
                break
            names.append(f"{name} ({show_size(size)})")
            missing -= size
        return (
            f"{self.image.name}: the smallest ROM image has {smallest:,} bytes, "
            f"{smallest - size_max:,} more than {size_max:,}: leave out {', '.join(names)}"
            + ("" if missing <= 0 else " and more")
            + ", or allow more codecs"
        )


class _Assembly:
    """The bytes of a ROM image, once it is known how each page is coded."""

    def __init__(self, build: _Build, dicts: list[DictEntry], dict_bytes: bytes) -> None:
        self.build, self.dicts, self.dict_bytes = build, dicts, dict_bytes
        contents, image = build.contents, build.image
        narrow = (
            len(build.slots) <= _PAGE_ENTRY_NARROW_MAX
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
                int(build.plan.levels.get(segment.name, Level.NORMAL)),
            )
            for segment in image.segments
        ]

    def _header(self, codings: Sequence[Coding], tables: dict[str, Table], rom_size: int) -> Header:
        image, contents = self.build.image, self.build.contents
        return Header(
            page_size=image.page_size,
            page_entry_size=self.page_entry_size,
            slot_entry_size=self.slot_entry_size,
            erased_value=self.build.plan.erased_value,
            rom_size=rom_size,
            base=image.base % (1 << 64),
            image_size=image.page_count * image.page_size,
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
        build, contents = self.build, self.build.contents
        _, at = self._header(codings, {}, 0).block_tables()
        at += 4
        page_size = build.image.page_size
        in_place = bool(contents.is_in_place.any())
        group_count = -(-len(build.slots) // GROUP_SLOTS)
        tables: dict[str, Table] = {}
        for name, size, count, align in (
            ("signature", 1, SIGNATURE_SIZE if build.plan.key else 0, 1),
            ("words", 8, len(contents.words), _WORDS_ALIGN),
            ("checksums", 4, len(contents.pages), 1),
            ("groups", 4, group_count, 1),
            ("pages", self.page_entry_size, len(contents.pages), 1),
            ("slots", self.slot_entry_size, len(build.slots), 1),
            ("dict_bytes", 1, len(self.dict_bytes), 1),
            ("data", 1, data_size, page_size if in_place else 1),
        ):
            at = -(-at // align) * align
            tables[name] = Table(at, count)
            at += size * count
        return tables, at

    def size_without_data(self, options: Sequence[Option]) -> int:
        """Return the bytes of everything but page data, if every option is used."""
        return self._place([option.coding for option in options], 0)[1]

    def assemble(
        self,
        options: Sequence[Option],
        coded: Sequence[Mapping[int, bytes]],
        chosen: npt.NDArray[np.int64],
        bound: float | None,
    ) -> RomImage:
        """Return the ROM image."""
        build, plan = self.build, self.build.plan
        data = [
            coded[number].get(page_no, b"") or build.contents.pages[page_no].tobytes()
            for number, page_no in zip(chosen.tolist(), build.slots.tolist(), strict=True)
        ]
        sizes = np.array([len(each) for each in data], np.int64)
        # An option that was of no use for a page left it raw.
        chosen = np.where(sizes == build.image.page_size, 0, chosen)
        used = sorted(set(chosen.tolist()))
        codings = [options[number].coding for number in used]
        tables, end = self._place(codings, int(sizes.sum()))
        align = parse_size(plan.align, "align")
        rom_size = -(-end // align) * align
        if rom_size > ROM_SIZE_MAX:
            raise RomTooLarge(
                f"{build.image.name}: {show_size(rom_size)}: at most 4 GiB are possible"
            )
        rom = bytearray([plan.erased_value]) * rom_size
        head = self._header(codings, tables, rom_size).pack()
        rom[: len(head)] = head
        parts = self._index(sizes, np.searchsorted(used, chosen))
        parts["dict_bytes"] = self.dict_bytes
        parts["data"] = b"".join(data)
        parts["signature"] = sign(head, plan.key) if plan.key else b""
        for name, part in parts.items():
            rom[tables[name].offset : tables[name].offset + len(part)] = part
        return self._report(
            bytes(rom), head, parts, [options[n] for n in chosen.tolist()], sizes, bound
        )

    def _index(
        self, sizes: npt.NDArray[np.int64], coding_nos: npt.NDArray[np.int64]
    ) -> dict[str, bytes]:
        """Return the index's tables."""
        build, contents = self.build, self.build.contents
        starts = np.cumsum(sizes) - sizes
        top_bit = 1 << (8 * self.page_entry_size - 1)
        slot_of = np.full(len(contents.pages), -1, np.int64)
        slot_of[build.slots] = np.arange(len(build.slots))
        entries = np.where(
            contents.word_no >= 0, contents.word_no + top_bit, slot_of[contents.owner]
        )
        entries[contents.is_absent] = 2 * top_bit - 1
        size_bits = 8 * self.slot_entry_size - 4
        return {
            "words": contents.words.astype("<u8").tobytes(),
            "checksums": build.checksums.astype("<u4").tobytes(),
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
        sizes: npt.NDArray[np.int64],
        bound: float | None,
    ) -> RomImage:
        build, contents = self.build, self.build.contents
        by_codec: dict[str, tuple[int, int]] = {}
        names = np.array([option.codec for option in options], dtype=np.str_)
        for name in _CODECS:
            of_codec = names == name
            by_codec[name] = (int(of_codec.sum()), int(sizes[of_codec].sum()))
        same, absent = int((contents.word_no >= 0).sum()), int(contents.is_absent.sum())
        by_codec["same"] = (same, len(parts["words"]))
        duplicates = len(contents.pages) - same - absent - len(sizes)
        by_codec["duplicate"] = (duplicates, 0)
        by_codec["absent"] = (absent, 0)
        weight = build._slot_weights()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        cost = np.array([_PAGE_US[option.codec] for option in options])
        index = ("words", "checksums", "groups", "pages", "slots")
        used = len(head) + sum(len(part) for part in parts.values())
        return RomImage(
            data=rom,
            image_bytes=contents.pages.nbytes,
            page_count=len(contents.pages),
            by_codec=by_codec,
            header_bytes=len(head) + len(parts["signature"]),
            index_bytes=sum(len(parts[name]) for name in index),
            dictionary_bytes=len(parts["dict_bytes"]),
            padding_bytes=len(rom) - used,
            time_us=float((weight * cost).sum() / max(weight.sum(), 1e-9)) if len(sizes) else 0.0,
            time_us_bound=bound,
            arch=build.image.arch,
            byteorder=build.image.byteorder,
        )
