# SPDX-License-Identifier: MIT
"""Pools: what they promise, what they refuse, and random steps against a dictionary."""

from __future__ import annotations

import ctypes
import gc
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from pagestep import (
    BudgetExceeded,
    Closed,
    DoubleFree,
    InvalidArgument,
    Level,
    NonPagedPool,
    NotABlock,
    PagedPool,
    PageStore,
    PoolBlock,
    PoolExhausted,
    PoolOverrun,
    Unsupported,
    UseAfterFree,
)

from .pages import make_pages

Pool = PagedPool | NonPagedPool
PAGES = make_pages(64)
KINDS = ("paged", "nonpaged")
GUARD = {"paged": 0, "nonpaged": 8}


def open_pool(store: PageStore, kind: str, size: int | str = "64KiB", **more: Any) -> Pool:
    return store.paged_pool(size, **more) if kind == "paged" else store.nonpaged_pool(size, **more)


@pytest.fixture
def store() -> Iterator[PageStore]:
    with PageStore.open(PAGES, ram="1MiB") as opened:
        yield opened


# -- one promise at a time ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_come_back(store: PageStore, kind: str) -> None:
    with open_pool(store, kind) as pool:
        block = pool.alloc(10_000, align=512)
        assert (len(block), block.size, block.offset % 512) == (10_000, 10_000, 0)
        data = random.Random(1).randbytes(10_000)
        block.write(data)
        block.write(b"hello", 4094)
        data = data[:4094] + b"hello" + data[4099:]
        if isinstance(pool, PagedPool):
            with pytest.raises(Unsupported, match="its pages move"):
                block.view()
        assert block.read() == data
        assert block.read(4090, 12) == data[4090:4102]
        assert block.read(10_000) == b""
        out = bytearray(7)
        block.read_into(out, 3)
        assert out == data[3:10]
        block.free()
        assert pool.stats().block_count == 0


def test_blocks_of_a_paged_pool_fault_and_come_back(store: PageStore) -> None:
    pool = store.paged_pool("2MiB", level=Level.STEP_ON_IT)
    assert store.stats().pages_by_level["STEP_ON_IT"] == 512
    blocks = [pool.alloc(3000) for _ in range(600)]
    for number, block in enumerate(blocks):
        block.write(number.to_bytes(4, "little") * 750)
    for number, block in enumerate(blocks):
        assert block.read() == number.to_bytes(4, "little") * 750
    stats = store.stats()
    assert stats.by_tier["compressed"].faults > 0
    assert stats.used_bytes_max <= stats.budget_bytes
    for block in blocks:
        block.free()
    assert store.stats().dirty_pages == 0, "their pages are gone"


def test_a_view_is_the_block(store: PageStore) -> None:
    pool = store.nonpaged_pool("64KiB")
    block = pool.alloc(100)
    view = block.view()
    assert (view.nbytes, view.readonly, view.contiguous) == (100, False, True)
    view[10:15] = b"hello"
    assert block.read(10, 5) == b"hello"
    block.write(b"J", 10)
    assert bytes(view[10:15]) == b"Jello"
    with pytest.raises(IndexError):
        view[100] = 1


@pytest.mark.parametrize("kind", KINDS)
def test_exhaustion_says_what_there_is(store: PageStore, kind: str) -> None:
    pool = open_pool(store, kind, "16KiB")
    whole = pool.alloc((16 << 10) - GUARD[kind])
    assert pool.stats().largest_bytes == 0
    whole.free()
    first, _second = pool.alloc(6000), pool.alloc(6000)
    first.free()
    with pytest.raises(
        PoolExhausted, match=r"no room for 8000 bytes: the largest .* free in 2 runs"
    ) as e:
        pool.alloc(8000)
    stats = pool.stats()
    assert (e.value.size, e.value.largest, e.value.free) == (
        8000,
        stats.largest_bytes,
        stats.free_bytes,
    )
    assert isinstance(e.value, MemoryError)
    assert pool.alloc(stats.largest_bytes).size == stats.largest_bytes
    assert 0 < stats.fragmentation < 1
    assert stats.as_dict()["fragmentation"] == stats.fragmentation
    assert pool.stats().refusals == 1


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_told_apart(store: PageStore, kind: str) -> None:
    pool, other = open_pool(store, kind), open_pool(store, kind)
    block, gone = pool.alloc(40), pool.alloc(40)
    gone.free()
    for _ in range(2):
        with pytest.raises(
            DoubleFree, match=r"block of 40 bytes at .* was freed before; free it once"
        ):
            pool.free(gone)
        with pytest.raises(UseAfterFree, match="cannot be read"):
            gone.read()
        with pytest.raises(UseAfterFree, match="cannot be written"):
            gone.write(b"x")
        pool.alloc(40)  # in the same place
    with pytest.raises(NotABlock, match="not of this pool"):
        other.free(block)
    block.write(bytes(range(40)))
    for offset, size in [(0, 41), (40, 1), (41, 0), (-1, 1), (2**64, 1), (0, 2**40), (0, 2**64)]:
        with pytest.raises(PoolOverrun, match=f"{size} bytes at offset {offset} do not lie in"):
            block.read(offset, size)
    with pytest.raises(PoolOverrun, match="nothing was written"):
        block.write(b"123", 38)
    assert block.read() == bytes(range(40))
    for size, align in [(0, 16), (-1, 16), (1 << 20, 16), (8, 0), (8, 24), (8, 8192), (8, 2**40)]:
        with pytest.raises(InvalidArgument):
            pool.alloc(size, align=align)
    with pytest.raises(InvalidArgument, match="negative"):
        block.read(3, -1)
    with pytest.raises(InvalidArgument, match="writable"):
        block.read_into(b"xx")


