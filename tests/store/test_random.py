# SPDX-License-Identifier: MIT
"""Random steps on a store, with a plain array as the oracle."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pagestep import BudgetExceeded, DirtyPage, Image, Level, PageStore, PinnedPage
from pagestep.codecs import FILTERS, Codec, filter_for, train_dictionary

from .pages import Pages, make_pages

Numbers = npt.NDArray[np.uint64]

STEPS = 20_000
HEAVY_STEPS = 10_000_000
HEAVY_BATCH = 64
# Set these to repeat a run that failed; the seed is in its name and its output.
SEEDS = [int(seed) for seed in os.environ.get("PAGESTEP_TEST_SEEDS", "1 2").split()]


@dataclass
class Walk:
    """Steps on a store and on a shadow of it; counts page steps."""

    store: PageStore
    shadow: Pages
    chance: np.random.Generator
    ram_min: int
    ram_max: int
    scratch: bool = False
    steps: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        """Make room for a batch."""
        self.pages, self.page_size = self.shadow.shape
        self.origin = self.shadow.copy()
        self.pinned = np.zeros(self.pages, bool)

    def choose(self, count: int) -> Numbers:
        """Return page numbers: half of them near each other, half anywhere; none twice."""
        if self.chance.random() < 0.5:
            first = int(self.chance.integers(self.pages))
            numbers = (first + np.arange(count)) % self.pages
        else:
            numbers = self.chance.integers(0, self.pages, count)
        return np.unique(numbers).astype(np.uint64)

    def check(self, numbers: Numbers, *, into_frames: bool = False) -> None:
        """Read pages and compare them with the shadow."""
        out = np.empty((len(numbers), self.page_size), np.uint8)
        self.store.read_into(numbers, out, into_frames=into_frames)
        if not np.array_equal(out, self.shadow[numbers]):
            wrong = numbers[(out != self.shadow[numbers]).any(axis=1)]
            raise AssertionError(f"pages {wrong} differ after {self.steps} steps")

    def write(self, numbers: Numbers) -> None:
        """Write whole pages: of the image, of one word, or somewhat changed."""
        kind = int(self.chance.integers(4))
        new = self.shadow[numbers]
        if kind == 0:
            new = self.origin[self.chance.integers(0, self.pages, len(numbers))]
        elif kind == 1:
            new[:] = self.chance.integers(0, 256)
        elif kind == 2:
            new[:, self.chance.integers(0, self.page_size, 16)] ^= 0x3C
        else:
            new = self.origin[numbers]  # clean again
        try:
            self.store.write_from(numbers, new)
        except BudgetExceeded:
            # Each page has its old bytes or its new ones.
            self.refused += 1
            out = np.empty_like(new)
            self.store.read_into(numbers, out)
            is_new = (out == new).all(axis=1)
            assert ((out == self.shadow[numbers]).all(axis=1) | is_new).all(), self.steps
            new = out
        self.shadow[numbers] = new

    def write_part(self, number: int) -> None:
        """Write some bytes of one page."""
        begin, end = sorted(self.chance.integers(0, self.page_size + 1, 2).tolist())
        data = self.chance.integers(0, 256, end - begin, np.uint8)
        try:
            self.store.write(number, data, offset=begin)
        except BudgetExceeded:
            self.refused += 1
        else:
            self.shadow[number, begin:end] = data

    def enter(self, numbers: Numbers, *, by_reading: bool) -> None:
        """Bring pages into frames; where frames are all taken, reading goes on without."""
        try:
            if by_reading:
                self.check(numbers, into_frames=True)
            else:
                self.store.page_in(numbers)
        except BudgetExceeded:
            self.refused += 1

    def leave(self, numbers: Numbers, move: Callable[[Numbers], None]) -> None:
        """Send pages out, each as far as it may go."""
        try:
            move(numbers)
        except DirtyPage:
            # A scratch file may hold other bytes than the image: there, dirty is its affair.
            clean = (self.shadow[numbers] == self.origin[numbers]).all(axis=1)
            assert self.scratch or not clean.all(), f"clean, not dirty, after {self.steps} steps"
        except PinnedPage:
            assert self.pinned[numbers].any(), f"no page is pinned after {self.steps} steps"
        except BudgetExceeded:
            self.refused += 1

    def pin(self, numbers: Numbers) -> None:
        """Pin some pages, and unpin all others."""
        held = np.flatnonzero(self.pinned)
        self.store.unpin(held)
        self.pinned[:] = False
        try:
            self.store.pin(numbers[:4])
        except BudgetExceeded:
            self.refused += 1
        else:
            self.pinned[numbers[:4]] = True

    def press(self) -> None:
        """Change the budget, and the levels of some pages."""
        try:
            self.store.set_ram(int(self.chance.integers(self.ram_min, self.ram_max)))
        except BudgetExceeded:
            self.refused += 1
        levels = [Level.LAST_RESORT, Level.RELUCTANT, Level.NORMAL, Level.EAGER, Level.STEP_ON_IT]
        first = int(self.chance.integers(self.pages))
        run = range(first, min(self.pages, first + 50))
        self.store.set_level(run, levels[int(self.chance.integers(len(levels)))])

    def step(self, batch: int) -> None:
        """Do one thing to a batch of pages."""
        numbers = self.choose(batch)
        dice = float(self.chance.random())
        if dice < 0.45:
            self.check(numbers)
        elif dice < 0.60:
            self.write(numbers)
        elif dice < 0.65:
            self.write_part(int(numbers[0]))
            numbers = numbers[:1]
        elif dice < 0.75:
            self.leave(numbers, self.store.page_out)
        elif dice < 0.90:
            self.leave(numbers, self.store.discard)
        elif dice < 0.96:
            self.enter(numbers, by_reading=dice < 0.93)
        elif dice < 0.99:
            self.pin(numbers)
        else:
            self.press()
            stats = self.store.stats()
            assert stats.used_bytes <= stats.budget_bytes, self.steps
            assert stats.used_bytes_max <= self.ram_max, self.steps
        self.steps += len(numbers)

    def run(self, steps: int, batch: int) -> None:
        """Step on, and compare every page at the end."""
        while self.steps < steps:
            self.step(batch)
        for first in range(0, self.pages, 256):
            self.check(np.arange(first, min(self.pages, first + 256), dtype=np.uint64))
        stats = self.store.stats()
        places = stats.hot_pages, stats.compressed_pages, stats.same_pages, stats.absent_pages
        assert sum(places) == self.pages
        assert stats.corrupt == 0
        assert min(stats.page_outs, stats.discards, stats.encodes, stats.faults) > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("policy", "codec", "scratch"),
    [("s3fifo", "lz4", False), ("lru", "zstd", True)],
)
def test_random_steps(seed: int, policy: str, codec: str, scratch: bool) -> None:
    pages = make_pages(300, seed=seed)
    ram = 500 << 10
    with PageStore.open(pages, ram=ram, policy=policy, codec=codec, scratch=scratch) as store:
        walk = Walk(
            store, pages.copy(), np.random.default_rng(seed), ram * 3 // 4, ram * 2, scratch
        )
        walk.run(STEPS // 2, 1)
        walk.run(STEPS, 8)
        print(f"seed {seed}: {walk.steps} page steps, {walk.refused} refused")


def test_a_wrong_page_does_not_escape_the_oracle() -> None:
    pages = make_pages(300)
    shadow = pages.copy()
    shadow[77, 4095] ^= 1
    with PageStore.open(pages, ram="500KiB") as store:
        walk = Walk(store, shadow, np.random.default_rng(1), 400 << 10, 600 << 10)
        with pytest.raises(AssertionError, match=r"pages \[77\] differ"):
            walk.check(np.arange(300, dtype=np.uint64))


def _heavy(kernel: Path, ram: int, seed: int, minutes: float) -> None:
    with Image.open(kernel) as image:
        shadow = np.array(image.flat())
        dictionary = train_dictionary(
            shadow, 64 << 10, filter=filter_for(image.arch), address=image.base
        )
        started = time.monotonic()
        with PageStore.open(image, ram=ram, dictionary=dictionary, scratch=True) as store:
            walk = Walk(store, shadow, np.random.default_rng(seed), ram // 2, ram * 2, True)
            walk.run(HEAVY_STEPS, HEAVY_BATCH)
            seconds = time.monotonic() - started
            print(
                f"seed {seed}: {walk.steps} page steps in {seconds:.0f} s, {walk.refused} refused"
            )
            assert walk.steps >= HEAVY_STEPS
            assert seconds < 60 * minutes


@pytest.mark.heavy
@pytest.mark.kernel
def test_ten_million_steps_on_the_x86_kernel(x86_kernel: Path) -> None:
    _heavy(x86_kernel, 8 << 20, SEEDS[0], 20)


@pytest.mark.heavy
@pytest.mark.kernel
def test_ten_million_steps_on_the_arm_kernel(arm_kernel: Path) -> None:
    _heavy(arm_kernel, 4 << 20, SEEDS[0], 20)


# -- every page through everything --------------------------------------------------------


def _all_pages(store: PageStore) -> Pages:
    out = np.empty((store.page_count, store.page_size), np.uint8)
    store.read_into(np.arange(store.page_count, dtype=np.uint64), out)
    return out


def _through_every_tier(image: Image, codec: Codec) -> None:
    flat = image.flat()
    everywhere = range(image.page_count)
    room = flat.nbytes * 3 + (8 << 20)
    with PageStore.open(image, codec=codec, ram=room, pool_percent=100) as store:
        store.page_in(everywhere)
        assert store.stats().hot_pages == image.page_count
        assert np.array_equal(_all_pages(store), flat), f"{codec}: hot"
        store.page_out(everywhere)
        stats = store.stats()
        assert stats.compressed_pages + stats.same_pages == image.page_count
        before = stats.by_tier["compressed"].faults
        assert np.array_equal(_all_pages(store), flat), f"{codec}: compressed"
        assert store.stats().by_tier["compressed"].faults > before
        store.discard(everywhere)
        stats = store.stats()
        assert stats.hot_pages == stats.compressed_pages == 0
        assert np.array_equal(_all_pages(store), flat), f"{codec}: disk"
        assert store.stats().by_tier["disk"].faults > 0


@pytest.mark.kernel
@pytest.mark.parametrize("filter_name", FILTERS)
@pytest.mark.parametrize(
    ("codec_name", "level", "with_dictionary"),
    [("raw", None, False), ("same", None, False)]
    + [(name, level, some) for name, level in (("lz4", 0), ("zstd", 1)) for some in (False, True)],
)
@pytest.mark.parametrize("kernel", ["x86_kernel", "arm_kernel"])
def test_every_page_of_a_kernel(
    kernel: str,
    codec_name: str,
    level: int | None,
    with_dictionary: bool,
    filter_name: str,
    kernel_dictionaries: Callable[[str], bytes],
    request: pytest.FixtureRequest,
) -> None:
    dictionary = kernel_dictionaries(kernel) if with_dictionary else b""
    with (
        Image.open(request.getfixturevalue(kernel)) as image,
        Codec(codec_name, level=level, filter=filter_name, dictionary=dictionary) as codec,
    ):
        _through_every_tier(image, codec)


@pytest.mark.kernel
@pytest.mark.parametrize(("codec_name", "level"), [("lz4", 9), ("zstd", 9)])
def test_every_page_of_a_kernel_at_a_high_level(
    codec_name: str, level: int, arm_kernel: Path
) -> None:
    with (
        Image.open(arm_kernel) as image,
        Codec(codec_name, level=level, filter=filter_for(image.arch)) as codec,
    ):
        _through_every_tier(image, codec)


@pytest.fixture(scope="module")
def kernel_dictionaries(request: pytest.FixtureRequest) -> Callable[[str], bytes]:
    made: dict[str, bytes] = {}

    def dictionary(kernel: str) -> bytes:
        if kernel not in made:
            with Image.open(request.getfixturevalue(kernel)) as image:
                made[kernel] = train_dictionary(image.flat()[::7].copy(), 32 << 10)
        return made[kernel]

    return dictionary
