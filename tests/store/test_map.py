# SPDX-License-Identifier: MIT
"""Memory that faults in: what an array shows, what is written through it, how long it lives."""

from __future__ import annotations

import gc
import os
import re
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep import (
    BudgetExceeded,
    Closed,
    CorruptPage,
    Image,
    InAtomicSection,
    InvalidArgument,
    LockOrder,
    MappedArray,
    MappedError,
    Mapping,
    NoSuchPage,
    PageStore,
    PinnedPage,
    WouldFault,
    _core,
    build_rom,
    map_support,
)
from pagestep.store._pages import Pages as PagesOf

from .pages import make_pages

PAGE = 4096
COUNT = 1500
IMAGE = make_pages(COUNT)
FLAT = IMAGE.reshape(-1)
RAM = "1500KiB"  # a quarter of the image
SERVICES = ["sigbus", "thread"]

if map_support().reason is not None:
    pytest.skip(f"no memory faults in here: {map_support().reason}", allow_module_level=True)


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(ram: str = RAM, **how: Any) -> PageStore:
    return PageStore.open(IMAGE, ram=ram, **how)


# -- what is there ------------------------------------------------------------------------


def test_the_touched_array_is_the_image(service: str) -> None:
    with opened() as store:
        array = store.map(service=service)
        assert isinstance(array, MappedArray)
        assert array.shape == (COUNT * PAGE,)
        assert np.array_equal(array, FLAT)
        scan = array.mapping.stats()
        assert scan.pages_ahead > scan.faults > 50
        chance = np.random.default_rng(5)
        for at in chance.integers(0, FLAT.size, 3000).tolist():
            assert array[at] == FLAT[at]
        assert np.array_equal(array[::-1], FLAT[::-1])
        stats = array.mapping.stats()
        assert stats.service == service
        assert stats.writes == "none"
        assert stats.faults > scan.faults + 1000
        assert stats.failures == 0
        assert store.stats().used_bytes_max <= store.stats().budget_bytes


def test_of_a_kernel(x86_kernel: Path) -> None:
    with PageStore.open(x86_kernel, ram="6MiB") as store:
        array = store.map()
        pages = array.reshape(store.page_count, store.page_size)
        for page_no in range(0, store.page_count, 7):
            assert pages[page_no].tobytes() == store.read(page_no)
        assert np.array_equal(pages, store.image.flat())


def test_of_a_rom_image(service: str) -> None:
    with Image.open(FLAT, page_size=PAGE, raw=True) as image:
        rom = build_rom(image).data
    with PageStore.open(rom=rom, ram=RAM) as store:
        assert np.array_equal(store.map(service=service), FLAT)
    spoilt = bytearray(rom)
    spoilt[len(rom) // 2] ^= 1
    with PageStore.open(rom=spoilt, ram=RAM) as store:
        array = store.map(service=service)
        seen = np.empty_like(FLAT)
        with pytest.raises(CorruptPage) as raised, array.mapping.guarded():
            seen[:] = array
        wrong = np.flatnonzero((seen != FLAT).reshape(COUNT, PAGE).any(axis=1))
        assert wrong.tolist() == [raised.value.page_no]


def test_numpy_computes_on_it() -> None:
    with opened() as store:
        words = store.map(dtype=np.uint32)
        expected = FLAT.view(np.uint32)
        assert words.sum(dtype=np.uint64) == expected.sum(dtype=np.uint64)
        assert np.array_equal(np.bincount(words & 0xFF), np.bincount(expected & 0xFF))
        assert np.array_equal(np.sort(words[:4096]), np.sort(expected[:4096]))
        assert int(words.argmax()) == int(expected.argmax())
        matrix = words.reshape(COUNT, -1)
        assert np.array_equal(matrix[:, 17], expected.reshape(COUNT, -1)[:, 17])
        assert bytes(words.view(np.uint8).data[5:9]) == FLAT[5:9].tobytes()


def test_what_is_a_view_and_what_is_a_copy() -> None:
    with opened() as store:
        array = store.map()
        mapping = array.mapping
        assert array[10:20].mapping is mapping
        part: Any = array.reshape(COUNT, PAGE)[3, 5:9].view(np.uint16)
        assert part.mapping is mapping
        for copy in (array + 1, array[[1, 2]], array[:9][array[:9] > 5], np.add.reduce(array[:9])):
            assert not isinstance(copy, MappedArray)
        with pytest.raises(InvalidArgument, match="a copy"):
            _ = array[:5].copy().mapping


def test_a_map_that_is_read_only_stays_so() -> None:
    with opened() as store:
        array = store.map()
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        with pytest.raises(InvalidArgument, match="writable=True"):
            array.mapping.prefetch(0, 1, write=True)


# -- what is written ----------------------------------------------------------------------

FEW = 120
FEW_IMAGE = make_pages(FEW, seed=3)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["poke", "poke", "poke", "fill", "look", "read", "write", "out", "detach", "flush"]
        ),
        st.integers(0, FEW - 1),
        st.integers(1, 40),
        st.integers(0, 255),
    ),
    max_size=60,
)


