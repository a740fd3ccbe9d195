# SPDX-License-Identifier: MIT
"""RAM while maps are touched: what the system counts of their pages never exceeds the budget.

It counts them in two ways: what their memory file takes, at any moment; and what /proc/self/smaps
has of both mappings of it, beside the store's pool and metadata, at moments when no page moves.
"""

from __future__ import annotations

import mmap
import os
import re
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from typing_extensions import override

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
WINDOW = 32 * PAGE  # what one fault brings at most
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")

both = pytest.mark.parametrize("service", ["sigbus", "thread"])
writable_or_not = pytest.mark.parametrize("writable", [False, True])


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
    """Samples, until told to stop, what the map's pages take.

    Who touches has a gate of its own, which is shut while it does.
    """

    store: PageStore
    array: MappedArray
    home: int = field(default_factory=home_file)
    wanted: int = 10  # and more, while they touch
    stop: threading.Event = field(default_factory=threading.Event)
    gates: list[threading.Lock] = field(
        default_factory=lambda: [threading.Lock() for _ in range(THREADS)]
    )
    most: int = 0
    samples: int = 0

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.sample()
                self.stop.wait(0.001)
        finally:
            self.stop.set()

    def sample(self) -> None:
        self.most = max(self.most, os.fstat(self.home).st_blocks * 512)
        self.samples += 1


def touch(array: MappedArray, seed: int, wrong: list[int], watch: Watch) -> None:
    chance = np.random.default_rng(seed)
    touches = 0
    while touches < TOUCHES or (watch.samples <= watch.wanted and not watch.stop.is_set()):
        with watch.gates[seed]:
            touches += 100
            if touches % 3000 == 0:  # a run in order among the others, which brings more at once
                first = int(chance.integers(0, COUNT - 200)) * PAGE
                run = slice(first, first + 200 * PAGE)
                wrong += np.flatnonzero(array[run] != FLAT[run]).tolist()
            at = chance.integers(0, FLAT.size, 100)
            wrong += at[array[at] != FLAT[at]].tolist()
        time.sleep(0)  # the interpreter's lock to who samples


def touch_watched(array: MappedArray, watch: Watch) -> None:
    """Touch pages by several threads, while they are watched."""
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
    assert wrong == []
    assert watch.samples > watch.wanted
    stats = watch.store.stats()
    print(f"{watch.samples} samples, the most {watch.most} of {stats.budget_bytes}")
    assert stats.used_bytes_max <= stats.budget_bytes
    assert stats.page_outs > 1000


@writable_or_not
@both
def test_the_budget_holds_while_pages_are_touched(service: str, writable: bool) -> None:
    with PageStore.open(IMAGE, ram="2MiB") as store:
        array = store.map(service=service, writable=writable)
        watch = Watch(store, array)
        touch_watched(array, watch)
        budget = store.stats().budget_bytes
        assert watch.most <= budget
        assert watch.most > budget // 4, "it was not even used"


# -- as smaps has it ----------------------------------------------------------------------

HEAD = re.compile(r"[0-9a-f]+-[0-9a-f]+ .{4} [0-9a-f]+ \S+ (\d+) *(.*)")


def mappings_of(home: int) -> list[dict[str, int]]:
    """Return what smaps says of each mapping of a memory file, in bytes."""
    inode = os.fstat(home).st_ino
    found: list[dict[str, int]] = []
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = HEAD.match(line)
        if head:
            ours = int(head[1]) == inode and head[2].startswith("/memfd:")
            if ours:
                found.append({})
        elif ours and line.endswith(" kB"):
            name, kib, _ = line.split()
            found[-1][name.removesuffix(":")] = int(kib) * 1024
    return found


