# SPDX-License-Identifier: MIT
"""Everything an image offers, called on bytes that may be anything."""

from __future__ import annotations

import contextlib

import numpy as np

from pagestep.codecs.errors import PageStepError
from pagestep.store.image import Image

LIMIT = 1 << 20


def exercise(data: bytes) -> None:
    """Open an image of at most 1 MiB, and check what it says about itself."""
    with Image.open(data, max_size=LIMIT, max_payload=LIMIT) as image:
        flat = image.flat()
        assert flat.size <= LIMIT + image.page_size
        assert b"".join(map(image.read, range(image.page_count))) == flat.tobytes()
        end = 0
        for extent in image.extents:
            assert extent.image_offset >= end
            assert extent.size > 0
            end = extent.image_offset + extent.size
        assert end <= flat.size
        for segment in image.segments:
            assert 0 <= segment.offset < segment.offset + segment.size <= flat.size
            assert segment.pages.stop <= image.page_count
            assert segment.name.isprintable()
        addresses = np.array([image.address_of(n) for n in range(image.page_count)], np.uint64)
        image.pages_of(addresses)
        for symbol in image.symbols:
            assert symbol.name.isprintable()
            image.symbol_at(symbol.address)


def open_or_refuse(data: bytes) -> None:
    """The same, or one of our errors of one line."""
    said = ""
    with contextlib.suppress(PageStepError):
        try:
            exercise(data)
        except PageStepError as error:
            said = str(error)
            raise
    assert "\n" not in said
