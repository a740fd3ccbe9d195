# SPDX-License-Identifier: MIT
"""ROM images that were built once, and are decoded for ever.

They were made from made-up pages by the builder as it was when format version 1 was new. What
decodes them may change; they and the digests here may not.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import pytest

from pagestep.codecs.errors import AbsentPage
from pagestep.store.rom import Rom

from .slow_reader import SlowRom

FOLDER = Path(__file__).parent / "golden"
PUBLIC_KEY = bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")


class Golden(NamedTuple):
    """What is known of an image: its file's digest, and its pages' (``digest_of``)."""

    file: str
    pages: str


GOLDEN = {
    "lz4-raw-dictionary": Golden(
        "7a1308f5a667c08d6e58699c6ae3a1a3cf61bdcda661c46ff0613620a48d70d8",
        "5d2d859184a168aad30ebde4762b5bccd0dab44aea4e0e1ad1e7303b83adc2d9",
    ),
    "zstd-coded-dictionary": Golden(
        "9066cbdd189bcb0d76feef39c264ba63901cff5d81343d8e25a448a455f493b7",
        "68adf1afceae613ed36aa8c9a01e8886664539fb7965b0528ab150ceaf480236",
    ),
    "left-out-wide": Golden(
        "d49f66d255f884fa037675c7fc1723b9b889a35fad18901c032558e17da73278",
        "4f1756ce0e759e4fb5cd80879b2a241ee106529a0d57e1c632584ca62990b4f4",
    ),
    "signed": Golden(
        "c7a43570602d61b74c8d92bd5fabcf5af25131a2d72e9c3fc8b867e10e003e6a",
        "a12f558d3ca746a77d5ed735963dcbe70d9c5462d9ffb7a339012ed4a531e4d1",
    ),
}


def digest_of(pages: list[bytes | None]) -> str:
    """Return SHA-256 of all pages, one after the other; of one left out, that of its mark."""
    digest = hashlib.sha256()
    for page in pages:
        digest.update(b"absent" if page is None else page)
    return digest.hexdigest()


def read_by_host(rom: Rom) -> list[bytes | None]:
    pages: list[bytes | None] = []
    for page_no in range(rom.page_count):
        try:
            pages.append(rom.read(page_no))
        except AbsentPage:
            pages.append(None)
    return pages


def test_none_is_missing_or_changed() -> None:
    found = {path.stem: path.read_bytes() for path in FOLDER.glob("*.rom")}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    assert digests == {name: golden.file for name, golden in GOLDEN.items()}


@pytest.mark.parametrize("name", GOLDEN)
def test_it_is_read(name: str) -> None:
    path = FOLDER / f"{name}.rom"
    with Rom.open(path) as rom:
        assert digest_of(read_by_host(rom)) == GOLDEN[name].pages
        assert not rom.verify().bad_pages
        assert rom.verify().root_holds
    slow = SlowRom(path.read_bytes())
    assert digest_of(slow.pages()) == GOLDEN[name].pages
    slow.verify()


def test_they_have_what_their_names_say() -> None:
    roms = {name: SlowRom((FOLDER / f"{name}.rom").read_bytes()) for name in GOLDEN}
    lz4, zstd = roms["lz4-raw-dictionary"], roms["zstd-coded-dictionary"]
    assert {coding.codec for coding in lz4.codings} == {2}
    assert {coding.codec for coding in zstd.codings} == {3}
    assert lz4.entry(1, 0)[16:] == bytes(4)
    assert zstd.entry(1, 0)[16:] == b"\3\0\0\0"
    assert zstd.dicts[0].startswith(bytes.fromhex("37a430ec"))
    wide = roms["left-out-wide"]
    pages = wide.pages()
    assert (wide.page_size, wide.tables[9].entry_size) == (8192, 4)
    assert None in pages
    assert len(set(pages)) < len(pages) - pages.count(None)
    assert [(each.name, each.level) for each in wide.segments] == [
        (".text", 2),
        (".init.text", 3),
        (".data", 4),
    ]
    assert 0 in {coding.codec for coding in roms["signed"].codings}


def test_the_signature_holds() -> None:
    pytest.importorskip("cryptography")
    path = FOLDER / "signed.rom"
    SlowRom(path.read_bytes()).check_signature(PUBLIC_KEY)
    with Rom.open(path) as rom:
        assert rom.verify(trusted=PUBLIC_KEY).is_good
        assert rom.signer == PUBLIC_KEY
