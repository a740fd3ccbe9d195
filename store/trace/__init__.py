# SPDX-License-Identifier: MIT
"""Traces of page accesses: their format (docs/TRACE.md), made ones, and what can be computed."""

from ._trace_block import Block
from ._trace_format import KIND_FETCH, KIND_READ, KIND_WRITE, Totals
from ._trace_reader import Trace
from ._trace_writer import TraceWriter

__all__ = [
    "KIND_FETCH",
    "KIND_READ",
    "KIND_WRITE",
    "Block",
    "Totals",
    "Trace",
    "TraceWriter",
]
