# SPDX-License-Identifier: MIT
"""RAM that the compressed tier really takes, against zram's.

    python bench/bench_memory.py x86-cloud=vmlinuz marvell=zImage

All pages of the image are paged out, then the budget is cut as far as it goes with every page
still in RAM. What is counted is the store's own ``used_bytes``: coded bytes with headers, holes
and rounding, page table, dictionary, encoders and decoders, frame table, the store itself and
the fewest frames. zram's figure is ``mem_used_total`` after the same image was written to it;
it does not count zram's table (8 to 16 bytes a page) or its compressors' memory.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from _harness import PAGE, Kernel, arguments, kernels_of, save, show_table

from pagestep import PageStore
from pagestep.codecs import Codec, train_dictionary
from pagestep.store.image import Image

TARGETS = {"x86-cloud": 0.75, "marvell": 0.65}
# Measured in November 2026 on a two-core x86-64 virtual machine with Debian 12.
ZRAM_MEASURED = {"x86-cloud": 18_650_000, "marvell": 7_210_000}
DICTIONARIES = (0, 16 << 10, 32 << 10, (64 << 10) - 1)  # LZ4 reaches 65,535 bytes back
FRAMES_MIN = 8  # a store has no fewer
PACKING_BYTES = 2 << 20  # HC tables, while packing
ZRAM = Path("/sys/block/zram0")
DEVICE = Path("/dev/zram0")


@dataclass(frozen=True)
class Row:
    """RAM of one setting, in bytes.

    Attributes:
        kernel: The image.
        setting: Codec, filter and dictionary.
        page_count: Pages of the image, same-filled ones included.
        used_bytes: All of it.
        stored_bytes: Coded bytes.
        pool_bytes: With headers, rounding, holes.
        page_table_bytes: 32 bytes a page.
        codec_bytes: Dictionary and what coders share.
        coder_bytes: Everything else of the metadata: encoders, decoders, frame table, store.
        frame_bytes: The frames.
        bytes_per_page: ``used_bytes`` by pages.
        zram_bytes: ``mem_used_total`` for the same image.
        zram_source: ``"this run"``, or where it is from.
        ratio: ``used_bytes`` to ``zram_bytes``; 0 where there is none.
        target: What the ratio has to be at most; 0 where none is set.
    """

    kernel: str
    setting: str
    page_count: int
    used_bytes: int
    stored_bytes: int
    pool_bytes: int
    page_table_bytes: int
    codec_bytes: int
    coder_bytes: int
    frame_bytes: int
    bytes_per_page: float
    zram_bytes: int
    zram_source: str
    ratio: float
    target: float


class NoZram(Exception):
    """zram cannot be used here; the text says why."""


@contextmanager
def zram_device(size: int) -> Generator[Path]:
    """Set /dev/zram0 up for lz4, and put it back as it was."""
    if not DEVICE.exists() or not ZRAM.is_dir():
        raise NoZram("there is no /dev/zram0")
    if os.geteuid() != 0:
        raise NoZram("only root may set /dev/zram0 up")
    if int((ZRAM / "disksize").read_text()) != 0:
        raise NoZram("/dev/zram0 is in use")
    algorithms = (ZRAM / "comp_algorithm").read_text()
    before = algorithms[algorithms.index("[") + 1 : algorithms.index("]")]
    if "lz4" not in algorithms.replace("[", " ").replace("]", " ").split():
        raise NoZram("this zram has no lz4")
    try:
        (ZRAM / "comp_algorithm").write_text("lz4")
        (ZRAM / "disksize").write_text(str(size))
        yield DEVICE
    except OSError as error:
        raise NoZram(f"zram: {error}") from error
    finally:
        (ZRAM / "reset").write_text("1")
        (ZRAM / "comp_algorithm").write_text(before)


def zram_bytes(kernel: Kernel) -> int:
    """Return what zram with lz4 takes for the image.

    Raises:
        NoZram: It cannot be used here.
    """
    content = kernel.matrix.tobytes()
    with zram_device(len(content)) as device, mmap.mmap(-1, len(content)) as buffer:
        buffer.write(content)  # an anonymous map is aligned as O_DIRECT wants it
        fd = os.open(device, os.O_WRONLY | os.O_DIRECT)
        try:
            view = memoryview(buffer)
            done = 0
            while done < len(content):
                part = view[done : done + (1 << 20)]
                done += os.write(fd, part)
                part.release()
            view.release()
            os.fsync(fd)
        finally:
            os.close(fd)
        return int((ZRAM / "mm_stat").read_text().split()[2])


def squeezed(kernel: Kernel, codec: Codec, ram: int) -> PageStore:
    """Return a store with every page in RAM, compressed, its budget cut to what that takes."""
    image = Image.open(kernel.matrix.reshape(-1), page_size=PAGE, base=kernel.base, raw=True)
    store = PageStore.open(image, codec=codec, ram=ram, pool_percent=100)
    store.page_out(range(kernel.page_count), codec_level=12)
    store.set_ram(_least(store))
    stats = store.stats()
    if stats.absent_pages > 2 * FRAMES_MIN:
        raise RuntimeError(f"{stats.absent_pages} pages did not stay in RAM")
    return store


def _least(store: PageStore) -> int:
    stats = store.stats()
    return stats.pool_bytes + stats.metadata_bytes + FRAMES_MIN * PAGE


def measure(kernel: Kernel, dictionary_size: int, zram: int, source: str) -> Row:
    """Return what LZ4 HC 12 with the image's filter and a dictionary takes."""
    dictionary = b""
    if dictionary_size:
        dictionary = train_dictionary(
            kernel.matrix,
            dictionary_size,
            filter=kernel.filter,
            address=kernel.base,
            tables=False,
        )
    # Packed with HC 12, whose tables are then given back: the store's own encoder is the
    # fast one, and each decodes what the other encodes.
    codec = Codec("lz4", filter=kernel.filter, dictionary=dictionary)
    # Tables for frames and pool are as large as the first budget asks: so twice.
    with squeezed(kernel, codec, kernel.page_count * PAGE + (8 << 20)) as store:
        least = _least(store)
    with squeezed(kernel, codec, least + PACKING_BYTES) as store:
        stats = store.stats()
        page_table = kernel.page_count * 32
        return Row(
            kernel=kernel.name,
            setting=f"lz4hc-12 {kernel.filter} dictionary {len(dictionary)}",
            page_count=kernel.page_count,
            used_bytes=stats.used_bytes,
            stored_bytes=stats.stored_bytes,
            pool_bytes=stats.pool_bytes,
            page_table_bytes=page_table,
            codec_bytes=codec.handle.memory_bytes,
            coder_bytes=stats.metadata_bytes - page_table - codec.handle.memory_bytes,
            frame_bytes=stats.used_bytes - stats.pool_bytes - stats.metadata_bytes,
            bytes_per_page=stats.used_bytes / kernel.page_count,
            zram_bytes=zram,
            zram_source=source,
            ratio=stats.used_bytes / zram if zram else 0,
            target=TARGETS.get(kernel.name, 0),
        )


