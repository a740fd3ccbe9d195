# SPDX-License-Identifier: MIT
"""Anonymous memory that goes elsewhere when RAM is short: files, RAM beside the budget."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep import (
    Anonymous,
    BackingFull,
    BackingInUse,
    BadSwap,
    BudgetExceeded,
    Closed,
    InvalidArgument,
    PageStore,
    StoreIOError,
    Unsupported,
)

PAGE = 4096
COUNT = 800
RAM = "1MiB"

Pages = npt.NDArray[np.uint8]


def some_pages(seed: int) -> Pages:
    """Half noise, so that they are far more than the budget even when compressed."""
    pages = np.random.default_rng(seed).integers(0, 256, (COUNT, PAGE), np.uint8)
    pages[:, PAGE // 2 :] = 7
    pages[::9] = 0
    return pages


DATA, OTHER = some_pages(1), some_pages(2)


@pytest.fixture
def store() -> Iterator[PageStore]:
    with PageStore.open(ram=RAM) as opened:
        yield opened


def check(memory: Anonymous, wanted: Pages) -> None:
    for page_no in range(len(memory)):
        assert memory.read(page_no) == wanted[page_no].tobytes(), f"page {page_no}"


def fill(memory: Anonymous) -> int:
    """Write pages until one is refused; return how many were written."""
    for page_no in range(COUNT):
        try:
            memory.write(page_no, DATA[page_no])
        except BudgetExceeded:
            return page_no
    return COUNT


@pytest.fixture(params=["ram:", "folder", "name", "empty file", "replace", "plain"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / "pages.swap"
    if request.param == "empty file":
        path.touch()
    if request.param == "replace":
        path.write_bytes(b"whatever")
    return {
        "ram:": "ram:",
        "folder": f"file://{tmp_path}/",
        "name": f"file://{path}",
        "empty file": f"swap://{path}",
        "replace": f"file://{path}?replace=1",
        "plain": f"file://{path}?buffered=1&ahead=0&buffer=1",
    }[str(request.param)]


def test_more_than_the_budget(store: PageStore, tmp_path: Path, url: str) -> None:
    before = sorted(tmp_path.iterdir())
    with store.anonymous(COUNT, swap=url) as memory:
        memory.write_from(range(COUNT), DATA)
        check(memory, DATA)
        memory.write_from(range(0, COUNT, 2), OTHER[::2].copy())
        wanted = DATA.copy()
        wanted[::2] = OTHER[::2]
        check(memory, wanted)
        stats, swapped = store.stats(), memory.swap_stats()
        assert stats.used_bytes_max <= stats.budget_bytes
        assert stats.by_tier["swap"].faults > 0
        assert swapped.puts > COUNT // 2
        assert swapped.handed_over > 0
        assert swapped.error == ""
        assert memory.flush() > 0
        assert memory.flush() == 0
        assert store.stats().dirty_pages == 0
        # A file that it made has no name, even while it is used.
        assert sorted(tmp_path.iterdir()) == before
    assert sorted(tmp_path.iterdir()) == before
    assert store.stats().page_count == 0


def test_a_file_that_it_made_cannot_be_opened_again(store: PageStore, tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'pages.swap'}"
    with store.anonymous(COUNT, swap=url) as one, store.anonymous(COUNT, swap=url) as other:
        one.write_from(range(COUNT), DATA)
        other.write_from(range(COUNT), OTHER)
        check(one, DATA)
        check(other, OTHER)


def test_files_of_others_are_left_alone(store: PageStore, tmp_path: Path) -> None:
    path = tmp_path / "pages.swap"
    path.write_bytes(b"somebody's letters")
    with pytest.raises(BadSwap, match="is no swap file, and was left alone"):
        store.anonymous(9, swap=f"file://{path}")
    assert path.read_bytes() == b"somebody's letters"
    path.write_bytes(b"")
    first = store.anonymous(9, swap=f"file://{path}")
    with pytest.raises(BackingInUse, match="another store's swap file"):
        store.anonymous(9, swap=f"file://{path}")
    first.close()
    with pytest.raises(BadSwap, match="other pages"):
        store.anonymous(9, swap=f"file://{path}")
    assert store.stats().page_count == 0


def test_forks_share_what_is_elsewhere(store: PageStore) -> None:
    memory = store.anonymous(COUNT, swap="ram:", swap_pages=2 * COUNT)
    memory.write_from(range(COUNT), DATA)
    fork = memory.fork()
    fork.write_from(range(0, COUNT, 3), OTHER[::3].copy())
    wanted = DATA.copy()
    wanted[::3] = OTHER[::3]
    assert fork.flush() > 0
    assert fork.swap_stats() == memory.swap_stats()
    memory.close()
    check(fork, wanted)
    grandchild = fork.fork()
    fork.discard(range(COUNT))
    check(grandchild, wanted)
    assert grandchild.swap_stats().used_bytes > 0
    grandchild.resize(1)
    grandchild.discard(0)
    grandchild.flush()
    assert grandchild.swap_stats().used_bytes == 0
    fork.close()
    grandchild.close()
    assert store.stats().page_count == 0


def test_given_up_pages_are_given_up_there(store: PageStore) -> None:
    with store.anonymous(COUNT, swap="ram:") as memory:
        memory.write_from(range(COUNT), DATA)
        memory.flush()
        full = memory.swap_stats().used_bytes
        memory.discard(range(COUNT // 2))
        memory.flush()
        assert memory.swap_stats().used_bytes < full * 0.6
        memory.write_from(range(COUNT // 2, COUNT), np.zeros((COUNT // 2, PAGE), np.uint8))
        memory.flush()
        assert memory.swap_stats().used_bytes == 0
        assert not any(any(memory.read(page_no)) for page_no in range(COUNT))


def test_pages_without_room_stay_in_ram(store: PageStore) -> None:
    with store.anonymous(COUNT, swap="ram:", swap_pages=100) as memory:
        written = fill(memory)
        assert 150 < written < COUNT
        with pytest.raises(BudgetExceeded, match=f"page {written} of {memory.name} cannot be"):
            memory.write(written, DATA[1])
        wanted = DATA.copy()
        wanted[written:] = 0
        check(memory, wanted)
        with pytest.raises(BackingFull, match=r"page 1\d\d .*room for 100 pages") as caught:
            memory.flush()
        assert caught.value.page_no is not None
        assert caught.value.page_no >= 100
        check(memory, wanted)
        memory.discard(range(100, COUNT))
        assert memory.flush() >= 0


def test_a_full_file_keeps_pages_in_ram(store: PageStore, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/?size=400KiB&timeout=0.2"
    with store.anonymous(COUNT, swap=url) as memory:
        written = fill(memory)
        wanted = DATA.copy()
        wanted[written:] = 0
        check(memory, wanted)
        with pytest.raises(BackingFull, match="anonymous memory 0"):
            memory.flush()
        assert "full" in memory.swap_stats().error
        memory.discard(range(0, COUNT, 2))
        wanted[::2] = 0
        check(memory, wanted)


def test_with_a_full_file_ram_holds_as_much_as_without() -> None:
    """What cannot go elsewhere may have all RAM, compressed."""
    held: dict[str | None, int] = {}
    small = np.random.default_rng(3).integers(0, 256, (3000, PAGE), np.uint8)
    small[:, PAGE // 4 :] = 0
    for swap in (None, "ram:?size=64KiB&timeout=0.1&buffer=4&ahead=0"):
        with PageStore.open(ram="2MiB") as store:
            memory = store.anonymous(len(small), swap=swap)
            with suppress(BudgetExceeded):
                for page_no in range(len(small)):
                    memory.write(page_no, small[page_no])
                    held[swap] = page_no + 1
            for page_no in range(held[swap]):
                assert memory.read(page_no) == small[page_no].tobytes()
            assert store.stats().used_bytes_max <= store.stats().budget_bytes
    [without, with_full] = held.values()
    assert with_full > without * 0.9


def test_what_is_refused(store: PageStore, tmp_path: Path) -> None:
    memory = store.anonymous(4)
    with pytest.raises(Unsupported, match=r"of anonymous memory 0 have nowhere to go.*swap="):
        memory.flush()
    with pytest.raises(Unsupported, match="swap="):
        memory.swap_stats()
    with pytest.raises(InvalidArgument, match="say where they go, with swap="):
        store.anonymous(4, swap_pages=4)
    for room in (0, -1, 2**32):
        with pytest.raises(InvalidArgument, match="swap_pages is"):
            store.anonymous(4, swap="ram:", swap_pages=room)
    with pytest.raises(InvalidArgument, match="no backing of scheme"):
        store.anonymous(4, swap="ftp://somewhere")
    with pytest.raises(StoreIOError, match="cannot be opened as a swap file"):
        store.anonymous(4, swap=f"file://{tmp_path}/no/such/folder")
    with pytest.raises(BackingFull, match="too small"):
        store.anonymous(4, swap=f"file://{tmp_path}/?size=8KiB")
    with pytest.raises(BudgetExceeded, match="does not go into the store"):
        store.anonymous(2**22, swap="ram:")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidArgument, match=r"anonymous\(\) has a swap= of its own"):
        PageStore.open(ram=RAM, swap="ram:")


def test_the_store_flushes_all_that_has_a_place(tmp_path: Path) -> None:
    with PageStore.open(ram="4MiB") as store:
        assert store.flush() == 0, "there is nothing"
        nowhere = store.anonymous(9)
        nowhere.write_from(range(9), DATA[:9])
        assert store.flush() == 0, "there is nothing with a place"
        url = f"file://{tmp_path}/"
        one, other = (store.anonymous(9, swap=url, swap_pages=18) for _ in range(2))
        one.write_from(range(9), DATA[:9])
        fork = one.fork()
        fork.write(3, OTHER[3])
        other.write_from(range(9), OTHER[:9])
        assert store.flush() == 17, "zeros are not written"
        assert store.stats().dirty_pages == 9, "those with nowhere to go"
        assert (one.flush(), fork.flush(), other.flush(), store.flush()) == (0, 0, 0, 0)
        other.write(5, DATA[5])
        other.close()
        assert store.flush() == 0, "what was closed has no pages"
    with pytest.raises(Closed):
        store.flush()


def test_the_store_flushes_an_image_that_has_a_place_and_memory_beside_it() -> None:
    for swap, pages in (("ram:", 2), (None, 1)):
        with PageStore.open(DATA[:20], ram="4MiB", swap=swap) as store:
            memory = store.anonymous(9, swap="ram:")
            memory.write(4, DATA[4])
            store.write(2, OTHER[2])
            assert store.flush() == pages


def test_a_flush_that_fails_goes_on_with_the_others() -> None:
    with PageStore.open(ram="8MiB") as store:
        small = store.anonymous(COUNT, swap="ram:?size=40KiB&timeout=0.2")
        small.write_from(range(100), DATA[:100])
        large = [store.anonymous(9, swap="ram:") for _ in range(3)]
        for memory in large:
            memory.write_from(range(9), DATA[:9])
        with pytest.raises(BackingFull):
            store.flush()
        assert [memory.flush() for memory in large] == [0, 0, 0]


def test_room_for_more_pages_is_what_is_asked_for(store: PageStore) -> None:
    memory = store.anonymous(COUNT, swap="ram:", swap_pages=30)
    with pytest.raises(BudgetExceeded, match=r"its forks 30 pages may go there \(swap_pages\)"):
        memory.write_from(range(COUNT), DATA)


def test_a_damaged_swap_of_memory_is_what_is_named(store: PageStore, tmp_path: Path) -> None:
    path = tmp_path / "pages"
    path.touch()
    memory = store.anonymous(20, swap=f"file://{path}?ahead=0")
    memory.write_from(range(20), DATA[:20])
    memory.flush()
    memory.page_out(range(20))
    fork = memory.fork()
    fill(store.anonymous(COUNT, swap="ram:"))  # what was flushed is dropped from RAM
    os.truncate(path, 4096)
    for each in (memory, fork):
        with pytest.raises(StoreIOError, match=r"the swap file://\S+\?ahead=0 still whole"):
            each.read_into(range(20), bytearray(20 * PAGE))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_garbage_closes_the_file(tmp_path: Path) -> None:
    gc.collect()
    before, threads = open_files(), threading.active_count()
    with PageStore.open(ram="2MiB") as store:
        memory = store.anonymous(9, swap=f"file://{tmp_path}/")
        fork = memory.fork()
        assert open_files() == before + 1
        del memory
        gc.collect()
        assert open_files() == before + 1
        del fork
        gc.collect()
        assert open_files() == before
        kept = store.anonymous(9, swap=f"file://{tmp_path}/")
        view = kept.view(0)
    assert kept.page_count == 9
    assert bytes(view) == bytes(PAGE)
    del view, kept, store
    gc.collect()
    assert open_files() == before
    assert threading.active_count() == threads


def test_many_threads(store: PageStore, tmp_path: Path) -> None:
    memory = store.anonymous(COUNT, swap=f"file://{tmp_path}/", swap_pages=3 * COUNT)
    memory.write_from(range(COUNT), DATA)
    wrong: list[str] = []

    def work(which: int) -> None:
        with memory.fork() as fork:
            mine = range(which, COUNT, 3)
            fork.write_from(mine, OTHER[which::3].copy())
            for page_no in range(COUNT):
                wanted = OTHER if page_no in mine else DATA
                if fork.read(page_no) != wanted[page_no].tobytes():
                    wrong.append(f"page {page_no} of {which}")

    threads = [threading.Thread(target=work, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    check(memory, DATA)


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("wpdf"), st.integers(0, 63), st.binary(min_size=1, max_size=99)),
        min_size=20,
        max_size=120,
    )
)
def test_round_trips(steps: list[tuple[str, int, bytes]]) -> None:
    wanted = np.zeros((64, PAGE), np.uint8)
    with PageStore.open(ram="400KiB") as store:
        memory = store.anonymous(64, swap="ram:?buffer=2&ahead=4")
        for what, page_no, data in steps:
            if what == "w":
                whole = np.frombuffer((data * PAGE)[:PAGE], np.uint8) ^ DATA[page_no + 1]
                memory.write(page_no, whole)
                wanted[page_no] = whole
            elif what == "p":
                memory.write(page_no, data, offset=page_no)
                wanted[page_no, page_no : page_no + len(data)] = np.frombuffer(data, np.uint8)
            elif what == "d":
                memory.discard(page_no)
                wanted[page_no] = 0
            else:
                memory.flush()
        check(memory, wanted)
