# SPDX-License-Identifier: MIT
"""The ROM reader's size and stack: how they are found, and that they stay what they should be."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from footprint import COLUMNS, RESULT, TARGETS, Graph, compiler_of, measure, read_graph

from .programs import tool

TEXT_BYTES_MAX = 1536
OTHER_COMPILERS = 1.1  # may make more of it
STACK_BYTES_MAX = 256

CALL_GRAPH = """graph: { title: "a.c"
node: { title: "a.c:inner" label: "inner\\na.c:1:1\\n16 bytes (static)" }
node: { title: "outer" label: "outer\\na.c:9:1\\n40 bytes (dynamic,bounded)" }
edge: { sourcename: "outer" targetname: "a.c:inner" label: "a.c:10:1" }
node: { title: "__indirect_call" label: "Indirect Call Placeholder" shape : ellipse }
edge: { sourcename: "outer" targetname: "__indirect_call" label: "a.c:11:1" }
node: { title: "other" label: "other\\nb.h:3:1" shape : ellipse }
edge: { sourcename: "a.c:inner" targetname: "other" label: "a.c:2:1" }
}
"""
OTHER_FILE = 'node: { title: "other" label: "other\\nb.c:1:1\\n%d bytes (%s)" }\n'


def recorded_rows() -> list[dict[str, str]]:
    with RESULT.open(newline="", encoding="ascii") as file:
        return list(csv.DictReader(file))


def test_stack_is_that_of_the_deepest_call() -> None:
    graph = read_graph([CALL_GRAPH, OTHER_FILE % (8, "static")])
    assert graph == Graph(
        {"a.c:inner": 16, "outer": 40, "other": 8},
        {"outer": frozenset({"a.c:inner", "__indirect_call"}), "a.c:inner": frozenset({"other"})},
    )
    assert graph.deepest("other", []) == 8
    assert graph.deepest("outer", []) == 40 + 16 + 8
    frames = {**graph.frames, "by_pointer": 100}
    assert Graph(frames, graph.calls).deepest("outer", ["by_pointer", "other"]) == 140


def test_stack_that_nobody_knows_is_no_number() -> None:
    with pytest.raises(ValueError, match="other: nothing says"):
        read_graph([CALL_GRAPH]).deepest("outer", [])
    with pytest.raises(ValueError, match="no bound"):
        read_graph([CALL_GRAPH, OTHER_FILE % (8, "dynamic")])
    graph = read_graph([CALL_GRAPH, OTHER_FILE % (8, "static")])
    with pytest.raises(ValueError, match="calls itself"):
        graph.deepest("outer", ["outer"])
    assert Graph({}, {}).deepest("__aeabi_lmul", []) == 0


def test_the_reader_fits_a_small_controller(tmp_path: Path) -> None:
    tool("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    target = TARGETS["cortex-m3"]
    recorded = {row["compiler"] for row in recorded_rows() if row["target"] == "cortex-m3"}
    slack = 1 if {compiler_of(target)} == recorded else OTHER_COMPILERS
    row = measure(target, "-Os", "lz4", tmp_path)
    assert 1000 < int(row["text_bytes"]) <= TEXT_BYTES_MAX * slack
    assert 50 < int(row["stack_open_bytes"]) <= STACK_BYTES_MAX
    assert 50 < int(row["stack_page_bytes"]) <= STACK_BYTES_MAX
    whole = measure(target, "-Os", "everything", tmp_path)
    assert int(whole["text_bytes"]) > int(row["text_bytes"])
    assert int(whole["stack_rest_bytes"]) <= STACK_BYTES_MAX * slack


def test_the_recorded_figures_are_whole() -> None:
    rows = recorded_rows()
    assert tuple(rows[0]) == COLUMNS
    assert {row["target"] for row in rows} == set(TARGETS)
    for row in rows:
        assert int(row["text_bytes"]) > int(row["rodata_bytes"]) > 0
        has_example = TARGETS[row["target"]].example and row["kit"] != "everything"
        assert bool(row["instructions_per_page"]) == bool(has_example)
