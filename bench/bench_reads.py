# SPDX-License-Identifier: MIT
"""Reads from a store against the bare codec loop, memcpy, and what else Python has.

    python bench/bench_reads.py x86-cloud=vmlinuz marvell=zImage

Everybody reads the same pages in the same random order, coded at the same level.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from _harness import (
    BATCH,
    PAGE,
    Arm,
    Kernel,
    Row,
    arguments,
    compare,
    kernels_of,
    save,
    show_rows,
)

from pagestep import PageStore, Stats
from pagestep.codecs import Codec, train_dictionary
from pagestep.store import _binding
from pagestep.store.image import Image

# They come without types, or with ones that leave half of it unknown.
blosc2: Any = import_module("blosc2")
lmdb: Any = import_module("lmdb")
lz4_block: Any = import_module("lz4.block")
ffi: Any = _binding.ffi
lib: Any = _binding.lib

THREADS = 2
CHUNK = 1024
FRAMES_MIN = 8  # a store has no fewer
DICTIONARY_BYTES = 1 << 16

Run = Callable[[int, int, int], None]


class Reader:
    """Buffers for each thread, and the pages' numbers as plain ints."""

    def __init__(self, kernel: Kernel) -> None:
        """Make room for a batch on each thread."""
        self.kernel = kernel
        self.numbers: list[int] = kernel.order.tolist()
        self.out = [np.zeros((BATCH, PAGE), dtype=np.uint8) for _ in range(THREADS)]

    def batches(self, read: Callable[[npt.NDArray[np.uint64], Any], None]) -> Run:
        """Return what reads page numbers into rows, a batch at a time."""
        order = self.kernel.order

        def run(first: int, count: int, thread_no: int) -> None:
            out = self.out[thread_no]
            for at in range(first, first + count, BATCH):
                read(order[at : at + BATCH], out)

        return run

    def singles(self, read: Callable[[int], object]) -> Run:
        """Return what reads one page after the other."""
        numbers = self.numbers

        def run(first: int, count: int, thread_no: int) -> None:
            for page_no in numbers[first : first + count]:
                read(page_no)

        return run


class BareLoop:
    """``pgs_decode_pages`` over the pages' coded bytes: a loop in C around the codec alone."""

    def __init__(self, kernel: Kernel, codec: Codec) -> None:
        """Encode every distinct page, and lay out what the loop is given for each batch."""
        pages = kernel.matrix[kernel.distinct]
        coded: list[bytes] = []
        for page, page_no in zip(pages, kernel.distinct.tolist(), strict=True):
            coded.append(codec.encode(page, address=kernel.address(page_no)) or b"")
        keep = np.array([bool(data) for data in coded])
        if not keep.all():  # the loop knows no raw pages: a page that shrinks takes their place
            spare = int(np.flatnonzero(keep)[0])
            coded = [data or coded[spare] for data in coded]
        sizes = np.array([len(data) for data in coded], dtype=np.uint32)
        ends = np.cumsum(sizes, dtype=np.uint64)
        addresses = np.uint64(kernel.base) + kernel.distinct * np.uint64(PAGE)
        addresses[~keep] = addresses[np.flatnonzero(keep)[0]]
        self._data = b"".join(coded)
        self._offsets = np.ascontiguousarray((ends - sizes)[kernel.index])
        self._sizes = np.ascontiguousarray(sizes[kernel.index])
        self._addresses = np.ascontiguousarray(addresses[kernel.index])
        self._source = ffi.from_buffer(self._data)
        self._status = [ffi.new("int32_t[]", BATCH) for _ in range(THREADS)]
        self._handle: Any = codec.handle
        self._coders = [self._open() for _ in range(THREADS)]
        self._out = [np.zeros((BATCH, PAGE), dtype=np.uint8) for _ in range(THREADS)]

    def _open(self) -> Any:
        opened = ffi.new("pgs_coder **")
        if lib.pgs_coder_open(self._handle.pointer, 0, opened):
            raise MemoryError("no coder")

        # The codec goes last: what closes a coder holds on to it.
        def close(coder: Any, _codec: Any = self._handle) -> None:
            lib.pgs_coder_close(coder)

        return ffi.gc(opened[0], close)

    def run(self, first: int, count: int, thread_no: int) -> None:
        """Decode a part of the order."""
        coder, status = self._coders[thread_no], self._status[thread_no]
        out = ffi.from_buffer(self._out[thread_no])
        offsets = ffi.from_buffer("uint64_t[]", self._offsets)
        sizes = ffi.from_buffer("uint32_t[]", self._sizes)
        addresses = ffi.from_buffer("uint64_t[]", self._addresses)
        source, source_size = self._source, len(self._source)
        for at in range(first, first + count, BATCH):
            code = lib.pgs_decode_pages(
                coder, source, source_size, offsets + at, sizes + at, addresses + at, BATCH,
                out, status,
            )  # fmt: skip
            if code:
                raise RuntimeError(f"pages at {at} do not decode: {code}")


