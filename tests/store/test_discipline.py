# SPDX-License-Identifier: MIT
"""Pins, sections, locks, levels and forbidding, as a program has them; the zoo of deadlocks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pagestep import (
    BudgetExceeded,
    Closed,
    DisciplineError,
    GonePage,
    Image,
    InAtomicSection,
    InvalidArgument,
    Level,
    LockOrder,
    NoSuchPage,
    PagedPoolInPager,
    PagerFault,
    PageStore,
    PinnedPage,
    RuleSet,
    StoreReentry,
    WouldFault,
)
from pagestep.codecs import Codec
from pagestep.store._binding import check, ffi, lib

from .pages import make_pages

PAGES = make_pages(400)
TEXT = (np.random.default_rng(8).integers(0, 40, (4000, 4096)) ** 2 // 40).astype(np.uint8)
TEXT[:, 1::2] = TEXT[:, ::2]
NOISE = np.random.default_rng(7).integers(0, 256, (400, 4096), np.uint8)


def small(**how: Any) -> PageStore:
    """Return a store in which a quarter of the pages have frames; no page is of one word."""
    return PageStore.open(NOISE, ram="700KiB", pool_percent=0, **how)


def is_hot(store: PageStore, page_no: int) -> bool:
    before = store.stats().faults
    store.read(page_no)
    return store.stats().faults == before


# -- the zoo: each way to a deadlock, caught at once, each by its own exception -----------------


def fault_under_atomic(store: PageStore) -> None:
    with store.atomic():
        store.read(300)


def pin_inside_atomic(store: PageStore) -> None:
    with store.atomic():
        store.pin(300)


def pager_calls_pageable(store: PageStore) -> None:
    store.page_in(300)  # in its frame, by luck
    with store.pager():
        store.read(300)


def paged_pool_from_the_pager(store: PageStore) -> None:
    block = store.paged_pool("64KiB").alloc(100)
    with store.pager():
        block.read(0, 10)


def rank_inversion(store: PageStore) -> None:
    with store.lock("queue", rank=2), store.lock("inode", rank=1):
        pass


def learnt_inversion(store: PageStore) -> None:
    a, b = store.lock("a"), store.lock("b")
    with a, b:
        pass
    with b, a:
        pass


def fault_under_a_lock_of_the_pager(store: PageStore) -> None:
    lock = store.lock("swap map")
    with store.pager(), lock:
        pass
    with lock:
        store.read(300)


def pager_takes_a_lock_that_is_held_across_faults(store: PageStore) -> None:
    lock = store.lock("inode")
    with lock:
        store.read(300)
    with store.pager(), lock:
        pass


def backing_touches_the_store(store: PageStore) -> None:
    """Add an object whose backing reads the store, as a careless program would."""
    core = store.core
    seen: list[int] = []

    def page_in(_ctx: Any, page_no: int, page: Any) -> int:
        ffi.buffer(page, 4096)[:] = NOISE[page_no].tobytes()
        if armed:
            other = ffi.new("unsigned char[4096]")
            seen.append(lib.pgs_read_page(core, store.object_no, 300, 0, other))
            return seen[-1]
        return 0

    armed = False
    backing = ffi.new("struct pgs_backing *")
    backing.struct_size = ffi.sizeof("struct pgs_backing")
    callback = ffi.callback("int(void *, uint64_t, void *)", page_in)
    backing.page_in = callback
    number = ffi.new("uint32_t *")
    assert lib.pgs_object_add(core, 16, 0, backing, ffi.NULL, number) == 0
    armed = True
    out = ffi.new("unsigned char[4096]")
    code = lib.pgs_read_page(core, number[0], 3, 0, out)
    assert lib.pgs_object_remove(core, number[0]) == 0
    check(code, "page 3 cannot be read")


ZOO: dict[Callable[[PageStore], None], tuple[type[DisciplineError], str]] = {
    fault_under_atomic: (WouldFault, r"page 300 \(image\) cannot be read: it is in no frame"),
    pin_inside_atomic: (InAtomicSection, "page 300 cannot be pinned: .*before the section"),
    pager_calls_pageable: (PagerFault, "page 300 .*this thread is the pager.*make it PINNED"),
    paged_pool_from_the_pager: (PagedPoolInPager, "this thread is the pager.*non-paged pool"),
    rank_inversion: (LockOrder, "'inode' of rank 1 must not be taken while 'queue' of rank 2"),
    learnt_inversion: (LockOrder, "'a' must not be taken while 'b' is held: .*a then b before"),
    fault_under_a_lock_of_the_pager: (
        LockOrder,
        "cannot be faulted in while lock 'swap map' is held: .*page-in then swap map",
    ),
    pager_takes_a_lock_that_is_held_across_faults: (
        LockOrder,
        "'inode' must not be taken by the pager, or in an atomic section: .*inode then page-in",
    ),
    backing_touches_the_store: (StoreReentry, "from a backing of the same store"),
}


@pytest.mark.parametrize("animal", ZOO, ids=lambda animal: animal.__name__)
@pytest.mark.parametrize("verify", [False, True])
def test_zoo(animal: Callable[[PageStore], None], verify: bool) -> None:
    error, message = ZOO[animal]
    with small(verify=verify) as store:
        with pytest.raises(error, match=message) as raised:
            animal(store)
        assert type(raised.value) is error
        # Nothing is left behind: the same thread goes on as if it had not been.
        assert store.read(300) == NOISE[300].tobytes()
        store.write(301, b"x")
        with store.atomic(), store.pager():
            pass
        assert store.stats().pinned_pages == 0


def test_errors_name_their_page() -> None:
    with small() as store, pytest.raises(WouldFault) as raised, store.atomic():
        store.read_into([0, 77, 300], bytearray(3 * 4096))
    assert raised.value.page_no == 0


def test_an_error_names_the_symbol(x86_kernel: Path) -> None:
    with Image.open(x86_kernel) as image, PageStore.open(image, ram="8MiB") as store:
        symbol = image.symbols.find("ext4_readdir") or image.symbols.find("vfs_read")
        assert symbol is not None
        page_no = image.page_of(symbol.address)
        message = rf"page {page_no} \(\w+\+0x[0-9a-f]+ in \.text\)"
        with pytest.raises(WouldFault, match=message), store.atomic():
            store.read(page_no)


# -- atomic sections and pins ---------------------------------------------------------------


def test_what_is_pinned_can_be_used_in_an_atomic_section() -> None:
    with small(verify=True) as store:
        with store.pinned([5, 6, 7]), store.atomic():
            assert store.read(6) == NOISE[6].tobytes()
            store.write(5, b"changed", offset=9)
            view = store.view(7)  # it is pinned already: one more pin waits for nothing
            assert bytes(view) == NOISE[7].tobytes()
            with store.atomic():
                out = bytearray(2 * 4096)
                store.read_into([6, 7], out)
            del view
        assert store.read(5)[9:16] == b"changed"
        assert store.stats().pinned_pages == 0


def test_pins_are_all_or_none_and_counted() -> None:
    with small() as store:
        with pytest.raises(BudgetExceeded):
            store.pin(range(400))
        assert store.stats().pinned_pages == 0
        store.pin(range(10))
        store.pin(range(5, 15))
        store.unpin(range(10))
        assert store.stats().pinned_pages == 10
        with pytest.raises(InvalidArgument, match="not all are pinned"):
            store.unpin([5, 20])
        store.unpin(range(5, 15))
        assert store.stats().pinned_pages == 0
        with pytest.raises(NoSuchPage, match="page -1 does not exist"):
            store.pin([3, -1])


def test_under_the_verifier_luck_does_not_last() -> None:
    for verify in (False, True):
        with small(verify=verify) as store:
            store.page_in(300)
            assert is_hot(store, 300)
            with store.pinned(1):
                pass
            assert is_hot(store, 300) != verify, "a pin was taken back"
            store.page_in(300)
            with store.lock("a"):
                assert is_hot(store, 300) != verify, "a lock was taken"


def test_a_section_is_its_thread_s_own() -> None:
    errors: list[BaseException] = []

    def other(store: PageStore) -> None:
        try:
            assert store.read(300) == NOISE[300].tobytes()
            store.pin(3)
            store.unpin(3)
        except BaseException as error:
            errors.append(error)

    with small() as store, store.atomic():
        thread = threading.Thread(target=other, args=(store,))
        thread.start()
        thread.join()
    assert not errors


# -- locks ----------------------------------------------------------------------------------


def test_a_lock_excludes_and_is_its_holder_s() -> None:
    with small() as store:
        lock = store.lock("a")
        assert not lock.locked()
        with lock:
            assert lock.locked()
            assert "held" in repr(lock)
            with pytest.raises(LockOrder, match="held by this thread already"):
                lock.acquire()
            entered = threading.Event()

            def wait() -> None:
                with lock:
                    entered.set()

            thread = threading.Thread(target=wait)
            thread.start()
            assert not entered.wait(0.05)
        thread.join()
        assert entered.is_set()
        with pytest.raises(InvalidArgument, match="'a' is not held by this thread"):
            lock.release()


def test_locks_of_one_name_are_one_and_have_one_rank() -> None:
    with small() as store:
        with pytest.raises(LockOrder), store.lock("inode"), store.lock("inode"):
            pass
        store.lock("queue", rank=3)
        with pytest.raises(InvalidArgument, match="'queue' has rank 3, and cannot have 4 too"):
            store.lock("queue", rank=4)
        with pytest.raises(InvalidArgument, match="rank -1"):
            store.lock("b", rank=-1)
        for number in range(61):
            store.lock(f"lock {number}")
        with pytest.raises(InvalidArgument, match="one too many"):
            store.lock("c")


def test_the_whole_chain_is_told() -> None:
    with small() as store:
        a, b, c = (store.lock(name) for name in "abc")
        for first, second in ((a, b), (b, c)):
            with first, second:
                pass
        with pytest.raises(LockOrder, match="a then b then c before") as raised, c, a:
            pass
        assert raised.value.chain == ("a", "b", "c")


# -- levels, forbidding, once ---------------------------------------------------------------


def test_forbidding_pages_in_and_holds_above_any_level() -> None:
    with small() as store:
        store.set_level(range(10), Level.STEP_ON_IT)
        store.forbid(range(10))
        stats = store.stats()
        assert stats.pinned_pages == stats.hot_by_level["PINNED"] == 10
        store.set_level(range(10), Level.EAGER)
        assert store.stats().pages_by_level["PINNED"] == 10, "forbidden goes before levels"
        store.forbid(range(10))  # again is no error, and counts once
        store.forbid([9, 10])
        store.allow(range(10))
        assert store.stats().pages_by_level["PINNED"] == 2, "another word holds 9 and 10"
        assert store.stats().pages_by_level["EAGER"] == 9
        store.allow([9, 10])
        assert store.stats().pages_by_level["EAGER"] == 10
        with pytest.raises(InvalidArgument, match="was not forbidden by that name"):
            store.allow([9, 10])


def test_what_is_forbidden_is_explained_before_all_else(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[rule]]\naddress = [0, 0x190000]\nlevel = "EAGER"\n')
    with small(rules=path) as store:
        assert not store.explain(9).notes
        assert str(store.explain(9).decisions[0].wish).startswith("EAGER by rule")
        store.forbid([9, 10])
        found = store.explain(9)
        assert "forbidden at run time" in found.notes[0]
        level = found.decisions[0]
        assert (level.wish.value, level.wish.by) == ("PINNED", "forbidden")
        assert str(level.beat[0]).startswith("EAGER by rule")
        assert found.levels["PINNED"] == 1
        store.allow([10, 9])
        assert not store.explain(9).notes
        store.set_level(9, Level.RELUCTANT)
        assert store.explain(9).decisions[0].wish.by == "set_level"


def test_a_failed_allow_forgets_nothing() -> None:
    with small() as store:
        store.forbid(range(5))
        with pytest.raises(InAtomicSection), store.atomic():
            store.allow(range(5))
        assert store.stats().pages_by_level["PINNED"] == 5
        store.allow(range(5))
        assert store.stats().pages_by_level["PINNED"] == 0


def test_only_its_holder_releases_a_lock() -> None:
    with small() as store:
        one, other = store.lock("a"), store.lock("a")
        with one:
            with pytest.raises(InvalidArgument, match="'a' is not held by this thread"):
                other.release()
            with pytest.raises(LockOrder):
                other.acquire()
        with other:
            pass


def test_a_lock_goes_with_its_store() -> None:
    store = small()
    lock = store.lock("a")
    with lock:
        store.close()
    with pytest.raises(Closed):
        lock.acquire()
    for name in ("", "page-in", None):
        with small() as other, pytest.raises(InvalidArgument, match="must be a name"):
            other.lock(name)  # type: ignore[arg-type]


def test_an_atomic_section_waits_for_no_lock_that_is_held_across_faults() -> None:
    with small() as store:
        lock = store.lock("a")
        with lock:
            store.read(300)
        with pytest.raises(LockOrder, match="or in an atomic section"), store.atomic(), lock:
            pass
        spin = store.lock("b")
        with store.atomic(), spin:
            pass
        with spin, pytest.raises(LockOrder, match="faulted in while lock 'b'"):
            store.read(301)


def test_forbidding_what_the_budget_cannot_hold_changes_nothing() -> None:
    with small() as store:
        store.set_level(range(400), Level.EAGER)
        store.forbid([1])
        with pytest.raises(BudgetExceeded, match=r"paging of .* cannot be forbidden"):
            store.forbid("image")
        stats = store.stats()
        assert (stats.pages_by_level["PINNED"], stats.pages_by_level["EAGER"]) == (1, 399)
        with pytest.raises(InvalidArgument):
            store.allow("image")
        with pytest.raises(NoSuchPage):
            store.forbid([400])


def test_places_are_named_as_in_rules(x86_kernel: Path) -> None:
    with Image.open(x86_kernel) as image, PageStore.open(image, ram="8MiB") as store:
        symbol = image.symbols.find("schedule")
        assert symbol is not None
        page_no = image.page_of(symbol.address)
        for where in ("symbol:schedule", f"{symbol.address:#x}-{symbol.address + 1:#x}"):
            store.forbid(where)
            assert store.stats().pages_by_level["PINNED"] == 1
            with pytest.raises(PinnedPage):
                store.page_out(page_no)
            store.allow(where)
        store.forbid("section:.pci_*")
        assert store.stats().pages_by_level["PINNED"] == 4
        for nowhere, why in {
            "symbol:no_such": "no symbol is called 'no_such'",
            "module:ext4": "the image is no kernel module",
            "nonsense": "no segment is named 'nonsense'",
            "symbol:": "no segment is named",
            "0x1000000000-0x1000000010": "no section from 0x1000000000",
        }.items():
            with pytest.raises(NoSuchPage, match=why):
                store.forbid(nowhere)


RULES = """
[[rule]]
address = [0x0, 0x40000]
level = "EAGER"

