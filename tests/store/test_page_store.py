# SPDX-License-Identifier: MIT
"""What a store does with pages, as its documentation says."""

from __future__ import annotations

import array
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pagestep import (
    BudgetExceeded,
    DirtyPage,
    Image,
    InvalidArgument,
    Level,
    NoSuchPage,
    PageStore,
    PinnedPage,
    StoreIOError,
)
from pagestep.codecs import CODECS, FILTERS, Codec, train_dictionary

from ..image import builders
from .pages import make_pages

PAGES = make_pages(64)
COUNT, SIZE = PAGES.shape
# No frame more than a store must have; the rest of the pages is elsewhere.
TIGHT = "250KiB"


def everything(store: PageStore) -> bytes:
    out = bytearray(store.page_count * store.page_size)
    store.read_into(range(store.page_count), out)
    return bytes(out)


@pytest.fixture
def store() -> Any:
    with PageStore.open(PAGES) as opened:
        yield opened


# -- opening ------------------------------------------------------------------------------


def test_an_elf_file_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(builders.small_elf(bytes(range(256)) * 64))
    for name in (path, str(path)):
        with Image.open(path) as image, PageStore.open(name) as store:
            assert everything(store) == image.flat().tobytes()
            assert (store.page_count, store.page_size) == (image.page_count, image.page_size)
            assert len(store) == store.page_count


def test_an_image_stays_the_callers(tmp_path: Path) -> None:
    path = tmp_path / "firmware"
    path.write_bytes(PAGES.tobytes())
    with Image.open(path, raw=True, page_size=1024) as image:
        with PageStore.open(image) as store:
            assert store.image is image
            assert store.page_size == 1024
            assert everything(store) == PAGES.tobytes()
        assert image.read(3) == PAGES.tobytes()[3072:4096]


def as_array(data: bytes) -> array.array[int]:
    return array.array("Q", data)


def as_words(data: bytes) -> Any:
    return np.frombuffer(data, np.uint32)


def as_matrix(data: bytes) -> Any:
    return np.frombuffer(data, np.uint8).reshape(64, -1)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, as_array, as_words, as_matrix])
def test_any_buffer(kind: Any) -> None:
    with PageStore.open(kind(PAGES.tobytes())) as store:
        assert everything(store) == PAGES.tobytes()


def test_a_last_page_that_is_not_whole_ends_in_zeros() -> None:
    with PageStore.open(b"\xff" * 5000) as store:
        assert store.page_count == 2
        assert store.read(1) == b"\xff" * 904 + bytes(SIZE - 904)


def test_a_buffer_that_is_gone_is_kept_by_its_store() -> None:
    store = PageStore.open(PAGES.copy())
    assert everything(store) == PAGES.tobytes()
    store.close()


@pytest.mark.parametrize("page_size", [512 << shift for shift in range(8)])
def test_every_page_size(page_size: int) -> None:
    pages = make_pages(40, page_size)
    with PageStore.open(pages, page_size=page_size, ram=60 * page_size + (2 << 20)) as store:
        for move in (store.page_in, store.page_out, store.discard):
            move(range(40))
            assert everything(store) == pages.tobytes()
        store.write(7, bytes(page_size))
        store.page_out(7)
        assert store.read(7) == bytes(page_size)


