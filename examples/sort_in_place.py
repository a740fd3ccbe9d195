#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sorts an array in place that is eight times as large as the RAM it may use.

    python examples/sort_in_place.py                     # 128 MiB in 16 MiB
    python examples/sort_in_place.py --ram 64MiB --times 4

    python examples/sort_in_place.py --swap file:///var/tmp/ --any

The array is memory of a page store, mapped. numpy knows nothing of that: it touches what it sorts,
and pages come and go, compressed. They are readings that stay the same for a while, as those of
sensors do, for what no backing takes must fit into the RAM when it is compressed; with a place
for pages, ``--swap``, any numbers can be sorted.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console

from pagestep import MappedArray, PageStepError, PageStore, parse_size, show_size

_CHUNK = 1 << 17  # numbers that are made or checked at once: 1 MiB
_SAME = 16  # readings that are equal, one after another
_LOOK_EVERY_S = 0.05

Numbers = npt.NDArray[np.uint64]


class Watch:
    """Looks, as long as a ``with`` block runs, how much RAM the system counts for a map.

    Attributes:
        most: Bytes that it had at most.
    """

    def __init__(self) -> None:
        """Begin with the block."""
        self.most = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._end.wait(_LOOK_EVERY_S):
            # The store has a mapping of its own: each page is in both, but has RAM once.
            text = Path("/proc/self/smaps").read_text(encoding="utf-8")
            shares = re.findall(r"memfd:pagestep.*?^Pss: +(\d+) kB", text, re.M | re.S)
            self.most = max(self.most, 1024 * sum(int(share) for share in shares))

    def __enter__(self) -> Watch:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._end.set()
        self._thread.join()


@contextmanager
def saying(what: str) -> Generator[None]:
    """Say on a terminal what is being done, as long as it is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def chunks(array: MappedArray) -> Iterator[Numbers]:
    """Yield an array part by part: what is computed of one takes RAM of its own."""
    for start in range(0, array.size, _CHUNK):
        yield array[start : start + _CHUNK]


def fill(array: MappedArray, anything: bool = False) -> None:
    """Write readings, each a few times; or numbers that have nothing in common."""
    chance = np.random.default_rng(2026)
    for part in chunks(array):
        same = 1 if anything else _SAME
        readings = chance.integers(
            0, 1 << 64 if anything else 1 << 20, part.size // same, np.uint64
        )
        part[:] = np.repeat(readings, same)


def fingerprint(array: MappedArray) -> tuple[int, int]:
    """Return what the order of an array does not change: its sum of 64 bits, and the xor of all."""
    total, xor = 0, 0
    for part in chunks(array):
        total = (total + int(part.sum(dtype=np.uint64))) % 2**64
        xor ^= int(np.bitwise_xor.reduce(part))
    return total, xor


def is_sorted(array: MappedArray) -> bool:
    """Say whether each number is at least as large as the one before."""
    last = np.uint64(0)
    for part in chunks(array):
        if part[0] < last or not (part[1:] >= part[:-1]).all():
            return False
        last = part[-1]
    return True


def sort_in_place(ram: int, times: int, swap: str | None = None, anything: bool = False) -> bool:
    """Fill an array, sort it, and say what it took; False: it is not what it should be."""
    with PageStore.open(ram=ram) as store:
        pages = ram * times // store.page_size
        in_chunk = _CHUNK * 8 // store.page_size
        pages = pages - pages % in_chunk or in_chunk
        memory = store.anonymous(pages, swap=swap)
        array = memory.map(writable=True, dtype=np.uint64)
        # What could not be brought, because the pages do not fit, is an error, no SIGBUS.
        with array.mapping.guarded(), Watch() as watch:
            with saying("writing numbers"):
                fill(array, anything)
                before = fingerprint(array)
            begun = time.perf_counter()
            with saying(f"sorting {array.size:,} numbers"):
                array.sort(kind="quicksort")
            seconds = time.perf_counter() - begun
            with saying("checking them"):
                good = is_sorted(array) and fingerprint(array) == before
        done, stats = array.mapping.stats(), store.stats()
        print(f"{array.size:,} numbers, {show_size(array.nbytes)}, in {show_size(ram)} of RAM")
        print(f"sorted in place in {seconds:.1f} s, the same numbers as before: {_word(good)}")
        print(f"faults    {done.faults:,}, which brought {done.faults + done.pages_ahead:,} pages")
        print(f"the map   {show_size(watch.most)} of RAM at most, as the system counts")
        print(f"all of it {show_size(stats.used_bytes_max)} at most, as the store counts")
    return good


def _word(good: bool) -> str:
    return "yes" if good else "no"


@click.command()
@click.option("--ram", default="16MiB", show_default=True, help="RAM for all of it.")
@click.option(
    "--times",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="How many times as large the array is.",
)
@click.option("--swap", help="Where pages go beside: a URL such as file:///var/tmp/.")
@click.option("--any", "anything", is_flag=True, help="Any numbers, which do not compress.")
def main(ram: str, times: int, swap: str | None, anything: bool) -> None:
    """Sort an array in place that is larger than the RAM it may use."""
    try:
        good = sort_in_place(parse_size(ram, "ram"), times, swap, anything)
    except PageStepError as error:
        click.echo(f"sort_in_place: {error}", err=True)
        sys.exit(2)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
