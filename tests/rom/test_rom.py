# SPDX-License-Identifier: MIT
"""ROM images as ``Rom`` reads them: whole, with pages left out, and damaged."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep import (
    AbsentPage,
    BadRom,
    Closed,
    CorruptPage,
    Image,
    InvalidArgument,
    Level,
    NoSuchPage,
    PageStepError,
    Rom,
    StoreIOError,
)
from pagestep.codecs import xxh32
from pagestep.store.rom import RomPlan, build_rom
from pagestep.store.rom._format import TABLES, unpack

from .roms import COUNT, INIT, PAGES, SIZE, kernel, rom_bytes


def changed(rom: bytes, at: int, by: int = 1) -> bytearray:
    damaged = bytearray(rom)
    damaged[at] ^= by
    return damaged


def sealed(rom: bytearray) -> bytearray:
    """Make the header's checksum right again."""
    block_size = int.from_bytes(rom[16:20], "little")
    rom[block_size : block_size + 4] = xxh32(rom[:block_size]).to_bytes(4, "little")
    return rom


# -- reading ------------------------------------------------------------------------------


@pytest.mark.parametrize("codecs", [("raw",), ("raw", "lz4"), ("raw", "lz4", "zstd")])
def test_every_page_comes_back(codecs: tuple[str, ...]) -> None:
    with Rom.open(rom_bytes(codecs=codecs)) as rom:
        assert (rom.page_count, rom.page_size) == (COUNT, SIZE)
        assert b"".join(rom.read(page_no) for page_no in range(COUNT)) == PAGES.tobytes()
        out = np.zeros((3, SIZE), np.uint8)
        rom.read_into([7, 3, 7], out)
        assert np.array_equal(out, PAGES[[7, 3, 7]])
        assert np.array_equal(rom.flat(), PAGES)
        assert rom.verify().is_good


@pytest.mark.parametrize("page_size", [512, 4096, 16384, 65536])
def test_every_page_size(page_size: int) -> None:
    with Image.open(kernel(), page_size=page_size) as image:
        built = build_rom(image)
        with Rom.open(built.data) as rom:
            assert rom.page_size == page_size
            assert rom.extract() == image.flat().tobytes()
            assert rom.by_codec == built.by_codec
            assert rom.verify().is_good


def test_what_it_says_of_itself() -> None:
    with Image.open(kernel()) as image, Rom.open(rom_bytes()) as rom:
        assert rom.segments == image.segments
        assert rom.levels == (Level.NORMAL, Level.RELUCTANT, Level.NORMAL)
        assert (rom.arch, rom.base, rom.identity) == (image.arch, image.base, image.identity)
        assert (rom.image_size, rom.rom_size) == (COUNT * SIZE, len(rom_bytes()))
        assert rom.signer is None
        assert {name for name, (pages, _) in rom.by_codec.items() if pages} == {
            *("raw", "lz4", "zstd", "same", "duplicate")
        }
        assert sum(pages for pages, _ in rom.by_codec.values()) == COUNT
        assert rom.by_codec["same"][0] == sum(len(set(page.tolist())) == 1 for page in PAGES)
        assert all(rom.dictionaries)
        assert rom.memory_bytes > sum(map(len, rom.dictionaries))
        assert repr(rom) == f"<Rom 'buffer' x86_64: {COUNT} pages>"


def test_memory_is_for_as_many_threads_as_asked_for() -> None:
    sizes: list[int] = []
    for threads in (1, 2, 3):
        with Rom.open(rom_bytes(), threads=threads) as rom:
            sizes.append(rom.memory_bytes)
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > SIZE
    for threads in (0, -1, 65):
        with pytest.raises((InvalidArgument, OverflowError)):
            Rom.open(rom_bytes(), threads=threads)


