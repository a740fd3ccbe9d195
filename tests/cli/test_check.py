# SPDX-License-Identifier: MIT
"""``pagestep check``, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pagestep import Image
from pagestep.store.trace import KIND_FETCH, KIND_WRITE, TraceWriter

from ..discipline.programs import SOURCE, build
from ..image import builders as b
from .command import assert_documented, assert_refused, run

MARKED = (
    '#include "pagestep/pageable.h"\n'
    + SOURCE
    + """
__may_fault(handler_a);
__no_fault(calls_pageable);
"""
)
RULES = """
[[rule]]
section = ".paged"
level = "EAGER"

[[indirect]]
callers = ["dispatch"]
targets = ["handler_a", "handler_b"]

[check]
roots = ["dispatch"]
"""
ROOTS = ("--no-default-roots", "--root")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    return build(tmp_path, "x86_64", MARKED)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def trace_of(elf: Path, path: Path, name: str) -> int:
    """Write a trace that fetched and wrote a function's page; return the page."""
    with Image.open(elf) as image:
        symbol = image.symbols.find(name)
        assert symbol is not None
        page = image.page_of(symbol.address)
        with TraceWriter(
            path,
            page_size=image.page_size,
            page_count=image.page_count,
            identity=bytes.fromhex(image.identity),
        ) as writer:
            writer.events([page, page], [KIND_FETCH, KIND_WRITE], np.arange(2))
    return page


def run_json(*arguments: object) -> tuple[dict[str, Any], int]:
    result = run("check", *arguments, "--json")
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout), result.exit_code


def test_the_keys_are_those_of_the_document(elf: Path, rules: Path, tmp_path: Path) -> None:
    page = trace_of(elf, tmp_path / "irq.trace", "pageable")
    found, status = run_json(
        *(elf, "--rules", rules, "--interrupt-trace", tmp_path / "irq.trace", "--may-fault"),
        *(*ROOTS, "calls_pageable", "--root", "takes", "--cut", "even"),
    )
    assert status == 1
    assert_documented("check", found)
    assert [v["function"] for v in found["violations"]] == ["pageable"]
    assert [v["function"] for v in found["marked_violations"]] == ["handler_a"]
    assert [v["function"] for v in found["no_fault_violations"]] == ["calls_pageable"]
    assert {(v["page"], v["use"]) for v in found["trace_violations"]} == {
        (page, "fetched"),
        (page, "written"),
    }
    assert found["violations"][0]["levels"] == ["EAGER"]
    assert found["undeclared_calls"] == 1
    assert {f["function"] for f in found["may_fault"]} >= {"pageable", "handler_a", "middle"}


WITH_DATA = (
    MARKED
    + """
int swapped __attribute__((section(".paged_data"), used)) = 11;
KEEP int reads_swapped(void) { return swapped; }
KEEP int calls_reader(int a) { return reads_swapped() + a; }
__no_fault(calls_reader);
"""
)


@pytest.fixture
def data_elf(tmp_path: Path, rules: Path) -> Path:
    """A program with data that its rules page."""
    rules.write_text('[[rule]]\nsection = ".paged_data"\nlevel = "NORMAL"\n')
    (tmp_path / "with_data").mkdir()
    return build(tmp_path / "with_data", "x86_64", WITH_DATA)


def test_data_that_is_not_pinned_is_reported(data_elf: Path, rules: Path) -> None:
    arguments = (data_elf, "--rules", rules, *ROOTS, "calls_reader")
    found, status = run_json(*arguments)
    assert status == 1
    assert_documented("check", found)
    assert found["violations"] == []
    [violation] = found["data_violations"]
    assert (violation["symbol"], violation["offset"], violation["bytes"]) == ("swapped", 0, 4)
    assert violation["levels"] == ["NORMAL"]
    assert [hop["function"] for hop in violation["path"]] == ["calls_reader", "reads_swapped"]
    [marked] = found["no_fault_violations"]
    assert marked["function"] == "calls_reader"
    assert [each["symbol"] for each in marked["data"]] == ["swapped"]
    assert found["data_pages"] == {"named": 1, "traced": 0, "joined": 1}
    result = run("check", *arguments)
    assert result.exit_code == 1
    line = f"{violation['site']:#x} names swapped    <- page {violation['pages'][0]} NORMAL"
    assert result.stdout.count(line) == 2, "for the closure, and for the mark"
    assert "1 place in data is not PINNED" in result.stdout
    assert "named by the closure" in result.stdout


