# SPDX-License-Identifier: MIT
"""Images behind a URL: of which only what is touched is fetched, and which must not change."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from pagestep import (
    BackingLost,
    BadImage,
    CorruptPage,
    Image,
    PageStore,
    StoreIOError,
    Unsupported,
)
from pagestep.store.image import _source

from ..image import builders
from ..store.pages import make_pages
from .servers import until
from .web import Web, serving

PAGES = 2000


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as found:
        yield found


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_source, "_REMOTE_DEADLINE_S", 2.0)


@pytest.fixture
def pages(web: Web) -> bytes:
    found = np.random.default_rng(5).integers(0, 256, PAGES * 4096, np.uint8).tobytes()
    web.files["/flat.bin"] = found
    return found


def page(data: bytes, page_no: int) -> bytes:
    return data[page_no * 4096 : (page_no + 1) * 4096]


def test_only_touched_pages_are_fetched(web: Web, pages: bytes) -> None:
    with PageStore.open(f"{web.url}/flat.bin", base=0, ram="2MiB") as store:
        opened = web.sent
        assert opened <= 64 << 10
        for page_no in (1500, 3, 777, 1500):
            assert store.read(page_no) == page(pages, page_no)
        assert web.sent - opened <= 4 * (16 << 10)
        assert store.stats().by_tier["disk"].faults == 3


def test_in_order_it_is_read_ahead(web: Web, pages: bytes) -> None:
    with PageStore.open(f"{web.url}/flat.bin", base=0, ram="2MiB") as store:
        for page_no in range(PAGES):
            assert store.read(page_no) == page(pages, page_no)
        assert web.sent < 1.2 * len(pages) + (1 << 20)


def test_it_is_as_the_file_itself(web: Web, tmp_path: Path) -> None:
    data = builders.elf(
        [builders.Load(0xFFFFFFFF81000000, make_pages(40).tobytes())],
        symbols=[builders.Symbol("start", 0xFFFFFFFF81000000, 64)],
    )
    path = tmp_path / "vmlinux"
    path.write_bytes(data)
    web.files["/vmlinux"] = data
    with Image.open(path) as here, Image.open(f"{web.url}/vmlinux") as there:
        assert there.extents == here.extents
        assert there.segments == here.segments
        assert there.identity == here.identity
        assert there.page(3).tobytes() == here.page(3).tobytes()
        assert np.array_equal(there.flat(), here.flat())
        with PageStore.open(here) as one, PageStore.open(there, scratch=True) as two:
            for page_no in range(here.page_count):
                assert one.read(page_no) == two.read(page_no)
            two.write(1, b"written")
            two.page_out([1])
            assert two.read(1)[:7] == b"written"


def test_a_packed_kernel(web: Web, x86_kernel: Path) -> None:
    web.files["/vmlinuz"] = x86_kernel.read_bytes()
    with Image.open(x86_kernel) as here, Image.open(f"{web.url}/vmlinuz") as there:
        assert there.payload == here.payload
        assert there.identity == here.identity
        assert there.pager is None, "what is unpacked is here"


def test_a_file_that_changes_is_found_out(web: Web, pages: bytes) -> None:
    with PageStore.open(f"{web.url}/flat.bin", base=0, ram="2MiB") as store:
        assert store.read(3) == page(pages, 3)
        web.files["/flat.bin"] = bytes(len(pages))
        with pytest.raises(CorruptPage, match="ETag") as told:
            store.read(1000)
        assert told.value.page_no == 1000
        assert store.read(3) == page(pages, 3)


@pytest.mark.usefixtures("hurried")
def test_a_server_that_fails_and_comes_back(web: Web, pages: bytes) -> None:
    with PageStore.open(f"{web.url}/flat.bin", base=0, ram="2MiB") as store:
        web.fault = "error"
        with pytest.raises(BackingLost, match="cannot be read"):
            store.read(1000)
        web.fault = "slow"
        assert store.read(1000) == page(pages, 1000)
        web.fault = "short"
        with pytest.raises(StoreIOError, match="early"):
            store.read(50)
        web.fault = ""
        assert store.read(50) == page(pages, 50)


@pytest.mark.usefixtures("hurried")
def test_a_killed_pager_comes_back(web: Web, pages: bytes) -> None:
    with PageStore.open(f"{web.url}/flat.bin", base=0, ram="2MiB") as store:
        assert isinstance(store.image, Image)
        pager = store.image.pager
        assert pager is not None
        os.kill(pager.pid, signal.SIGKILL)
        until(lambda: pager.restarts == 1 and pager.is_connected)
        assert store.read(900) == page(pages, 900)


def test_a_server_without_ranges(web: Web, pages: bytes) -> None:
    web.fault = "no_ranges"
    with pytest.raises(Unsupported, match="download"):
        PageStore.open(f"{web.url}/flat.bin", base=0)


def test_what_cannot_be_opened(web: Web) -> None:
    web.files["/empty"] = b""
    for path, kind in (("/missing", StoreIOError), ("/empty", BadImage)):
        with pytest.raises(kind, match=path):
            PageStore.open(f"{web.url}{path}")
    with pytest.raises(StoreIOError, match="no-such-protocol"):
        PageStore.open("no-such-protocol://x/y")
    with pytest.raises(StoreIOError, match="no such file"):
        PageStore.open("memory://nothing")


def test_files_of_this_machine_and_this_process(tmp_path: Path) -> None:
    data = make_pages(20).tobytes()
    path = tmp_path / "a b.bin"
    path.write_bytes(data)
    import_module("fsspec").filesystem("memory").pipe_file("/there.bin", data)
    for url in (path.as_uri(), "memory://there.bin"):
        with PageStore.open(url, base=0) as store:
            assert b"".join(store.read(n) for n in range(20)) == data
