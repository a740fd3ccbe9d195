# SPDX-License-Identifier: MIT
"""The tree of pages, against RFC 6962's own words and its test vectors."""

from __future__ import annotations

import hashlib

import pytest

from pagestep.store.rom._tree import leaf_hash, tree_root

# The leaves and roots of the RFC's reference implementation.
LEAVES = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def slow_root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + slow_root(leaves[:split]) + slow_root(leaves[split:])).digest()


@pytest.mark.parametrize("count", range(40))
def test_it_is_the_tree_of_the_rfc(count: int) -> None:
    leaves = [bytes([number]) * number for number in range(count)]
    assert tree_root(map(leaf_hash, leaves)) == slow_root(leaves)


@pytest.mark.parametrize("count", ROOTS)
def test_known_roots(count: int) -> None:
    assert tree_root(map(leaf_hash, LEAVES[:count])).hex() == ROOTS[count]