def take_step(
    store: PageStore, array: MappedArray, model: Any, step: tuple[str, int, int, int]
) -> None:
    verb, first, count, value = step
    end = min(first + count, FEW)
    run = slice(first * PAGE + value, end * PAGE)
    if verb == "poke":
        array[run][:: PAGE // 2 + 1] = value
        model[run][:: PAGE // 2 + 1] = value
    elif verb == "fill":
        array[run] = value
        model[run] = value
    elif verb == "look":
        assert np.array_equal(array[run], model[run])
    elif verb == "read":
        assert store.read(first) == model[first * PAGE : (first + 1) * PAGE].tobytes()
    elif verb == "write":
        store.write(first, bytes([value]) * count, offset=value)
        model[first * PAGE + value : first * PAGE + value + count] = value
    elif verb == "out":
        store.page_out(range(first, end))
    elif verb == "detach":
        array.mapping.detach(first, end - first)
    else:
        store.flush()


@pytest.mark.parametrize("service", SERVICES)
@given(steps=STEPS)
@settings(max_examples=40, deadline=None)
def test_writes_are_as_on_plain_memory(
    service: str, steps: list[tuple[str, int, int, int]]
) -> None:
    with PageStore.open(FEW_IMAGE, ram="400KiB", swap="ram:?size=4MiB") as store:
        array = store.map(writable=True, service=service)
        model = FEW_IMAGE.reshape(-1).copy()
        for step in steps:
            take_step(store, array, model, step)
        assert np.array_equal(array, model)
        del array
        for page_no in range(FEW):
            assert store.read(page_no) == model[page_no * PAGE : (page_no + 1) * PAGE].tobytes()
        stats = store.stats()
        assert stats.used_bytes_max <= stats.budget_bytes


def test_what_is_flushed_is_found_by_the_next_store(tmp_path: Path) -> None:
    swap = f"file://{tmp_path / 'pages.swap'}"
    with PageStore.open(FEW_IMAGE, ram="1MiB", swap=swap) as store:
        array = store.map(writable=True)
        array[::PAGE] = np.arange(FEW)
        assert store.flush() > 0
        array[5 * PAGE + 1] = 77  # after a flush a write must be known of again
        assert store.flush() == 1
        del array
    with PageStore.open(FEW_IMAGE, ram="1MiB", swap=swap) as store:
        array = store.map()
        assert np.array_equal(array[::PAGE], np.arange(FEW, dtype=np.uint8))
        assert array[5 * PAGE + 1] == 77


def test_anonymous_memory_and_its_forks(service: str) -> None:
    with PageStore.open(ram="1500KiB") as store, store.anonymous(1000) as memory:
        array = memory.map(writable=True, service=service, dtype=np.uint64)
        assert not array[: PAGE * 10 // 8].any()
        array[:] = np.arange(array.size) % 61
        with memory.fork() as fork:
            array[::512] = 7
            expected = (np.arange(array.size) % 61).astype(np.uint64)
            assert np.array_equal(fork.map(dtype=np.uint64, service=service), expected)
            assert fork.read(3) == expected[3 * 512 : 4 * 512].tobytes()
        expected[::512] = 7
        assert np.array_equal(array, expected)
        memory.discard(range(10, 20))
        expected[10 * 512 : 20 * 512] = 0
        assert np.array_equal(array, expected)


def test_threads_that_touch_see_what_each_has_written(service: str) -> None:
    with PageStore.open(ram="1500KiB", policy="random") as store, store.anonymous(COUNT) as memory:
        array = memory.map(writable=True, service=service, dtype=np.uint64)
        wrong: list[str] = []

        def touch(which: int) -> None:
            # Each thread has every fourth word, so that all write to all pages.
            chance = np.random.default_rng(which)
            mine = array[which::4]
            model = np.zeros(mine.size, np.uint64)
            for _ in range(60):
                at = chance.integers(0, mine.size, 200)
                if not np.array_equal(mine[at], model[at]):
                    wrong.append(f"thread {which}")
                mine[at] = model[at] = chance.integers(0, 1 << 60, 200, np.uint64)[0]
            if not np.array_equal(mine, model):
                wrong.append(f"thread {which} at its end")

        threads = [threading.Thread(target=touch, args=(which,)) for which in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        stats = store.stats()
        assert stats.used_bytes_max <= stats.budget_bytes
        assert stats.page_outs > 100


# -- the mapping --------------------------------------------------------------------------


def test_prefetch_held_and_detach() -> None:
    with opened() as store:
        array = store.map(service="sigbus")
        mapping = array.mapping
        mapping.prefetch(100, 20)
        before = mapping.stats()
        assert np.array_equal(array[100 * PAGE : 120 * PAGE], FLAT[100 * PAGE : 120 * PAGE])
        assert mapping.stats().faults == before.faults
        assert mapping.stats().attaches == before.attaches

        mapping.detach(100, 20)
        assert mapping.stats().ranges_dropped > before.ranges_dropped
        assert np.array_equal(array[100 * PAGE : 120 * PAGE], FLAT[100 * PAGE : 120 * PAGE])
        assert mapping.stats().faults == before.faults, "the pages were where they had been"
        assert mapping.stats().attaches > before.attaches

        with mapping.held(7, 9):
            pinned = store.stats().pinned_pages
            np.add.reduce(array)  # all others come and go
            at = mapping.stats()
            assert np.array_equal(array[7 * PAGE : 16 * PAGE], FLAT[7 * PAGE : 16 * PAGE])
            assert (mapping.stats().faults, mapping.stats().attaches) == (at.faults, at.attaches)
            with pytest.raises(PinnedPage):
                store.page_out(8)
        assert pinned == 9
        assert store.stats().pinned_pages == 0


def test_what_cannot_be_held_or_does_not_exist_is_said() -> None:
    with opened() as store:
        mapping = store.map().mapping
        with pytest.raises(BudgetExceeded, match="pages 0 to 1499 of buffer"), mapping.held():
            pass
        assert store.stats().pinned_pages == 0
        for first, count in [(COUNT + 1, 0), (0, COUNT + 1), (-1, 1), (5, -6), (COUNT, 1)]:
            with pytest.raises(NoSuchPage, match="there are 1500"):
                mapping.prefetch(first, count)
            with pytest.raises(NoSuchPage):
                mapping.detach(first, count)
        wrong: Any
        for wrong in ("5", None, 1.5):
            with pytest.raises(InvalidArgument, match="whole numbers"):
                mapping.prefetch(wrong, 1)


def test_its_statistics_are_plain_values() -> None:
    with opened() as store:
        array = store.map(writable=True, around=3)
        assert array[0] == FLAT[0]
        found = array.mapping.stats().as_dict()
        assert found["writes"] in ("fault", "noted")
        assert found["resident_bytes"] >= PAGE
        assert {type(value) for value in found.values()} <= {int, str, bool}
        assert set(map_support().as_dict()) >= {"sigbus", "thread", "reason"}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"service": "magic"}, "service is 'magic': it is one of auto, sigbus, thread"),
        ({"around": 0}, "1 to 16"),
        ({"around": 17}, "1 to 16"),
        ({"around": "8"}, "1 to 16"),
        ({"around": None}, "1 to 16"),
        ({"dtype": object}, "plain values"),
        ({"dtype": "V4099"}, "divides its 6144000 bytes"),
    ],
)
def test_arguments_out_of_range(how: dict[str, Any], said: str) -> None:
    with opened() as store, pytest.raises(InvalidArgument, match=said):
        store.map(**how)