def test_threads_share_one_reader() -> None:
    wrong: list[int] = []
    with Rom.open(rom_bytes(), threads=2) as rom:

        def read(seed: int) -> None:
            for page_no in np.random.default_rng(seed).integers(0, COUNT, 400).tolist():
                if rom.read(page_no) != PAGES[page_no].tobytes():
                    wrong.append(page_no)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_pages_that_are_not_there() -> None:
    with Rom.open(rom_bytes()) as rom:
        for page_no in (-1, COUNT, 1 << 70):
            with pytest.raises(NoSuchPage, match="does not exist"):
                rom.read(page_no)
        with pytest.raises(InvalidArgument, match="2 pages need 8192"):
            rom.read_into([0, 1], bytearray(SIZE))
        with pytest.raises(InvalidArgument, match="writable"):
            rom.read_into([0], bytes(SIZE))


def test_pages_left_out() -> None:
    with Rom.open(rom_bytes(leave_out=(".init",))) as rom:
        assert rom.by_codec["absent"] == (len(INIT), 0)
        assert rom.read(INIT.start - 1) == PAGES[INIT.start - 1].tobytes()
        with pytest.raises(AbsentPage, match=rf"buffer: page {INIT.start} was left out"):
            rom.read(INIT.start)
        with pytest.raises(AbsentPage):
            rom.extract()
        found = rom.verify()
        assert found.is_good
        assert found.bad_pages == ()


def test_a_file_is_mapped_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "kernel.rom"
    path.write_bytes(rom_bytes() + b"what lies behind it")
    rom = Rom.open(path)
    assert rom.read(0) == PAGES[0].tobytes()
    path.unlink()
    assert rom.read(1) == PAGES[1].tobytes()
    rom.close()
    rom.close()
    for use in (
        lambda: rom.read(0),
        lambda: rom.read_into([], bytearray()),
        lambda: rom.flat(),
        lambda: rom.verify(),
        lambda: rom.by_codec,
        lambda: rom.dictionaries,
        lambda: rom.signer,
        lambda: rom.memory_bytes,
        lambda: rom.extract_to(path),
    ):
        with pytest.raises(Closed, match="is closed: open it again"):
            use()
    assert "closed" in repr(rom)
    assert not path.exists()


def test_extract_to_a_file(tmp_path: Path) -> None:
    path, done = tmp_path / "image", list[int]()
    with Rom.open(rom_bytes()) as rom:
        rom.extract_to(path, progress=done.append)
        assert path.read_bytes() == rom.extract() == PAGES.tobytes()
        assert sum(done) == COUNT
    path.write_bytes(b"as it was")
    with Rom.open(rom_bytes(leave_out=(".init",))) as rom, pytest.raises(AbsentPage):
        rom.extract_to(path)
    assert path.read_bytes() == b"as it was"


# -- damage -------------------------------------------------------------------------------


