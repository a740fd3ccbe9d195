# SPDX-License-Identifier: MIT
"""A ROM image made from an image: what is stored, and how."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pagestep.codecs import filter_for
from pagestep.codecs.errors import InvalidArgument, RomTooLarge
from pagestep.store._size import parse_size, show_size
from pagestep.store.policy import CODEC_NAMES

from ._assemble import Assembly, RomImage
from ._choose import PAGE_US, choose
from ._contents import Contents, examine
from ._encode import (
    Option,
    Progress,
    dictionary_size,
    encode,
    make_dictionary,
    processors,
    store_dictionaries,
)
from ._format import ARCH_SIZE, NO_DICT
from ._plan import RomPlan

if TYPE_CHECKING:
    from pagestep.store.image import Image

_FAST, _DENSE = CODEC_NAMES.index("fast"), CODEC_NAMES.index("dense")
_SLOTS_FEW = 256  # too few for a dictionary to pay for sure


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
    and the time, with the same versions of liblz4, libzstd, and the packages lz4 and zstandard.

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


class _Refused(RomTooLarge):
    """It does not fit; the smallest that it can be is known."""

    def __init__(self, message: str, smallest: int) -> None:
        super().__init__(message)
        self.smallest = smallest


class _Build:
    """One run of ``build_rom``."""

    def __init__(self, image: Image, plan: RomPlan, threads: int, progress: Progress) -> None:
        self.image, self.plan, self.threads, self.progress = image, plan, threads, progress
        if not image.arch.isascii() or len(image.arch) > ARCH_SIZE:
            raise InvalidArgument(f"arch {image.arch!r}: at most {ARCH_SIZE} ASCII letters")
        progress("examining pages", 0, 0)
        self.contents: Contents = examine(image, plan)
        self.slots = self.contents.slots
        self.filter = filter_for(image.arch)

    def run(self) -> RomImage:
        """Build with dictionaries, and without where that may be better."""
        dictionaries = self._dictionaries()
        ways = [dictionaries]
        if any(dictionaries) and len(self.slots) <= _SLOTS_FEW:
            ways.append([])
        built: list[RomImage] = []
        refused: list[_Refused] = []
        for way in ways:
            try:
                built.append(self._with(way))
            except _Refused as error:
                refused.append(error)
        if not built:
            raise min(refused, key=lambda error: error.smallest) from None
        if self.plan.size_max is None:
            return min(built, key=lambda each: len(each.data))
        return min(built, key=lambda each: (each.time_us, len(each.data)))

    def _groups(self) -> npt.NDArray[np.int64]:
        """Return the number of each slot's dictionary: code and data have little in common."""
        is_code = self.contents.is_code[self.slots]
        if min(is_code.sum(), (~is_code).sum()) < _SLOTS_FEW:
            return np.zeros(len(self.slots), np.int64)
        return np.where(is_code, 0, 1)

    def _dictionaries(self) -> list[bytes]:
        """Return a dictionary for each group of slots, an empty one where none pays."""
        self.progress("choosing dictionaries", 0, 0)
        group = self._groups()
        coded = ~self.contents.is_in_place[self.slots]
        slots = [self.slots[(group == number) & coded] for number in np.unique(group)]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(self._dictionary, slots))

    def _dictionary(self, slots: npt.NDArray[np.int64]) -> bytes:
        plan = self.plan
        stored = len(slots) * self.image.page_size
        wanted = plan.dictionary_size
        size = dictionary_size(
            stored,
            plan.dictionary,
            plan.codecs,
            None if wanted is None else parse_size(wanted, "dictionary size"),
        )
        return make_dictionary(self.contents, slots, self.filter, size, plan.codecs)

    def _with(self, dictionaries: list[bytes]) -> RomImage:
        """Build with these dictionaries; an empty one stands for none."""
        numbers = [NO_DICT] * 2
        for number, dictionary in enumerate(dictionaries):
            if dictionary:
                numbers[number] = sum(map(bool, dictionaries[:number]))
        dictionaries = [each for each in dictionaries if each]
        ways = self._ways(np.array(numbers)[self._groups()])
        with ThreadPoolExecutor(1) as beside:
            stored = beside.submit(
                store_dictionaries, dictionaries, self.plan.dictionary, self.plan.codecs
            )
            coded = encode(
                self.contents,
                [(option, self.slots[mask]) for option, mask in ways],
                dictionaries,
                threads=self.threads,
                progress=self.progress,
            )
        options = [Option("raw", "none"), *(option for option, _ in ways)]
        coded = [{}, *coded]
        sizes = self._sizes(coded)
        assembly = Assembly(self.image, self.plan, self.contents, *stored.result())
        chosen, bound = self._choose(options, sizes, assembly)
        return assembly.assemble(options, coded, chosen, bound)

    def _ways(self, dict_no: npt.NDArray[np.int64]) -> list[tuple[Option, npt.NDArray[np.bool_]]]:
        """Return the ways to code pages beside raw, and which slots each is for."""
        filtered, dense = self._is_filtered(), self._is_dense()
        ways: list[tuple[Option, npt.NDArray[np.bool_]]] = []
        numbers = [int(number) for number in np.unique(dict_no)]
        yes_no = (True, False)
        for codec, number, is_filtered, is_dense in itertools.product(
            ("lz4", "zstd"), numbers, yes_no, yes_no
        ):
            mask = self._may_use(codec) & (dict_no == number)
            mask &= (filtered == is_filtered) & (dense == is_dense)
            if codec in self.plan.codecs and mask.any():
                name = self.filter if is_filtered else "none"
                ways.append((Option(codec, name, number, is_dense), mask))
        return ways

    def _is_dense(self) -> npt.NDArray[np.bool_]:
        """Return which slots are worth any time that coding takes."""
        if self.plan.size_max is not None:
            return np.ones(len(self.slots), np.bool_)
        return np.equal(self.contents.coding[self.slots], _DENSE)

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
        coding = self.contents.coding[self.slots]
        fits = ~self.contents.is_in_place[self.slots]
        if self.plan.size_max is None and {"lz4", "zstd"} <= set(self.plan.codecs):
            fast, dense = coding == _FAST, coding == _DENSE
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
        self, options: Sequence[Option], sizes: npt.NDArray[np.int64], assembly: Assembly
    ) -> tuple[npt.NDArray[np.int64], float | None]:
        """Return each slot's option, and the bound of the expected time where size is limited."""
        cost = np.array([PAGE_US[option.codec] for option in options])
        if self.plan.size_max is None:
            # The smallest of those that the level allows; a tie goes to the quicker.
            return np.lexsort((np.broadcast_to(cost, sizes.shape), sizes), axis=1)[:, 0], None
        size_max = parse_size(self.plan.size_max, "size_max")
        align = parse_size(self.plan.align, "align")
        weight = self.contents.slot_weights
        times = weight[:, None] * cost
        room = size_max // align * align
        found = choose(sizes, times, room - assembly.size_without_data(options))
        if found is None:
            # It may fit all the same, with the codings alone that the smallest choice needs.
            smallest = np.lexsort((times, sizes), axis=1)[:, 0]
            used = [options[number] for number in sorted(set(map(int, smallest)))]
            found = choose(sizes, times, room - assembly.size_without_data(used))
            if found is None or set(map(int, found.option)) - set(map(int, smallest)):
                size = int(sizes.min(axis=1).sum())
                size = self.plan.padded(size + assembly.size_without_data(used))
                if size > room:
                    raise _Refused(self._too_large(size, size_max, sizes), size)
                return smallest, None
        return found.option, found.time_bound / max(float(weight.sum()), 1e-9)

    def _too_large(self, smallest: int, size_max: int, sizes: npt.NDArray[np.int64]) -> str:
        """Say the smallest size, and which segments to leave out: eager ones first, then large."""
        stored = np.zeros(self.image.page_count, np.int64)
        stored[self.slots] = sizes.min(axis=1)
        segments = sorted(
            (
                (
                    level,
                    int(stored[list(segment.pages)].sum()),
                    segment.name,
                )
                for level, segment in zip(
                    self.contents.segment_levels, self.image.segments, strict=True
                )
                if 0 < len(segment.pages) < self.image.page_count
                and segment.name not in self.plan.leave_out
            ),
            reverse=True,
        )
        missing, names = smallest - size_max, list[str]()
        for _, size, name in segments:
            if missing > 0 and size:
                names.append(f"{name} ({show_size(size)})")
                missing -= size
        if missing > 0 and self.plan.in_place:
            remedy = "use fewer sections in place"
        elif missing > 0:
            remedy = "nothing can be left out that would make it fit"
        else:
            remedy = f"leave out {', '.join(names)}"
        return (
            f"{self.image.name}: the smallest ROM image has {smallest:,} bytes, "
            f"{smallest - size_max:,} more than {size_max:,}: {remedy}"
        )