def test_data_may_be_left_out(data_elf: Path, rules: Path) -> None:
    arguments = (data_elf, "--rules", rules, *ROOTS, "calls_reader", "--no-data")
    found, status = run_json(*arguments)
    assert status == 0
    assert_documented("check", found)
    assert found["data_pages"]["named"] is None
    result = run("check", *arguments)
    assert result.exit_code == 0
    assert "data that functions name is left out" in result.stdout


def test_suggested_rules_pin_data_by_its_name(data_elf: Path, rules: Path, tmp_path: Path) -> None:
    arguments = (data_elf, *ROOTS, "calls_reader")
    printed = run("check", *arguments, "--rules", rules, "--suggest", "-").stdout
    assert '"swapped"' in printed
    both = tmp_path / "both.toml"
    both.write_text(rules.read_text() + printed)
    result = run("check", *arguments, "--rules", both)
    assert result.exit_code == 0, result.stdout


def test_it_passes_where_all_is_pinned(elf: Path, rules: Path) -> None:
    result = run("check", elf, "--rules", rules, *ROOTS, "direct", "--cut", "handler_a")
    assert result.exit_code == 1, "calls_pageable is marked never to fault"
    arguments = (elf, "--rules", rules, *ROOTS, "direct", "--cut", "handler_a", "--cut", "middle")
    result = run("check", *arguments)
    assert result.exit_code == 0, result.output
    assert "all that it found is PINNED" in result.stdout
    found, status = run_json(*arguments)
    assert status == 0
    assert found["ok"]
    assert found["cached"]
    assert found["cuts_met"] == ["handler_a"]


def test_a_report_shows_the_way_with_its_addresses(elf: Path, rules: Path) -> None:
    result = run("check", elf, "--rules", rules, *ROOTS, "calls_pageable")
    assert result.exit_code == 1
    found, _ = run_json(elf, "--rules", rules, *ROOTS, "calls_pageable")
    path = found["violations"][0]["path"]
    assert [hop["function"] for hop in path] == ["calls_pageable", "middle", "pageable"]
    for hop in path[1:]:
        assert f"{hop['site']:#x} calls {hop['function']}" in result.stdout
    assert f"<- page {found['violations'][0]['pages'][0]} EAGER" in result.stdout
    assert "1 function is marked __no_fault" in result.stdout


def test_a_mark_to_fault_is_said_though_its_pages_are_pinned(tmp_path: Path, rules: Path) -> None:
    marks = "__may_fault(middle);\n__no_fault(calls_pageable);\n"
    source = f'#include "pagestep/pageable.h"\n{SOURCE}\n{marks}'
    (tmp_path / "marks").mkdir()
    marked = build(tmp_path / "marks", "x86_64", source)
    rules.write_text('[[rule]]\nsection = ".nothing"\nlevel = "EAGER"\n')
    arguments = (marked, "--rules", rules, *ROOTS, "direct")
    found, status = run_json(*arguments)
    assert status == 1
    [violation] = found["no_fault_violations"]
    assert (violation["data"], violation["ends_marked"]) == ([], True)
    shown = run("check", *arguments).stdout
    assert "calls middle    <- marked __may_fault" in shown
    assert "seen in traces" not in shown
    assert "from the cache" in shown
    assert "of bytes" in shown


def test_the_first_few_are_shown_or_all(elf: Path) -> None:
    few = run("check", elf, *ROOTS, "*")
    everything = run("check", elf, *ROOTS, "*", "--all")
    assert few.exit_code == everything.exit_code == 1
    assert "--all shows them" in few.stdout
    assert "--all shows them" not in everything.stdout
    assert everything.stdout.count("<- page") > few.stdout.count("<- page")