@contextmanager
def lmdb_of(values: dict[int, bytes]) -> Generator[Callable[[int], Any]]:
    """Keep values in lmdb; give what gets them by number."""
    with tempfile.TemporaryDirectory() as folder:
        environment = lmdb.open(folder, map_size=1 << 28, readahead=False)
        try:
            with environment.begin(write=True) as txn:
                for page_no, data in values.items():
                    txn.put(page_no.to_bytes(4, "big"), data)
            with environment.begin(buffers=True) as txn:
                yield lambda page_no: txn.get(page_no.to_bytes(4, "big"))
        finally:
            environment.close()


def compressed_store(kernel: Kernel, codec: Codec) -> PageStore:
    """Return a store that has every page compressed, and no more frames than it must."""
    image = Image.open(kernel.matrix.reshape(-1), page_size=PAGE, base=kernel.base, raw=True)
    store = PageStore.open(image, codec=codec, pool_percent=100)
    store.page_out(kernel.distinct)
    reader = Reader(kernel)
    return squeeze(store, kernel, reader)


def squeeze(store: PageStore, kernel: Kernel, reader: Reader) -> PageStore:
    """Cut the budget to what the store needs to keep what is compressed."""
    stats = store.stats()
    decoders = THREADS * (DICTIONARY_BYTES + 4 * PAGE)
    store.set_ram(stats.pool_bytes + stats.metadata_bytes + FRAMES_MIN * PAGE + decoders)
    return store


def check(kernel: Kernel, read: Callable[[int], Any], name: str) -> None:
    """See that a reader gives the right bytes, before it is measured."""
    for page_no in kernel.order[:256].tolist():
        if bytes(read(page_no)) != kernel.matrix[page_no].tobytes():
            raise RuntimeError(f"{name} gave other bytes for page {page_no}")


def codec_for(kernel: Kernel, tuned: bool) -> tuple[Codec, bytes]:
    """Return the store's codec and its dictionary; tuned: filter, dictionary and HC 12."""
    if not tuned:
        return Codec("lz4", level=0), b""
    dictionary = train_dictionary(
        kernel.matrix,
        DICTIONARY_BYTES - 1,
        filter=kernel.filter,
        address=kernel.base,
        tables=False,
    )
    return Codec("lz4", level=12, filter=kernel.filter, dictionary=dictionary), dictionary


def blosc2_of(kernel: Kernel, tuned: bool) -> Callable[[int], Any]:
    """Return how blosc2 reads a page: a chunk a page, no filters."""
    schunk = blosc2.SChunk(
        chunksize=PAGE,
        cparams={
            "codec": blosc2.Codec.LZ4HC if tuned else blosc2.Codec.LZ4,
            "clevel": 9,
            "filters": [blosc2.Filter.NOFILTER] * 6,
            "typesize": 1,
            "nthreads": 1,
        },
        dparams={"nthreads": 1},
    )
    for page in kernel.matrix:
        schunk.append_data(page)
    read: Callable[[int], Any] = schunk.decompress_chunk
    return read


def peers_of(
    kernel: Kernel, tuned: bool, dictionary: bytes, stack: ExitStack
) -> dict[str, Callable[[int], Any]]:
    """Return how each Python peer reads one page; they hold the same pages."""
    mode: dict[str, Any] = (
        {"mode": "high_compression", "compression": 12} if tuned else {"mode": "default"}
    )
    options: dict[str, Any] = {"dict": dictionary} if dictionary else {}
    blocks = {
        page_no: bytes(
            lz4_block.compress(kernel.matrix[page_no], store_size=False, **mode, **options)
        )
        for page_no in kernel.distinct.tolist()
    }
    decompress = lz4_block.decompress
    get = stack.enter_context(lmdb_of(blocks))

    def from_dict(page_no: int) -> object:
        return decompress(blocks[page_no], uncompressed_size=PAGE, **options)

    def from_lmdb(page_no: int) -> object:
        return decompress(get(page_no), uncompressed_size=PAGE, **options)

    return {
        "lz4.block over a dict": from_dict,
        "blosc2 SChunk": blosc2_of(kernel, tuned),
        "lmdb + lz4.block": from_lmdb,
    }