@pytest.mark.parametrize("filter_name", FILTERS)
@pytest.mark.parametrize("with_dictionary", [False, True])
@pytest.mark.parametrize("codec_name", CODECS)
@pytest.mark.parametrize("policy", ["s3fifo", "lru"])
def test_every_codec_filter_and_policy(
    codec_name: str, with_dictionary: bool, filter_name: str, policy: str
) -> None:
    if with_dictionary and not CODECS[codec_name].takes_dictionary:
        pytest.skip(f"{codec_name} takes no dictionary")
    dictionary = train_dictionary(PAGES, 4096) if with_dictionary else b""
    codec = Codec(codec_name, filter=filter_name, dictionary=dictionary)
    with PageStore.open(PAGES, codec=codec, policy=policy, base=0xC0008000) as store:
        store.page_in(range(COUNT))
        assert store.stats().hot_pages == COUNT
        assert everything(store) == PAGES.tobytes()
        store.page_out(range(COUNT))
        stats = store.stats()
        assert stats.compressed_pages + stats.same_pages == COUNT
        assert everything(store) == PAGES.tobytes()
        store.discard(range(COUNT))
        assert store.stats().absent_pages + store.stats().same_pages == COUNT
        assert everything(store) == PAGES.tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "fifo"}, "policy is 'fifo': it is one of s3fifo, lru"),
        ({"pool_percent": 101}, "pool_percent"),
        ({"pool_percent": -1}, "pool_percent"),
        ({"codec": "gzip"}, "codec 'gzip'"),
        ({"codec_level": 99}, "level 99"),
        ({"page_size": 1000}, "page_size=1000"),
        ({"ram": "many"}, "ram is 'many'"),
        ({"ram": -1}, "negative"),
        ({"ram": 1 << 64}, "at most"),
        ({"ram": "999999999999T"}, "at most"),
        ({"codec": Codec("lz4", page_size=512)}, "512 bytes"),
    ],
)
def test_an_argument_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        PageStore.open(PAGES, **options)


def test_a_budget_too_small_for_anything_names_no_page() -> None:
    needed = r"64 KiB are too small, though no page in it is held, and \d+\.\d+ KiB or more are"
    with PageStore.open(ram="64KiB") as store, pytest.raises(BudgetExceeded, match=needed):
        store.anonymous(4)
    with pytest.raises(BudgetExceeded, match=needed):
        PageStore.open(PAGES[:4], ram="64KiB")
    with PageStore.open(ram="1MiB") as store:
        with pytest.raises(BudgetExceeded, match=r"16 KiB are too small.* are needed; raise `ram`"):
            store.set_ram("16KiB")
        memory = store.anonymous(4)
        memory.write(0, b"changed")
        with pytest.raises(BudgetExceeded, match="full of pages that cannot leave"):
            store.set_ram("16KiB")


@pytest.mark.parametrize("ram", [0, 1, 4096, "64KiB"])
def test_a_budget_too_small_for_the_fewest_frames(ram: int | str) -> None:
    with pytest.raises(BudgetExceeded, match="raise `ram`"):
        PageStore.open(PAGES, ram=ram)


def test_a_budget_too_small_for_the_page_table() -> None:
    with pytest.raises(BudgetExceeded, match="8192 pages does not go into the store"):
        PageStore.open(bytes(8192 * 512), page_size=512, ram="220KiB")


def test_a_scratch_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreIOError, match="no scratch file"):
        PageStore.open(PAGES, scratch=tmp_path / "nowhere")


# -- reading ------------------------------------------------------------------------------


def test_read_returns_bytes_of_its_own(store: PageStore) -> None:
    first, second = store.read(0), store.read(1)
    assert (first, second) == (PAGES[0].tobytes(), PAGES[1].tobytes())
    assert store.read(np.uint64(5)) == PAGES[5].tobytes()  # type: ignore[arg-type] # an index


@pytest.mark.parametrize(
    "page_nos",
    [
        [3, 1, 3, 63],
        (3, 1, 3, 63),
        np.array([3, 1, 3, 63]),
        np.array([3, 1, 3, 63], np.uint64),
        np.array([3, 1, 3, 63], np.int8),
        np.array([3, 9, 1, 9, 3, 9, 63, 9], np.uint64)[::2],
    ],
)
def test_read_into_takes_numbers_as_they_come(store: PageStore, page_nos: Any) -> None:
    for into_frames in (False, True):
        out = np.zeros((5, SIZE), np.uint8)
        store.read_into(page_nos, out, into_frames=into_frames)
        assert np.array_equal(out[:4], PAGES[[3, 1, 3, 63]])
        assert not out[4].any()


def test_page_numbers_may_come_one_by_one(store: PageStore) -> None:
    out = np.empty((3, SIZE), np.uint8)
    store.read_into((n * n for n in range(3)), out)
    assert np.array_equal(out, PAGES[[0, 1, 4]])


def test_reading_no_page_at_all(store: PageStore) -> None:
    store.read_into([], bytearray())
    store.write_from([], b"")
    store.page_in([])
    store.page_out(range(0))
    store.discard([])
    store.pin([])
    store.unpin([])
    store.set_level([], Level.EAGER)


