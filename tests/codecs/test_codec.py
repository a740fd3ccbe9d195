# SPDX-License-Identifier: MIT
from __future__ import annotations

import array
import gc
import mmap
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep.codecs import CODECS, FILTERS, Codec
from pagestep.codecs.errors import Closed, CorruptPage, InvalidArgument, Unsupported

Code = Callable[[int, int], bytes]

PAGE = 4096
COMPRESSING = [("lz4", 0), ("lz4", 9), ("lz4", 12), ("zstd", 1), ("zstd", 9), ("zstd", 22)]
ADDRESS = 0xFFFF_FFFF_8100_0000


@given(
    codec=st.sampled_from(COMPRESSING),
    filter_name=st.sampled_from(sorted(FILTERS)),
    page_size=st.sampled_from([512, 4096, 8192]),
    dictionary=st.binary(max_size=300),
    address=st.integers(0, 2**64 - 1),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_round_trip(
    codec: tuple[str, int],
    filter_name: str,
    page_size: int,
    dictionary: bytes,
    address: int,
    data: st.DataObject,
) -> None:
    pieces = data.draw(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=30))
    page = (b"".join(pieces) * page_size)[:page_size]
    name, level = codec
    with Codec(
        name, level=level, filter=filter_name, dictionary=dictionary, page_size=page_size
    ) as opened:
        encoded = opened.encode(page, address=address)
        if encoded is not None:
            assert len(encoded) < page_size
            assert opened.decode(encoded, address=address) == page


@pytest.mark.parametrize(("name", "level"), COMPRESSING)
def test_incompressible_page_is_none(name: str, level: int) -> None:
    page = np.random.default_rng(1).integers(0, 256, PAGE, dtype=np.uint8)
    assert Codec(name, level=level).encode(page) is None


