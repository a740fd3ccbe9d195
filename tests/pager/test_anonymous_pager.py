# SPDX-License-Identifier: MIT
"""Anonymous memory whose pages go to a pager: to Redis, and to the store with faults."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pagestep import (
    Anonymous,
    BackingFull,
    BackingLost,
    BackingTimeout,
    CorruptPage,
    PageStepError,
    PageStore,
)
from pagestep.store.backing import KeptPager
from pagestep.store.pager import Pager

from .servers import Cluster, Server, until

PAGES = 300
RAM = "600KiB"


@pytest.fixture
def store() -> Iterator[PageStore]:
    with PageStore.open(ram=RAM) as opened:
        yield opened


def noise(page_no: int, version: int) -> bytes:
    """Half noise: it shrinks, and not much."""
    chance = np.random.default_rng(page_no * 100 + version)
    return chance.integers(0, 256, 2048, np.uint8).tobytes() * 2


def fill(memory: Anonymous, version: int, step: int = 1) -> None:
    for page_no in range(0, PAGES, step):
        memory.write(page_no, noise(page_no, version))


def check(memory: Anonymous, version: int) -> None:
    for page_no in range(PAGES):
        assert memory.read(page_no) == noise(page_no, version)


def pager_of(memory: Anonymous) -> Pager:
    [kept] = [each for each in memory._swap_kept if isinstance(each, KeptPager)]  # pyright: ignore
    return kept.pager


# -- Redis --------------------------------------------------------------------------------


def check_server(store: PageStore, url: str, keys: Callable[[str], list[bytes]]) -> None:
    store.set_ram("1200KiB")
    one = store.anonymous(PAGES, swap=url, swap_pages=2 * PAGES)
    # The same name, and pages of its own.
    other = store.anonymous(PAGES, swap=url, swap_pages=2 * PAGES)
    fill(one, 1)
    fill(other, 2)
    fork = one.fork()
    fill(fork, 3, step=2)
    check(one, 1)
    check(other, 2)
    one.flush()
    assert len(keys("*")) > PAGES
    one.close()
    for page_no in range(PAGES):
        assert fork.read(page_no) == noise(page_no, 1 if page_no % 2 else 3)
    pids = [pager_of(fork).pid, pager_of(other).pid]
    fork.close()
    other.close()
    assert keys("*owners") == []
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_a_server_keeps_pages_as_long_as_somebody_has_them(
    store: PageStore, server: Server
) -> None:
    check_server(store, f"redis://127.0.0.1:{server.port}/0?namespace=a", server.client.keys)


def test_a_cluster_keeps_pages_as_long_as_somebody_has_them(
    store: PageStore, empty_cluster: Cluster
) -> None:
    check_server(store, f"{empty_cluster.url}?namespace=a", empty_cluster.all_keys)


# -- faults -------------------------------------------------------------------------------


@pytest.fixture
def control(factories: None, tmp_path: Path) -> Path:
    return tmp_path / "fault"


@pytest.fixture
def memory(store: PageStore, control: Path) -> Iterator[Anonymous]:
    swap = f"python:faults:faulty?control={control}&timeout=2&ahead=0"
    with store.anonymous(PAGES, swap=swap) as opened:
        yield opened
        control.write_text("")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("dies", BackingLost),
        ("hangs", BackingTimeout),
        ("wrong_bytes", CorruptPage),
        ("wrong_page", CorruptPage),
    ],
)
def test_reads_name_memory_and_page(
    memory: Anonymous, control: Path, fault: str, error: type[PageStepError]
) -> None:
    fill(memory, 1)
    memory.flush()
    control.write_text(fault)
    with pytest.raises(error, match=rf"page \d+ of {memory.name} cannot be read") as caught:
        check(memory, 1)
    assert caught.value.page_no is not None
    control.write_text("")
    if fault == "hangs":
        os.kill(pager_of(memory).pid, signal.SIGKILL)
    until(lambda: all_right(memory, caught.value.page_no or 0))
    check(memory, 1)


def all_right(memory: Anonymous, page_no: int) -> bool:
    try:
        return memory.read(page_no) == noise(page_no, 1)
    except (BackingLost, BackingTimeout):
        return False


@pytest.mark.parametrize(
    ("fault", "error"), [("full", BackingFull), ("dies", BackingLost), ("hangs", BackingTimeout)]
)
def test_writes_that_do_not_get_there_are_not_lost(
    memory: Anonymous, control: Path, fault: str, error: type[PageStepError]
) -> None:
    fill(memory, 1)
    memory.flush()
    versions = {page_no: 1 for page_no in range(PAGES)}
    control.write_text(fault)
    for page_no in range(PAGES):
        try:
            memory.write(page_no, noise(page_no, 2))
        except PageStepError:
            break
        versions[page_no] = 2
    with pytest.raises(error, match=f"changed pages of {memory.name}"):
        memory.flush()
    control.write_text("")
    if fault == "hangs":
        os.kill(pager_of(memory).pid, signal.SIGKILL)
    until(lambda: flushed(memory))
    for page_no, version in versions.items():
        assert memory.read(page_no) == noise(page_no, version)


def flushed(memory: Anonymous) -> bool:
    try:
        memory.flush()
    except PageStepError:
        return False
    return True


def test_a_pager_that_is_killed_again_and_again_loses_nothing(
    store: PageStore, control: Path
) -> None:
    memory = store.anonymous(PAGES, swap=f"python:faults:faulty?control={control}&timeout=20")
    pager = pager_of(memory)
    for page_no in range(PAGES):
        if page_no % 60 == 30:
            os.kill(pager.pid, signal.SIGKILL)
        memory.write(page_no, noise(page_no, 1))
    until(lambda: flushed(memory))
    check(memory, 1)
    assert pager.restarts


def test_closing_leaves_nothing_in_the_folder(store: PageStore, control: Path) -> None:
    memory = store.anonymous(PAGES, swap=f"python:faults:faulty?control={control}&timeout=20")
    fill(memory, 1)
    memory.flush()
    assert len(list((control.parent / "pages").iterdir())) == PAGES
    memory.close()
    assert list((control.parent / "pages").iterdir()) == []
