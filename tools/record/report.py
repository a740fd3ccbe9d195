# SPDX-License-Identifier: MIT
"""What a recording saw, for a person to judge whether it is right."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from guest import CannotRecord
from plan import SOFTIRQ, Symbols

PAGE_SIZE = 4096
TOP = 25
INTERRUPT, FAULT = 1, 2
ACCESS_FETCH = 0

Events = npt.NDArray[np.void]


@dataclass(frozen=True)
class Sites:
    """What was executed, by context.

    Attributes:
        interrupts: How often blocks of each function ran in interrupts.
        faults: The same in faults.
        return_pages: Pages executed on the way out of either that neither has.
        totals: Counts of the recorder, by name.
    """

    interrupts: Counter[str]
    faults: Counter[str]
    return_pages: int
    totals: dict[str, int]


def read_sites(path: Path, symbols: Symbols) -> Sites:
    """Read the plugin's list of executed blocks; refuse it where contexts do not balance."""
    starts = [address for address, _ in symbols]
    image_end = next((address for address, name in symbols if name == "_end"), 1 << 64)
    totals: dict[str, int] = {}
    counters: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    inside: set[int] = set()
    leaving: set[int] = set()
    for line in path.read_text().splitlines():
        word, first, *rest = line.split()
        if word != "site":
            totals[first] = int(rest[0])
            if word == "wrong" and totals[first]:
                raise CannotRecord(f"contexts do not balance: {first} happened {rest[0]} times")
            continue
        at = int(first, 16)
        interrupts, faults, returns = map(int, rest)
        name = "(modules)" if at >= image_end else symbols[bisect_right(starts, at) - 1][1]
        counters[0][name] += interrupts
        counters[1][name] += faults
        page = at // PAGE_SIZE
        if interrupts or faults:
            inside.add(page)
        if returns:
            leaving.add(page)
    if not totals.get("switches"):
        raise CannotRecord("no switch of tasks was seen: see Limits in README.md")
    return Sites(*counters, len(leaving - inside), totals)


def print_report(events: Events, marks: Sequence[tuple[int, str]], sites: Sites) -> None:
    """Print pages by context and phase, what the second half adds, and the functions most run."""
    click.echo(", ".join(f"{name} {count}" for name, count in sites.totals.items()))
    click.echo(f"pages executed only on the way out, in neither trace: {sites.return_pages}")
    click.echo("distinct pages: executed / touched at all; new since start_kernel in brackets")
    click.echo(f"{'phase':18}{'interrupts':>24}{'faults':>24}")
    known: dict[tuple[int, bool], set[int]] = {
        (kind, code): set() for kind in (INTERRUPT, FAULT) for code in (True, False)
    }
    bounds = [index for index, _ in marks] + [len(events)]
    halves: list[dict[tuple[int, bool], int]] = []
    for number, (_, name) in enumerate(marks):
        part = events[bounds[number] : bounds[number + 1]]
        cells = [_cell(part, kind, known) for kind in (INTERRUPT, FAULT)]
        click.echo(f"{name:18}{cells[0]:>24}{cells[1]:>24}")
        halves.append({key: len(pages) for key, pages in known.items()})
    middle, end = halves[(len(marks) - 1) // 2], halves[-1]
    for kind, title in ((INTERRUPT, "interrupts"), (FAULT, "faults")):
        for code, what in ((True, "executed"), (False, "touched")):
            key = kind, code
            click.echo(
                f"{title}: {end[key]} pages {what}; {middle[key]} in the first half of the "
                f"phases, {end[key] - middle[key]} new in the second"
            )
    for title, counter in (("interrupts", sites.interrupts), ("faults", sites.faults)):
        entries = [
            f"{name} {count}" for name, count in counter.items() if count and _is_entry(name)
        ]
        click.echo(f"{title}: {', '.join(entries)}")
        run = sum(1 for count in counter.values() if count)
        click.echo(f"{title}: {run} functions, most often " + ", ".join(_top(counter)))


def _is_entry(name: str) -> bool:
    return name.startswith("asm_") or name in SOFTIRQ


def _cell(part: Events, kind: int, known: dict[tuple[int, bool], set[int]]) -> str:
    tokens = part["token"][part["kind"] == kind]
    words: list[str] = []
    for code in (True, False):
        chosen = tokens[tokens & 3 == ACCESS_FETCH] if code else tokens
        pages = set((chosen >> 2).tolist())
        seen = known[kind, code]
        words.append(f"{len(pages)} ({len(pages - seen)})")
        seen |= pages
    return " / ".join(words)


def _top(counter: Counter[str]) -> list[str]:
    return [f"{name} {count}" for name, count in counter.most_common(TOP) if count]
