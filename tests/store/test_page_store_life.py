# SPDX-License-Identifier: MIT
"""The ends of a store: closing, views that outlive it, threads, and damage on disk."""

from __future__ import annotations

import gc
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pagestep import (
    BudgetExceeded,
    Closed,
    CorruptPage,
    Level,
    PageStepError,
    PageStore,
    PinnedPage,
    StoreIOError,
)

from ..image import builders
from .pages import make_pages

PAGES = make_pages(64)
COUNT, SIZE = PAGES.shape
NOISE = np.random.default_rng(7).integers(0, 256, (64, SIZE), np.uint8)

USES: dict[str, Callable[[PageStore], Any]] = {
    "read": lambda s: s.read(0),
    "read_into": lambda s: s.read_into([0], bytearray(SIZE)),
    "write": lambda s: s.write(0, bytes(SIZE)),
    "write a part": lambda s: s.write(0, b"x"),
    "write_from": lambda s: s.write_from([0], bytes(SIZE)),
    "view": lambda s: s.view(0),
    "page_in": lambda s: s.page_in(0),
    "page_out": lambda s: s.page_out(0),
    "discard": lambda s: s.discard(0),
    "flush": lambda s: s.flush(),
    "swap_stats": lambda s: s.swap_stats(),
    "pin": lambda s: s.pin(0),
    "unpin": lambda s: s.unpin(0),
    "pinned": lambda s: s.pinned(0).__enter__(),
    "set_level": lambda s: s.set_level(0, Level.EAGER),
    "forbid": lambda s: s.forbid(0),
    "allow": lambda s: s.allow(0),
    "explain": lambda s: s.explain(0),
    "end_of_startup": lambda s: s.end_of_startup(),
    "atomic": lambda s: s.atomic().__enter__(),
    "pager": lambda s: s.pager().__enter__(),
    "lock": lambda s: s.lock("a"),
    "set_ram": lambda s: s.set_ram("8MiB"),
    "stats": lambda s: s.stats(),
    "map": lambda s: s.map(),
    "core": lambda s: s.core,
    "anonymous": lambda s: s.anonymous(4),
    "paged_pool": lambda s: s.paged_pool("64KiB"),
    "nonpaged_pool": lambda s: s.nonpaged_pool("64KiB"),
}


# -- use after close ----------------------------------------------------------------------


@pytest.mark.parametrize("use", USES)
def test_every_use_after_close_raises(use: str) -> None:
    store = PageStore.open(PAGES)
    store.read(0)
    store.close()
    store.close()
    with pytest.raises(Closed, match="is closed; open it again"):
        USES[use](store)
    assert "closed" in repr(store)


def test_no_public_method_is_missing_above() -> None:
    public = {name for name in dir(PageStore) if not name.startswith("_")}
    assert public - {"open", "close", "object_no", "image"} == {use.split()[0] for use in USES} - {
        "write a"
    }


def test_close_closes_what_open_opened(tmp_path: Path) -> None:
    path = tmp_path / "firmware"
    path.write_bytes(PAGES.tobytes())
    descriptors = len(os.listdir("/proc/self/fd"))
    places: list[dict[str, Any]] = [{}, {"scratch": True}, {"swap": f"file://{tmp_path}/swap"}]
    for place in places:
        store = PageStore.open(path, base=0, **place)
        store.read(0)
        store.close()
        with pytest.raises(Closed):
            store.image.read(0)
        assert len(os.listdir("/proc/self/fd")) == descriptors
    refused: list[dict[str, Any]] = [{"ram": 1}, {"policy": "x"}, {"codec": "x"}]
    refused.append({"scratch": tmp_path / "nowhere"})
    refused.append({"swap": f"file://{path}"})
    refused.append({"swap": f"file://{tmp_path}/swap", "ram": 1})
    refused.append({"swap": f"file://{tmp_path}/swap", "ram": "90KiB"})
    for bad in refused:
        with pytest.raises(PageStepError):
            PageStore.open(path, base=0, **bad)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == descriptors


# -- views --------------------------------------------------------------------------------


def test_a_view_is_read_only_and_pins_its_page_while_it_lives() -> None:
    with PageStore.open(PAGES) as store:
        view = store.view(9)
        assert view.readonly
        assert (view.nbytes, view.itemsize, view.contiguous) == (SIZE, 1, True)
        with pytest.raises(TypeError):
            view[0] = 1
        with pytest.raises((ValueError, BufferError)):
            np.frombuffer(view, np.uint8).flags.writeable = True
        assert view == PAGES[9].tobytes()
        store.write(9, b"\x77", offset=5)
        assert view[5] == 0x77, "writes show through it"
        again = store.view(9)
        part = np.frombuffer(view, np.uint8)[100:200]
        del view
        with pytest.raises(PinnedPage):
            store.page_out(9)
        del again
        with pytest.raises(PinnedPage):
            store.page_out(9)
        assert np.array_equal(part, PAGES[9][100:200]), "what is made of a view keeps it"
        del part
        assert store.stats().pinned_pages == 0
        store.page_out(9)


def test_a_view_outlives_its_store(tmp_path: Path) -> None:
    path = tmp_path / "firmware"
    path.write_bytes(NOISE.tobytes())
    store = PageStore.open(path, base=0)
    views = [store.view(n) for n in range(0, COUNT, 3)]
    store.close()
    del store
    gc.collect()
    churn = [PageStore.open(PAGES) for _ in range(4)]
    for view, page_no in zip(views, range(0, COUNT, 3), strict=True):
        assert view.readonly
        assert view == NOISE[page_no].tobytes()
    del views, churn
    gc.collect()


