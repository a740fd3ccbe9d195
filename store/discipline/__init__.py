# SPDX-License-Identifier: MIT
"""The discipline: what must stay in RAM so that a fault never needs a page that can fault."""

from ._call_graph import CallGraph, build_call_graph
from ._check import Check, DataPages, DataViolation, Declared, TraceViolation, Violation, check
from ._closure import Hop, IndirectCalls
from ._edges import Edges, How
from ._functions import Functions, functions_of
from ._interrupts import InterruptPages
from ._lock import LockTable, StoreLock
from ._named_data import Named, NamedData
from ._references import References
from ._residence import Share
from ._roots import CUTS
from ._suggest import suggest_rules

__all__ = [
    "CUTS",
    "CallGraph",
    "Check",
    "DataPages",
    "DataViolation",
    "Declared",
    "Edges",
    "Functions",
    "Hop",
    "How",
    "IndirectCalls",
    "InterruptPages",
    "LockTable",
    "Named",
    "NamedData",
    "References",
    "Share",
    "StoreLock",
    "TraceViolation",
    "Violation",
    "build_call_graph",
    "check",
    "functions_of",
    "suggest_rules",
]