@pytest.mark.parametrize(("name", "level"), COMPRESSING)
def test_dictionary_and_filter_make_it_smaller(name: str, level: int, code: Code) -> None:
    page = code(1, PAGE)
    plain = Codec(name, level=level).encode(page)
    helped = Codec(name, level=level, dictionary=code(2, 65536)).encode(page)
    assert plain is not None
    assert helped is not None
    assert len(helped) < len(plain)
    calls = b"".join(
        b"\x55\xe8" + (0x5000 - 6 * i).to_bytes(4, "little") for i in range(PAGE // 6)
    ).ljust(PAGE, b"\0")
    filtered = Codec(name, level=level, filter="x86").encode(calls)
    unfiltered = Codec(name, level=level).encode(calls)
    assert filtered is not None
    assert unfiltered is not None
    assert len(filtered) < len(unfiltered) / 4


def test_every_kind_of_buffer_without_a_copy(code: Code) -> None:
    page = code(3, PAGE)
    codec = Codec("lz4", filter="x86")
    encoded = codec.encode(page, address=ADDRESS)
    assert encoded is not None
    anonymous = mmap.mmap(-1, PAGE)
    anonymous[:] = page
    words = array.array("Q", page)
    kinds: list[Any] = [
        bytearray(page),
        memoryview(page),
        words,
        np.frombuffer(page, dtype=np.uint32),
    ]
    for kind in kinds:
        assert codec.encode(kind, address=ADDRESS) == encoded
    assert codec.encode(anonymous, address=ADDRESS) == encoded
    outs: list[Any] = [
        bytearray(PAGE),
        array.array("Q", bytes(PAGE)),
        np.empty((2, PAGE // 2), np.uint8),
    ]
    for out in outs:
        codec.decode_into(memoryview(encoded), out, address=ADDRESS)
        assert bytes(memoryview(out)) == page
    codec.decode_into(encoded, anonymous, address=ADDRESS)
    assert anonymous[:] == page


def test_another_address_gives_another_page(code: Code) -> None:
    codec = Codec("lz4", filter="x86")
    encoded = codec.encode(code(4, PAGE), address=0x1000)
    assert encoded is not None
    assert codec.decode(encoded, address=0x2000) != code(4, PAGE)


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE + 1, 2 * PAGE])
def test_pages_of_other_sizes_are_refused(size: int) -> None:
    codec = Codec("lz4")
    with pytest.raises(InvalidArgument, match=f"page of {size} bytes"):
        codec.encode(bytes(size))
    encoded = codec.encode(bytes(PAGE))
    assert encoded is not None
    with pytest.raises(InvalidArgument, match=f"out of {size} bytes"):
        codec.decode_into(encoded, bytearray(size))


def test_bad_buffers_and_addresses_are_refused() -> None:
    codec = Codec("zstd")
    encoded = codec.encode(bytes(PAGE))
    assert encoded is not None
    with pytest.raises(InvalidArgument, match="contiguous"):
        codec.encode(np.zeros(2 * PAGE, np.uint8)[::2])
    with pytest.raises(InvalidArgument, match="writable"):
        codec.decode_into(encoded, bytes(PAGE))
    text: Any = "text"
    with pytest.raises(InvalidArgument, match="contiguous"):
        codec.encode(text)
    for address in (-1, 2**64):
        with pytest.raises(InvalidArgument, match="64 bits"):
            codec.encode(bytes(PAGE), address=address)
        with pytest.raises(InvalidArgument, match="64 bits"):
            codec.decode(encoded, address=address)


def test_bad_parameters_are_refused(code: Code) -> None:
    with pytest.raises(InvalidArgument, match="not one of raw, same, lz4, zstd"):
        Codec("lzma")
    with pytest.raises(InvalidArgument, match="codec 4"):
        Codec(4)
    with pytest.raises(InvalidArgument, match="not one of none, x86"):
        Codec("lz4", filter="mips")
    with pytest.raises(InvalidArgument, match="filter 6"):
        Codec("lz4", filter=6)
    for level in (-1, 13):
        with pytest.raises(InvalidArgument, match="lz4 has 0 to 12"):
            Codec("lz4", level=level)
    for page_size in (0, 256, 4095, 131072):
        with pytest.raises(InvalidArgument, match="power of two"):
            Codec("lz4", page_size=page_size)
    with pytest.raises(InvalidArgument, match="at most 1048576"):
        Codec("lz4", dictionary=bytes((1 << 20) + 1))
    with pytest.raises(Unsupported):
        Codec("raw", dictionary=code(1, 100))
    with pytest.raises(InvalidArgument):  # zstd's magic number, and no tables
        Codec("zstd", dictionary=b"\x37\xa4\x30\xec" + bytes(500))


def test_raw_and_same() -> None:
    page = np.random.default_rng(2).integers(0, 256, PAGE, dtype=np.uint8).tobytes()
    raw = Codec("raw", filter="x86")
    assert raw.encode(page, address=ADDRESS) == page
    assert raw.decode(page) == page
    same = Codec("same")
    assert same.encode(page) is None
    assert same.encode(b"pagestep" * (PAGE // 8)) == b"pagestep"
    assert same.decode(b"pagestep") == b"pagestep" * (PAGE // 8)
    for bad in (b"", b"1234567", b"123456789"):
        with pytest.raises(CorruptPage):
            same.decode(bad)
        with pytest.raises(CorruptPage):
            raw.decode(bad)


@pytest.mark.parametrize(("name", "level"), COMPRESSING)
@given(junk=st.binary(max_size=200), cut=st.integers(0, 4000), flips=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_hostile_bytes_are_refused_or_decode(
    name: str, level: int, junk: bytes, cut: int, flips: int
) -> None:
    codec = Codec(name, level=level, filter="x86", dictionary=b"pagestep" * 20)
    page = (b"some page " + junk) * PAGE
    encoded = codec.encode(page[:PAGE])
    assert encoded is not None
    bent = bytearray(encoded)
    bent[flips % len(bent)] ^= 1 << flips % 8
    for hostile in (junk, encoded[: cut % len(encoded)], bytes(bent), encoded + junk):
        try:
            assert len(codec.decode(hostile)) == PAGE
        except CorruptPage as error:
            assert "do not decode" in str(error)  # noqa: PT017
    with pytest.raises(CorruptPage):
        codec.decode(encoded[: cut % len(encoded)])
    assert codec.decode(encoded) == page[:PAGE]


def test_pages_round_trip(code: Code) -> None:
    rng = np.random.default_rng(3)
    pages = np.frombuffer(code(5, 700 * PAGE), dtype=np.uint8).reshape(-1, PAGE).copy()
    pages[3] = rng.integers(0, 256, PAGE, dtype=np.uint8)
    pages[699] = rng.integers(0, 256, PAGE, dtype=np.uint8)
    pages[10] = 0
    codec = Codec("lz4", filter="x86", dictionary=code(6, 8192))
    encoded = codec.encode_pages(pages, address=ADDRESS)
    assert len(encoded) == 700
    assert np.flatnonzero(encoded.is_raw).tolist() == [3, 699]
    assert encoded.sizes.dtype == np.uint32
    assert encoded.data.dtype == np.uint8
    assert int(encoded.sizes.sum()) == len(encoded.data)
    for page_no in (0, 10, 400, 698):
        alone = codec.encode(pages[page_no], address=ADDRESS + page_no * PAGE)
        assert encoded[page_no].tobytes() == alone
    assert encoded[3].tobytes() == pages[3].tobytes()
    assert np.array_equal(codec.decode_pages(encoded), pages)
    out = np.zeros_like(pages)
    assert codec.decode_pages(encoded, out=out) is out
    assert np.array_equal(out, pages)


@pytest.mark.parametrize("name", sorted(CODECS))
def test_pages_of_every_codec(name: str, code: Code) -> None:
    pages = np.frombuffer(code(7, 3 * PAGE) + bytes(PAGE), dtype=np.uint8).reshape(-1, PAGE)
    codec = Codec(name)
    assert np.array_equal(codec.decode_pages(codec.encode_pages(pages)), pages)
    nothing = codec.encode_pages(b"")
    assert len(nothing) == 0
    assert codec.decode_pages(nothing).shape == (0, PAGE)


def test_addresses_wrap(code: Code) -> None:
    pages = code(8, 3 * PAGE)
    codec = Codec("zstd", filter="x86")
    encoded = codec.encode_pages(pages, address=2**64 - PAGE)
    assert codec.decode_pages(encoded).tobytes() == pages


def test_damaged_pages_are_named_and_the_others_decoded(code: Code) -> None:
    pages = np.frombuffer(code(9, 8 * PAGE), dtype=np.uint8).reshape(-1, PAGE)
    codec = Codec("zstd")
    encoded = codec.encode_pages(pages, address=0x10000)
    encoded.data[int(encoded.offsets[2])] ^= 0xFF
    encoded.offsets[5] = 1 << 60
    out = np.zeros_like(pages)
    with pytest.raises(CorruptPage, match="pages at 0x12000, 0x15000 do not decode"):
        codec.decode_pages(encoded, out=out)
    good = [0, 1, 3, 4, 6, 7]
    assert np.array_equal(out[good], pages[good])


def test_batches_refuse_what_does_not_fit() -> None:
    codec = Codec("lz4")
    with pytest.raises(InvalidArgument, match="multiple of 4096"):
        codec.encode_pages(bytes(PAGE + 1))
    encoded = codec.encode_pages(bytes(2 * PAGE))
    with pytest.raises(InvalidArgument, match="this codec's have 8192"):
        Codec("lz4", page_size=8192).decode_pages(encoded)
    with pytest.raises(InvalidArgument, match="wanted uint8"):
        codec.decode_pages(encoded, out=np.empty((1, PAGE), np.uint8))
    bad: Any = np.empty((2, PAGE), np.int8)
    with pytest.raises(InvalidArgument, match="wanted uint8"):
        codec.decode_pages(encoded, out=bad)
    with pytest.raises(InvalidArgument, match="writable"):
        codec.decode_pages(encoded, out=np.empty((2, 2 * PAGE), np.uint8)[:, ::2])


def test_threads_share_a_codec(code: Code) -> None:
    pages = [code(seed, PAGE) for seed in range(24)]
    codec = Codec("zstd", level=3, filter="x86", dictionary=code(99, 16384))
    wanted = [codec.encode(page, address=ADDRESS) for page in pages]
    wrong: list[object] = []
    start = threading.Barrier(6)

    def work(first: int) -> None:
        start.wait()
        for round_no in range(200):
            n = (first * 5 + round_no) % len(pages)
            encoded = codec.encode(pages[n], address=ADDRESS)
            if encoded is None or encoded != wanted[n]:
                wrong.append((n, "encoded"))
            elif codec.decode(encoded, address=ADDRESS) != pages[n]:
                wrong.append((n, "decoded"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_closing_while_others_decode(code: Code) -> None:
    page = code(1, PAGE)
    for _ in range(20):
        codec = Codec("lz4", dictionary=code(2, 4096))
        encoded = codec.encode(page)
        assert encoded is not None
        results: list[object] = []

        def work(codec: Codec = codec, data: bytes = encoded, into: list[object] = results) -> None:
            try:
                while True:
                    if codec.decode(data) != page:
                        into.append("wrong bytes")
            except Closed:
                into.append("closed")

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        codec.close()
        for thread in threads:
            thread.join()
        assert results == ["closed"] * 3


def test_use_after_close() -> None:
    codec = Codec("lz4")
    encoded = codec.encode(bytes(PAGE))
    assert encoded is not None
    pages = codec.encode_pages(bytes(PAGE))
    codec.close()
    codec.close()
    assert "closed" in repr(codec)
    with pytest.raises(Closed, match="codec lz4 was closed"):
        codec.encode(bytes(PAGE))
    with pytest.raises(Closed):
        codec.decode(encoded)
    with pytest.raises(Closed):
        codec.decode_into(encoded, bytearray(PAGE))
    with pytest.raises(Closed):
        codec.encode_pages(bytes(PAGE))
    with pytest.raises(Closed):
        codec.decode_pages(pages)
    with pytest.raises(Closed):
        _ = codec.memory_bytes


def test_properties(code: Code) -> None:
    with Codec("lz4", level=9, filter="arm", dictionary=code(1, 5000)) as codec:
        assert (codec.name, codec.id, codec.level) == ("lz4", 2, 9)
        assert (codec.filter, codec.page_size) == ("arm", PAGE)
        assert repr(codec) == "<Codec lz4 level=9 filter=arm dictionary=5000 page_size=4096>"
        before = codec.memory_bytes
        assert before >= 5000
        codec.encode(bytes(PAGE))
        assert codec.memory_bytes > before + 2 * 262144
        assert len(codec._encoders) == 1  # pyright: ignore[reportPrivateUsage]
    assert Codec(3).name == "zstd"


def test_a_dropped_codec_gives_its_memory_back(code: Code) -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE

    dictionary = code(1, 65536)
    sizes: list[int] = []
    for round_no in range(60):
        codec = Codec("lz4", level=12, dictionary=dictionary)
        codec.encode(bytes(PAGE))
        del codec
        gc.collect()
        if round_no % 20 == 19:
            sizes.append(resident())
    assert sizes[-1] - sizes[0] < 4 << 20


def test_a_codec_in_a_cycle_is_collected_in_any_order() -> None:
    # The collector ends what a cycle holds in an order of its own: codecs before their coders too.
    script = (
        "import gc\n"
        "from pagestep.codecs import Codec\n"
        "for _ in range(50):\n"
        "    codec = Codec('lz4', level=12, dictionary=bytes(range(256)) * 8)\n"
        "    codec.encode(bytes(4096))\n"
        "    cycle = [codec]\n"
        "    cycle.append(cycle)\n"
        "    del codec, cycle\n"
        "    gc.collect()\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