[[rule]]
address = [0x40000, 0x50000]
lifecycle = "once"
level = "STEP_ON_IT"

[[rule]]
address = [0x10000, 0x20000]
level = "LAST_RESORT"
"""


def test_rules_say_what_happens_to_pages(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    with PageStore.open(NOISE[:100], ram="2MiB", rules=path) as store:
        assert store.stats().pages_by_level == {
            "PINNED": 20,
            "LAST_RESORT": 16,
            "RELUCTANT": 0,
            "NORMAL": 0,
            "EAGER": 48,
            "STEP_ON_IT": 16,
        }
        assert store.stats().hot_by_level["PINNED"] == 20
        store.write(64, b"once, and changed")
        store.pin(65)
        assert store.end_of_startup() == 15, "what is pinned stays"
        assert store.stats().pages_by_level["PINNED"] == 20
        with pytest.raises(GonePage, match="given up for good"):
            store.read(64)
        store.unpin(65)
        assert store.read(65) == NOISE[65].tobytes()
        assert store.end_of_startup() == 1
        store.write(65, NOISE[1].tobytes())
        assert store.end_of_startup() == 0
        assert store.read(65) == NOISE[1].tobytes(), "its place can be used anew"


def test_what_start_up_alone_needs_goes_even_if_it_was_pinned() -> None:
    rules = RuleSet.parse(
        '[[rule]]\naddress = [0, 0x64000]\nlevel = "NORMAL"\n'
        '[[rule]]\naddress = [0, 0x8000]\nlevel = "PINNED"\nlifecycle = "once"\n'
        '[[rule]]\naddress = [0x8000, 0x9000]\nlifecycle = "once"\n'
    )
    with PageStore.open(NOISE[:100], ram="2MiB", rules=rules) as store:
        assert store.stats().pages_by_level["PINNED"] == 8
        store.forbid([3])
        assert store.end_of_startup() == 8
        assert store.explain(8).levels["STEP_ON_IT"] == 1
        assert store.read(3) == NOISE[3].tobytes()
        with pytest.raises(GonePage):
            store.read(8)


def test_pinned_pages_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[rule]]\naddress = [0, 0x1000]\nlevel = "EAGER"\n')
    with pytest.raises(BudgetExceeded, match=r"399 pages of buffer are PINNED, which is .*MiB"):
        PageStore.open(NOISE, ram="1MiB", rules=path)


def disk_faults(store: PageStore, pages: range) -> int:
    """Return how many pages have to come from the disk, after all others have come."""
    for page_no in (*pages, *set(range(store.page_count)) - set(pages)):
        store.page_in(page_no)
    before = store.stats().by_tier["disk"].faults
    for page_no in pages:
        assert store.read(page_no) == PAGES[page_no].tobytes()
    return store.stats().by_tier["disk"].faults - before


def test_last_resort_is_near_and_step_on_it_is_far() -> None:
    far = {}
    for level in (Level.LAST_RESORT, Level.NORMAL, Level.STEP_ON_IT):
        with PageStore.open(PAGES, ram="900KiB", policy="s3fifo", verify=False) as store:
            store.set_level(range(40), level)
            far[level] = disk_faults(store, range(40))
    assert far[Level.LAST_RESORT] < far[Level.NORMAL] <= far[Level.STEP_ON_IT]


def test_a_lowest_tier_is_kept_to(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        '[[rule]]\naddress = [0, 0x190000]\nlevel = "NORMAL"\n'
        '[[rule]]\naddress = [0, 0x28000]\nlevel = "STEP_ON_IT"\nlowest_tier = "compressed"\n'
    )
    with PageStore.open(PAGES, ram="900KiB", rules=path) as store:
        assert disk_faults(store, range(40)) == 0


def fitting(cold_codec: str | None) -> int:
    """Return how many changed pages fit, for which there is nothing but RAM."""
    with PageStore.open(TEXT, ram="2500KiB", cold_codec=cold_codec) as store:
        fit = 0
        with suppress(BudgetExceeded):
            for fit in range(len(TEXT)):
                store.write(fit, TEXT[fit][::-1].tobytes())
        assert 0 < fit < len(TEXT) - 1
        for done in range(fit):
            assert store.read(done) == TEXT[done][::-1].tobytes()
        return fit


def test_more_pages_fit_where_cold_ones_are_coded_anew() -> None:
    assert fitting("zstd") > fitting(None) * 1.1


def shrink(store: PageStore) -> None:
    """Take RAM away until no more can go."""
    with suppress(BudgetExceeded):
        for _ in range(10_000):
            store.set_ram(store.stats().used_bytes - (8 << 10))


@pytest.mark.parametrize("kind", ["zstd", "lz4"])
def test_a_copy_is_coded_anew_from_what_it_was_coded_by(kind: str) -> None:
    """By another codec it would decode as well, to other bytes, and be kept as them."""
    chance = np.random.default_rng(1)
    words = chance.integers(0, 256, 8192, dtype=np.uint8)
    starts = chance.integers(0, 8192 - 16, (400, 256))
    pages = words[starts[:, :, None] + np.arange(16)].reshape(400, 4096)
    fast = Codec(kind, dictionary=bytes(8191) + b"\1")
    cold = Codec(kind, dictionary=words.tobytes())
    blank = np.zeros_like(pages)
    with PageStore.open(blank, ram="8MiB", codec=fast, cold_codec=cold, pool_percent=90) as store:
        store.set_level(range(400), Level.STEP_ON_IT)  # coded by the cold codec
        store.write_from(range(400), pages)
        store.page_out(range(400))
        store.set_level(range(400), Level.NORMAL)  # and coded anew when room is needed
        shrink(store)
        store.set_ram("8MiB")
        for page_no in range(400):
            assert store.read(page_no) == pages[page_no].tobytes()


def test_what_does_not_shrink_is_not_taken_for_all_there_is() -> None:
    chance = np.random.default_rng(2)
    pages = chance.integers(0, 4, (400, 4096)).astype(np.uint8)
    noise = chance.integers(0, 256, (200, 4096), np.uint8)
    reached = {}
    for cold in (None, "zstd"):
        with PageStore.open(pages, ram="8MiB", cold_codec=cold, pool_percent=90) as store:
            store.write_from(range(0, 400, 2), noise)  # dirty: these cannot go
            store.page_out(range(400))  # the others can
            shrink(store)
            reached[cold] = store.stats().compressed_pages
    assert reached["zstd"] <= reached[None] + 8


def test_a_codec_is_not_its_own_cold_codec() -> None:
    codec = Codec("zstd")
    with pytest.raises(InvalidArgument, match="cold pages cannot be coded"):
        PageStore.open(PAGES, codec=codec, cold_codec=codec)


# -- evictions, held against all that could have gone ------------------------------------------


@pytest.mark.parametrize("policy", ["s3fifo", "lru", "random", "worst"])
def test_an_audited_store_counts_every_eviction(policy: str) -> None:
    chance = np.random.default_rng(3)
    with PageStore.open(PAGES, ram="700KiB", policy=policy, audit=True) as store:
        for page_no in range(400):
            store.set_level(page_no, Level(int(chance.integers(2, 6))))
        for page_no in chance.integers(0, 400, 4000).tolist():
            store.page_in(page_no)
        stats = store.stats()
        assert stats.audited > 1000
        assert sum(stats.shortfalls) == stats.audited
        assert (stats.held_victims, stats.fresh_victims) == (0, 0)
        if policy == "lru":
            assert stats.shortfalls[0] == stats.audited
        if policy == "worst":
            assert stats.shortfalls[0] < stats.audited / 4