@pytest.mark.parametrize("page_no", [-1, COUNT, COUNT + 1, 2**32, 2**63, 2**64, -(2**70)])
def test_a_page_that_does_not_exist(store: PageStore, page_no: int) -> None:
    before = store.stats()
    calls: list[Any] = [
        lambda: store.read(page_no),
        lambda: store.read_into([0, page_no], bytearray(2 * SIZE)),
        lambda: store.write(page_no, bytes(SIZE)),
        lambda: store.write(page_no, b"x", offset=1),
        lambda: store.write_from([page_no, 0], PAGES[:2].tobytes()),
        lambda: store.view(page_no),
        lambda: store.set_level([page_no], Level.EAGER),
    ]
    for move in (store.page_in, store.page_out, store.discard, store.pin, store.unpin):
        calls += [partial(move, page_no), partial(move, [1, page_no])]
    for call in calls:
        with pytest.raises(NoSuchPage):
            call()
    assert store.stats().pinned_pages == before.pinned_pages == 0
    with pytest.raises(IndexError, match=f"page {page_no}"):
        store.read(page_no)


@pytest.mark.parametrize("page_nos", [[1.5], np.array([1.0]), ["1"], [None]])
def test_page_numbers_that_are_no_numbers(store: PageStore, page_nos: Any) -> None:
    with pytest.raises(TypeError):
        store.read_into(page_nos, bytearray(SIZE))
    with pytest.raises(TypeError):
        store.read(page_nos[0])


def test_out_must_be_large_enough_writable_and_in_one_piece(store: PageStore) -> None:
    wide = np.zeros((4, 2 * SIZE), np.uint8)
    for out, message in (
        (bytearray(2 * SIZE - 1), "out has 8191 bytes: 2 pages need 8192"),
        (bytes(2 * SIZE), "writable"),
        (wide[:, ::2], "contiguous"),
        ("text", "out must be"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            store.read_into([0, 1], out)  # type: ignore[arg-type] # one of them is no buffer
    store.read_into([0, 1], array.array("Q", bytes(2 * SIZE)))


# -- writing ------------------------------------------------------------------------------


def test_what_was_written_is_read_wherever_the_page_is(store: PageStore) -> None:
    new = np.random.default_rng(2).integers(0, 256, SIZE, np.uint8).tobytes()
    store.write(4, new)
    assert store.read(4) == new
    store.page_out(4)
    assert store.read(4) == new
    store.page_in(4)
    assert store.read(4) == new
    assert store.read(5) == PAGES[5].tobytes()


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (1, 9), (SIZE - 1, 1), (0, 0), (SIZE, 0)])
@pytest.mark.parametrize("move", ["page_in", "page_out", "discard"])
def test_a_part_of_a_page(store: PageStore, offset: int, size: int, move: str) -> None:
    getattr(store, move)(6)
    store.write(6, memoryview(b"\x5c" * size), offset=offset)
    wanted = bytearray(PAGES[6].tobytes())
    wanted[offset : offset + size] = b"\x5c" * size
    assert store.read(6) == wanted


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (SIZE, 1), (1, SIZE), (0, SIZE + 1)])
def test_bytes_that_do_not_lie_in_the_page(store: PageStore, offset: int, size: int) -> None:
    with pytest.raises(InvalidArgument, match="do not lie in a page"):
        store.write(6, bytes(size), offset=offset)
    assert store.read(6) == PAGES[6].tobytes()


def test_write_from_writes_many(store: PageStore) -> None:
    store.write_from([9, 2], PAGES[[2, 9]])
    assert (store.read(9), store.read(2)) == (PAGES[2].tobytes(), PAGES[9].tobytes())
    for data in (bytes(SIZE), bytes(3 * SIZE), PAGES[:4, ::2]):
        with pytest.raises(InvalidArgument):
            store.write_from([0, 1], data)
    with pytest.raises(InvalidArgument, match="contiguous"):
        store.write(0, PAGES[:, 0])
    assert store.read(0) == PAGES[0].tobytes()


