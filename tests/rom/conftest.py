# SPDX-License-Identifier: MIT
from __future__ import annotations

import mmap
from collections.abc import Iterator

import pytest


@pytest.fixture
def many_zeros() -> Iterator[memoryview]:
    """More bytes than 32-bit addresses hold, of which none takes RAM until it is read."""
    size = (1 << 32) + 1
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    with mapping, memoryview(mapping) as view:
        yield view
