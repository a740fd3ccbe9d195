# SPDX-License-Identifier: MIT
"""Anonymous memory: zeros until written, forks, sizes, what it takes, what it refuses."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pagestep import (
    Anonymous,
    BudgetExceeded,
    Closed,
    InAtomicSection,
    InvalidArgument,
    Level,
    NoSuchPage,
    PageStore,
    PinnedPage,
    WouldFault,
)

from .pages import make_pages

PAGE = 4096
ZEROS = bytes(PAGE)
NOISE = np.random.default_rng(3).integers(0, 256, (64, PAGE), np.uint8)


def page(value: int) -> bytes:
    return bytes([value]) * (PAGE // 2) + bytes([value ^ 0xFF]) * (PAGE // 2)


@pytest.fixture
def store() -> Iterator[PageStore]:
    with PageStore.open(ram="4MiB") as opened:
        yield opened


# -- memory -------------------------------------------------------------------------------


def test_zeros_until_written(store: PageStore) -> None:
    with store.anonymous(100) as memory:
        assert (len(memory), memory.page_count, memory.page_size) == (100, 100, PAGE)
        assert memory.read(7) == ZEROS
        assert memory.stats().absent_pages == 100
        memory.write(7, page(1))
        memory.write(8, b"abc", offset=10)
        assert memory.read(7) == page(1)
        assert memory.read(8) == bytes(10) + b"abc" + bytes(PAGE - 13)
        memory.page_out(range(100))
        assert memory.stats().compressed_pages == 2
        out = np.empty((3, PAGE), np.uint8)
        memory.read_into([9, 8, 7], out)
        assert out[2].tobytes() == page(1)
        assert not out[0].any()
        memory.page_in([7])
        assert memory.stats().hot_pages >= 1
        assert memory.stats().as_dict()["member_count"] == 1


def test_a_store_without_an_image(store: PageStore) -> None:
    assert len(store) == 0
    assert repr(store) == "<PageStore of anonymous memory: 0 pages>"
    with pytest.raises(NoSuchPage, match="page 0 cannot be read"):
        store.read(0)
    for use in (lambda: store.image, lambda: store.pin(".text")):
        with pytest.raises(InvalidArgument, match="this store has no image"):
            use()
    with pytest.raises(InvalidArgument, match="only an image has rules"):
        store.explain(0)
    assert store.paged_pool("64KiB").alloc(100).read() is not None
    with pytest.raises(InvalidArgument, match=r"a budget \(ram=\)"):
        PageStore.open()
    with pytest.raises(InvalidArgument, match="scratch is for an image"):
        PageStore.open(ram="4MiB", scratch=True)
    with pytest.raises(InvalidArgument, match="rules speak of an image"):
        PageStore.open(ram="4MiB", rules="nowhere.toml")


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_beside_an_image(page_size: int) -> None:
    pages = make_pages(16, page_size)
    with PageStore.open(pages, page_size=page_size, cold_codec="zstd", ram="8MiB") as store:
        memory = store.anonymous(16, level=Level.EAGER)
        memory.write_from(range(16), pages[::-1].copy())
        fork = memory.fork()
        memory.page_out(range(16))
        for i in range(16):
            assert store.read(i) == pages[i].tobytes()
            assert fork.read(i) == pages[15 - i].tobytes()
        assert store.stats().page_count == 48
        assert store.stats().pages_by_level["EAGER"] == 32


def test_a_tebibyte(store: PageStore) -> None:
    memory = store.anonymous(1 << 28)
    memory.write((1 << 28) - 1, page(3))
    assert memory.read(1 << 27) == ZEROS
    assert store.stats().metadata_bytes < 1 << 20
    with pytest.raises(BudgetExceeded, match="anonymous memory 0 cannot be forked"):
        memory.fork()
    memory.discard(range(1 << 28))
    assert memory.stats().absent_pages == 1 << 28
    memory.resize(2)
    assert memory.fork().read(1) == ZEROS


def test_discard_punches_holes(store: PageStore) -> None:
    memory = store.anonymous(10)
    memory.write_from(range(10), NOISE[:10].copy())
    fork = memory.fork()
    memory.discard([3, 1, 2, 8])
    for i in range(10):
        assert memory.read(i) == (ZEROS if i in (1, 2, 3, 8) else NOISE[i].tobytes())
        assert fork.read(i) == NOISE[i].tobytes()
    memory.discard([])
    memory.discard(range(0))
    memory.discard(5)
    assert memory.read(5) == ZEROS
    assert fork.stats().private_bytes == 5 * PAGE
    view = memory.view(6)
    with pytest.raises(PinnedPage, match="pages 4 to 7 of anonymous memory 0 cannot all be"):
        memory.discard(range(4, 8))
    assert (memory.read(4), memory.read(7)) == (ZEROS, ZEROS)
    assert bytes(view) == NOISE[6].tobytes()


def test_sizes(store: PageStore) -> None:
    memory = store.anonymous(4)
    memory.write(3, page(1))
    fork = memory.fork()
    memory.resize(2)
    with pytest.raises(NoSuchPage, match="page 3 of anonymous memory 0"):
        memory.read(3)
    memory.resize(300)
    assert (len(memory), memory.read(3), memory.read(299)) == (300, ZEROS, ZEROS)
    assert fork.read(3) == page(1)
    view = memory.view(200)
    with pytest.raises(PinnedPage, match="cannot be resized to 200 pages"):
        memory.resize(200)
    assert len(memory) == 300
    del view
    for pages in (0, -1, 1 << 32):
        with pytest.raises(InvalidArgument, match=r"has 1 to \d+ pages"):
            memory.resize(pages)
        with pytest.raises(InvalidArgument, match=r"has 1 to \d+ pages"):
            store.anonymous(pages)


# -- forks --------------------------------------------------------------------------------


def test_forks_share_until_written(store: PageStore) -> None:
    memory = store.anonymous(32)
    memory.write_from(range(32), NOISE[:32].copy())
    forks = [memory.fork() for _ in range(5)]
    assert store.stats().hot_pages == 32
    assert store.stats().shared_pages == 5 * 32
    assert memory.stats().private_bytes == 0
    forks[2].write(4, b"x", offset=1)
    forks[3].write(4, page(9))
    assert forks[2].stats().private_bytes == PAGE
    memory.close()
    expected = NOISE[4].tobytes()
    assert forks[0].read(4) == forks[1].read(4) == expected
    assert forks[2].read(4) == expected[:1] + b"x" + expected[2:]
    assert forks[3].read(4) == page(9)
    assert forks[0].stats().member_count == 5
    for fork in forks:
        fork.close()
    stats = store.stats()
    assert (stats.page_count, stats.hot_pages, stats.stored_bytes) == (0, 0, 0)


def test_private_and_shared_add_up(store: PageStore) -> None:
    memory = store.anonymous(40)
    memory.write_from(range(40), np.concatenate([NOISE[:20], make_pages(20)]))
    fork = memory.fork()
    fork.write_from(range(10), NOISE[20:30].copy())
    memory.page_out(range(15, 40))
    whole, one, other = store.stats(), memory.stats(), fork.stats()
    assert one.shared_bytes == other.shared_bytes == whole.shared_bytes
    assert one.private_bytes + other.private_bytes == whole.private_bytes
    assert whole.shared_bytes + whole.private_bytes == whole.hot_pages * PAGE + whole.stored_bytes
    assert whole.hot_pages + whole.compressed_pages + whole.same_pages + whole.absent_pages == (
        whole.page_count - whole.shared_pages
    )


def test_views_are_their_own(store: PageStore) -> None:
    memory = store.anonymous(4)
    memory.write(0, page(1))
    view = memory.view(0)
    fork = memory.fork()
    memory.write(0, page(2))
    assert bytes(view) == page(2)
    assert fork.read(0) == page(1)
    other = fork.view(0)
    fork.write(0, b"z")
    assert other[0] == ord("z")
    assert bytes(view) == page(2)
    memory.close()
    assert bytes(view) == page(2)
    assert store.stats().pinned_pages == 2
    del view, other
    assert store.stats().pinned_pages == 0


def test_a_chain_of_forks(store: PageStore) -> None:
    memory = store.anonymous(8)
    chain = [memory]
    for i in range(1000):
        chain.append(chain[-1].fork())
        chain[-1].write(i % 8, page(i % 251))
    assert chain[500].read(3) == page(499 % 251)
    for each in chain[:-1]:
        each.close()
    assert [chain[-1].read(i) for i in range(8)] == [page((992 + i) % 251) for i in range(8)]
    assert chain[-1].stats().shared_pages == 0


def test_a_fork_among_writers() -> None:
    """Writers put one number on all pages, in order: a fork must see a moment of that."""
    with PageStore.open(ram="1MiB") as store:
        memory = store.anonymous(12)
        over = threading.Event()

        def write() -> None:
            value = 0
            while not over.is_set():
                value = value % 250 + 1
                for i in range(12):
                    memory.write(i, bytes([value]) * PAGE)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(200):
                with memory.fork() as fork:
                    values = [fork.read(i) for i in range(12)]
                assert all(each == each[:1] * PAGE for each in values)
                firsts = [each[0] for each in values]
                changes = [i for i in range(1, 12) if firsts[i] != firsts[i - 1]]
                assert len(changes) <= 1
                if changes:
                    assert (firsts[0] - firsts[-1]) in (1, -249)
        finally:
            over.set()
            writer.join()


# -- life and refusals --------------------------------------------------------------------

USES: dict[str, Callable[[Anonymous], Any]] = {
    "read": lambda m: m.read(0),
    "read_into": lambda m: m.read_into([0], bytearray(PAGE)),
    "write": lambda m: m.write(0, b"x"),
    "write_from": lambda m: m.write_from([0], ZEROS),
    "view": lambda m: m.view(0),
    "page_in": lambda m: m.page_in(0),
    "page_out": lambda m: m.page_out(0),
    "discard": lambda m: m.discard(0),
    "fork": lambda m: m.fork(),
    "resize": lambda m: m.resize(2),
    "stats": lambda m: m.stats(),
    "flush": lambda m: m.flush(),
    "swap_stats": lambda m: m.swap_stats(),
    "map": lambda m: m.map(),
    "core": lambda m: m.core,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("with_store", [False, True])
def test_every_use_after_close_raises(store: PageStore, use: str, with_store: bool) -> None:
    memory = store.anonymous(4)
    if with_store:
        store.close()
    memory.close()
    memory.close()
    with pytest.raises(Closed, match="anonymous memory 0 is closed, or its store is"):
        USES[use](memory)
    assert repr(memory) == "<anonymous memory 0: closed>"


def test_no_public_method_is_missing_above() -> None:
    public = {name for name in dir(Anonymous) if not name.startswith("_")}
    assert public - {"close", "has_swap"} == set(USES)


def test_garbage_gives_its_pages_back(store: PageStore) -> None:
    memory = store.anonymous(8)
    memory.write(0, page(1))
    fork: Anonymous | None = memory.fork()
    assert fork is not None
    fork.write(1, page(2))
    fork = None
    gc.collect()
    assert memory.stats().member_count == 1
    assert store.stats().page_count == 8


def test_a_view_outlives_its_store() -> None:
    with PageStore.open(ram="4MiB") as store:
        memory = store.anonymous(2)
        memory.write(1, page(5))
        view = memory.view(1)
    assert bytes(view) == page(5)


def test_what_is_refused(store: PageStore) -> None:
    memory = store.anonymous(4)
    for where in (4, -1, [9], range(3, 5)):
        with pytest.raises(NoSuchPage, match=r"page -?\d+ of anonymous memory 0"):
            memory.discard(where)
    with pytest.raises(InvalidArgument, match=r"'\.text': anonymous memory 0 has no names"):
        memory.page_out(".text")
    with pytest.raises(InvalidArgument, match="one of LAST_RESORT to STEP_ON_IT"):
        store.anonymous(4, level=Level.PINNED)
    fork = memory.fork()
    with store.atomic():
        for use in (memory.fork, lambda: memory.resize(9), lambda: memory.discard(0)):
            with pytest.raises(InAtomicSection, match="anonymous memory 0"):
                use()
        with pytest.raises(WouldFault, match="page 2 of anonymous memory 0 cannot be read"):
            memory.read(2)
        with pytest.raises(WouldFault):
            fork.write(2, b"x")


def test_a_full_store(store: PageStore) -> None:
    memory = store.anonymous(4000)
    written = 0

    def fill() -> None:
        nonlocal written
        for written in range(4000):
            memory.write(written, NOISE[written % 64])

    with pytest.raises(BudgetExceeded, match=r"page \d+ of anonymous memory 0 cannot be written"):
        fill()
    with pytest.raises(BudgetExceeded, match="anonymous memory 0 cannot be forked"):
        memory.fork()
    memory.discard(range(100, 130))
    fork = memory.fork()
    with pytest.raises(BudgetExceeded):
        fork.write_from(range(64), NOISE[::-1].copy())
    assert memory.read(5) == NOISE[5].tobytes()
    fork.close()
    memory.discard(range(100))
    memory.write(written, page(1))


def test_numbers_run_out() -> None:
    with PageStore.open(ram="8MiB") as store:
        kept = [store.anonymous(1) for _ in range(1024)]
        with pytest.raises(InvalidArgument, match="at most 1,024"):
            store.anonymous(1)
        kept.pop()
        gc.collect()
        assert store.anonymous(1).read(0) == ZEROS