def test_pages_that_no_map_can_have() -> None:
    with (
        PageStore.open(IMAGE, page_size=512) as store,
        pytest.raises(InvalidArgument, match=r"page_size=4096"),
    ):
        store.map()
    with PageStore.open(IMAGE, page_size=16384, ram="2MiB") as store:
        assert np.array_equal(store.map(), FLAT)
    with (
        PageStore.open(ram="1MiB") as store,
        pytest.raises(InvalidArgument, match="no pages to map"),
    ):
        store.map()


def test_one_map_at_a_time_and_none_of_what_is_pinned() -> None:
    with opened() as store:
        view = store.view(5)
        with pytest.raises(PinnedPage, match="map first"):
            store.map()
        del view
        array = store.map()
        with pytest.raises(MappedError, match="mapped already"):
            store.map()
        seen = store.view(5)  # after it a view is a view
        assert np.array_equal(array[5 * PAGE : 6 * PAGE], np.frombuffer(seen, np.uint8))
        del array
        del seen
        assert store.map()[9] == FLAT[9]


def test_mapped_memory_is_not_resized() -> None:
    with PageStore.open(ram="1MiB") as store, store.anonymous(10) as memory:
        array = memory.map()
        with pytest.raises(MappedError, match=r"anonymous memory \d+ cannot be resized to 20"):
            memory.resize(20)
        assert memory.page_count == 10
        del array
        memory.resize(20)
        assert memory.map().size == 20 * PAGE