def compressed(kernel: Kernel, rounds: int, tuned: bool) -> list[Row]:
    """Compare reads of compressed pages; ``tuned``: with filter, dictionary and LZ4 HC 12."""
    codec, dictionary = codec_for(kernel, tuned)
    reader = Reader(kernel)
    bare = BareLoop(kernel, codec)
    with ExitStack() as stack:
        store = stack.enter_context(compressed_store(kernel, codec))
        singles = {"store.read": store.read, **peers_of(kernel, tuned, dictionary, stack)}
        for name, read in singles.items():
            check(kernel, read, name)
        batch = reader.batches(store.read_into)
        over_dict = reader.singles(singles["lz4.block over a dict"])
        arms = [
            Arm("bare codec loop", bare.run),
            Arm("store.read_into, 64", batch),
            *(Arm(name, reader.singles(read)) for name, read in singles.items()),
            Arm("bare codec loop", bare.run, THREADS),
            Arm("store.read_into, 64", batch, THREADS),
            Arm("store.read", reader.singles(store.read), THREADS),
            Arm("lz4.block over a dict", over_dict, THREADS),
        ]
        before = store.stats()
        rows = compare(
            kernel.name,
            "compressed, LZ4 HC 12 + filter + dictionary" if tuned else "compressed, LZ4 fast",
            arms,
            chunk=CHUNK,
            rounds=rounds,
            order_size=len(kernel.order),
        )
        require_compressed(before, store.stats())
        return rows


def require_compressed(before: Stats, after: Stats) -> None:
    """See that what was measured were reads of compressed pages."""
    faults = after.by_tier["compressed"].faults - before.by_tier["compressed"].faults
    share = faults / (after.reads - before.reads)
    if share < 0.95:
        raise RuntimeError(f"only {share:.1%} of the reads were of compressed pages")


def hot(kernel: Kernel, rounds: int) -> list[Row]:
    """Compare reads of pages in frames with copies of pages."""
    reader = Reader(kernel)
    matrix = kernel.matrix
    image = Image.open(matrix.reshape(-1), page_size=PAGE, base=kernel.base, raw=True)
    target = np.zeros(PAGE, dtype=np.uint8)

    def copy_batch(numbers: npt.NDArray[np.uint64], out: npt.NDArray[np.uint8]) -> None:
        matrix.take(numbers.view(np.int64), axis=0, out=out, mode="clip")

    with PageStore.open(image) as store:
        store.page_in(kernel.distinct)
        check(kernel, store.read, "store.read")
        arms = [
            Arm("numpy take, 64: memcpy", reader.batches(copy_batch)),
            Arm("store.read_into, 64", reader.batches(store.read_into)),
            Arm("np.copyto", reader.singles(lambda page_no: np.copyto(target, matrix[page_no]))),
            Arm("ndarray.tobytes", reader.singles(lambda page_no: matrix[page_no].tobytes())),
            Arm("store.read", reader.singles(store.read)),
            Arm("store.read_into, 64", reader.batches(store.read_into), THREADS),
            Arm("store.read", reader.singles(store.read), THREADS),
        ]
        return compare(
            kernel.name, "hot", arms, chunk=CHUNK, rounds=rounds, order_size=len(kernel.order)
        )


def disk(kernel: Kernel, rounds: int) -> list[Row]:
    """Compare reads of absent pages with reads of their file, which the system has cached."""
    reader = Reader(kernel)
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(kernel.matrix.tobytes())
        file.flush()
        fd = file.fileno()

        def pread_batch(numbers: npt.NDArray[np.uint64], out: npt.NDArray[np.uint8]) -> None:
            for row, page_no in zip(out, numbers.tolist(), strict=True):
                os.preadv(fd, [row], page_no * PAGE)

        with (
            Image.open(file.name, page_size=PAGE, base=kernel.base, raw=True) as image,
            PageStore.open(image, pool_percent=0) as store,
        ):
            stats = store.stats()
            store.set_ram(stats.metadata_bytes + (FRAMES_MIN + 4) * PAGE)
            check(kernel, store.read, "store.read")
            arms = [
                Arm("os.preadv of each, 64", reader.batches(pread_batch)),
                Arm("store.read_into, 64", reader.batches(store.read_into)),
                Arm("os.pread", reader.singles(lambda page_no: os.pread(fd, PAGE, page_no * PAGE))),
                Arm("store.read", reader.singles(store.read)),
                Arm("store.read_into, 64", reader.batches(store.read_into), THREADS),
            ]
            rows = compare(
                kernel.name,
                "disk (in the system's page cache)",
                arms,
                chunk=CHUNK,
                rounds=rounds,
                order_size=len(kernel.order),
            )
            stats = store.stats()
            if stats.by_tier["disk"].faults < 0.95 * stats.reads:
                raise RuntimeError("the reads were not of absent pages")
            return rows


def main() -> None:
    """Run all of it."""
    parser = arguments("Reads from a store against its limits and its peers.")
    parser.add_argument("--rounds", type=int, default=60)
    parsed = parser.parse_args()
    rows: list[Row] = []
    for kernel in kernels_of(parsed):
        rows += compressed(kernel, parsed.rounds, tuned=False)
        rows += compressed(kernel, parsed.rounds, tuned=True)
        rows += hot(kernel, parsed.rounds)
        rows += disk(kernel, parsed.rounds)
    show_rows(rows)
    save(parsed.json, rows)


if __name__ == "__main__":
    main()
