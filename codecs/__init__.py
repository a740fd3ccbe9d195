# SPDX-License-Identifier: MIT
"""Codecs: one page in, fewer bytes out, and back. No I/O, no policy."""

from .codec import Codec, EncodedPages
from .content import checksum, lzo1x_decode, same_filled, xxh32
from .dictionary import train_dictionary
from .filters import FILTERS, apply_filter, filter_for, undo_filter
from .registry import CODECS, CodecInfo

__all__ = [
    "CODECS",
    "FILTERS",
    "Codec",
    "CodecInfo",
    "EncodedPages",
    "apply_filter",
    "checksum",
    "filter_for",
    "lzo1x_decode",
    "same_filled",
    "train_dictionary",
    "undo_filter",
    "xxh32",
]
