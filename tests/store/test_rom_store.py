# SPDX-License-Identifier: MIT
"""Stores whose pages are in a ROM image, with the image beside it and alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pagestep import (
    AbsentPage,
    BadRom,
    BadTrace,
    BudgetExceeded,
    Closed,
    CorruptPage,
    DirtyPage,
    Image,
    InvalidArgument,
    PageStore,
    Rom,
    replay,
)
from pagestep.store.rom._format import unpack
from pagestep.store.trace import Block, generate

from ..rom.roms import BASE, COUNT, INIT, PAGES, SIZE, TEXT, kernel, rom_bytes

LEFT_OUT = (".init",)
# The fewest frames and what a reader of this ROM image takes; most pages are elsewhere.
TIGHT = 400 << 10
SAME = sum(len(set(page.tolist())) == 1 for page in PAGES)


@pytest.fixture
def vmlinux(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinux"
    path.write_bytes(kernel())
    return path


@pytest.fixture
def kernel_rom(tmp_path: Path) -> Path:
    path = tmp_path / "kernel.rom"
    path.write_bytes(rom_bytes())
    return path


def everything(store: PageStore) -> bytes:
    out = bytearray(store.page_count * store.page_size)
    store.read_into(range(store.page_count), out)
    return bytes(out)


def holds(store: PageStore) -> bool:
    stats = store.stats()
    assert stats.used_bytes == stats.hot_bytes + stats.pool_bytes + stats.metadata_bytes
    return stats.used_bytes <= stats.used_bytes_max <= stats.budget_bytes


def damaged(page_no: int, table: str = "data") -> bytearray:
    """Return the ROM image with a byte changed that a page is decoded from."""
    place = unpack(rom_bytes()).tables[table]
    for at in range(place.offset, place.offset + 8 * place.count, 7):
        rom = bytearray(rom_bytes())
        rom[at] ^= 1
        with Rom.open(rom) as opened:
            try:
                opened.read(page_no)
            except CorruptPage:
                return rom
    raise AssertionError("no byte is that page's")


# -- opening ------------------------------------------------------------------------------


def test_a_rom_image_alone(kernel_rom: Path) -> None:
    with PageStore.open(rom=kernel_rom) as store:
        assert (store.page_count, store.page_size) == (COUNT, SIZE)
        assert everything(store) == PAGES.tobytes()
        assert store.rom is store.image
        assert store.image.base == BASE
        assert [segment.name for segment in store.image.segments] == [".text", ".rodata", ".init"]
        store.page_in(".rodata")
        store.page_out(".rodata")
        assert repr(store) == f"<PageStore of {kernel_rom}: {COUNT} pages>"
        stats = store.stats()
        assert stats.by_tier["rom"].faults >= COUNT - SAME
        assert stats.by_tier["disk"].faults == 0


@pytest.mark.parametrize("made", ["path", "buffer", "opened"])
def test_with_the_image_beside_it(vmlinux: Path, kernel_rom: Path, made: str) -> None:
    given: dict[str, Any] = {"path": kernel_rom, "buffer": rom_bytes(), "opened": None}
    with Rom.open(kernel_rom) as rom, Image.open(vmlinux) as image:
        with PageStore.open(image, rom=given[made] or rom) as store:
            assert everything(store) == PAGES.tobytes()
            assert store.image is image
        assert rom.read(0) == image.read(0), "they stay the caller's to close"


def test_left_out_pages_come_from_the_image(vmlinux: Path) -> None:
    with PageStore.open(vmlinux, rom=rom_bytes(leave_out=LEFT_OUT)) as store:
        assert everything(store) == PAGES.tobytes()
        stats = store.stats()
        same = [page_no for page_no, page in enumerate(PAGES) if len(set(page.tolist())) == 1]
        assert stats.by_tier["disk"].faults == sum(n not in same for n in INIT)
        assert stats.by_tier["rom"].faults == sum(n not in same for n in range(INIT.start))
        assert stats.by_tier["same"].faults == len(same)
        with Rom.open(rom_bytes(leave_out=LEFT_OUT)) as rom:
            # A page that is equal to another one reads the same bytes once more.
            stored = sum(rom.by_codec[name][1] for name in ("raw", "lz4", "zstd"))
            assert stored < stats.by_tier["rom"].bytes <= stored + SIZE


def test_left_out_pages_without_the_image() -> None:
    with PageStore.open(rom=rom_bytes(leave_out=LEFT_OUT)) as store:
        for page_no in range(INIT.start):
            assert store.read(page_no) == PAGES[page_no].tobytes()
        for page_no in INIT:
            with pytest.raises(AbsentPage, match=rf"page {page_no} .*cannot be read: it was left"):
                store.read(page_no)
        # What is written is there all the same.
        store.write(INIT.start, PAGES[0])
        assert store.read(INIT.start) == PAGES[0].tobytes()


def test_another_image_is_refused(tmp_path: Path, kernel_rom: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(kernel().replace(PAGES[4].tobytes(), PAGES[4].tobytes()[::-1]))
    with pytest.raises(BadRom, match=rf"{kernel_rom} was made from another image than {other}"):
        PageStore.open(other, rom=kernel_rom)
    with (
        Image.open(kernel(), page_size=512) as image,
        pytest.raises(InvalidArgument, match="open it with page_size=4096"),
    ):
        PageStore.open(image, rom=kernel_rom)
    with pytest.raises(InvalidArgument, match=r"needs an image, .* a budget \(ram=\)"):
        PageStore.open()
    with pytest.raises(BadRom, match="not a ROM image"):
        PageStore.open(rom=kernel())


def test_closing(kernel_rom: Path) -> None:
    """A store keeps what it needs of a ROM image that its owner closes."""
    rom = Rom.open(kernel_rom)
    store = PageStore.open(rom=rom)
    rom.close()
    assert everything(store) == PAGES.tobytes()
    store.close()
    with pytest.raises(Closed):
        store.read(0)
    with pytest.raises(Closed, match="the ROM image is closed"):
        PageStore.open(rom=rom)
    with PageStore.open(rom=kernel_rom) as store:
        opened = store.rom
    assert opened is not None
    with pytest.raises(Closed):
        opened.read(0)


# -- damage -------------------------------------------------------------------------------


def test_a_damaged_page_spoils_no_other(vmlinux: Path) -> None:
    page_no = next(n for n in TEXT if len(set(PAGES[n].tolist())) > 1 and n not in (4, 5))
    with PageStore.open(rom=damaged(page_no)) as store:
        for _ in range(2):
            with pytest.raises(CorruptPage, match=f"page {page_no} .*cannot be read"):
                store.read(page_no)
        for other in set(range(COUNT)) - {page_no, page_no + 1}:
            assert store.read(other) == PAGES[other].tobytes()
        assert store.stats().corrupt == 2


def test_a_damaged_page_comes_from_the_image_where_there_is_one(vmlinux: Path) -> None:
    page_no = next(n for n in TEXT if len(set(PAGES[n].tolist())) > 1 and n not in (4, 5))
    for table in ("data", "pages"):
        with PageStore.open(vmlinux, rom=damaged(page_no, table)) as store:
            assert everything(store) == PAGES.tobytes()
    # But not if the image has changed as well: the checksum is the ROM image's.
    with PageStore.open(vmlinux, rom=damaged(page_no)) as store:
        changed = kernel().replace(PAGES[page_no].tobytes(), PAGES[page_no].tobytes()[::-1])
        vmlinux.write_bytes(changed)
        with pytest.raises(CorruptPage, match=f"page {page_no} .*cannot be read"):
            store.read(page_no)


def test_a_damaged_word_spoils_its_pages_alone() -> None:
    same = next(n for n in TEXT if len(set(PAGES[n].tolist())) == 1 and PAGES[n][0])
    with Rom.open(damaged(same, "words")) as rom:
        bad = rom.verify().bad_pages
    with PageStore.open(rom=damaged(same, "words")) as store:
        for page_no in range(COUNT):
            if page_no in bad:
                with pytest.raises(CorruptPage):
                    store.read(page_no)
            else:
                assert store.read(page_no) == PAGES[page_no].tobytes()
    assert same in bad


# -- the budget ---------------------------------------------------------------------------


def test_what_reading_takes_is_part_of_the_budget() -> None:
    with Rom.open(rom_bytes(), threads=1) as one, Rom.open(rom_bytes(), threads=3) as three:
        used: list[int] = []
        for rom in (one, three):
            with PageStore.open(rom=rom, ram="8MiB") as store:
                used.append(store.stats().metadata_bytes)
        assert used[1] - used[0] == three.memory_bytes - one.memory_bytes
        with PageStore.open(kernel(), ram=three.memory_bytes):
            pass  # enough for a store without it
        with pytest.raises(BudgetExceeded):
            PageStore.open(rom=three, ram=three.memory_bytes)
    with PageStore.open(rom=rom_bytes(), ram=TIGHT) as store:
        assert store.rom is not None
        assert store.stats().metadata_bytes > store.rom.memory_bytes


@pytest.mark.parametrize("beside", [False, True])
def test_the_budget_holds_at_every_moment(vmlinux: Path, beside: bool) -> None:
    rng = np.random.default_rng(8)
    image = vmlinux if beside else None
    with PageStore.open(image, rom=rom_bytes(), ram=TIGHT, scratch=True) as store:
        shadow = PAGES.copy()
        for page_no in rng.integers(0, COUNT, 1500).tolist():
            if rng.random() < 0.2:
                shadow[page_no, 8:16] = rng.integers(0, 256, 8, np.uint8)
                store.write(page_no, shadow[page_no, 8:16].tobytes(), offset=8)
            elif rng.random() < 0.1:
                shadow[page_no] = rng.integers(0, 256, SIZE, np.uint8)
                store.write(page_no, shadow[page_no])
            elif rng.random() < 0.1:
                with suppress(DirtyPage):
                    store.discard(page_no)
            assert store.read(page_no) == shadow[page_no].tobytes()
            assert holds(store)
        assert everything(store) == shadow.tobytes()
        assert store.stats().writebacks > 0


def test_threads_over_one_rom_image() -> None:
    """Fewer of them may decode at once than there are, and there is room for few pages."""
    wrong: list[int] = []
    with Rom.open(rom_bytes(), threads=1) as rom, PageStore.open(rom=rom, ram=TIGHT) as store:

        def read(seed: int) -> None:
            for page_no in np.random.default_rng(seed).integers(0, COUNT, 500).tolist():
                if store.read(page_no) != PAGES[page_no].tobytes():
                    wrong.append(page_no)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert holds(store)
    assert wrong == []


# -- clean and dirty ----------------------------------------------------------------------


def test_what_was_read_and_written_back_to_what_it_was_is_clean() -> None:
    noisy = next(n for n in TEXT if len(set(PAGES[n].tolist())) > 200)
    with PageStore.open(rom=rom_bytes()) as store:
        store.write(noisy, b"new", offset=8)
        with pytest.raises(DirtyPage):
            store.discard(noisy)
        store.write(noisy, PAGES[noisy])
        store.discard(noisy)
        assert store.read(noisy) == PAGES[noisy].tobytes()


# -- replay -------------------------------------------------------------------------------


def with_writes(blocks: Iterator[Block]) -> Iterator[Block]:
    rng = np.random.default_rng(11)
    for block in blocks:
        kinds = (rng.random(len(block.pages)) < 0.1).astype(np.uint8) * 2
        yield Block(block.pages, kinds, block.times, block.marks)


@pytest.mark.parametrize("beside", [False, True])
def test_replay(vmlinux: Path, beside: bool) -> None:
    """Every page is compared with what it must be, and counted where it was found."""
    image = vmlinux if beside else None
    rom = rom_bytes(leave_out=LEFT_OUT) if beside else rom_bytes()
    with PageStore.open(image, rom=rom, ram=TIGHT, scratch=True) as store:
        result = replay(store, with_writes(generate(COUNT, events=20_000, seed=2)))
        stats = store.stats()
        assert result.events == 20_000
        assert stats.by_tier["rom"].faults > 0
        assert stats.by_tier["disk"].faults > 0 or not beside
        assert sum(sample.faults_by_tier["rom"] for sample in result.samples) == (
            stats.by_tier["rom"].faults
        )
        assert holds(store)


def test_replay_needs_every_page() -> None:
    with PageStore.open(rom=rom_bytes(leave_out=LEFT_OUT)) as store, pytest.raises(AbsentPage):
        replay(store, generate(COUNT, events=1000, seed=2))
    with (
        PageStore.open(rom=rom_bytes()) as store,
        pytest.raises(BadTrace, match="another image"),
    ):
        replay(store, generate(COUNT * 2, events=1000, seed=2))
