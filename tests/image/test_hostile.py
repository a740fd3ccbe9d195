# SPDX-License-Identifier: MIT
"""Images with bytes changed at random: an error or a right answer, and never much memory."""

from __future__ import annotations

import gzip
import lzma
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep.store.image import Image
from pagestep.store.image._payload import LZMA_MEMORY_MAX, MAGICS

from . import builders as b
from .exercise import open_or_refuse

TEXT = bytes(range(256)) * 24
SEEDS = [
    b.elf(
        [b.Load(0xFFFFFFFF81000000, TEXT, 0x1000000), b.Load(0, TEXT, 0x1002000, flags=6)],
        [
            b.Section(".text", 0xFFFFFFFF81000000, 0x800, b.A | b.X),
            b.Section(".notes", 0xFFFFFFFF81000800, 0x100, b.A, b.NOTE),
            b.Section(".data", 0, 0x1000, b.A | b.W, load=1),
            b.Section(".bss", 0x1000, 0x800, b.A | b.W, b.NOBITS, load=1),
        ],
        [b.Symbol("f", 0xFFFFFFFF81000010, 8), b.Symbol("g", 0x10, 8, b.OBJECT, 3)],
    ),
    b.elf([b.Load(0x8000, TEXT)], [b.Section(".text", 0x8000, 99)], bits=32, machine=b.EM_ARM),
    b.elf(
        sections=[b.Section(f".s{n}", 0, 80, b.A, data=b"s" * 80, align=16) for n in range(4)],
        symbols=[b.Symbol("f", 1, 8)],
        kind=b.ET_REL,
        order=">",
    ),
    b.bzimage(gzip.compress(b.small_elf(TEXT)), None),
    b.zimage(lzma.compress(TEXT), len(TEXT)),
    b.zboot(gzip.compress(b.arm64_image(TEXT))),
]
EDGES = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1]

changes = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from([1, 2, 4, 8]),
        st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 64) - 1)),
        st.sampled_from(["headers", "tail", "anywhere"]),
    ),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, what: list[tuple[float, int, int, str]], keep: float) -> bytes:
    changed = bytearray(data)
    for where, width, value, part in what:
        start, size = {
            "headers": (4, 300),
            "tail": (max(0, len(data) - 900), 900),
            "anywhere": (0, len(data)),
        }[part]
        at = min(len(data) - 1, start + int(where * min(size, len(data))))
        changed[at : at + width] = value.to_bytes(8, "little")[: min(width, len(data) - at)]
    return bytes(changed[: max(1, int(len(changed) * keep))])


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(SEEDS),
    changes,
    st.one_of(st.just(1.0), st.floats(0.01, 1.0)),
)
def test_changed_images_are_read_or_refused(
    seed: bytes, what: list[tuple[float, int, int, str]], keep: float
) -> None:
    data = mutate(seed, what, keep)
    tracemalloc.start()
    try:
        open_or_refuse(data)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < LZMA_MEMORY_MAX + (48 << 20)


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=700), st.sampled_from(range(8)))
def test_noise_behind_each_magic_number_is_read_or_refused(noise: bytes, index: int) -> None:
    open_or_refuse(MAGICS[index][0] + noise)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 3000), st.booleans()), min_size=1, max_size=6
    ),
    st.sampled_from([512, 4096]),
)
def test_pages_hold_what_the_loads_say(parts: list[tuple[int, int, bool]], page_size: int) -> None:
    loads: list[b.Load] = []
    expected = bytearray()
    at = 0x10000
    for number, (gap, size, shifted) in enumerate(parts, start=1):
        at += gap * 100
        expected += bytes(at - 0x10000 - len(expected)) + bytes([number]) * size
        loads.append(
            b.Load(at + (0x7000000 * number if shifted else 0), bytes([number]) * size, at)
        )
        at += size
    start = loads[0].paddr or 0
    with Image.open(b.elf(loads), page_size=page_size) as image:
        cut = (start - start % page_size) - 0x10000
        flat = image.flat().tobytes()
        assert flat[: len(expected) - cut] == expected[cut:]
        assert not any(flat[len(expected) - cut :])
        for load in loads:
            page = ((load.paddr or 0) - start + start % page_size) // page_size
            assert image.page_of(load.vaddr) == page
        numbers = [image.page_of(image.address_of(n)) for n in range(image.page_count)]
        assert numbers == list(range(image.page_count))
