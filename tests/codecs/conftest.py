# SPDX-License-Identifier: MIT
"""Pages to test codecs with."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest


def make_code(seed: int, size: int) -> bytes:
    """Something like code: phrases that come again, calls, noise between."""
    shared = random.Random(4711)
    phrases = [shared.randbytes(24) for _ in range(16)]
    chance = random.Random(seed)
    made = bytearray()
    while len(made) < size:
        if chance.random() < 0.25:
            made += b"\xe8" + chance.randrange(1 << 24).to_bytes(4, "little")
        else:
            made += chance.choice(phrases)[: chance.randint(1, 24)]
    return bytes(made[:size])


@pytest.fixture(scope="session")
def code() -> Callable[[int, int], bytes]:
    """`code(seed, size)`: bytes like code, the same for the same seed."""
    return make_code
