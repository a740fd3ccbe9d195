# SPDX-License-Identifier: MIT
"""A replay against what the policy must do, and against pages that go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pagestep import (
    BadTrace,
    BudgetExceeded,
    CorruptPage,
    GonePage,
    Image,
    Level,
    PageStore,
    RuleSet,
    replay,
)
from pagestep.store.trace import Block, Trace, generate, lru_misses

PAGES = 600
RECORDING = Path(__file__).resolve().parents[2] / "data" / "x86-cloud-boot.trace"


def firmware(pages: int = PAGES) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Bytes that shrink about as a kernel's do, no two pages alike."""
    rng = np.random.default_rng(7)
    words = rng.integers(0, 1 << 16, pages * 512, dtype=np.uint64)
    words[rng.random(words.size) < 0.5] = 0x1234
    return words.view(np.uint8)


def reads_only(blocks: Iterator[Block]) -> Iterator[Block]:
    for block in blocks:
        yield Block(block.pages, np.zeros_like(block.kinds), block.times, block.marks)


def many_writes(blocks: Iterator[Block]) -> Iterator[Block]:
    rng = np.random.default_rng(11)
    for block in blocks:
        kinds = (rng.random(len(block.pages)) < 0.4).astype(np.uint8) * 2
        yield Block(block.pages, kinds, block.times, block.marks)


def test_lru_is_exact() -> None:
    """With nothing compressed, faults are LRU's misses for as many frames as there are."""
    pages = np.concatenate([b.pages for b in generate(PAGES, events=40_000, seed=3)])
    with Image.open(firmware(), raw=True) as image:
        for ram in (900_000, 1_500_000):
            with PageStore.open(image, ram=ram, policy="lru", pool_percent=0) as store:
                replay(store, reads_only(generate(PAGES, events=40_000, seed=3)))
                stats = store.stats()
                frames = stats.hot_bytes // store.page_size
                assert 50 < frames < PAGES * 2 // 3
                assert stats.faults == lru_misses(pages, [frames])[0]


def test_s3fifo_is_not_much_worse_than_lru() -> None:
    """The default policy keeps what is used: a wrong queue order costs several times as much."""
    faults = {}
    with Image.open(firmware(), raw=True) as image:
        for policy in ("lru", "s3fifo"):
            with PageStore.open(image, ram=1_200_000, policy=policy, pool_percent=0) as store:
                replay(store, reads_only(generate(PAGES, events=60_000, seed=4)))
                faults[policy] = store.stats().faults
    assert faults["s3fifo"] < faults["lru"] * 1.1


@pytest.mark.parametrize("policy", ["s3fifo", "lru"])
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_every_page_is_verified_under_writes(policy: str, codec: str) -> None:
    """Dirty pages go to the pool and the scratch file, and come back as they were."""
    with Image.open(firmware(), raw=True) as image:
        with PageStore.open(image, ram="512KiB", policy=policy, codec=codec, scratch=True) as store:
            made = many_writes(generate(PAGES, events=60_000, seed=5))
            result = replay(store, made, sample_events=5000)
            stats = store.stats()
        assert result.events == 60_000
        assert 0 < result.verified < result.events
        assert stats.writebacks > 0
        assert stats.used_bytes_max <= 1 << 19
        assert all(
            s.hot_bytes + s.pool_bytes + s.metadata_bytes <= s.budget_bytes for s in result.samples
        )
        assert sum(sum(s.faults_by_tier.values()) for s in result.samples) == stats.faults


def test_a_wrong_page_stops_the_replay() -> None:
    with Image.open(firmware(), raw=True) as image, PageStore.open(image, ram="4MiB") as store:
        store.write(17, b"\xff" * store.page_size)
        block = Block(
            np.array([1, 17], np.uint32), np.zeros(2, np.uint8), np.arange(2, dtype=np.uint64), []
        )
        with pytest.raises(CorruptPage, match=r"page 17 .* at event 1"):
            replay(store, iter([block]))


def test_a_trace_beyond_the_image_is_refused() -> None:
    with (
        Image.open(firmware(), raw=True) as image,
        PageStore.open(image, ram="4MiB") as store,
        pytest.raises(BadTrace, match="another image"),
    ):
        replay(store, generate(PAGES * 2, events=10_000, seed=1))


def test_too_much_dirt_is_refused_by_name() -> None:
    with Image.open(firmware(), raw=True) as image, PageStore.open(image, ram="700KiB") as store:
        pages = np.arange(PAGES, dtype=np.uint32)
        block = Block(pages, np.full(PAGES, 2, np.uint8), pages.astype(np.uint64), [])
        with pytest.raises(BudgetExceeded, match=r"page \d+ .*cannot be accessed"):
            replay(store, iter([block] * 3))


@pytest.mark.parametrize(("policy", "above_a_256th"), [("lru", 1.0), ("s3fifo", 0.95)])
def test_no_eviction_of_a_boot_with_random_levels_is_wrong(
    x86_kernel: Path, policy: str, above_a_256th: float
) -> None:
    """An oracle holds every victim against all frames that could have gone (PGS_STORE_AUDIT)."""
    with Image.open(x86_kernel) as image, Trace.open(RECORDING) as trace:
        if trace.identity != bytes.fromhex(image.identity):
            pytest.skip("the recording is of another version of the kernel")
        levels = np.random.default_rng(11).integers(0, 6, image.page_count)
        few = np.random.default_rng(12).random(image.page_count) < 0.1
        levels[(levels == Level.PINNED) & ~few] = Level.NORMAL
        with PageStore.open(image, ram="8MiB", policy=policy, scratch=True, audit=True) as store:
            for level in Level:
                store.set_level(np.flatnonzero(levels == level), level)
            with store.pinned(range(3000, 3020)):
                stats = replay(store, iter(trace)).stats
    assert stats is not None
    assert stats.audited > 10_000
    assert (stats.held_victims, stats.fresh_victims) == (0, 0)
    assert stats.by_level["PINNED"] == 0, "none ever left"
    found = np.array(stats.shortfalls)
    assert found[:9].sum() >= above_a_256th * found.sum()
    if policy == "lru":
        assert found[0] == found.sum(), "exactly the greatest, every time"


def test_what_start_up_needs_goes_at_its_mark() -> None:
    rules = RuleSet.parse(
        f'[[rule]]\naddress = [0, {PAGES * 4096:#x}]\nlevel = "NORMAL"\n'
        '[[rule]]\naddress = [0, 0x10000]\nlifecycle = "once"\n'
    )
    pages = np.arange(100, dtype=np.uint32) % 40
    pages[50:] += 16
    times = np.arange(100, dtype=np.uint64)
    for touched_late in (False, True):
        pages[99] = 3 if touched_late else 90
        block = Block(pages, np.zeros(100, np.uint8), times, [(50, "run_init_process")])
        with (
            Image.open(firmware(), raw=True) as image,
            PageStore.open(image, ram="4MiB", rules=rules) as store,
        ):
            if touched_late:
                with pytest.raises(GonePage, match="page 3 cannot be accessed at event 99"):
                    replay(store, iter([block]))
            else:
                result = replay(store, iter([block]))
                assert (result.events, result.given_up) == (100, 16)


def test_a_trace_says_why_it_is_not_of_an_image(x86_kernel: Path) -> None:
    with Trace.open(RECORDING) as trace:
        with Image.open(firmware(), raw=True) as image:
            assert "belongs to another image" in trace.misfit(image)
        with Image.open(x86_kernel) as image:
            is_its = trace.identity == bytes.fromhex(image.identity)
            assert (trace.misfit(image) == "") == is_its