def test_views_count_against_the_budget() -> None:
    with PageStore.open(NOISE, ram="250KiB") as store:
        views: list[memoryview] = []
        with pytest.raises(BudgetExceeded, match="cannot be pinned for a view"):
            views.extend(map(store.view, range(COUNT)))
        assert 8 <= len(views) < COUNT
        assert [view.tobytes() for view in views] == [p.tobytes() for p in NOISE[: len(views)]]
        views.clear()
        assert store.stats().pinned_pages == 0
        assert store.view(COUNT - 1) == NOISE[COUNT - 1].tobytes()


# -- threads ------------------------------------------------------------------------------


def run_threads(count: int, work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


@pytest.mark.parametrize("attempt", range(10))
def test_closing_while_others_read(attempt: int) -> None:
    store = PageStore.open(PAGES, ram="250KiB")
    started = threading.Barrier(4)
    reads = [0] * 3

    def work(number: int) -> None:
        started.wait(30)
        if number == 3:
            while sum(reads) < 50 + 20 * attempt:
                pass
            store.close()
            return
        numbers = np.arange(COUNT, dtype=np.uint64)
        out = np.empty((COUNT, SIZE), np.uint8)
        try:
            for _ in range(1_000_000):
                if number == 0:
                    assert store.read(reads[0] % COUNT) == PAGES[reads[0] % COUNT].tobytes()
                else:
                    store.read_into(numbers, out)
                    assert np.array_equal(out, PAGES)
                reads[number] += 1
        except Closed:
            return
        raise AssertionError("the store was never closed")

    run_threads(4, work)


@pytest.mark.parametrize("policy", ["s3fifo", "lru"])
def test_threads_with_pages_of_their_own(policy: str) -> None:
    with PageStore.open(bytes(PAGES.nbytes), ram="400KiB", policy=policy) as store:

        def work(number: int) -> None:
            chance = random.Random(number)
            shadow = np.zeros((COUNT, SIZE), np.uint8)
            for step in range(400):
                page_no = chance.randrange(COUNT // 4) * 4 + number
                kind = step % 4
                if kind == 0:
                    shadow[page_no] = PAGES[chance.randrange(COUNT)]
                    store.write(page_no, shadow[page_no])
                elif kind == 1:
                    store.page_out(page_no)
                assert store.read(page_no) == shadow[page_no].tobytes(), (number, step)

        run_threads(4, work)
        assert store.stats().used_bytes_max <= 400 << 10


# -- damage on disk -----------------------------------------------------------------------


def elf_file(path: Path) -> Path:
    path.write_bytes(builders.small_elf(NOISE[:16].tobytes()))
    return path


def raw_file(path: Path) -> Path:
    path.write_bytes(NOISE[:16].tobytes())
    return path


@pytest.mark.parametrize("make", [elf_file, raw_file])
def test_a_page_whose_bytes_changed_on_disk_is_refused(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "image")
    with PageStore.open(path, base=0 if make is raw_file else None) as store:
        page_no = store.page_count // 2
        good = store.image.read(page_no)
        offset = path.read_bytes().index(good[:64])
        store.discard(page_no)
        with path.open("r+b") as file:
            file.seek(offset + 17)
            file.write(bytes([good[17] ^ 1]))
        message = (
            f"page {page_no} .*cannot be read.*changed on disk.*restore the image or open it anew"
        )
        with pytest.raises(CorruptPage, match=message):
            store.read(page_no)
        with pytest.raises(CorruptPage, match=message):
            store.read_into([0, page_no, 1], bytearray(3 * SIZE))
        for use in (store.page_in, store.page_out, store.pin, store.view):
            with pytest.raises(CorruptPage):
                use(page_no)
        with pytest.raises(CorruptPage):
            store.write(page_no, b"part", offset=3)
        assert store.read(page_no - 1) == store.image.read(page_no - 1)
        assert store.stats().corrupt >= 6
        with path.open("r+b") as file:
            file.seek(offset + 17)
            file.write(good[17:18])
        assert store.read(page_no) == good, "restored, it is read again"


def test_a_page_in_ram_does_not_need_its_file(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "image")
    with PageStore.open(path, base=0) as store:
        store.page_in([1])
        store.page_out([2])
        path.write_bytes(b"")
        assert store.read(1) == NOISE[1].tobytes()
        assert store.read(2) == NOISE[2].tobytes()


def test_a_file_cut_short_is_an_io_error(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "image")
    with PageStore.open(path, base=0) as store:
        os.truncate(path, 5 * SIZE)
        with pytest.raises(StoreIOError, match=r"page 9 .*cannot be read: .*still whole"):
            store.read(9)
        with pytest.raises(StoreIOError, match=r"page 8 .*cannot be read"):
            store.read_into([0, 8, 9], bytearray(3 * SIZE))
        for use in (store.page_in, store.page_out, store.pin, store.view):
            with pytest.raises(OSError, match="cannot be"):
                use(9)
        assert store.read(4) == NOISE[4].tobytes()
        store.write(9, NOISE[0])
        assert store.read(9) == NOISE[0].tobytes(), "a whole new page needs no old one"
        assert store.stats().pinned_pages == 0


def test_a_file_replaced_by_another_is_no_matter(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "image")
    with PageStore.open(path, base=0) as store:
        os.unlink(path)
        path.write_bytes(b"something else")
        assert store.read(3) == NOISE[3].tobytes()
