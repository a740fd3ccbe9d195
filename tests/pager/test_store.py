# SPDX-License-Identifier: MIT
"""A whole store whose changed pages go to a pager: to Redis, and to the store with faults."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pagestep import CorruptPage, InvalidArgument, PageStepError, PageStore, StoreIOError
from pagestep.store.backing import KeptPager

from ..store.pages import make_pages
from .servers import Cluster, Server, free_ports

PAGES = 300
RAM = "512KiB"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(free_ports(1)[0], tmp_path)
    yield found
    found.end()


def noise(page_no: int, version: int) -> bytes:
    """Half noise: it shrinks, and not much."""
    chance = np.random.default_rng(page_no * 100 + version)
    return chance.integers(0, 256, 2048, np.uint8).tobytes() * 2


def fill(store: PageStore, version: int) -> None:
    for page_no in range(PAGES):
        store.write(page_no, noise(page_no, version))


def check(store: PageStore, version: int) -> None:
    for page_no in range(PAGES):
        assert store.read(page_no) == noise(page_no, version)


@pytest.mark.parametrize("scheme", ["single", "cluster"])
def test_changed_pages_outgrow_this_machine(tmp_path: Path, scheme: str) -> None:
    held: Server | Cluster
    if scheme == "single":
        held = Server(free_ports(1)[0], tmp_path)
        url = f"redis://127.0.0.1:{held.port}/0"
    else:
        held = Cluster(tmp_path)
        url = held.url
    try:
        with PageStore.open(make_pages(PAGES), ram=RAM, swap=f"{url}?namespace=a") as store:
            fill(store, 1)
            fill(store, 2)
            check(store, 2)
            store.flush()
        with PageStore.open(make_pages(PAGES), ram=RAM, swap=f"{url}?namespace=a") as store:
            check(store, 2)
        # Other pages, and the same name: they are told apart.
        other = make_pages(PAGES, seed=2)
        with PageStore.open(other, ram=RAM, swap=f"{url}?namespace=a") as store:
            assert store.read(7) == other[7].tobytes()
    finally:
        held.end()


def test_two_hosts_keep_equal_pages_once(server: Server) -> None:
    url = f"redis://127.0.0.1:{server.port}/0"
    pages = make_pages(PAGES)
    with (
        PageStore.open(pages, ram=RAM, swap=f"{url}?namespace=a") as first,
        PageStore.open(pages, ram=RAM, swap=f"{url}?namespace=b") as second,
    ):
        fill(first, 1)
        first.flush()
        alone = len(server.client.keys("*owners"))
        fill(second, 1)
        second.flush()
        assert alone == len(server.client.keys("*owners"))
        check(first, 1)
        check(second, 1)


@pytest.fixture
def control(factories: None, tmp_path: Path) -> Path:
    return tmp_path / "fault"


def url_of(control: Path) -> str:
    return f"python:faults:faulty?control={control}&timeout=2"


def test_wrong_bytes_and_wrong_pages_raise_with_the_page_named(control: Path) -> None:
    with PageStore.open(make_pages(PAGES), ram=RAM, swap=url_of(control)) as store:
        fill(store, 1)
        store.flush()
        wrong: list[tuple[int, int | None]] = []
        for fault in ("wrong_bytes", "wrong_page"):
            control.write_text(fault)
            for page_no in range(0, PAGES, 9):
                try:
                    right = store.read(page_no) == noise(page_no, 1)
                except CorruptPage as error:
                    wrong.append((page_no, error.page_no))
                else:
                    assert right
        assert all(page_no == named for page_no, named in wrong)
        assert wrong
        control.write_text("")
        check(store, 1)


def test_a_full_store_loses_nothing(control: Path) -> None:
    with PageStore.open(make_pages(PAGES), ram=RAM, swap=url_of(control)) as store:
        fill(store, 1)
        store.flush()
        control.write_text("full")
        written = {page_no: 1 for page_no in range(PAGES)}
        for page_no in range(PAGES):
            try:
                store.write(page_no, noise(page_no, 2))
            except PageStepError:
                continue
            written[page_no] = 2
        control.write_text("")
        for page_no, version in written.items():
            assert store.read(page_no) == noise(page_no, version)


def test_a_pager_that_dies_again_and_again_loses_nothing(control: Path) -> None:
    with PageStore.open(make_pages(PAGES), ram=RAM, swap=url_of(control)) as store:
        [pager] = [each.pager for each in store._kept if isinstance(each, KeptPager)]  # pyright: ignore
        for page_no in range(PAGES):
            if page_no % 60 == 30:
                os.kill(pager.pid, signal.SIGKILL)
            for _ in range(50):
                try:
                    store.write(page_no, noise(page_no, 3))
                    break
                except StoreIOError:
                    continue
        store.flush()
        check(store, 3)
        assert pager.restarts
        pid = pager.pid
    assert not Path(f"/proc/{pid}").exists()


def test_a_url_without_a_namespace(server: Server) -> None:
    with pytest.raises(InvalidArgument, match="namespace"):
        PageStore.open(make_pages(9), swap=f"redis://127.0.0.1:{server.port}/0")
