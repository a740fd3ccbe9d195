# SPDX-License-Identifier: MIT
"""Traces that commands are given: of the image at hand, and named in what is said of them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pagestep import BadTrace, Image
from pagestep.store.trace import Trace

__all__ = ["naming", "trace_of"]


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Say in errors of a trace which file it is."""
    try:
        yield
    except BadTrace as error:
        raise BadTrace(f"{path}: {error}") from error


@contextmanager
def trace_of(path: Path, image: Image) -> Generator[Trace]:
    """Open a trace, which must be of an image."""
    with naming(path), Trace.open(path) as trace:
        trace.require_image(bytes.fromhex(image.identity), image.page_count, image.page_size)
        yield trace