def test_damage_through_a_view_is_found(store: PageStore) -> None:
    pool = store.nonpaged_pool("64KiB")
    first, second = pool.alloc(20), pool.alloc(20)
    view = first.view()
    whole = pool.alloc(60_000)
    pool.check()
    # What C code with an address could do; a view itself ends with its block.
    raw = (ctypes.c_ubyte * 32).from_address(ctypes.addressof(ctypes.c_ubyte.from_buffer(view)))
    kept = raw[20]
    raw[20] ^= 1
    for found in (pool.check, first.free):
        with pytest.raises(PoolOverrun, match="behind the end of <block of 20 bytes at 0 of"):
            found()
    raw[20] = kept
    pool.check()
    first.free()
    view[3] = 7
    with pytest.raises(UseAfterFree, match="byte 3 of a non-paged pool of 64 KiB was written"):
        pool.check()
    second.free()
    whole.free()


# -- budget -------------------------------------------------------------------------------


def test_a_nonpaged_pool_has_all_its_ram_or_none(store: PageStore) -> None:
    before = store.stats()
    with pytest.raises(BudgetExceeded, match="a non-paged pool of 1 MiB does not fit"):
        store.nonpaged_pool("1MiB")
    assert store.stats().metadata_bytes == before.metadata_bytes
    pool = store.nonpaged_pool("400KiB")
    taken = store.stats().metadata_bytes - before.metadata_bytes
    assert taken == pool.stats().metadata_bytes >= 400 << 10
    for page_no in range(64):
        assert store.read(page_no) == PAGES[page_no].tobytes()
    assert store.stats().used_bytes_max <= 1 << 20
    with_pool = store.stats().metadata_bytes
    pool.close()
    assert store.stats().metadata_bytes == with_pool - taken
    with store.nonpaged_pool("400KiB"):
        pass