@dataclass
class WatchMappings(Watch):
    """Samples what both mappings of the map's pages take, and the store beside them.

    The lines of smaps are not of one moment: a page that moves meanwhile counts twice, or not at
    all. So a sample counts where nothing moved, and every other one is taken while none begins a
    touch: the map's own thread, which reads ahead, goes on.
    """

    wanted: int = 60
    tries: int = 0
    most_pages: int = 0

    def counters(self) -> tuple[int, ...]:
        """Return what changes when a page comes, leaves, or gets or loses a mapping."""
        of = self.array.mapping.stats()
        mapped = (of.faults, of.attaches, of.write_faults, of.pages_ahead, of.ranges_dropped)
        return (*mapped, of.resident_bytes, self.store.stats().page_outs)

    @override
    def sample(self) -> None:
        self.tries += 1
        with ExitStack() as stack:
            for gate in self.gates if self.tries % 2 else []:
                stack.enter_context(gate)
            before = self.counters()
            mappings = mappings_of(self.home)
            stats = self.store.stats()
            if self.counters() != before:
                return
        self.samples += 1
        # The store's own, and the range.
        assert sum(each["Size"] for each in mappings) == 2 * FLAT.size
        # Half of a page that both show is each one's: so it counts once.
        pages = sum(each["Pss"] for each in mappings)
        assert max(each["Rss"] for each in mappings) <= pages
        assert sum(each["Rss"] for each in mappings) >= pages
        self.most_pages = max(self.most_pages, pages)
        self.most = max(self.most, pages + stats.pool_bytes + stats.metadata_bytes)


@writable_or_not
@both
def test_both_mappings_with_pool_and_metadata_are_within_the_budget(
    service: str, writable: bool
) -> None:
    with PageStore.open(IMAGE, ram="2MiB") as store:
        array = store.map(service=service, writable=writable)
        watch = WatchMappings(store, array)
        touch_watched(array, watch)
        budget = store.stats().budget_bytes
        print(f"{watch.tries} tries; the most of the pages alone {watch.most_pages}")
        assert watch.most <= budget + THREADS * WINDOW
        assert watch.most > budget // 2, "it was not even used"
        assert watch.most_pages > budget // 4


# -- huge pages ---------------------------------------------------------------------------


@pytest.fixture
def shmem_always_huge() -> Generator[None]:
    """Have the kernel give memory files huge pages wherever it may, for one test."""
    choices = HUGE_PAGES.read_text() if HUGE_PAGES.exists() else ""
    before = re.search(r"\[(\w+)\]", choices)
    if before is None:
        pytest.skip("this kernel has no huge pages for memory files")
    try:
        HUGE_PAGES.write_text("always")
    except OSError as error:
        pytest.skip(f"only root may have memory files take huge pages: {error.strerror}")
    try:
        yield
    finally:
        HUGE_PAGES.write_text(before[1])


def huge_bytes_of_a_plain_file() -> int:
    """Return what a memory file as large as the map's has in huge pages, if written whole."""
    with open(os.memfd_create("plain"), "r+b") as file:
        file.truncate(FLAT.size)
        with mmap.mmap(file.fileno(), FLAT.size) as memory:
            memory[:] = FLAT.tobytes()
            [mapping] = mappings_of(file.fileno())
            return mapping["ShmemPmdMapped"]


@pytest.mark.usefixtures("shmem_always_huge")
@writable_or_not
@both
def test_there_are_no_huge_pages_where_the_system_always_has_them(
    service: str, writable: bool
) -> None:
    if not huge_bytes_of_a_plain_file():
        pytest.skip("the system has no huge page free for a memory file")
    with PageStore.open(IMAGE, ram="2MiB") as store:
        array = store.map(service=service, writable=writable)
        home = home_file()
        for first in range(0, COUNT - 100, 300):
            # By the store's own mapping, where nothing is yet, and by the range.
            some = range(first, first + 100)
            store.page_out(some)
            store.page_in(some)
            if writable:
                array[::PAGE] += 0
            assert np.array_equal(array[first * PAGE :], FLAT[first * PAGE :])
            mappings = mappings_of(home)
            assert sum(each["Size"] for each in mappings) == 2 * FLAT.size
            for mapping in mappings:
                assert (mapping["AnonHugePages"], mapping["ShmemPmdMapped"]) == (0, 0)
        assert os.fstat(home).st_blocks * 512 <= store.stats().budget_bytes