def test_damaged_pages_are_named() -> None:
    data = unpack(rom_bytes()).tables["data"]
    with Rom.open(changed(rom_bytes(), data.offset + data.count // 2)) as rom:
        done: list[int] = []
        found = rom.verify(progress=done.append)
        assert len(found.bad_pages) in (1, 2)
        assert not found.root_holds
        assert not found.is_good
        assert sum(done) == COUNT
        with pytest.raises(CorruptPage, match=rf"buffer: page {found.bad_pages[0]} is not what"):
            rom.read(found.bad_pages[0])
        with pytest.raises(CorruptPage):
            rom.flat()


def test_a_page_whose_checksum_was_made_to_fit_fails_the_root() -> None:
    """What page checksums cannot show: somebody wrote another word and its checksums."""
    rom = bytearray(rom_bytes())
    tables = unpack(rom_bytes()).tables
    rom[tables["words"].offset] ^= 0x40
    word = bytes(rom[tables["words"].offset : tables["words"].offset + 8])
    with Rom.open(rom) as opened:
        spoilt = opened.verify().bad_pages
    assert spoilt
    for page_no in spoilt:
        at = tables["checksums"].offset + 4 * page_no
        rom[at : at + 4] = xxh32(word * (SIZE // 8), seed=page_no).to_bytes(4, "little")
    with Rom.open(rom) as opened:
        found = opened.verify()
        assert found.bad_pages == ()
        assert not found.root_holds


def test_any_bit_of_the_header_is_missed() -> None:
    block_size = unpack(rom_bytes()).block_size
    for at in range(block_size + 4):
        with pytest.raises(BadRom, match="buffer: "):
            Rom.open(changed(rom_bytes(), at, 0x10))


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, 1, "not a ROM image: it does not begin as one"),
        (8, 2, "a format version or with a feature"),
        (20, 0xFFFFFFFF, "shorter than its header says"),
        (64, 0, "header is damaged"),
    ],
)
def test_what_is_refused_says_why(at: int, value: int, reason: str) -> None:
    rom = bytearray(rom_bytes())
    rom[at : at + 4] = value.to_bytes(4, "little")
    with pytest.raises(BadRom, match=f"buffer: .*{reason}"):
        Rom.open(rom)


def test_numbers_of_the_header_that_cannot_be() -> None:
    rom = bytearray(rom_bytes())
    rom[40:48] = (COUNT * SIZE + 1).to_bytes(8, "little")  # image_size
    with pytest.raises(BadRom, match=r"buffer: 96 pages cannot hold"):
        Rom.open(sealed(rom))
    rom = bytearray(rom_bytes())
    names = 128 + 8 * TABLES.index("names")
    rom[names : names + 4] = (len(rom) - 2000).to_bytes(4, "little")
    with pytest.raises(BadRom, match="buffer: "):
        Rom.open(sealed(rom))


@pytest.mark.parametrize("size", [0, 1, 100, 227, 228, 500])
def test_cut_short(size: int) -> None:
    with pytest.raises(BadRom, match="buffer: "):
        Rom.open(rom_bytes()[:size])


def test_damage_anywhere_never_gives_wrong_bytes() -> None:
    """Any single byte behind the header: right pages, or errors of ours."""
    rng = np.random.default_rng(5)
    start = unpack(rom_bytes()).block_size
    for at in rng.integers(start, len(rom_bytes()), 300).tolist():
        try:
            rom = Rom.open(changed(rom_bytes(), at, int(rng.integers(1, 256))))
        except BadRom:
            continue
        found = rom.verify()
        for page_no in set(range(COUNT)) - set(found.bad_pages):
            try:
                assert rom.read(page_no) == PAGES[page_no].tobytes()
            except AbsentPage:
                assert not found.root_holds
        assert isinstance(rom.by_codec, dict)


def test_no_file_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StoreIOError, match="cannot open"):
        Rom.open(tmp_path / "none")
    (tmp_path / "empty").touch()
    with pytest.raises(BadRom, match="empty"):
        Rom.open(tmp_path / "empty")
    with pytest.raises(BadRom, match="not a file"):
        Rom.open(tmp_path)


# -- signatures ---------------------------------------------------------------------------


def test_signatures() -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"a key for tests").digest())
    public = key.public_key().public_bytes_raw()
    with Image.open(kernel()) as image:
        signed = build_rom(image, RomPlan(key=key)).data
    with Rom.open(signed) as rom:
        assert rom.signer == public
        for trusted in (None, public):
            found = rom.verify(trusted=trusted)
            assert (found.is_signed, found.signature_fault, found.is_good) == (True, "", True)
        assert "not with the trusted" in rom.verify(trusted=bytes(32)).signature_fault
    other = bytearray(signed)
    other[96] ^= 1  # of the root
    with Rom.open(sealed(other)) as rom:
        found = rom.verify()
        assert not found.root_holds
        assert "it was changed" in found.signature_fault
    with Rom.open(rom_bytes()) as rom:
        found = rom.verify()
        assert (found.is_signed, found.signature_fault) == (False, "")
        assert "not signed" in rom.verify(trusted=public).signature_fault


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(8, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_header_with_the_right_checksum_is_read_or_refused(
    changes: list[tuple[int, int]],
) -> None:
    rom = bytearray(rom_bytes())
    for at, value in changes:
        if not 16 <= at < 24:  # sizes, without which there is no checksum to mend
            rom[at] = value
    try:
        with Rom.open(sealed(rom)) as opened:
            assert opened.by_codec
            assert len(opened.segments) == len(opened.levels)
            opened.verify()
    except PageStepError:
        pass