def test_the_image_is_never_written_to(tmp_path: Path) -> None:
    path = tmp_path / "firmware"
    path.write_bytes(PAGES.tobytes())
    with PageStore.open(path, base=0, scratch=True) as store:
        store.write_from(range(COUNT), bytes(PAGES.nbytes))
        store.page_out(range(COUNT))
    assert path.read_bytes() == PAGES.tobytes()
    copy = PAGES.copy()
    with PageStore.open(copy) as store:
        store.write_from(range(COUNT), bytes(PAGES.nbytes))
    assert np.array_equal(copy, PAGES)


# -- moving -------------------------------------------------------------------------------


def test_a_discarded_page_comes_back_and_a_dirty_one_is_kept(store: PageStore) -> None:
    noisy = int(np.flatnonzero([len(set(page.tolist())) > 200 for page in PAGES])[0])
    store.discard(noisy)
    assert store.stats().hot_pages == 0
    assert store.read(noisy) == PAGES[noisy].tobytes()
    store.write(noisy, b"new", offset=8)
    wanted = PAGES[noisy].tobytes()[:8] + b"new" + PAGES[noisy].tobytes()[11:]
    store.page_in(range(COUNT))
    with pytest.raises(DirtyPage, match=f"page {noisy} .*cannot be discarded"):
        store.discard(range(COUNT))
    assert store.stats().hot_pages == 1
    assert store.read(noisy) == wanted


def test_a_page_written_back_to_what_it_was_is_clean_again(store: PageStore) -> None:
    store.write(3, bytes(range(256)) * 16)
    store.write(3, PAGES[3])
    store.page_out(3)
    store.discard(3)
    assert store.read(3) == PAGES[3].tobytes()


def test_pins_are_counted(store: PageStore) -> None:
    store.pin([1, 2])
    store.pin(2)
    for page_no in (1, 2):
        for move in (store.page_out, store.discard):
            with pytest.raises(PinnedPage, match=f"page {page_no} .*cannot be"):
                move(page_no)
    store.unpin([1, 2])
    store.page_out(1)
    with pytest.raises(PinnedPage):
        store.page_out(2)
    store.unpin(2)
    store.page_out(2)
    with pytest.raises(InvalidArgument, match="cannot be unpinned"):
        store.unpin(2)