# -- how long it lives --------------------------------------------------------------------


def maps_of_this_process() -> int:
    text = Path("/proc/self/maps").read_text()
    return sum("memfd:pagestep" in line for line in text.splitlines())


def resident_bytes() -> int:
    """Return the RAM of this process's maps, each page once."""
    text = Path("/proc/self/smaps").read_text()
    each = re.findall(r"memfd:pagestep.*?^Pss: +(\d+) kB", text, re.MULTILINE | re.DOTALL)
    return sum(int(kib) for kib in each) * 1024


def close_store(store: PageStore) -> None:
    store.close()


def forget_store(store: PageStore) -> None:
    del store


@pytest.mark.parametrize("end", [close_store, forget_store])
@pytest.mark.parametrize("anonymous", [False, True])
def test_an_array_outlives_its_store(end: Callable[[PageStore], None], anonymous: bool) -> None:
    gc.collect()
    before = maps_of_this_process()
    store = opened()
    of: PagesOf = store
    expected = FLAT
    if anonymous:
        # Nothing takes these pages, so they must fit, compressed.
        expected = np.where(np.arange(FLAT.size) % PAGE < 256, FLAT, 0)
        of = store.anonymous(COUNT)
        of.write_from(range(COUNT), expected)
    array = of.map(writable=True)
    part = np.asarray(array)[PAGE : 3 * PAGE]  # a plain array, which knows of no mapping
    end(store)
    del store, of
    gc.collect()
    assert np.array_equal(array, expected)
    array[: 100 * PAGE : PAGE] = 9
    assert (array[: 100 * PAGE : PAGE] == 9).all()
    assert array.mapping.stats().faults > 0
    array.mapping.prefetch(0, 10)
    with array.mapping.held(0, 3), array.mapping.guarded():
        assert array[0] == 9
    gone = weakref.ref(array.mapping)
    del array
    gc.collect()
    assert gone() is None
    assert np.array_equal(part[1:PAGE], expected[PAGE + 1 : 2 * PAGE])
    assert maps_of_this_process() > before
    del part
    gc.collect()
    assert maps_of_this_process() == before


