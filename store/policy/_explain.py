# SPDX-License-Identifier: MIT
"""Why a page, an address, a symbol or a section has its level."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pagestep.codecs.errors import InvalidArgument, NoSuchPage

from ._asked import asked_for
from ._decisions import KEYS, Decisions, owner_name
from ._explanation import Decision, Explanation, OwnerOnPage, PageExplained, Wish
from ._level import CODEC_NAMES, LEVELS, ONCE, Level, Tier
from ._owners import NOBODY

if TYPE_CHECKING:
    from ._decide import PagePolicy
    from ._rules import Rule

PAGES_SHOWN: Final = 16


@dataclass(frozen=True, slots=True)
class _Place:
    """What was asked for, found."""

    kind: str
    offset: int
    size: int
    piece: int
    notes: tuple[str, ...] = ()


def explain(policy: PagePolicy, where: int | str) -> Explanation:
    """See ``PagePolicy.explain``."""
    place = _Finder(policy).find(where)
    page_size = policy.image.page_size
    first = place.offset // page_size
    end = -(-(place.offset + max(place.size, 1)) // page_size)
    counts = np.bincount(policy.level[first:end], minlength=len(Level)).tolist()
    asked = asked_for(
        policy,
        place.offset,
        place.offset + max(place.size, 1),
        lambda piece: _decisions(policy.decisions, piece)[0].wish,
    )
    # A section has many owners: what most of its bytes get is told of it.
    piece = asked.piece if place.kind == "section" else place.piece
    decisions: tuple[Decision, ...] = ()
    owner: str | None = None
    if piece != NOBODY:
        decisions = _decisions(policy.decisions, piece)
        owner = owner_name(policy.image, policy.decisions.owners, piece)
        owner = str(where).strip() if place.kind == "section" else owner
    return Explanation(
        where=str(where),
        kind=place.kind,
        address=_address(policy, place.offset),
        size=place.size,
        owner=owner,
        decisions=decisions,
        first_page=first,
        page_count=end - first,
        levels={level.name: counts[level] for level in Level},
        pages=tuple(_page(policy, each) for each in range(first, min(end, first + PAGES_SHOWN))),
        asked=asked.asked,
        forced_pages=asked.forced_pages,
        forcing=asked.forcing,
        notes=place.notes,
    )


class _Finder:
    """Finds what an engineer names."""

    def __init__(self, policy: PagePolicy) -> None:
        self._policy, self._image = policy, policy.image
        self._owners = policy.decisions.owners

    def find(self, where: int | str) -> _Place:
        if isinstance(where, str):
            text = where.strip()
            if text.isascii() and text.isdigit():
                return self._page(int(text))
            if text.lower().startswith("0x"):
                return self._address(_number(text))
            return self._named(text)
        return self._page(where) if where < self._image.page_count else self._address(where)

    def _page(self, page_no: int) -> _Place:
        self._image.address_of(page_no)  # which refuses a page that is not there
        size = self._image.page_size
        return _Place("page", page_no * size, size, _forcing(self._policy, page_no))

    def _address(self, address: int) -> _Place:
        page_no = self._image.page_of(address)
        for segment in self._image.segments:
            if 0 <= address - segment.address < segment.size:
                offset = segment.offset + address - segment.address
                return _Place("address", offset, 1, self._piece_at(offset))
        start = self._image.address_of(page_no)
        offset = page_no * self._image.page_size + (address - start) % self._image.page_size
        return _Place("address", offset, 1, self._piece_at(offset))

    def _piece_at(self, offset: int) -> int:
        """Return the piece that holds an offset; NOBODY where that is fill, or nothing."""
        owners = self._owners
        piece = int(np.searchsorted(owners.start, offset, side="right")) - 1
        if piece < 0 or offset >= owners.end[piece] or owners.is_fill[piece]:
            return NOBODY
        return piece

    def _named(self, text: str) -> _Place:
        symbol = self._symbol(text)
        if symbol is not None:
            return symbol
        for segment in self._image.segments:
            if segment.name == text:
                return _Place("section", segment.offset, segment.size, NOBODY)
        name, plus, distance = text.rpartition("+")
        symbol = self._symbol(name) if plus else None
        if symbol is not None:
            beyond = _number(distance)
            if not 0 <= beyond < max(symbol.size, 1):
                raise NoSuchPage(f"{text}: {name} has {symbol.size:,} bytes")
            offset = symbol.offset + beyond
            return _Place("address", offset, 1, self._piece_at(offset), symbol.notes)
        raise InvalidArgument(self._unknown(name if plus else text))

    def _symbol(self, name: str) -> _Place | None:
        owners, symbols = self._owners, self._image.symbols
        found = symbols.find(name)
        if found is None:
            return None
        # Those of one name that lie in the image, the lowest address first.
        same = [
            index
            for index in np.flatnonzero(symbols.addresses[owners.numbers] >= found.address).tolist()
            if symbols.name(int(owners.numbers[index])) == name
        ]
        if not same:
            raise NoSuchPage(f"{name}: at {found.address:#x}, where the image has no bytes")
        index = min(same, key=lambda each: int(symbols.addresses[owners.numbers[each]]))
        offset, end = int(owners.symbol_start[index]), int(owners.symbol_end[index])
        notes: list[str] = []
        if not symbols.sizes[owners.numbers[index]]:
            notes.append(
                f"the symbol table gives {name} no size: it is taken to reach to the next "
                f"symbol, {end - offset:,} bytes"
            )
        if len(same) > 1:
            notes.append(f"{len(same)} symbols are called {name}: this is the lowest")
        return _Place("symbol", offset, end - offset, self._piece_at(offset), tuple(notes))

    def _unknown(self, name: str) -> str:
        image = self._image
        if not len(image.symbols):
            names = ", ".join(dict.fromkeys(segment.name for segment in image.segments))
            return (
                f"{image.name} has no section {name!r}, and no symbols: give --system-map, a page "
                f"number, an address, or one of {names}"
            )
        known = [segment.name for segment in image.segments]
        known += [image.symbols.name(index) for index in range(len(image.symbols))]
        near = difflib.get_close_matches(name, known, 1, 0.8)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{image.name} has no symbol and no section {name!r}{hint}"


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise InvalidArgument(f"{text!r}: not a number such as 0x1000") from None


def _address(policy: PagePolicy, offset: int) -> int:
    for segment in policy.image.segments:
        if 0 <= offset - segment.offset < segment.size:
            return segment.address + offset - segment.offset
    page_no, distance = divmod(offset, policy.image.page_size)
    return policy.image.address_of(page_no) + distance


def _decisions(decisions: Decisions, piece: int) -> tuple[Decision, ...]:
    level = Level(int(decisions.level[piece]))
    asked = {key: _asked(decisions, piece, key) for key in KEYS}
    if decisions.lowest_tier[piece] == Tier.HOT and asked["level"][0].value != level.name:
        # A lowest tier of hot pins what another rule made pageable.
        asked["level"].insert(0, _named(asked["lowest_tier"][0], level.name))
    follows = {
        "lifecycle": "always",
        "codec": ONCE.rom_codec if decisions.once[piece] else LEVELS[level].rom_codec,
        "lowest_tier": Tier(int(decisions.lowest_tier[piece])).name.lower(),
    }
    for key, value in follows.items():
        asked[key].append(Wish(value, "default" if key == "lifecycle" else "level"))
    if level == Level.PINNED and asked["lowest_tier"][0].value != "hot":
        asked["lowest_tier"].insert(0, Wish("hot", "level"))
    return tuple(Decision(key, wishes[0], tuple(wishes[1:])) for key, wishes in asked.items())


def _named(wish: Wish, value: str) -> Wish:
    return Wish(value, wish.by, wish.file, wish.line, wish.tag)


def _asked(decisions: Decisions, piece: int, key: str) -> list[Wish]:
    """Return what rules and tags, and of levels the default, ask for; the best first."""
    wishes = [
        Wish(value, "rule", rule.file, rule.line)
        for rule in decisions.rules_of(piece)
        if (value := _value(rule, key)) is not None
    ]
    tag = decisions.tag_of(piece)
    if tag is not None and key == "level":
        wishes.append(Wish(tag.level.name, "tag", tag=f"__{tag.name}"))
    if tag is not None and key == "lifecycle" and tag.once:
        wishes.append(Wish("once", "tag", tag=f"__{tag.name}"))
    if key == "level":
        wishes.append(Wish(decisions.default.name, "default"))
    return wishes


def _value(rule: Rule, key: str) -> str | None:
    """Return what a rule says of a key, as it is written."""
    if key == "level":
        return None if rule.level is None else rule.level.name
    if key == "lifecycle":
        return None if rule.once is None else lifecycle(rule.once)
    if key == "codec":
        return None if rule.codec is None else CODEC_NAMES[rule.codec]
    return None if rule.lowest_tier is None else rule.lowest_tier.name.lower()


def lifecycle(once: bool) -> str:
    """Return the name of a lifecycle."""
    return "once" if once else "always"


def _forcing(policy: PagePolicy, page_no: int) -> int:
    """Return the first piece on a page that asks for what the page got, or NOBODY."""
    pairs = policy.pairs
    low, high = np.searchsorted(pairs.page, [page_no, page_no + 1]).tolist()
    pieces = pairs.piece[low:high]
    asks = pieces[policy.decisions.level[pieces] == policy.level[page_no]]
    return int(asks[0]) if len(asks) else NOBODY


def _page(policy: PagePolicy, page_no: int) -> PageExplained:
    pairs, decisions, image = policy.pairs, policy.decisions, policy.image
    low, high = np.searchsorted(pairs.page, [page_no, page_no + 1]).tolist()
    pieces = pairs.piece[low:high].tolist()
    levels = {int(decisions.level[piece]) for piece in pieces}
    start = page_no * image.page_size
    owners = tuple(
        OwnerOnPage(
            name=owner_name(image, decisions.owners, piece),
            address=_address(policy, max(int(decisions.owners.start[piece]), start)),
            size=size,
            level=Level(int(decisions.level[piece])).name,
            wish=str(_decisions(decisions, piece)[0].wish),
        )
        for piece, size in zip(pieces, pairs.size[low:high].tolist(), strict=True)
    )
    forcing = _forcing(policy, page_no) if len(levels) > 1 else NOBODY
    return PageExplained(
        page=page_no,
        level=Level(int(policy.level[page_no])).name,
        lifecycle=lifecycle(bool(policy.once[page_no])),
        codec=CODEC_NAMES[int(policy.rom_codec[page_no])],
        lowest_tier=Tier(int(policy.lowest_tier[page_no])).name.lower(),
        forced_by=None if forcing == NOBODY else owner_name(image, decisions.owners, forcing),
        owners=owners,
    )