@pytest.mark.parametrize("bad", [{"size": 0}, {"size": "64GiB"}, {"size": 10, "block_reserve": -1}])
@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_opened(store: PageStore, kind: str, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        open_pool(store, kind, **bad)


@pytest.mark.parametrize("level", [Level.PINNED, 6, "NORMAL"])
def test_a_paged_pool_is_not_pinned(store: PageStore, level: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"one of LAST_RESORT, .* a non-paged pool"):
        store.paged_pool("64KiB", level=level)


# -- the end ------------------------------------------------------------------------------

USES: dict[str, Callable[[Pool, PoolBlock], Any]] = {
    "alloc": lambda pool, block: pool.alloc(1),
    "free": lambda pool, block: pool.free(block),
    "check": lambda pool, block: pool.check(),
    "stats": lambda pool, block: pool.stats(),
    "core": lambda pool, block: pool.core,
    "read": lambda pool, block: block.read(),
    "write": lambda pool, block: block.write(b"x"),
    "view": lambda pool, block: block.view(),
}


@pytest.mark.parametrize("store_too", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_use_after_close_raises(kind: str, store_too: bool) -> None:
    store = PageStore.open(PAGES, ram="1MiB")
    pool = open_pool(store, kind)
    block = pool.alloc(10)
    (store if store_too else pool).close()
    pool.close()
    for use in USES.values():
        with pytest.raises(Closed, match="closed"):
            use(pool, block)
    assert "closed" in repr(pool)
    store.close()


def test_a_view_outlives_block_pool_and_store() -> None:
    store = PageStore.open(PAGES, ram="1MiB")
    block = store.nonpaged_pool("64KiB").alloc(1000)
    view = block.view()
    view[:] = bytes(1000)
    store.close()
    del store, block
    gc.collect()
    churn = [PageStore.open(PAGES) for _ in range(4)]
    view[5] = 1
    assert bytes(view[:8]) == b"\0\0\0\0\0\1\0\0"
    del churn, view
    gc.collect()


def test_a_cycle_of_garbage_may_go_in_any_order() -> None:
    for _ in range(40):
        store = PageStore.open(PAGES, ram="1MiB")
        pools = [open_pool(store, kind) for kind in KINDS]
        blocks = [pool.alloc(100) for pool in pools]
        views = [blocks[1].view(), store.view(3)]
        cycle: list[Any] = [store, pools, blocks, views]
        cycle.append(cycle)
        del store, pools, blocks, views, cycle
        gc.collect()


def test_threads_share_pools() -> None:
    errors: list[BaseException] = []

    def work(pools: list[Pool], seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(300):
                pool = chance.choice(pools)
                data = chance.randbytes(chance.randint(1, 9000))
                block = pool.alloc(len(data))
                block.write(data)
                assert block.read() == data
                block.free()
        except BaseException as error:
            errors.append(error)

    with PageStore.open(PAGES, ram="1MiB") as store:
        pools = [open_pool(store, kind, "128KiB") for kind in KINDS]
        threads = [threading.Thread(target=work, args=(pools, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        for pool in pools:
            pool.check()
            assert pool.stats().free_runs == 1
        assert store.stats().dirty_pages == 0


# -- random steps -------------------------------------------------------------------------


class Steps(RuleBasedStateMachine):
    """Random steps on a pool, and what each block must hold."""

    kind = "paged"
    blocks: Bundle[PoolBlock] = Bundle("blocks")
    freed: Bundle[PoolBlock] = Bundle("freed")

    def __init__(self) -> None:
        super().__init__()
        self.store = PageStore.open(PAGES[:16], ram="600KiB")
        self.pool = open_pool(self.store, self.kind, "32KiB")
        self.bytes: dict[PoolBlock, bytes] = {}

    @rule(
        target=blocks,
        size=st.integers(1, 9000) | st.integers(1, 100),
        align=st.sampled_from([1, 16, 64, 4096]),
        seed=st.integers(0, 255),
    )
    def alloc(self, size: int, align: int, seed: int) -> Any:
        try:
            block = self.pool.alloc(size, align=align)
        except PoolExhausted:
            assert self.pool.stats().largest_bytes < size or align > 16
            return cast("Any", multiple())
        assert block.offset % align == 0
        data = bytes((seed + i // 7) & 0xFF for i in range(size))
        block.write(data)
        self.bytes[block] = data
        return block

    @rule(target=freed, block=consumes(blocks))
    def free(self, block: PoolBlock) -> PoolBlock:
        assert block.read() == self.bytes.pop(block)
        block.free()
        return block

    @rule(block=freed)
    def use_what_is_gone(self, block: PoolBlock) -> None:
        with pytest.raises(DoubleFree):
            block.free()
        with pytest.raises(UseAfterFree):
            block.write(b"x")

    @rule(block=blocks, data=st.binary(max_size=50), at=st.integers(0, 9000))
    def write(self, block: PoolBlock, data: bytes, at: int) -> None:
        old = self.bytes[block]
        if at + len(data) > len(old):
            with pytest.raises(PoolOverrun):
                block.write(data, at)
        else:
            block.write(data, at)
            self.bytes[block] = old[:at] + data + old[at + len(data) :]

    @rule(block=blocks)
    def read(self, block: PoolBlock) -> None:
        assert block.read() == self.bytes[block]

    @rule()
    def press(self) -> None:
        self.store.read_into(range(16), bytearray(16 * 4096), into_frames=True)
        self.pool.check()

    @invariant()
    def numbers_agree(self) -> None:
        stats = self.pool.stats()
        assert stats.block_count == len(self.bytes)
        assert stats.used_bytes == sum(map(len, self.bytes.values()))
        spans = sorted((block.offset, block.size + GUARD[self.kind]) for block in self.bytes)
        taken = sum((size + 15) // 16 * 16 for _, size in spans)
        assert stats.free_bytes == stats.size_bytes - taken
        ends = [start + size for start, size in spans]
        assert all(end <= start for end, (start, _) in zip(ends, spans[1:], strict=False))

    def teardown(self) -> None:
        for block, data in self.bytes.items():
            assert block.read() == data
            block.free()
        assert self.pool.stats().free_bytes == self.pool.size
        assert self.store.stats().dirty_pages == 0
        self.store.close()


class NonPagedSteps(Steps):
    kind = "nonpaged"


_SETTINGS = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestPagedSteps = Steps.TestCase
TestPagedSteps.settings = _SETTINGS
TestNonPagedSteps = NonPagedSteps.TestCase
TestNonPagedSteps.settings = _SETTINGS
