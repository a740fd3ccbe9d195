# SPDX-License-Identifier: MIT
"""What linkers fill gaps in code with: where a symbol's size is only up to the next, it counts."""

from __future__ import annotations

__all__ = ["without_filling"]

# Zeros, x86's int3 and nop, erased flash. A few of these bytes may belong to the last instruction.
_FILLINGS = b"\x00\xcc\x90\xff"
_FILL_MIN, _FILL_KEPT = 64, 4


def without_filling(code: bytes) -> int:
    """Return how many bytes of a function are left without a long filling behind it.

    >>> without_filling(b"code" + bytes(100)), without_filling(b"code" + bytes(10))
    (8, 14)
    """
    kept = len(code.rstrip(code[-1:])) + _FILL_KEPT
    is_filled = len(code) - kept >= _FILL_MIN and code[-1] in _FILLINGS
    return kept if is_filled else len(code)