def main() -> None:
    """Run all of it."""
    parsed = arguments("RAM of the compressed tier against zram's.").parse_args()
    rows: list[Row] = []
    for kernel in kernels_of(parsed):
        try:
            zram, source = zram_bytes(kernel), "this run"
        except NoZram as reason:
            zram, source = ZRAM_MEASURED.get(kernel.name, 0), f"November 2026: here {reason}"
            print(f"zram is not measured: {reason}")
        rows += [measure(kernel, size, zram, source) for size in DICTIONARIES]
    for name in dict.fromkeys(row.kernel for row in rows):
        mine = [row for row in rows if row.kernel == name]
        show_table(
            f"RAM of the compressed tier, {name}: zram lz4 {mine[0].zram_bytes:,} "
            f"({mine[0].zram_source}); target {mine[0].target}",
            ("", "used", "of zram", "coded", "pool", "page table", "codec", "coders, tables",
             "frames", "a page"),
            [
                (row.setting, *(f"{size:,}" for size in (row.used_bytes,)), f"{row.ratio:.3f}",
                 *(f"{size:,}" for size in (row.stored_bytes, row.pool_bytes,
                                            row.page_table_bytes, row.codec_bytes,
                                            row.coder_bytes, row.frame_bytes)),
                 f"{row.bytes_per_page:.0f}")
                for row in mine
            ],
        )  # fmt: skip
    save(parsed.json, rows)


if __name__ == "__main__":
    main()