def test_suggested_rules_make_it_pass(elf: Path, rules: Path, tmp_path: Path) -> None:
    trace_of(elf, tmp_path / "irq.trace", "far_leaf")
    rules.write_text(RULES.replace('["handler_a", "handler_b"]', '["paged_handler"]'))
    arguments = (elf, "--interrupt-trace", tmp_path / "irq.trace", *ROOTS, "calls_pageable")
    mended = tmp_path / "mended.toml"
    result = run("check", *arguments, "--rules", rules, "--suggest", mended)
    assert result.exit_code == 1
    assert str(mended) in result.stdout
    both = tmp_path / "both.toml"
    both.write_text(rules.read_text() + mended.read_text())
    result = run("check", *arguments, "--rules", both)
    assert result.exit_code == 0, result.stdout
    printed = run("check", *arguments, "--rules", rules, "--suggest", "-")
    assert printed.exit_code == 1
    assert printed.stdout == mended.read_text()


def test_a_graph_is_kept_in_the_cache_unless_asked_not_to(elf: Path, tmp_path: Path) -> None:
    found, _ = run_json(elf, *ROOTS, "direct", "--no-cache")
    assert not found["cached"]
    assert not (tmp_path / "cache").exists()
    cached = [run_json(elf, *ROOTS, "direct")[0]["cached"] for _ in range(2)]
    assert cached == [False, True]
    assert len(list((tmp_path / "cache" / "pagestep").iterdir())) == 1


# What cannot be checked


def test_an_image_without_symbols_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "stripped"
    path.write_bytes(b.elf([b.Load(0x10000, b"\xc3" * 64)]))
    assert_refused(run("check", path), "no symbols", "--system-map", "-dbg", "unstripped")
    assert_refused(run("check", path, "--json"), "no symbols")


def test_an_image_of_another_processor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mips"
    path.write_bytes(b.small_elf(bytes(64)))
    assert_refused(run("check", path, "--arch", "mips"), "mips", "x86_64")


def test_names_that_no_function_has_are_refused(elf: Path) -> None:
    assert_refused(run("check", elf, "--root", "nobody*"), "--root", "nobody*")
    assert_refused(run("check", elf, *ROOTS, "direct", "--cut", "nobody"), "--cut", "nobody")
    assert_refused(run("check", elf, "--no-default-roots"), "--root")


def test_other_misuse_is_refused(elf: Path, rules: Path, tmp_path: Path) -> None:
    assert_refused(run("check", tmp_path / "missing"), "missing")
    assert_refused(run("check", elf, *ROOTS, "direct", "--suggest", "-", "--json"), "--suggest")
    assert_refused(run("check", elf, "--rules", rules, "--suggest", rules), "another name")
    assert_refused(run("check", elf, "--rules", tmp_path / "none.toml"), "none.toml")
    (tmp_path / "bad.trace").write_bytes(b"no trace")
    assert_refused(
        run("check", elf, *ROOTS, "direct", "--interrupt-trace", tmp_path / "bad.trace"),
        "bad.trace",
    )
    other = tmp_path / "other"
    other.write_bytes(b.small_elf(b"\xc3" * 64))
    trace_of(elf, tmp_path / "irq.trace", "leaf")
    assert_refused(
        run("check", other, "--interrupt-trace", tmp_path / "irq.trace"), "belongs to another"
    )


def test_what_is_in_the_rules_and_not_in_the_image_is_said(elf: Path, rules: Path) -> None:
    rules.write_text('[check]\nroots = ["direct", "no_such"]\ncuts = ["nor_this*"]\n')
    result = run("check", elf, "--rules", rules, "--no-default-roots")
    assert result.exit_code == 0, result.output
    for glob in ("no_such", "nor_this*"):
        assert f"not in the image: {glob}" in result.stdout
