# SPDX-License-Identifier: MIT
"""The tree of pages: the Merkle tree hash of RFC 6962, section 2.1."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagestep.codecs.buffers import AnyBuffer


def leaf_hash(page: AnyBuffer) -> bytes:
    """Return the hash of one page; of a page left out, that of no bytes."""
    digest = hashlib.sha256(b"\0")
    digest.update(page)  # type: ignore[arg-type, unused-ignore] # an array is a buffer
    return digest.digest()


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over the pages' hashes, in their order.

    Only the tree's right edge is kept: after n leaves one node for each bit set in n.
    """
    edge: list[bytes] = []
    for number, leaf in enumerate(leaves):
        edge.append(leaf)
        ones = number
        while ones & 1:
            _join(edge)
            ones >>= 1
    while len(edge) > 1:
        _join(edge)
    return edge[0] if edge else hashlib.sha256().digest()


def _join(edge: list[bytes]) -> None:
    right = edge.pop()
    edge[-1] = hashlib.sha256(b"\1" + edge[-1] + right).digest()
