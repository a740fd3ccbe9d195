# SPDX-License-Identifier: MIT
"""Images: kernels, ELF files and raw firmware as pages, with segments and symbols."""

from pagestep.store._size import parse_size, show_size

from ._btf import Btf
from ._debug import SourceRanges
from ._elf import ARCHES
from ._filling import without_filling
from ._image import Image
from ._layout import Extent, Segment
from ._symbols import Symbol, Symbols

__all__ = [
    "ARCHES",
    "Btf",
    "Extent",
    "Image",
    "Segment",
    "SourceRanges",
    "Symbol",
    "Symbols",
    "parse_size",
    "show_size",
    "without_filling",
]
