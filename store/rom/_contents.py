# SPDX-License-Identifier: MIT
"""What an image's pages are before they are coded: same-filled, equal, left out, hot."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import InvalidArgument
from pagestep.store.policy import CODEC_NAMES, LEVELS, Level, PagePolicy, RuleSet, decide

from ._tree import leaf_hash, tree_root

if TYPE_CHECKING:
    from pagestep.store.image import Image, Segment
    from pagestep.store.trace import Block

    from ._plan import RomPlan

_WINDOW_EVENTS = 1 << 16
_UNTOUCHED_WEIGHT = 1 / 16  # of a page that the trace touches in one window
_ROM_CODEC = np.array([CODEC_NAMES.index(LEVELS[each].rom_codec) for each in Level], np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """An image's pages, classed.

    Attributes:
        base: Virtual address of page 0.
        pages: All bytes, shape (page_count, page_size), dtype uint8.
        words: The words that same-filled pages repeat, shape (words,), dtype uint64.
        word_no: Of each page, -1 if it is not same-filled; shape (page_count,).
        owner: Of each page, the first page with the same bytes; shape (page_count,).
        is_absent: Pages left out, shape (page_count,), bool.
        is_in_place: Pages that are used where they lie, shape (page_count,), bool.
        is_code: Pages that hold instructions, and so branches; shape (page_count,), bool.
        level: Of each page, the most careful of its segments' and, where it owns equal pages,
            of theirs; shape (page_count,).
        segment_levels: Of each of the image's segments, the most careful of its pages'.
        coding: What codes each page, by its number in CODEC_NAMES; of equal pages the fastest.
        weight: How often each page is expected to be read, in relation to the others.
        order: All pages, those that the trace touches first, as it touches them or pages
            that are equal to them first.
        root: Root of the tree of pages.
    """

    base: int
    pages: npt.NDArray[np.uint8]
    words: npt.NDArray[np.uint64]
    word_no: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]
    is_absent: npt.NDArray[np.bool_]
    is_in_place: npt.NDArray[np.bool_]
    is_code: npt.NDArray[np.bool_]
    level: npt.NDArray[np.uint8]
    segment_levels: tuple[Level, ...]
    coding: npt.NDArray[np.uint8]
    weight: npt.NDArray[np.float64]
    order: npt.NDArray[np.int64]
    root: bytes

    def address_of(self, page_no: int) -> int:
        """Return the address of a page as branch filters see it."""
        return (self.base + page_no * int(self.pages.shape[1])) % (1 << 64)

    @property
    def slots(self) -> npt.NDArray[np.int64]:
        """The pages whose bytes are stored, in the order in which they are laid out."""
        stored = (self.word_no < 0) & ~self.is_absent & (self.owner == np.arange(len(self.owner)))
        ordered = self.order[stored[self.order]]
        in_place = self.is_in_place[ordered]
        found: npt.NDArray[np.int64] = np.concatenate([ordered[in_place], ordered[~in_place]])
        return found

    @property
    def slot_weights(self) -> npt.NDArray[np.float64]:
        """The expected reads of each slot, of all pages that it holds, shape (slots,)."""
        stored = (self.word_no < 0) & ~self.is_absent
        weights = np.zeros(len(self.owner), np.float64)
        np.add.at(weights, self.owner[stored], self.weight[stored])
        return weights[self.slots]


def examine(image: Image, plan: RomPlan) -> Contents:
    """Class an image's pages, as a plan says what they are for.

    Raises:
        InvalidArgument: A segment that the image does not have, or a policy of another image.
        BadImage: Rules ask for symbols or debug information that cannot be read.
    """
    pages = image.flat()
    segment_of = _segment_finder(image)
    for name in plan.segment_levels:
        segment_of(name)
    level, segment_levels, coding = _levels(image, plan)
    is_absent = _wholly_of(image, [segment_of(name) for name in plan.leave_out])
    is_in_place = _any_of(len(pages), [segment_of(name) for name in plan.in_place]) & ~is_absent
    words, word_no = _same_filled(pages, but=is_absent | is_in_place)
    leaves = [leaf_hash(b"" if out else page) for page, out in zip(pages, is_absent, strict=True)]
    # What is used in place lies there for itself, even if another page has the same bytes.
    owner = np.where(is_in_place, np.arange(len(pages)), _owners(leaves))
    np.minimum.at(level, owner, level)
    if coding is None:
        coding = _ROM_CODEC[level]
    else:
        np.minimum.at(coding, owner, coding)
    weight, order = _use(plan.trace, level)
    first_use = np.argsort(order)
    np.minimum.at(first_use, owner, first_use)
    return Contents(
        base=image.base,
        pages=pages,
        words=words,
        word_no=word_no,
        owner=owner,
        is_absent=is_absent,
        is_in_place=is_in_place,
        is_code=_any_of(len(pages), [[each for each in image.segments if "x" in each.flags]]),
        level=level,
        segment_levels=segment_levels,
        coding=coding,
        weight=weight,
        order=np.argsort(first_use, kind="stable"),
        root=tree_root(leaves),
    )


def _levels(
    image: Image, plan: RomPlan
) -> tuple[npt.NDArray[np.uint8], tuple[Level, ...], npt.NDArray[np.uint8] | None]:
    """Return levels of pages and of segments, and what codes pages; None: what their level says.

    Raises:
        BadImage: Tags that contradict each other, or symbols that cannot be read.
        InvalidArgument: A policy of another image.
    """
    if isinstance(plan.levels, RuleSet | PagePolicy):
        policy = plan.levels
        if isinstance(policy, RuleSet):
            policy = decide(image, policy)
        if policy.image is not image and policy.image.identity != image.identity:
            raise InvalidArgument(
                f"the policy is that of {policy.image.name}, another image: decide for {image.name}"
            )
        of_segments = tuple(
            Level(int(policy.level[each.pages.start : each.pages.stop].min()))
            if each.pages
            else Level.NORMAL
            for each in image.segments
        )
        return policy.level.copy(), of_segments, policy.rom_codec.copy()
    of_segments = tuple(plan.levels.get(each.name, Level.NORMAL) for each in image.segments)
    level = np.full(image.page_count, 255, np.uint8)
    for segment, of_segment in zip(image.segments, of_segments, strict=True):
        of_pages = level[segment.pages.start : segment.pages.stop]
        np.minimum(of_pages, np.uint8(of_segment), out=of_pages)
    level[level == 255] = Level.NORMAL
    return level, of_segments, None


def _segment_finder(image: Image) -> Callable[[str], list[Segment]]:
    by_name: dict[str, list[Segment]] = {}
    for segment in image.segments:
        by_name.setdefault(segment.name, []).append(segment)

    def find(name: str) -> list[Segment]:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f": it has {', '.join(by_name)}"
            raise InvalidArgument(f"{image.name} has no section {name!r}{hint}")
        return by_name[name]

    return find


def _any_of(page_count: int, found: Iterable[list[Segment]]) -> npt.NDArray[np.bool_]:
    chosen = np.zeros(page_count, np.bool_)
    for segments in found:
        for segment in segments:
            chosen[segment.pages.start : segment.pages.stop] = True
    return chosen


def _wholly_of(image: Image, found: list[list[Segment]]) -> npt.NDArray[np.bool_]:
    """Return the pages that no other segment needs."""
    chosen = _any_of(image.page_count, found)
    names = {segment.name for segments in found for segment in segments}
    others = [segment for segment in image.segments if segment.name not in names]
    return chosen & ~_any_of(image.page_count, [others])


def _same_filled(
    pages: npt.NDArray[np.uint8], *, but: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    as_words = np.ascontiguousarray(pages).view(np.uint64)
    is_same = (as_words == as_words[:, :1]).all(axis=1) & ~but
    words, number = np.unique(as_words[is_same, 0], return_inverse=True)
    word_no = np.full(len(pages), -1, np.int64)
    word_no[is_same] = number
    return words, word_no


def _owners(leaves: list[bytes]) -> npt.NDArray[np.int64]:
    first: dict[bytes, int] = {}
    return np.array(
        [first.setdefault(leaf, page_no) for page_no, leaf in enumerate(leaves)], np.int64
    )


def _use(
    trace: Iterable[Block] | None, level: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return weights and order, by a trace, else by level and page number.

    In a trace a page weighs as much as the stretches of events in which it is touched: within
    a stretch it faults about once, however often it is used.
    """
    if trace is None:
        by_level = np.array([LEVELS[each].expected_reads for each in Level])
        return by_level[level], np.arange(len(level))
    windows = np.zeros(len(level), np.float64)
    seen = np.zeros(len(level), np.bool_)
    order: list[npt.NDArray[np.int64]] = []
    for block in trace:
        for start in range(0, len(block), _WINDOW_EVENTS):
            touched, at = np.unique(block.pages[start : start + _WINDOW_EVENTS], return_index=True)
            windows[touched] += 1
            new = touched[np.argsort(at)].astype(np.int64)
            new = new[~seen[new]]
            seen[new] = True
            order.append(new)
    order.append(np.flatnonzero(~seen))
    return np.where(windows == 0, _UNTOUCHED_WEIGHT, windows), np.concatenate(order)
