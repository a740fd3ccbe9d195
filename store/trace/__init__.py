# SPDX-License-Identifier: MIT
"""Traces of page accesses: their format (docs/TRACE.md), made ones, and what can be computed."""

from ._analysis import (
    LruCurve,
    belady_misses,
    between,
    collapse_repeats,
    lru_misses,
    working_set_sizes,
)
from ._generate import TraceShape, generate
from ._sample import Sample
from ._trace_block import Block
from ._trace_format import KIND_FETCH, KIND_READ, KIND_WRITE, Totals
from ._trace_reader import Trace
from ._trace_writer import TraceWriter

__all__ = [
    "KIND_FETCH",
    "KIND_READ",
    "KIND_WRITE",
    "Block",
    "LruCurve",
    "Sample",
    "Totals",
    "Trace",
    "TraceShape",
    "TraceWriter",
    "belady_misses",
    "between",
    "collapse_repeats",
    "generate",
    "lru_misses",
    "working_set_sizes",
]