def test_pinned_ends_with_its_block(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(builders.small_elf(bytes(range(256)) * 64))
    with PageStore.open(path) as store:
        name = store.image.segments[0].name
        with store.pinned(name):
            assert store.stats().pinned_pages >= 1
            with pytest.raises(PinnedPage):
                store.page_out(name)
        with pytest.raises(RuntimeError, match="the block's own"), store.pinned(0):
            raise RuntimeError("the block's own")
        store.page_out(name)
        with pytest.raises(NoSuchPage, match=r"no segment is named '\.nothing'"):
            store.pin(".nothing")


def test_all_pins_or_none() -> None:
    with PageStore.open(PAGES, ram=TIGHT) as store:
        with pytest.raises(BudgetExceeded, match=r"too small, though no page .* raise `ram`"):
            store.pin(range(COUNT))
        assert store.stats().pinned_pages == 0
        store.page_out(range(COUNT))
        assert everything(store) == PAGES.tobytes()


def test_a_store_full_of_pins_still_reads() -> None:
    with PageStore.open(PAGES, ram=TIGHT) as store:
        pinned = 0
        try:
            for page_no in range(COUNT):
                store.pin(page_no)
                pinned += 1
        except BudgetExceeded:
            pass
        assert 0 < pinned < COUNT
        assert everything(store) == PAGES.tobytes()
        assert store.stats().pinned_pages == pinned
        assert store.stats().used_bytes_max <= store.stats().budget_bytes


def test_levels() -> None:
    with PageStore.open(PAGES, ram=TIGHT) as store:
        for level in (Level.EAGER, Level.LAST_RESORT, Level.STEP_ON_IT, Level.RELUCTANT):
            store.set_level([1, 2, 3, 10], level)
            assert store.stats().pages_by_level[level.name] == 4
            assert everything(store) == PAGES.tobytes()
        store.set_level(range(4), Level.PINNED)
        assert store.stats().hot_by_level["PINNED"] == 4
        with pytest.raises(PinnedPage):
            store.page_out(2)
        with pytest.raises(BudgetExceeded, match="cannot be made PINNED"):
            store.set_level(range(COUNT), Level.PINNED)
        assert store.stats().pages_by_level["PINNED"] == 4
        store.set_level(range(COUNT), Level.NORMAL)
        assert store.stats().pages_by_level["NORMAL"] == COUNT
        for number in (6, -1, 2**40):
            with pytest.raises(InvalidArgument, match="one of PINNED"):
                store.set_level(0, number)  # type: ignore[arg-type] # what is refused


def test_a_clean_eager_page_that_goes_is_dropped(store: PageStore) -> None:
    store.set_level(range(COUNT), Level.STEP_ON_IT)
    store.page_in(range(COUNT))
    store.page_out(range(COUNT))
    assert store.stats().compressed_pages == 0
    assert store.stats().absent_pages > 0
    assert everything(store) == PAGES.tobytes()


def test_the_budget_can_change_and_always_holds() -> None:
    pages = make_pages(512)
    with PageStore.open(pages, ram="3MiB") as store:
        store.page_in(range(512))
        for ram in ("1MiB", "2MiB", 900_000, "4MiB"):
            store.set_ram(ram)
            stats = store.stats()
            assert stats.used_bytes <= stats.budget_bytes
            assert everything(store) == pages.tobytes()
        with pytest.raises(BudgetExceeded, match="the budget cannot become 1 bytes"):
            store.set_ram(1)
        assert store.stats().budget_bytes == 4 << 20
        for ram in (-1, "x", 1 << 64, "1TiB"):
            with pytest.raises(InvalidArgument):
                store.set_ram(ram)
        assert everything(store) == pages.tobytes()


def test_writes_are_refused_when_nothing_can_go_and_keep_what_was() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (512, SIZE), np.uint8)
    with PageStore.open(bytes(noise.nbytes), ram="1MiB") as store:
        written = 0
        while written < 512:
            try:
                store.write(written, noise[written])
            except BudgetExceeded as error:
                assert f"page {written} (image) cannot be written" in str(error)  # noqa: PT017 - a loop
                break
            written += 1
        assert 150 < written < 512
        assert everything(store) == noise[:written].tobytes() + bytes(noise[written:].nbytes)
        assert store.stats().used_bytes_max <= 1 << 20


@pytest.mark.parametrize("scratch", [True, "folder"])
def test_with_a_scratch_file_every_page_can_be_written(tmp_path: Path, scratch: bool | str) -> None:
    place = tmp_path if isinstance(scratch, str) else scratch
    noise = np.random.default_rng(3).integers(0, 256, (512, SIZE), np.uint8)
    with PageStore.open(bytes(noise.nbytes), ram="1MiB", scratch=place) as store:
        store.write_from(range(512), noise)
        assert everything(store) == noise.tobytes()
        assert store.stats().writebacks > 0
        assert store.stats().used_bytes_max <= 1 << 20
        assert os.listdir(tmp_path) == [], "the file has no name"


# -- statistics ---------------------------------------------------------------------------


def test_statistics_add_up() -> None:
    with PageStore.open(PAGES, ram=TIGHT, timed=True) as store:
        for _ in range(3):
            everything(store)
        store.write(0, bytes(SIZE))
        stats = store.stats()
        assert stats.reads == 3 * COUNT
        assert stats.writes == 1
        assert stats.hits + stats.faults >= stats.reads
        assert stats.used_bytes == stats.hot_bytes + stats.pool_bytes + stats.metadata_bytes
        assert stats.hot_bytes >= stats.hot_pages * SIZE
        places = stats.hot_pages, stats.compressed_pages, stats.same_pages, stats.absent_pages
        assert sum(places) == stats.page_count == COUNT
        assert sum(stats.by_level.values()) == stats.faults
        assert stats.by_tier["disk"].ns > 0
        assert stats.as_dict()["by_tier"]["disk"]["faults"] == stats.by_tier["disk"].faults
    with PageStore.open(PAGES) as store:
        everything(store)
        assert all(tier.ns == 0 for tier in store.stats().by_tier.values())