def test_closing_anonymous_memory_that_is_mapped_waits_for_the_last_array() -> None:
    with PageStore.open(ram="1MiB") as store:
        memory = store.anonymous(50)
        array = memory.map(writable=True)
        array[:] = 5
        number = memory.object_no
        memory.close()
        with pytest.raises(Closed):
            memory.read(0)
        assert (array == 5).all()
        assert store.stats().page_count == 50
        del array
        assert store.stats().page_count == 0
        with store.anonymous(50) as again:
            assert again.object_no == number
            assert not again.map().any()


def test_a_mapping_is_not_closed_under_an_array() -> None:
    with opened() as store:
        array = store.map()
        mapping = array.mapping
        part = array.data[9:12]
        with pytest.raises(MappedError, match="there are arrays of it"):
            mapping.close()
        del array
        with pytest.raises(MappedError):
            mapping.close()
        assert bytes(part) == FLAT[9:12].tobytes()
        part.release()
        del part
        assert isinstance(mapping, Mapping)
        mapping.close()
        mapping.close()
        for use in (mapping.stats, mapping.prefetch, mapping.detach):
            with pytest.raises(Closed, match="map it anew"):
                use()
        assert np.array_equal(store.map(), FLAT)


def test_arrays_that_are_garbage_go_with_their_maps() -> None:
    gc.collect()
    before = maps_of_this_process()
    for _ in range(20):
        store = opened()
        array = store.map()
        assert array[0] == FLAT[0]
        cycle: list[Any] = [store, array]
        cycle.append(cycle)
        memory = store.anonymous(20)
        other: list[Any] = [memory.map(writable=True), memory]
        other[0][:] = 3
        other.append(other)
        del store, array, cycle, memory, other
    gc.collect()
    assert maps_of_this_process() == before


# -- touches that cannot be served --------------------------------------------------------


@pytest.fixture
def corrupt(tmp_path: Path) -> PageStore:
    """A store whose file's pages 3 and 700 are not what they were when they were last seen."""
    path = tmp_path / "image.bin"
    path.write_bytes(FLAT.tobytes())
    store = PageStore.open(path, ram=RAM, base=0)
    for page_no in range(COUNT):
        store.read(page_no)
    store.page_out(range(COUNT))
    store.discard(range(COUNT))
    with path.open("r+b") as file:
        for page_no in (3, 700):
            file.seek(page_no * PAGE)
            file.write(bytes([FLAT[page_no * PAGE] ^ 1]))
    return store


def test_a_guard_names_object_page_and_cause(corrupt: PageStore, service: str) -> None:
    with corrupt as store:
        array = store.map(service=service)
        said = pytest.raises(CorruptPage, match=r"page 3 .*of .*image\.bin .*was changed")
        with said as raised, array.mapping.guarded():
            assert not array[3 * PAGE : 4 * PAGE].any()
        assert raised.value.page_no == 3
        with pytest.raises(CorruptPage) as raised, array.mapping.guarded():
            assert not array[700 * PAGE : 701 * PAGE].any()
        assert raised.value.page_no == 700
        with array.mapping.guarded():
            assert np.array_equal(array[4 * PAGE : 700 * PAGE], FLAT[4 * PAGE : 700 * PAGE])
        assert array.mapping.stats().failures >= 2


def bring(array: MappedArray, how: str, first: int, count: int) -> None:
    mapping = array.mapping
    if how == "prefetch":
        mapping.prefetch(first, count)
        return
    with mapping.held(first, count) if how == "held" else mapping.guarded():
        np.add.reduce(array[first * PAGE : (first + count) * PAGE])


