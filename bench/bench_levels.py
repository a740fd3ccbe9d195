# SPDX-License-Identifier: MIT
"""What levels do to faults, where they are right, where they are wrong, and where they are noise.

    python bench/bench_levels.py x86-cloud=vmlinuz

Replays the recorded boot (data/) with each way of giving levels, in several budgets, and holds
every eviction against all frames that could have gone (``audit``). The peer is the same store
without levels, in the same run; a ratio is the geometric mean over the budgets, for a replay is
chaotic: one fault more or less changes which pages leave for the rest of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _harness import arguments, kernels_of, save, show_table

from pagestep import Image, Level, PageStore, Stats, replay
from pagestep.store.trace import Trace

TRACE = Path(__file__).resolve().parent.parent / "data" / "x86-cloud-boot.trace"
BUDGETS = ("3MiB", "4MiB", "5MiB", "6MiB", "8MiB", "10MiB")
POLICIES = ("s3fifo", "lru")
SHOWN_BUDGET = "8MiB"
STRETCH_EVENTS = 1 << 14
# A page that is used in so many stretches of the recording, or more, gets this level.
BY_STRETCHES = (
    (2, Level.EAGER),
    (5, Level.NORMAL),
    (30, Level.RELUCTANT),
    (200, Level.LAST_RESORT),
)
OPPOSITE = {
    Level.LAST_RESORT: Level.STEP_ON_IT,
    Level.RELUCTANT: Level.EAGER,
    Level.NORMAL: Level.NORMAL,
    Level.EAGER: Level.RELUCTANT,
    Level.STEP_ON_IT: Level.LAST_RESORT,
}
SEED = 1

Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """One replay.

    Attributes:
        kernel: The image.
        policy: Who leaves.
        levels: How levels were given.
        ram: The budget.
        faults: Accesses to a page in no frame.
        disk_faults: Of these, served by the disk.
        by_level: Faults by level.
        pages_by_level: Pages by level.
        evictions: Pages that left because a frame was needed.
        shortfalls: Of these, by how far below the greatest idle time times weight.
        held_victims: Of these, pages that must not leave.
        fresh_victims: Of these, pages that had just come.
    """

    kernel: str
    policy: str
    levels: str
    ram: str
    faults: int
    disk_faults: int
    by_level: dict[str, int]
    pages_by_level: dict[str, int]
    evictions: int
    shortfalls: tuple[int, ...]
    held_victims: int
    fresh_victims: int


def stretches(page_count: int, share: float) -> npt.NDArray[np.int64]:
    """Return in how many stretches of the recording's first part each page is used."""
    found = np.zeros(page_count, np.int64)
    with Trace.open(TRACE) as trace:
        totals = trace.totals()
        left = int((totals.event_count if totals else sys.maxsize) * share)
        for block in trace:
            for start in range(0, min(len(block), left), STRETCH_EVENTS):
                found[np.unique(block.pages[start : start + STRETCH_EVENTS])] += 1
            left -= min(left, len(block))
    return found


def learnt(page_count: int, share: float) -> Levels:
    """Return levels by use in the recording's first part."""
    used = stretches(page_count, share)
    levels = np.full(page_count, Level.STEP_ON_IT, np.uint8)
    for count, level in BY_STRETCHES:
        levels[used >= count] = level
    return levels


def ways(page_count: int) -> Iterator[tuple[str, Levels | None]]:
    """Yield the ways of giving levels, the peer first."""
    right = learnt(page_count, 1.0)
    yield "none: all NORMAL", None
    yield "right: by use in the recording", right
    yield "right, learnt from its first half", learnt(page_count, 0.5)
    opposite = np.array([OPPOSITE.get(level, level) for level in Level], np.uint8)
    yield "wrong: the opposite", opposite[right]
    noise = np.random.default_rng(SEED).integers(1, len(Level), page_count)
    yield f"noise: at random, seed {SEED}", noise.astype(np.uint8)


def run(image: Image, policy: str, ram: str, levels: Levels | None) -> Stats:
    """Replay the recording once."""
    with (
        PageStore.open(image, ram=ram, policy=policy, scratch=True, audit=True) as store,
        Trace.open(TRACE) as trace,
    ):
        if levels is not None:
            for level in Level:
                store.set_level(np.flatnonzero(levels == level), level)
        stats = replay(store, iter(trace)).stats
    assert stats is not None
    return stats


def rows_of(kernel: str, image: Image) -> list[Row]:
    """Replay a kernel's recording in every way."""
    rows: list[Row] = []
    for policy in POLICIES:
        for name, levels in ways(image.page_count):
            for ram in BUDGETS:
                stats = run(image, policy, ram, levels)
                rows.append(
                    Row(
                        kernel=kernel,
                        policy=policy,
                        levels=name,
                        ram=ram,
                        faults=stats.faults,
                        disk_faults=stats.by_tier["disk"].faults,
                        by_level=stats.by_level,
                        pages_by_level=stats.pages_by_level,
                        evictions=stats.audited,
                        shortfalls=stats.shortfalls,
                        held_victims=stats.held_victims,
                        fresh_victims=stats.fresh_victims,
                    )
                )
    return rows


def show(rows: list[Row], kernel: str) -> None:
    """Print the tables of one kernel."""
    for policy in POLICIES:
        mine = [row for row in rows if (row.kernel, row.policy) == (kernel, policy)]
        names = list(dict.fromkeys(row.levels for row in mine))
        faults = {name: [row.faults for row in mine if row.levels == name] for name in names}
        peer = np.array(faults[names[0]])
        show_table(
            f"Faults by how levels were given, {kernel}, {policy}",
            ("levels", *BUDGETS, "of none"),
            [
                (
                    name,
                    *(f"{each:,}" for each in faults[name]),
                    f"{np.exp(np.log(np.array(faults[name]) / peer).mean()):.3f}",
                )
                for name in names
            ],
        )
        shown = [row for row in mine if row.ram == SHOWN_BUDGET]
        show_table(
            f"Faults by level (pages of it), {kernel}, {policy}, {SHOWN_BUDGET}",
            ("levels", *(level.name for level in Level if level)),
            [
                (
                    row.levels,
                    *(
                        f"{row.by_level[level.name]:,} ({row.pages_by_level[level.name]:,})"
                        for level in Level
                        if level
                    ),
                )
                for row in shown
            ],
        )
        show_table(
            f"Victims held against all frames, {kernel}, {policy}, all budgets",
            ("levels", "evictions", "held", "fresh", "the greatest", "above 1/16", "above 1/256"),
            [audited(name, [row for row in mine if row.levels == name]) for name in names],
        )


def audited(name: str, rows: list[Row]) -> tuple[object, ...]:
    """Return what the audit found, over all budgets."""
    found = np.array([row.shortfalls for row in rows]).sum(axis=0)
    shares = [found[:end].sum() / found.sum() for end in (1, 5, 9)]
    return (
        name,
        f"{found.sum():,}",
        sum(row.held_victims for row in rows),
        sum(row.fresh_victims for row in rows),
        *(f"{share:.1%}" for share in shares),
    )


def main() -> None:
    """Measure, print, save."""
    parsed = arguments("What levels do to faults.").parse_args()
    rows: list[Row] = []
    for kernel in kernels_of(parsed):
        with Image.open(kernel.path) as image, Trace.open(TRACE) as trace:
            fault = trace.misfit(image)
            if fault:
                print(f"{kernel.name}: left out: {fault}", file=sys.stderr)
                continue
            rows += rows_of(kernel.name, image)
        show(rows, kernel.name)
    save(parsed.json, rows)


if __name__ == "__main__":
    main()
