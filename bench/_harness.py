# SPDX-License-Identifier: MIT
"""Interleaved measuring, what is measured on, and how results are shown.

pytest-benchmark runs one benchmark to its end and then the next: on a machine that gets
slower for a while, the ratio of two of them says nothing. Here all that is compared runs in
turn, a chunk of pages each, and a result is the median, over all rounds, of the ratio of
neighbours in time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from pagestep.codecs import filter_for
from pagestep.store.image import Image

PAGE = 4096
BATCH = 64
SEED = 12345
_CPUS = sorted(os.sched_getaffinity(0))

Pages = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Arm:
    """One of the things compared.

    Attributes:
        name: As results call it.
        run: Reads the pages at ``order[first : first + count]``; ``thread_no`` says whose
            buffers it may use.
        threads: How many run it at once, each its own part of the chunk.
        before: Called before each chunk, while no clock runs.
    """

    name: str
    run: Callable[[int, int, int], None]
    threads: int = 1
    before: Callable[[], None] | None = None


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        kernel: The image.
        group: What is compared with each other: the first row of a group is its limit.
        arm: Who did it.
        threads: How many at once.
        us: Microseconds of wall time for each page, the median of all rounds.
        ratio: To the group's first arm, the median of all rounds.
        extra_us: Over the group's first arm, the median of all rounds.
    """

    kernel: str
    group: str
    arm: str
    threads: int
    us: float
    ratio: float
    extra_us: float


class Kernel:
    """An image and a random order of those of its pages that are not same-filled."""

    def __init__(self, name: str, path: Path, order_size: int = 1 << 15) -> None:
        """Read it whole."""
        self.name = name
        self.path = path
        with Image.open(path, page_size=PAGE) as image:
            self.arch = image.arch
            self.base = image.base
            self.matrix: npt.NDArray[np.uint8] = np.ascontiguousarray(image.flat()).reshape(
                -1, PAGE
            )
        self.filter = filter_for(self.arch)
        words = self.matrix.view(np.uint64)
        self.distinct: Pages = np.flatnonzero((words != words[:, :1]).any(axis=1)).astype(np.uint64)
        generator = np.random.default_rng(SEED)
        self.index: Pages = generator.integers(0, len(self.distinct), order_size, dtype=np.uint64)
        self.order: Pages = self.distinct[self.index]

    @property
    def page_count(self) -> int:
        """Number of pages, same-filled ones included."""
        return len(self.matrix)

    def address(self, page_no: int) -> int:
        """Return the address of a page's first byte."""
        return (self.base + page_no * PAGE) % (1 << 64)


def _timed(arm: Arm, first: int, count: int, pool: ThreadPoolExecutor) -> int:
    """Return the nanoseconds from when all threads are ready until the last has done."""
    if arm.before:
        arm.before()
    if arm.threads == 1:
        start = time.perf_counter_ns()
        arm.run(first, count, 0)
        return time.perf_counter_ns() - start
    ready = Barrier(arm.threads)

    def part(thread_no: int) -> tuple[int, int]:
        # A processor each: woken by one another they would share one for a while.
        os.sched_setaffinity(0, {_CPUS[thread_no % len(_CPUS)]})
        ready.wait()
        start = time.perf_counter_ns()
        arm.run(first + thread_no * count, count, thread_no)
        return start, time.perf_counter_ns()

    spans = [future.result() for future in [pool.submit(part, k) for k in range(arm.threads)]]
    return max(end for _, end in spans) - min(start for start, _ in spans)


def compare(
    kernel: str, group: str, arms: Sequence[Arm], *, chunk: int, rounds: int, order_size: int
) -> list[Row]:
    """Run the arms in turn through an order of pages.

    Each arm meets every chunk, and no two of them the same chunk in the same round: none
    finds pages in the cache because another one was there.

    Args:
        kernel: For the results.
        group: For the results.
        arms: The first is what the others are compared with.
        chunk: Pages that a thread reads at a time, a multiple of ``BATCH``.
        rounds: How often each arm gets a chunk.
        order_size: Pages of the order.
    """
    widest = max(arm.threads for arm in arms)
    span_count = order_size // (chunk * widest)
    if span_count < 1:
        raise ValueError(f"{order_size} pages are less than a chunk of {chunk} on {widest} threads")
    took = np.zeros((len(arms), rounds))
    with ThreadPoolExecutor(widest) as pool:
        for arm in arms:  # each thread's coders and buffers are there before the clock runs
            _timed(arm, 0, chunk, pool)
        for round_no in range(rounds):
            for turn in range(len(arms)):
                k = (turn + round_no) % len(arms)
                span = (round_no + k * (span_count // len(arms) + 1)) % span_count
                ns = _timed(arms[k], span * chunk * widest, chunk, pool)
                took[k, round_no] = ns / (chunk * arms[k].threads) / 1000
    return [
        Row(
            kernel,
            group,
            arm.name,
            arm.threads,
            us=float(np.median(mine)),
            ratio=float(np.median(mine / took[0])),
            extra_us=float(np.median(mine - took[0])),
        )
        for arm, mine in zip(arms, took, strict=True)
    ]


def machine() -> dict[str, str]:
    """Say what class of machine this is, and the versions that matter."""
    model, family = "", ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() in ("cpu family", "model"):
                family += f"{key.strip()} {value.strip()} "
            elif not line:
                break
    except OSError:
        pass
    return {
        "date": time.strftime("%B %Y"),
        "machine": platform.machine(),
        "cpu": f"{model} ({family.strip()})",
        "cpus": str(len(_CPUS)),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "liblz4 (lz4's)": _liblz4(),
        "libzstd (zstandard's)": ".".join(map(str, zstandard.ZSTD_VERSION)),
        **{name: _version(name) for name in ("numpy", "lz4", "blosc2", "lmdb")},
    }


def _liblz4() -> str:
    module: Any = import_module("lz4")  # which has no types
    return str(module.library_version_string())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def show_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table: the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]
    print(f"\n**{title}**\n")
    for row in [list(head), ["-" * width for width in widths], *cells]:
        first, *others = row
        line = [first.ljust(widths[0])]
        line += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("| " + " | ".join(line) + " |")


def show_rows(rows: Sequence[Row]) -> None:
    """Print a table for each kernel and group."""
    for kernel, group in dict.fromkeys((row.kernel, row.group) for row in rows):
        mine = [row for row in rows if (row.kernel, row.group) == (kernel, group)]
        show_table(
            f"{group}, {kernel}",
            ("", "threads", "µs a page", "ratio", "over the first, µs"),
            [
                (row.arm, row.threads, f"{row.us:.2f}", f"{row.ratio:.3f}", f"{row.extra_us:+.2f}")
                for row in mine
            ],
        )


def arguments(description: str) -> argparse.ArgumentParser:
    """Return what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "kernels", nargs="+", metavar="NAME=PATH", help="an image and how results call it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    return parser


def kernels_of(parsed: argparse.Namespace) -> list[Kernel]:
    """Open what the command line names."""
    found: list[Kernel] = []
    for text in parsed.kernels:
        name, equals, path = str(text).partition("=")
        if not equals:
            sys.exit(f"{text}: wanted NAME=PATH")
        found.append(Kernel(name, Path(path)))
    return found


def save(path: Path | None, results: Sequence[Any]) -> None:
    """Write results, which are dataclasses, beside what they were measured on."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "results": [asdict(row) for row in results]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
