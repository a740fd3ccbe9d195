# SPDX-License-Identifier: MIT
"""The functions of an image: where each begins and ends, and what it is called."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagestep.codecs.errors import Unsupported
from pagestep.store.image import Image, without_filling

from ._memory import Memory, code_segments

_FUNC, _NOTYPE = 2, 0
UNSIZED_LAST_MAX = 4096  # bytes taken for a function of no size that nothing follows
# Labels of linker scripts say where a part of the text begins or ends: no functions' names.
_LABEL = re.compile(r"_[se]?(text|inittext|exittext|head)|_end|__\w*_?text_(start|begin|end)")
_TRIM_FROM = 256


@dataclass(frozen=True, slots=True)
class Functions:
    """Functions by address; their bytes do not overlap.

    Attributes:
        starts: Address of each one's first byte, ascending, shape (n,), dtype uint64.
        ends: Address behind its last byte, shape (n,), dtype uint64.
        names: One of the names that it has.
        aliases: All its names.
        unsized: How many have a size only because another symbol follows.
    """

    starts: NDArray[np.uint64]
    ends: NDArray[np.uint64]
    names: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]
    unsized: int

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.names)

    def at(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the function that each address lies in, -1 where none does."""
        places = np.searchsorted(self.starts, addresses, side="right").astype(np.int64) - 1
        inside = places >= 0
        inside[inside] = addresses[inside] < self.ends[places[inside]]
        return np.where(inside, places, -1)

    def starting_at(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the function that begins at each address, -1 where none does."""
        places = self.at(addresses)
        begins = places >= 0
        begins[begins] = self.starts[places[begins]] == addresses[begins]
        return np.where(begins, places, -1)

    def sizes(self) -> NDArray[np.int64]:
        """Return each one's bytes."""
        return (self.ends - self.starts).astype(np.int64)


def functions_of(image: Image) -> Functions:
    """Return an image's functions: its symbols of functions, aliases merged.

    A label of no type in a segment of code counts where no function covers it: assembly
    code has such. A size that is not known is up to the next symbol.

    Raises:
        Unsupported: The image has no symbols, or none of functions.
    """
    symbols = image.symbols
    if not len(symbols):
        raise Unsupported(
            f"{image.name}: it has no symbols, so its functions are not known: give a System.map "
            "with --system-map (Debian's is in the kernel's -dbg package, usr/lib/debug/boot), "
            "an unstripped ELF file, or a kernel built with CONFIG_KALLSYMS"
        )
    kept, stops = _candidates(image)
    if not len(kept):
        raise Unsupported(
            f"{image.name}: of its {len(symbols)} symbols none is a function in a segment of code: "
            "give an unstripped ELF file, or the image's own System.map with --system-map"
        )
    sizes = symbols.sizes[kept]
    addresses = symbols.addresses[kept]
    starts, first = np.unique(addresses, return_index=True)
    largest = np.maximum.reduceat(sizes, first)
    ends = _ends(image, starts, largest, stops)
    ends = _trimmed(image, starts, ends)
    labels = tuple(_names(image, kept[a:b]) for a, b in _runs(first, len(kept)))
    keep = np.array([not _only_labels(names) for names in labels], bool) & (ends > starts)
    chosen = np.flatnonzero(keep).tolist()
    return Functions(
        starts=starts[keep],
        ends=ends[keep],
        names=tuple(labels[i][0] for i in chosen),
        aliases=tuple(labels[i] for i in chosen),
        unsized=int(np.count_nonzero(largest[keep] == 0)),
    )


def _runs(first: NDArray[np.intp], count: int) -> list[tuple[int, int]]:
    starts = first.tolist()
    return list(zip(starts, [*starts[1:], count], strict=True))


def _candidates(image: Image) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return symbols that may be functions, by address, and where any symbol begins."""
    symbols = image.symbols
    addresses = symbols.addresses
    in_code = np.zeros(len(symbols), bool)
    for segment in code_segments(image):
        inside = addresses >= np.uint64(segment.address)
        inside &= addresses - np.uint64(segment.address) < np.uint64(segment.size)
        in_code |= inside
    functions = in_code & (symbols.kinds == _FUNC)
    loose = in_code & (symbols.kinds == _NOTYPE)
    if functions.any():
        places = np.flatnonzero(functions)
        reach = np.maximum.accumulate(addresses[places] + symbols.sizes[places])
        before = np.searchsorted(addresses[places], addresses, side="right") - 1
        loose &= (before < 0) | (addresses >= reach[before])
    return np.flatnonzero(functions | loose), np.unique(addresses[in_code])


def _ends(
    image: Image,
    starts: NDArray[np.uint64],
    sizes: NDArray[np.uint64],
    stops: NDArray[np.uint64],
) -> NDArray[np.uint64]:
    """Return where each ends: behind its bytes, but before the next begins.

    Where one begins within another, what is left of the outer one behind it is its too.
    """
    limits = np.zeros(len(starts), np.uint64)
    for segment in code_segments(image):
        inside = starts >= np.uint64(segment.address)
        inside &= starts - np.uint64(segment.address) < np.uint64(segment.size)
        limits[inside] = segment.address + segment.size
    following = np.searchsorted(stops, starts, side="right")
    last = following == len(stops)
    to_next = np.where(
        last, starts + np.uint64(UNSIZED_LAST_MAX), stops[np.minimum(following, len(stops) - 1)]
    )
    ends = np.where(sizes > 0, starts + sizes, to_next)
    ends = np.minimum(np.maximum.accumulate(ends), limits)
    ends[:-1] = np.minimum(ends[:-1], starts[1:])
    return ends


def _trimmed(
    image: Image, starts: NDArray[np.uint64], ends: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Return ends without the filling up to the next part of the text, which may be long."""
    ends = ends.copy()
    memory = Memory(image)
    for place in np.flatnonzero((ends > starts) & (ends - starts > _TRIM_FROM)).tolist():
        code = memory.read(int(starts[place]), int(ends[place] - starts[place]))
        ends[place] = starts[place] + np.uint64(without_filling(code))
    return ends


def _names(image: Image, places: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the names of one address, the one to call it by first."""
    names = [image.symbols.name(int(place)) for place in places]
    return tuple(sorted(dict.fromkeys(names), key=_rank)) if len(names) > 1 else tuple(names)


def _rank(name: str) -> tuple[bool, bool, int, str]:
    return bool(_LABEL.fullmatch(name)), name.startswith(("__pfx_", "__cfi_")), len(name), name


def _only_labels(names: tuple[str, ...]) -> bool:
    return all(_LABEL.fullmatch(name) for name in names)
