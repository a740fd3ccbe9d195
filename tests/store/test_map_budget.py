# SPDX-License-Identifier: MIT
"""RAM while maps are touched: what the system counts of their pages never exceeds the budget.

With pool and metadata, at one moment, csrc/tests/test_map_threads.c counts them.
"""

from __future__ import annotations

import os
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
TOUCHES = 12_000
SAMPLES = 10  # and more, while they touch


def home_file() -> int:
    """Return the descriptor of the memory file in which the map's frames lie."""
    for name in Path("/proc/self/fd").iterdir():
        descriptor = int(name.name)
        try:
            if "memfd:pagestep" in os.readlink(name) and os.fstat(descriptor).st_size == FLAT.size:
                return descriptor
        except OSError:
            continue  # the folder's own
    raise AssertionError("there is no memory file of a map")


@dataclass
class Watch:
    """Samples, until told to stop, what the map's pages take."""

    store: PageStore
    home: int
    stop: threading.Event = field(default_factory=threading.Event)
    most: int = 0
    samples: int = 0

    def run(self) -> None:
        while not self.stop.is_set():
            self.most = max(self.most, os.fstat(self.home).st_blocks * 512)
            self.samples += 1
            self.stop.wait(0.001)


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
    with PageStore.open(IMAGE, ram="2MiB") as store:
        array = store.map(service=service, writable=writable)
        watch = Watch(store, home_file())
        wrong: list[int] = []
        threads = [
            threading.Thread(target=touch, args=(array, seed, wrong, watch))
            for seed in range(THREADS)
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
        assert store.stats().used_bytes_max <= budget
        assert watch.most <= budget
        assert watch.most > budget // 4, "it was not even used"
        assert store.stats().page_outs > 1000