@pytest.mark.parametrize(("first", "count", "damaged"), [(0, 20, 3), (3, 1, 3), (650, 100, 700)])
@pytest.mark.parametrize("how", ["prefetch", "held", "guarded"])
def test_what_cannot_be_brought_raises_as_reading_the_page(
    corrupt: PageStore, how: str, first: int, count: int, damaged: int
) -> None:
    with corrupt as store:
        array = store.map()
        with pytest.raises(CorruptPage) as read:
            store.read(damaged)
        with pytest.raises(CorruptPage) as raised:
            bring(array, how, first, count)
        assert raised.value.page_no == read.value.page_no == damaged
        page, cause = str(read.value).split(" cannot be read: ")
        assert str(raised.value).startswith(f"{page} of ")
        assert str(raised.value).endswith(f": {cause}")
        assert store.stats().pinned_pages == 0


def test_a_page_that_cannot_be_brought_is_named_with_its_symbol(
    x86_kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PageStore.open(x86_kernel, ram="6MiB") as store:
        array = store.map()
        assert isinstance(store.image, Image)
        store.image.symbol_at(store.image.address_of(0))  # symbols are at hand from now on
        with store.atomic():
            with pytest.raises(WouldFault) as read:
                store.read(0)
            with pytest.raises(InAtomicSection) as raised:
                array.mapping.prefetch(0, 9)
        assert "+0x" in str(read.value)
        assert str(raised.value).startswith(str(read.value).split(" cannot be read")[0])
        assert raised.value.page_no == 0


def test_in_an_atomic_section_nothing_waits_for_who_prefetches() -> None:
    with opened() as store:
        mapping = store.map().mapping
        mapping.prefetch(5, 1)
        with store.atomic():
            with pytest.raises(InAtomicSection, match=r"page 5 .*cannot be brought in"):
                mapping.prefetch(5, 1)
            with pytest.raises(InAtomicSection, match=r"page 5 .*cannot be held"):
                mapping.held(5, 1).__enter__()
            with pytest.raises(InAtomicSection, match=r"page 5 .*cannot be detached"):
                mapping.detach(5, 1)
        mapping.detach(5, 1)


def test_nor_does_who_holds_a_lock_that_page_ins_take() -> None:
    with opened() as store:
        mapping = store.map().mapping
        lock = store.lock("swap map")
        with store.pager(), lock:
            pass
        with lock:
            for use in (mapping.prefetch, mapping.detach):
                with pytest.raises(LockOrder, match="while lock 'swap map' is held"):
                    use(5, 1)
        mapping.detach(5, 1)


def test_a_guard_names_the_first_page_since_any_was_open(corrupt: PageStore) -> None:
    with corrupt as store:
        array = store.map()
        inner: list[int | None] = []

        def touch_in_two() -> None:
            with array.mapping.guarded():
                assert not array[3 * PAGE]
                with pytest.raises(CorruptPage) as raised, array.mapping.guarded():
                    assert not array[700 * PAGE]
                inner.append(raised.value.page_no)
                with array.mapping.guarded():
                    assert array[4 * PAGE] == FLAT[4 * PAGE]

        with pytest.raises(CorruptPage) as outer:
            touch_in_two()
        assert [*inner, outer.value.page_no] == [3, 3]


def test_a_thread_without_a_guard_reads_zeros_under_anothers(corrupt: PageStore) -> None:
    with corrupt as store:
        array = store.map()
        seen: list[int] = []

        def touch() -> None:
            seen.append(int(array[3 * PAGE : 4 * PAGE].sum()))

        def let_another_touch() -> None:
            with array.mapping.guarded():
                thread = threading.Thread(target=touch)
                thread.start()
                thread.join()

        with pytest.raises(CorruptPage, match="page 3 "):
            let_another_touch()
        assert seen == [0]


def test_a_guard_over_the_whole_array(corrupt: PageStore) -> None:
    with corrupt as store:
        array = store.map()
        copy = np.empty_like(FLAT)
        with pytest.raises(CorruptPage) as raised, array.mapping.guarded():
            copy[:] = array
        expected = IMAGE.copy()
        expected[[3, 700]] = 0
        assert raised.value.page_no in (3, 700)
        assert np.array_equal(copy, expected.reshape(-1))


def test_a_guard_over_more_pages_than_it_keeps(tmp_path: Path, service: str) -> None:
    path = tmp_path / "image.bin"
    path.write_bytes(FLAT.tobytes())
    with PageStore.open(path, ram=RAM, base=0) as store:
        for page_no in range(COUNT):
            store.read(page_no)
            store.page_out(page_no)
            store.discard(page_no)
        path.write_bytes(np.where(np.arange(FLAT.size) % PAGE, FLAT, FLAT ^ 1).tobytes())
        array = store.map(service=service)
        with pytest.raises(CorruptPage) as raised, array.mapping.guarded():
            assert not array.any() and resident_bytes() <= 64 * PAGE  # noqa: PT018
        assert raised.value.page_no == 0, "the first one is named"
        assert array.mapping.stats().failures >= COUNT
        path.write_bytes(FLAT.tobytes())
        assert np.array_equal(array, FLAT)


def stop(_: Any) -> None:
    raise KeyboardInterrupt


def test_what_a_guarded_block_raises_is_the_context(corrupt: PageStore) -> None:
    with corrupt as store:
        array = store.map()
        with pytest.raises(CorruptPage) as raised, array.mapping.guarded():
            _ = 1 // int(array[3 * PAGE])
        assert isinstance(raised.value.__context__, ZeroDivisionError)
        with pytest.raises(KeyboardInterrupt), array.mapping.guarded():
            stop(array[3 * PAGE])


def test_what_is_mended_is_read_again(corrupt: PageStore, tmp_path: Path) -> None:
    with corrupt as store:
        array = store.map()
        with pytest.raises(CorruptPage), array.mapping.guarded():
            _ = array[3 * PAGE]
        (tmp_path / "image.bin").write_bytes(FLAT.tobytes())
        with array.mapping.guarded():
            assert np.array_equal(array[3 * PAGE : 4 * PAGE], FLAT[3 * PAGE : 4 * PAGE])


# -- system calls -------------------------------------------------------------------------


def test_a_system_call_gets_efault_or_is_served(service: str) -> None:
    reader, writer = os.pipe()
    try:
        with opened() as store:
            array = store.map(service=service)
            part = array[40 * PAGE : 41 * PAGE]
            if array.mapping.stats().in_system_calls:
                assert os.write(writer, part) == PAGE
                assert os.read(reader, PAGE) == part.tobytes()
                return
            with pytest.raises(OSError, match="Bad address"):
                os.write(writer, part)
            with array.mapping.held(40, 1):
                assert os.write(writer, part) == PAGE
            assert os.read(reader, PAGE) == FLAT[40 * PAGE : 41 * PAGE].tobytes()
    finally:
        os.close(reader)
        os.close(writer)


def test_a_system_call_may_write_into_what_is_held(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(FLAT[: 8 * PAGE].tobytes())
    with PageStore.open(ram="1MiB") as store, store.anonymous(400) as memory:
        array = memory.map(writable=True, service="sigbus")
        with array.mapping.held(16, 8, write=True), path.open("rb", buffering=0) as file:
            assert file.readinto(array[16 * PAGE : 24 * PAGE]) == 8 * PAGE
        array[24 * PAGE :] = 1
        assert np.array_equal(array[16 * PAGE : 24 * PAGE], FLAT[: 8 * PAGE])


def test_every_code_has_its_exception() -> None:
    from pagestep.codecs.errors import PageStepError, error_for

    codes = [getattr(_core.lib, name) for name in dir(_core.lib) if name.startswith("PGS_E_")]
    assert len(codes) >= 40
    assert [code for code in codes if type(error_for(code, "")) is PageStepError] == []
