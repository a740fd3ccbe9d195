# SPDX-License-Identifier: MIT
"""The committed traces of what a kernel touches in interrupts and in faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pagestep.store.trace import KIND_FETCH, Trace

DATA = Path(__file__).parents[2] / "data"
EVENTS = {"interrupts": 484_751, "faults": 2_105_203}
PAGES_EXECUTED = {"interrupts": 369, "faults": 221}
MARKS = [
    "start_kernel",
    "free_initmem",
    "run_init_process",
    "userinit",
    "idle",
    "ls",
    "dd",
    "gzip",
    "net",
    "fork",
    "modules",
    "zramswap",
    "idle2",
    "shellmix",
    "end",
]


def open_trace(name: str) -> Trace:
    return Trace.open(DATA / f"x86-cloud-{name}.trace")


@pytest.mark.parametrize("name", EVENTS)
def test_it_is_whole_and_of_the_kernel_that_booted(name: str) -> None:
    assert (DATA / f"x86-cloud-{name}.trace").stat().st_size < 300_000
    with open_trace(name) as trace, open_trace("boot") as boot:
        assert trace.page_size == boot.page_size
        assert trace.page_count == boot.page_count
        assert trace.identity == boot.identity
        assert trace.clock == boot.clock
        totals = trace.totals()
        whole = trace.read_all()
    assert totals is not None
    assert len(whole) == totals.event_count == EVENTS[name]
    assert [mark for _, mark in whole.marks] == MARKS
    executed = whole.pages[whole.kinds == KIND_FETCH]
    assert len(np.unique(executed)) == PAGES_EXECUTED[name]


def test_interrupts_and_faults_enter_by_the_same_page_and_part_then() -> None:
    pages: dict[str, set[int]] = {}
    for name in EVENTS:
        with open_trace(name) as trace:
            block = trace.read_all()
        pages[name] = set(block.pages[block.kinds == KIND_FETCH].tolist())
    entry = 0xC00  # of the recorded kernel: the entry code
    assert entry in pages["interrupts"] & pages["faults"]
    assert pages["interrupts"] - pages["faults"]
    assert pages["faults"] - pages["interrupts"]
