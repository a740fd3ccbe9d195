# SPDX-License-Identifier: MIT
"""RAM while maps are touched: what the system counts for this process never exceeds the budget.

Two mappings show each page, so its proportional share is what counts: Pss.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from pagestep import MappedArray, PageStore, map_support

from .pages import make_pages

if map_support().reason is not None:
    pytest.skip(f"no memory faults in here: {map_support().reason}", allow_module_level=True)

PAGE = 4096
COUNT = 2500
IMAGE = make_pages(COUNT, seed=9)
FLAT = IMAGE.reshape(-1)
THREADS = 3
AROUND_BYTES = 16 * PAGE  # the most that one fault brings
TOUCHES = 12_000
SAMPLES = 10  # and more, while they touch


def shown_bytes() -> int:
    """Return the RAM of the pages that maps have, each once."""
    text = Path("/proc/self/smaps").read_text()
    each = re.findall(r"memfd:pagestep.*?^Pss: +(\d+) kB", text, re.MULTILINE | re.DOTALL)
    return sum(int(kib) for kib in each) * 1024


@dataclass
class Watch:
    """Samples, until told to stop, what maps and the rest of the store take together."""

    store: PageStore
    others: int  # RAM of maps that are not this store's
    stop: threading.Event = field(default_factory=threading.Event)
    most: int = 0
    most_used: int = 0
    samples: int = 0

    def run(self) -> None:
        while not self.stop.is_set():
            # Not one moment, so what pages move between may be counted twice: pages leave
            # frames for the pool. What is used before is the lesser.
            before = self.store.stats()
            shown = shown_bytes() - self.others
            after = self.store.stats()
            beside = min(each.pool_bytes + each.metadata_bytes for each in (before, after))
            self.most = max(self.most, shown + beside)
            self.most_used = max(self.most_used, after.used_bytes_max)
            self.samples += 1


def touch(array: MappedArray, seed: int, wrong: list[int], watch: Watch) -> None:
    chance = np.random.default_rng(seed)
    touches = 0
    while touches < TOUCHES or watch.samples <= SAMPLES:
        touches += 100
        if touches % 3000 == 0:  # a run in order among the others, which brings more at once
            first = int(chance.integers(0, COUNT - 200)) * PAGE
            run = slice(first, first + 200 * PAGE)
            wrong += np.flatnonzero(array[run] != FLAT[run]).tolist()
        at = chance.integers(0, FLAT.size, 100)
        wrong += at[array[at] != FLAT[at]].tolist()
        time.sleep(0)  # the interpreter's lock to who samples


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("service", ["sigbus", "thread"])
def test_the_budget_holds_while_pages_are_touched(service: str, writable: bool) -> None:
    others = shown_bytes()
    with PageStore.open(IMAGE, ram="2MiB") as store:
        array = store.map(service=service, writable=writable)
        watch = Watch(store, others)
        wrong: list[int] = []
        threads = [
            threading.Thread(target=touch, args=(array, seed, wrong, watch)) for seed in range(THREADS)
        ]
        watcher = threading.Thread(target=watch.run)
        watcher.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        watch.stop.set()
        watcher.join()
        budget = store.stats().budget_bytes
        print(f"{watch.samples} samples, the most {watch.most} of {budget}")
        assert wrong == []
        assert watch.most_used <= budget
        assert watch.most <= budget + THREADS * AROUND_BYTES
        assert watch.most > budget // 2, "it was not even used"
        assert store.stats().page_outs > 1000
