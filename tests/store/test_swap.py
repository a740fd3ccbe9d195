# SPDX-License-Identifier: MIT
"""Changed pages in a swap file, or in RAM beside the budget, chosen by URL."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep import (
    BackingFull,
    BackingInUse,
    BadSwap,
    BudgetExceeded,
    CorruptPage,
    InvalidArgument,
    PageStepError,
    PageStore,
    StoreIOError,
    Unsupported,
)

PAGE = 4096
COUNT = 400
RAM = "1MiB"

Pages = npt.NDArray[np.uint8]


def image_pages(seed: int = 7) -> Pages:
    random = np.random.default_rng(seed)
    pages = random.integers(0, 16, (COUNT, PAGE), dtype=np.uint8)
    pages[::9] = 0
    pages[4::9] = random.integers(0, 256, (len(pages[4::9]), PAGE), dtype=np.uint8)
    return pages


IMAGE = image_pages()
CHANGED = image_pages(8)


def url_of(path: Path, more: str = "") -> str:
    return f"file://{path}{more}"


def opened(swap: str, ram: str = RAM, codec: str = "lz4", dictionary: bytes = b"") -> PageStore:
    return PageStore.open(IMAGE, ram=ram, swap=swap, codec=codec, dictionary=dictionary)


@pytest.mark.parametrize("more", ["", "?buffered=1", "?ahead=0&buffer=1"])
@pytest.mark.parametrize("codec", ["lz4", "zstd", "raw"])
def test_what_was_flushed_is_found_again(tmp_path: Path, more: str, codec: str) -> None:
    url = url_of(tmp_path / "pages.swap", more)
    ram = "4MiB" if codec == "zstd" else RAM
    with opened(url, ram, codec) as store:
        for page_no in range(0, COUNT, 2):
            store.write(page_no, CHANGED[page_no])
        assert store.flush() > 0
        assert store.flush() == 0
        assert store.stats().dirty_pages == 0
        for page_no in range(COUNT):
            wanted = CHANGED if page_no % 2 == 0 else IMAGE
            assert store.read(page_no) == wanted[page_no].tobytes()
        assert store.stats().used_bytes_max <= store.stats().budget_bytes
    with opened(url, ram, codec) as store:
        assert store.swap_stats().gets == 0, "opening reads no page"
        for page_no in range(COUNT):
            wanted = CHANGED if page_no % 2 == 0 else IMAGE
            assert store.read(page_no) == wanted[page_no].tobytes()
        assert store.stats().by_tier["swap"].faults > 0
        stats = store.swap_stats()
        assert 0 < stats.used_bytes < stats.total_bytes
        assert stats.error == ""


def test_pages_in_ram_beside_the_budget() -> None:
    with opened("ram:") as store:
        store.write_from(range(COUNT), CHANGED)
        for page_no in range(COUNT):
            assert store.read(page_no) == CHANGED[page_no].tobytes()
        assert store.swap_stats().puts > COUNT // 4
        assert store.swap_stats().handed_over > 0


def write_all(store: PageStore) -> int:
    """Write pages until one is refused; return how many were written."""
    for page_no in range(COUNT):
        try:
            store.write(page_no, CHANGED[page_no])
        except BudgetExceeded:
            return page_no
    return COUNT


def test_a_full_swap_keeps_pages_in_ram(tmp_path: Path) -> None:
    with opened(url_of(tmp_path / "small", "?size=200KiB&timeout=0.2")) as store:
        written = write_all(store)
        assert 0 < written < COUNT
        for page_no in range(COUNT):
            wanted = CHANGED if page_no < written else IMAGE
            assert store.read(page_no) == wanted[page_no].tobytes()
        with pytest.raises(BackingFull, match="cannot all be written back: the backing store is"):
            store.flush()
        assert "full" in store.swap_stats().error


def test_without_a_place_there_is_nothing_to_flush(tmp_path: Path) -> None:
    with PageStore.open(IMAGE, ram=RAM) as store:
        with pytest.raises(Unsupported, match="swap="):
            store.flush()
        with pytest.raises(Unsupported, match="swap="):
            store.swap_stats()
    with PageStore.open(IMAGE, ram=RAM, scratch=tmp_path) as store:
        store.write(3, CHANGED[3])
        assert store.flush() == 1


def test_a_full_swap_is_what_is_to_be_made_larger(tmp_path: Path) -> None:
    path = tmp_path / "small"
    with (
        opened(url_of(path, "?size=200KiB&timeout=0.2")) as store,
        pytest.raises(BudgetExceeded, match=r"the swap file://\S+ is full as well; open"),
    ):
        store.write_from(range(COUNT), CHANGED)
    with opened("ram:") as store:
        with pytest.raises(BudgetExceeded, match="are too small, though no page in it is held"):
            store.pin(range(COUNT))
        store.pin(range(20))
        with pytest.raises(BudgetExceeded, match=r"cannot leave; raise `ram`, or unpin$"):
            store.pin(range(COUNT))


def cut(path: Path) -> None:
    os.truncate(path, 4096)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))


@pytest.mark.parametrize(
    ("damage", "error", "match"),
    [
        (cut, StoreIOError, "is the swap {} still whole, and can it be reached"),
        (overwrite, CorruptPage, "the swap {} was changed by somebody else"),
    ],
)
def test_a_damaged_swap_is_what_is_named(
    tmp_path: Path, damage: Callable[[Path], None], error: type[PageStepError], match: str
) -> None:
    path = tmp_path / "pages.swap"
    url = url_of(path, "?size=4MiB&ahead=0")
    with opened(url) as store:
        store.write_from(range(20), CHANGED[:20])
        store.page_out(range(20))
        store.flush()
        store.discard(range(20))
        damage(path)
        for way in (lambda: store.read(4), lambda: store.page_in([4])):
            with pytest.raises(error, match=re.escape(match.format(url))) as caught:
                way()
            assert caught.value.page_no == 4
            assert "image's file" not in str(caught.value)
            assert "the image was" not in str(caught.value)
        assert store.read(30) == IMAGE[30].tobytes()
        store.write(4, CHANGED[9])
        assert store.read(4) == CHANGED[9].tobytes(), "as the message says"


def test_a_damaged_image_below_a_swap_is_what_is_named(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(IMAGE.tobytes())
    with PageStore.open(path, base=0, ram=RAM, swap="ram:") as store:
        store.write(3, CHANGED[3])
        store.flush()
        os.truncate(path, 4096)
        with pytest.raises(StoreIOError, match="is the image's file still whole") as caught:
            store.read(10)
        assert "swap" not in str(caught.value)


def test_another_store_has_it(tmp_path: Path) -> None:
    url = url_of(tmp_path / "pages.swap")
    program = (
        "import sys\nfrom pagestep import BackingInUse, PageStore\nimport numpy as np\n"
        "try:\n    PageStore.open(np.zeros((4, 4096), np.uint8), swap=sys.argv[1])\n"
        "except BackingInUse as error:\n    print(error)\n    sys.exit(7)\n"
    )
    with opened(url) as store:
        store.write(0, CHANGED[0])
        with pytest.raises(BackingInUse, match="another store's swap file"):
            opened(url)
        done = subprocess.run([sys.executable, "-c", program, url], check=False)
        assert done.returncode == 7
    with opened(url) as store:
        assert store.read(0) == CHANGED[0].tobytes()


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pages.swap"
    opened(url_of(path)).close()
    before = path.read_bytes()
    small = IMAGE[:50]
    wrong: list[tuple[dict[str, object], str]] = [
        ({"codec": "zstd"}, "codec"),
        ({"dictionary": bytes(range(256))}, "a dictionary of 0 bytes, and this store a dict"),
        ({"image": small}, "400 pages, and this store 50 pages"),
        ({"image": CHANGED}, "another image's"),
        ({"page_size": 8192}, "pages of 4096 bytes, and this store pages of 8192 bytes"),
        ({"base": 0x1000}, "address 0x0 on, and this store pages from address 0x1000"),
    ]
    for given_, match in wrong:
        image = given_.pop("image", IMAGE)
        with pytest.raises(BadSwap, match=match):
            PageStore.open(image, swap=url_of(path), **given_)  # type: ignore[arg-type]
    assert before == path.read_bytes()
    foreign = tmp_path / "letter"
    foreign.write_bytes(b"Dear reader," * 1000)
    with pytest.raises(BadSwap, match=r"letter is no swap file, and was left alone.*replace=1"):
        opened(url_of(foreign))
    assert foreign.read_bytes() == b"Dear reader," * 1000
    with opened(url_of(foreign, "?replace=1&size=3MiB")) as store:
        store.write(1, CHANGED[1])
        store.flush()
    with opened(url_of(foreign)) as store:
        assert store.read(1) == CHANGED[1].tobytes()


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("http://host/pages", "no backing of scheme 'http': there are file:, swap:, ram:"),
        ("pages.swap", "no backing of scheme ''"),
        ("file:pages", "^'file:pages' names no file of this machine: write file:///path/of/file"),
        ("file://host/pages", "no file of this machine"),
        ("file:///tmp/a#b", "%23"),
        ("file:///tmp/a?sise=3MiB", "no option 'sise': file: takes ahead, buffer, buffered, rep"),
        ("file:///tmp/a?size=much", "size is 'much'"),
        ("file:///tmp/a?size=1MiB&size=2MiB", "size is given twice"),
        ("file:///tmp/a?replace=maybe", "replace is 'maybe': it is 1 or 0"),
        ("file:///tmp/a?buffer=0", "buffer is '0': it is a whole number from 1 to 4096"),
        ("file:///tmp/a?timeout=never", "timeout is 'never': it is seconds"),
        ("ram:/tmp/a", "RAM has no name"),
        ("ram:?replace=1", "no option 'replace': ram: takes ahead, buffer, size, timeout"),
        ("file://[::1/a", "no URL"),
        (17, "named by a URL"),
    ],
)
def test_bad_urls(url: str, match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        opened(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:secret@host/0?namespace=a&timeout=never",
        "redis+cluster://user:secret@host/?namespace=a&namespace=b",
        "rodis://user:secret@host/0",
        "redis://user:secret@host/0#a",
        "file://user:secret@host/pages",
    ],
)
def test_messages_name_no_password(url: str) -> None:
    with pytest.raises(InvalidArgument, match="user@host") as caught:
        opened(url)
    assert "secret" not in str(caught.value)


def test_files_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(StoreIOError, match="cannot be opened as a swap file: No such file"):
        opened(url_of(tmp_path / "nowhere" / "pages"))
    for size in ("0", "10000"):
        with pytest.raises(
            BackingFull, match="too small for a few pages of 4 KiB: give size=36KiB"
        ):
            opened(url_of(tmp_path / "tiny", f"?size={size}"))
        assert not (tmp_path / "tiny").exists()
    opened(url_of(tmp_path / "tiny", "?size=36KiB")).close()
    with pytest.raises(StoreIOError, match="x cannot be opened as a swap file: File name too long"):
        opened(url_of(tmp_path / ("x" * 300)))
    with pytest.raises(BackingFull, match="no room for a swap file of"):
        opened(url_of(tmp_path / "huge", "?size=8000000TiB"))
    assert not (tmp_path / "huge").exists()
    with pytest.raises(InvalidArgument, match="either scratch= or swap="):
        PageStore.open(IMAGE, swap="ram:", scratch=True)


def test_a_folder_that_is_closed_to_us(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    user = os.geteuid()
    with PageStore.open(ram=RAM) as store:
        if user == 0:  # who may do anything; so become nobody, who may not even come here
            os.seteuid(65534)
        try:
            with pytest.raises(StoreIOError, match=r"closed/a cannot be opened .*denied"):
                opened(url_of(closed / "a"))
            with pytest.raises(StoreIOError, match=r"closed/a cannot be opened .*denied"):
                store.anonymous(4, swap=url_of(closed / "a"))
        finally:
            os.seteuid(user)


def test_a_damaged_record_is_never_handed_out(tmp_path: Path) -> None:
    path = tmp_path / "pages.swap"
    with opened(url_of(path, "?ahead=0")) as store:
        store.write_from(range(COUNT), CHANGED)
        store.flush()
        wrong = path.read_bytes()
        at = wrong.index(CHANGED[4].tobytes()[:64])  # it does not shrink
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"\xff\x00" * 8)
        store.discard(4)
        with pytest.raises(PageStepError, match="page 4"):
            store.read(4)
        assert store.read(5) == CHANGED[5].tobytes()


@settings(deadline=None, max_examples=25)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 39), st.sampled_from(["write", "read", "flush", "reopen"])),
        max_size=120,
    ),
    page_size=st.sampled_from([512, 4096, 16384]),
    seed=st.integers(0, 2**32),
)
def test_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, str]],
    page_size: int,
    seed: int,
) -> None:
    """A store that is flushed, closed and opened again has what was written."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 8, (40, page_size), dtype=np.uint8)
    wanted = image.copy()
    url = url_of(tmp_path_factory.mktemp("swap") / "pages", "?buffer=3")
    store = PageStore.open(image, ram="2MiB", page_size=page_size, swap=url)
    try:
        for page_no, what in steps:
            if what == "write":
                wanted[page_no] = random.integers(0, random.integers(1, 257), page_size)
                store.write(page_no, wanted[page_no])
            elif what == "flush":
                store.flush()
                store.discard(page_no)
            elif what == "reopen":
                store.flush()
                store.close()
                store = PageStore.open(image, ram="2MiB", page_size=page_size, swap=url)
            assert store.read(page_no) == wanted[page_no].tobytes()
    finally:
        store.close()
