# SPDX-License-Identifier: MIT
"""Symbols that a Linux kernel carries in itself for its own messages: kallsyms.

A distribution's kernel has no symbol table, but nearly always this one. Nothing says where
it is. It is found by its table of tokens, the pieces that names are made of, which has an
index that must agree with it; everything else lies around that. The layouts are those of
``scripts/kallsyms.c`` since Linux 4.6:

- up to 6.3: addresses, count, names, markers, (6.2 and 6.3: order by name), tokens, index
- from 6.4: count, names, markers, tokens, index, addresses, (order by name)

Addresses are words, or 32-bit offsets and the word that they count from. What does not
agree with all the rest is no kallsyms: an image may hold bytes that look like some of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._layout import Segment
from ._source import Bytes
from ._symbols import Symbols

TOKENS = 256
STRIDE = 256  # names from one marker to the next
SYMBOLS_MAX = 1 << 22
WALKED_MAX = 2 * SYMBOLS_MAX  # names walked through, to find out which are names
NAME_MAX = 1024  # KSYM_NAME_LEN is 512
NAMES_MAX = 48 << 20  # of all names together, spelled out
TRIES_MAX = 16  # of each thing that is looked for
_ALIGNMENTS_MAX = 64
_DIGITS = b"".join(bytes([digit, 0]) for digit in b"0123456789")
_FUNC, _OBJECT = 2, 1


@dataclass(frozen=True, slots=True)
class _Shape:
    """How this kernel writes numbers: its byte order and its word."""

    order: str
    word: int

    def u16(self, data: Bytes) -> NDArray[np.int64]:
        """Return 16-bit numbers."""
        return data.view(self.order + "u2").astype(np.int64)

    def u32(self, data: Bytes) -> NDArray[np.int64]:
        """Return 32-bit numbers."""
        return data.view(self.order + "u4").astype(np.int64)

    def words(self, data: Bytes) -> NDArray[np.uint64]:
        """Return numbers of the kernel's word."""
        return data.view(f"{self.order}u{self.word}").astype(np.uint64)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The table of tokens: where it is, and its strings."""

    start: int
    index_end: int
    strings: list[bytes]


@dataclass(frozen=True, slots=True)
class _Names:
    """All names: where they and their count are, and their bytes, spelled out.

    ``text`` has a zero byte behind each name; ``starts`` says where each begins.
    """

    count_at: int
    text: bytes
    starts: NDArray[np.int64]


def kallsyms_symbols(
    flat: Bytes, *, byteorder: str, bits: int | None, base: int, segments: Sequence[Segment]
) -> Symbols:
    """Find a kernel's own table of symbols in its bytes.

    Absolute and weak undefined symbols are left out, as of a System.map. The table has no
    sizes: a symbol's is up to the next one, or to the end of its section.

    Args:
        flat: The image's bytes, shape (n,), dtype uint8.
        byteorder: ``"little"`` or ``"big"``.
        bits: 32 or 64, or None to try both.
        base: Virtual address of the image's first byte.
        segments: The image's segments.

    Returns:
        The symbols; none where no table is found that agrees with itself.
    """
    order = "<" if byteorder == "little" else ">"
    for word in [bits // 8] if bits else [8, 4]:
        shape = _Shape(order, word)
        for tokens in _token_tables(flat, shape):
            for names in _name_tables(flat, shape, tokens):
                addresses = _addresses(flat, shape, tokens, names, base, segments)
                if addresses is not None:
                    return _symbols(names, addresses, segments)
    return Symbols.none()


# Tokens


def _token_tables(flat: Bytes, shape: _Shape) -> Iterator[_Tokens]:
    """Yield every table of 256 strings that the index behind it agrees with.

    Digits stand for themselves in it, as they occur in names. Which string is the first
    cannot be seen, but the index says how far back it is.
    """
    data = flat.data if flat.flags.c_contiguous else np.ascontiguousarray(flat).data
    at = -1
    for _ in range(TRIES_MAX):
        at = _find(data, _DIGITS, at + 1)
        if at < 0:
            return
        ends = np.flatnonzero(flat[at : at + (TOKENS * NAME_MAX)] == 0)[: TOKENS - ord("0")]
        if len(ends) < TOKENS - ord("0"):
            continue
        starts = np.concatenate([[0], ends[:-1] + 1])
        end = at + int(ends[-1]) + 1
        for index_at in range(end + (-end) % 2, end + _ALIGNMENTS_MAX, 2):
            raw = flat[index_at : index_at + 2 * TOKENS]
            if len(raw) < 2 * TOKENS:
                break
            index = shape.u16(raw)
            start = at - int(index[ord("0")])
            if start < 0 or not np.array_equal(index[ord("0") :] - index[ord("0")], starts):
                continue
            strings = _strings(bytes(flat[start:end]), index)
            if strings:
                yield _Tokens(start, index_at + 2 * TOKENS, strings)
                break


def _find(data: memoryview, what: bytes, start: int) -> int:
    """Return where bytes occur next, or -1, without a copy of all of them."""
    step = 1 << 20
    for at in range(start, len(data), step):
        found = bytes(data[at : at + step + len(what) - 1]).find(what)
        if found >= 0:
            return at + found
    return -1


def _strings(table: bytes, index: NDArray[np.int64]) -> list[bytes]:
    """Return the tokens, or none where the index does not say where each begins."""
    starts: list[int] = index.tolist()
    if starts[0] != 0 or (np.diff(index) <= 0).any() or starts[-1] >= len(table):
        return []
    if any(table[start - 1] for start in starts[1:]):
        return []
    return [
        table[start : end - 1] for start, end in zip(starts, [*starts[1:], len(table)], strict=True)
    ]


# Names


def _name_tables(flat: Bytes, shape: _Shape, tokens: _Tokens) -> Iterator[_Names]:
    """Yield names that the markers before the tokens agree with.

    A marker says where every 256th name begins: 0, and then ever more. A run of such
    numbers leads to the names before it, and those are walked through.
    """
    left = WALKED_MAX
    for width in (4, 8) if shape.word == 8 else (4,):
        for markers_at, markers in _marker_tables(flat, shape, tokens.start, width):
            for count_at, start, count in _counts(flat, shape, markers_at, markers):
                left -= count
                if left < 0:
                    return
                names = _walk(flat[start:markers_at], count, markers, tokens.strings)
                if names is not None:
                    yield _Names(count_at, *names)


def _marker_tables(
    flat: Bytes, shape: _Shape, end: int, width: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield runs of numbers that may be markers, the longest first."""
    first = max(0, end - (SYMBOLS_MAX // STRIDE * 8 + SYMBOLS_MAX * 3))
    first += (end - first) % width  # markers are aligned as the tokens behind them are
    region = flat[first:end]
    if len(region) < 2 * width:
        return
    numbers = region.view(f"{shape.order}u{width}").astype(np.uint64)
    values: NDArray[np.int64] = np.minimum(numbers, np.uint64(1 << 40)).astype(np.int64)
    steps = np.diff(values)
    rises = (steps >= 2 * STRIDE) & (steps <= NAME_MAX * STRIDE)
    falls = np.append(np.flatnonzero(~rises), len(rises))
    starts = np.flatnonzero((values[:-1] == 0) & rises)
    lengths = falls[np.searchsorted(falls, starts)] - starts + 1
    for i in np.argsort(-lengths, kind="stable")[:TRIES_MAX]:
        start, length = int(starts[i]), int(lengths[i])
        yield first + start * width, values[start : start + length]


def _counts(
    flat: Bytes, shape: _Shape, markers_at: int, markers: NDArray[np.int64]
) -> list[tuple[int, int, int]]:
    """Return where a count of names may be, where the names behind it begin, and the count."""
    slack = 2 * NAME_MAX * STRIDE
    first = max(0, markers_at - int(markers[-1]) - slack)
    first += (markers_at - first) % 4
    region = flat[first:markers_at]
    counts = shape.u32(region[: len(region) // 4 * 4])
    likely = np.flatnonzero((counts > STRIDE) & (counts <= STRIDE * len(markers)))
    last = markers[(counts[likely] - 1) // STRIDE]
    found: list[tuple[int, int, int]] = []
    for gap in sorted({4, shape.word}):
        # The names end within a page of markers behind the last one.
        left = markers_at - (first + likely * 4 + gap) - last
        fits = (left > 0) & (left <= slack // 2)
        found += [
            (first + int(i) * 4, first + int(i) * 4 + gap, int(counts[i])) for i in likely[fits]
        ]
    # The names fill the space up to the markers, so the right start is the one that leaves least.
    return sorted(found, key=lambda each: -each[1])[: TRIES_MAX * 64]


def _walk(
    coded: Bytes, count: int, markers: NDArray[np.int64], tokens: list[bytes]
) -> tuple[bytes, NDArray[np.int64]] | None:
    """Spell names out, or return None where they are not those of the markers.

    A name is its length and so many tokens; from 6.1 on a length may take two bytes.
    """
    data = coded.tobytes()
    size = len(data)
    heads: list[int] = []
    tails: list[int] = []
    expected = markers.tolist()
    at = 0
    for number in range(count):
        if number % STRIDE == 0 and at != expected[number // STRIDE]:
            return None
        heads.append(at)
        if at + 2 > size:
            return None
        length = data[at]
        at += 1
        if length & 0x80:
            length = (length & 0x7F) | data[at] << 7
            at += 1
        tails.append(at)
        at += length
        if not length or at > size:
            return None
    return _spell(coded[:at], np.array(heads), np.array(tails), tokens)


def _spell(
    coded: Bytes, heads: NDArray[np.int64], tails: NDArray[np.int64], tokens: list[bytes]
) -> tuple[bytes, NDArray[np.int64]] | None:
    # Lengths become one string that ends the name before: then all is one join.
    end, nothing = TOKENS, TOKENS + 1
    codes = coded.astype(np.uint16)
    codes[heads] = end
    codes[heads[tails - heads == 2] + 1] = nothing
    strings = [*tokens, b"\0", b""]
    sizes = np.array([len(each) for each in strings], np.int64)[codes]
    ends = np.cumsum(sizes)
    starts = ends[heads]
    if int(ends[-1]) > NAMES_MAX or (np.diff(np.append(starts, ends[-1] + 1)) > NAME_MAX).any():
        return None
    numbers: list[int] = codes.tolist()
    return b"".join([strings[number] for number in numbers]) + b"\0", starts


# Addresses


def _addresses(
    flat: Bytes,
    shape: _Shape,
    tokens: _Tokens,
    names: _Names,
    base: int,
    segments: Sequence[Segment],
) -> NDArray[np.uint64] | None:
    """Return the symbols' addresses, or None where none agree with the names."""
    count = len(names.starts)
    words, offsets = count * shape.word, count * 4
    behind = _aligned(tokens.index_end, shape.word)
    relative_before = names.count_at - names.count_at % shape.word - shape.word
    places: list[tuple[int, int | None]] = [
        (behind, _aligned(behind + offsets, shape.word)),
        (relative_before - offsets - (relative_before - offsets) % shape.word, relative_before),
        (behind, None),
        (names.count_at - words, None),
    ]
    for at, relative_at in places:
        if at < 0:
            continue
        if relative_at is None:
            raw = flat[at : at + words]
            found = [(shape.words(raw), False)] if len(raw) == words else []
        else:
            found = _relative(flat, shape, at, relative_at, count)
        for addresses, movable in found:
            moved = _in_place(names, addresses, base if movable else None, segments)
            if moved is not None:
                return moved
    return None


def _aligned(at: int, size: int) -> int:
    return at + -at % size


def _relative(
    flat: Bytes, shape: _Shape, at: int, relative_at: int, count: int
) -> list[tuple[NDArray[np.uint64], bool]]:
    """Return what offsets may mean, in the two ways that kernels have had.

    Beside the addresses: whether they count from nothing, as the kernel is yet to be moved.
    """
    raw, relative = flat[at : at + 4 * count], flat[relative_at : relative_at + shape.word]
    if len(raw) < 4 * count or len(relative) < shape.word:
        return []
    start = shape.words(relative)[0]
    unsigned = shape.u32(raw)
    signed = np.where(unsigned >= 1 << 31, unsigned - (1 << 32), unsigned)
    mask = np.uint64((1 << (8 * shape.word)) - 1)
    # CONFIG_KALLSYMS_ABSOLUTE_PERCPU: what is not negative is the address itself.
    apart = np.where(signed >= 0, signed, -1 - signed).astype(np.uint64)
    apart[signed < 0] += start
    return [(each & mask, not start) for each in (apart, unsigned.astype(np.uint64) + start)]


def _in_place(
    names: _Names, addresses: NDArray[np.uint64], base: int | None, segments: Sequence[Segment]
) -> NDArray[np.uint64] | None:
    """Return addresses as the image has them, or None where they are not these names'.

    They rise, and ``_text`` or ``_stext`` is in the image. A kernel that is moved when it
    starts may have zero for what they count from: then ``_text`` is at ``base``.
    """
    if (addresses[1:] < addresses[:-1]).any():
        return None
    for name, at_base in ((b"_text", True), (b"_head", True), (b"_stext", False)):
        place = _place_of(names, name)
        if place is None:
            continue
        address = int(addresses[place])
        if any(s.address <= address < s.address + s.size for s in segments):
            return addresses
        if at_base and base is not None and address < base:
            return addresses + np.uint64(base - address)
    return None


def _place_of(names: _Names, name: bytes) -> int | None:
    at = -1
    while (at := names.text.find(name + b"\0", at + 1)) >= 0:
        # A name begins with the letter of its type.
        place = int(np.searchsorted(names.starts, at - 1))
        if place < len(names.starts) and names.starts[place] == at - 1:
            return place
    return None


def _symbols(names: _Names, addresses: NDArray[np.uint64], segments: Sequence[Segment]) -> Symbols:
    letters = np.frombuffer(names.text, np.uint8)[names.starts]
    left_out = np.isin(letters, np.frombuffer(b"AaUvw", np.uint8))
    functions = np.isin(letters, np.frombuffer(b"TtW", np.uint8))
    keep = ~left_out
    addresses = addresses[keep]
    return Symbols(
        addresses,
        _sizes(addresses, segments),
        np.where(functions, _FUNC, _OBJECT).astype(np.uint8)[keep],
        names.text,
        names.starts[keep] + 1,
        b"\0",
    )


def _sizes(addresses: NDArray[np.uint64], segments: Sequence[Segment]) -> NDArray[np.uint64]:
    """Return the bytes from each symbol to the next, or to the end of its section.

    Without sections nobody knows how long the last one is.
    """
    sections = [s for s in segments if s.kind != "raw"]
    ends = [s.address + s.size for s in sections if s.address + s.size < 1 << 64]
    stops = np.unique(np.concatenate([addresses, np.array(ends, np.uint64)]))
    places = np.searchsorted(stops, addresses, side="right")
    known = places < len(stops)
    sizes = np.zeros(len(addresses), np.uint64)
    sizes[known] = stops[places[known]] - addresses[known]
    return sizes
