# SPDX-License-Identifier: MIT
"""Reading images: raw ones, buffers, views, limits, life and death."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from pagestep.codecs.errors import BadImage, Closed, InvalidArgument, NoSuchPage, StoreIOError
from pagestep.store.image import Extent, Image, Segment, parse_size, show_size

from . import builders as b

FIRMWARE = random.Random(1).randbytes(10_000)


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    path = tmp_path / "firmware.bin"
    path.write_bytes(FIRMWARE)
    return path


def test_raw_firmware_has_pages_from_its_base(firmware: Path) -> None:
    with Image.open(firmware, base=0x08000000, arch="thumb") as image:
        assert (image.kind, image.arch, image.payload) == ("raw", "thumb", None)
        assert (image.page_count, image.page_size, image.base) == (3, 4096, 0x08000000)
        assert image.segments == (Segment("image", 0x08000000, 10_000, 0, range(3), "rwx", "raw"),)
        assert image.extents == (Extent(0, 0, 10_000),)
        assert image.read(2) == FIRMWARE[8192:] + bytes(4096 * 3 - 10_000)
        assert image.page_of(0x08001000) == 1
        assert image.pages_of([0x08000000, 0x08002FFF, 0x08003000, 0]).tolist() == [0, 2, -1, -1]
        assert len(image.symbols) == 0
        assert image.symbol_at(0x08000000) is None


def test_raw_wins_over_what_the_bytes_look_like() -> None:
    data = b.small_elf(b"x" * 5000)
    with Image.open(data, raw=True) as image:
        assert (image.kind, image.base) == ("raw", 0)
        assert image.flat().tobytes()[: len(data)] == data


def test_a_page_of_a_file_is_a_view_and_the_padded_last_one_a_copy(firmware: Path) -> None:
    with Image.open(firmware, raw=True) as image:
        first = image.page(0)
        assert first.tobytes() == FIRMWARE[:4096]
        assert np.shares_memory(first, image.page(0))
        assert not np.shares_memory(image.page(2), image.page(2))
        for page in image.pages():
            assert page.dtype == np.uint8
            assert page.shape == (4096,)
            assert not page.flags.writeable
    assert first.tobytes() == FIRMWARE[:4096], "a view outlives its image"


def test_a_flat_file_of_whole_pages_is_not_copied() -> None:
    buffer = bytearray(FIRMWARE[:8192])
    with Image.open(buffer, raw=True) as image:
        flat = image.flat()
        assert flat.shape == (2, 4096)
        assert np.shares_memory(flat, np.frombuffer(buffer, np.uint8))
        assert image.file is None


def test_any_buffer_will_do() -> None:
    words = np.frombuffer(FIRMWARE, "<u2").reshape(50, 100)
    for buffer in (FIRMWARE, bytearray(FIRMWARE), memoryview(FIRMWARE), words):
        with Image.open(buffer, raw=True) as image:
            assert b"".join(map(image.read, range(3)))[:10_000] == FIRMWARE


def test_read_into_takes_pages_in_any_order(firmware: Path) -> None:
    with Image.open(firmware, raw=True, page_size=512) as image:
        whole = image.flat()
        for numbers in ([], [3], [5, 6, 7], [7, 6, 6, 0, 19, 18], np.array([1, 2, 9]), range(20)):
            out = np.full((len(numbers) + 1, 512), 7, np.uint8)
            image.read_into(numbers, out)
            assert (out[: len(numbers)] == whole[list(numbers)]).all()
            assert (out[len(numbers) :] == 7).all()


def test_read_into_refuses_what_does_not_fit(firmware: Path) -> None:
    with Image.open(firmware, raw=True) as image:
        with pytest.raises(InvalidArgument, match="2 pages need 8192"):
            image.read_into([0, 1], bytearray(8191))
        with pytest.raises(InvalidArgument, match="read-only"):
            image.read_into([0], bytes(4096))
        with pytest.raises(InvalidArgument, match="contiguous"):
            image.read_into([0], np.zeros((4096, 2), np.uint8)[:, 0])
        out = bytearray(b"\xaa" * 8192)
        with pytest.raises(NoSuchPage, match="page 3 does not exist: it has pages 0 to 2"):
            image.read_into([0, 3], out)
        assert out == b"\xaa" * 8192


def test_pages_out_of_range(firmware: Path) -> None:
    with Image.open(firmware, raw=True) as image:
        for number in (-1, 3, 1 << 70):
            for act in (image.read, image.page, image.address_of):
                with pytest.raises(NoSuchPage):
                    act(number)
        for address in (-1, 3 * 4096, 1 << 64):
            with pytest.raises(NoSuchPage, match="is in no page"):
                image.page_of(address)


@pytest.mark.parametrize("page_size", [0, 1, 256, 4095, 131072, -4096])
def test_page_sizes_out_of_range(page_size: int) -> None:
    with pytest.raises(InvalidArgument, match=f"page_size={page_size}"):
        Image.open(FIRMWARE, raw=True, page_size=page_size)


def test_limits_of_arguments() -> None:
    with pytest.raises(InvalidArgument, match="base"):
        Image.open(FIRMWARE, base=-1)
    with pytest.raises(InvalidArgument, match="end of the address space"):
        Image.open(FIRMWARE, base=(1 << 64) - 4096)
    with pytest.raises(BadImage, match=r"9.766 KiB, more than max_size=8 KiB.*raise max_size="):
        Image.open(FIRMWARE, raw=True, max_size="8KiB")
    with pytest.raises(InvalidArgument, match="max_size is 'lots'"):
        Image.open(FIRMWARE, raw=True, max_size="lots")


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BadImage, match="empty: an image has at least one byte"):
        Image.open(tmp_path / "empty")
    with pytest.raises(BadImage, match="not a file"):
        Image.open(tmp_path / "fifo")
    with pytest.raises(BadImage, match="not a file"):
        Image.open(tmp_path)
    with pytest.raises(StoreIOError, match="missing: cannot open: No such file"):
        Image.open(tmp_path / "missing")
    with pytest.raises(StoreIOError, match="cannot open"):
        Image.open("a\0b")
    with pytest.raises(BadImage, match="contiguous"):
        Image.open(np.zeros((8, 8), np.uint8)[:, ::2])


def test_a_refused_image_leaves_no_file_open(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b.small_elf(b"x" * 100)[:90])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(BadImage):
            Image.open(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_use_after_close_raises(firmware: Path) -> None:
    image = Image.open(firmware, raw=True)
    view = image.page(0)
    image.close()
    image.close()
    for act in (
        lambda: image.read(0),
        lambda: image.page(0),
        lambda: image.flat(),
        lambda: image.identity,
        lambda: image.symbols,
        lambda: image.file,
        lambda: image.read_into([0], bytearray(4096)),
        lambda: list(image.pages()),
    ):
        with pytest.raises(Closed, match="the image is closed"):
            act()
    assert view.tobytes() == FIRMWARE[:4096]
    assert image.address_of(1) == 4096, "what is known without the file stays known"


def test_a_file_that_shrinks_raises_and_does_not_kill(firmware: Path) -> None:
    with Image.open(firmware, raw=True) as image:
        os.truncate(firmware, 5000)
        assert image.read(0) == FIRMWARE[:4096]
        with pytest.raises(StoreIOError, match="had 10000 bytes when it was opened"):
            image.read(1)
        with pytest.raises(StoreIOError):
            image.read_into([0, 1], bytearray(8192))


def test_threads_read_the_same_image(firmware: Path) -> None:
    with Image.open(firmware, raw=True, page_size=512) as image:
        whole = image.flat().tobytes()
        wrong: list[int] = []

        def reader(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(2000):
                number = chance.randrange(image.page_count)
                if image.read(number) != whole[number * 512 : number * 512 + 512]:
                    wrong.append(number)

        threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_identity_is_of_the_memory_image_and_not_of_its_packing() -> None:
    import gzip

    data = b.small_elf(FIRMWARE)
    with (
        Image.open(data) as plain,
        Image.open(gzip.compress(data)) as packed,
        Image.open(FIRMWARE, raw=True) as raw,
    ):
        assert plain.identity == packed.identity == raw.identity
    with Image.open(FIRMWARE[:-1] + b"\x00", raw=True) as other:
        assert other.identity != raw.identity


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("8MiB", 8 << 20), ("8 m", 8 << 20), ("1.5GiB", 3 << 29), ("2kB", 2000), (7, 7)],
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1e9", "1 parsec", "٣", "1_0", -5])
def test_what_is_no_size(text: int | str) -> None:
    with pytest.raises(InvalidArgument):
        parse_size(text)


def test_sizes_are_shown() -> None:
    assert [show_size(n) for n in (5, 4096, 3 << 19, 7 << 40)] == [
        "5 B",
        "4 KiB",
        "1.5 MiB",
        "7 TiB",
    ]
