# SPDX-License-Identifier: MIT
"""Data that compiled programs name, which is known from their source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pagestep.store.discipline import (
    CallGraph,
    Check,
    DataPages,
    Declared,
    NamedData,
    References,
    build_call_graph,
    check,
    suggest_rules,
)
from pagestep.store.image import Image
from pagestep.store.policy import RuleSet, decide

from ..image import builders as b
from .programs import COMPILERS, build

SOURCE = """
#define KEEP __attribute__((noinline, noclone, used))
#define PAGED __attribute__((section(".paged_data"), used))
typedef int (*call)(int);
struct pair { int a[3]; int b; };
struct pair thing = {{1, 2, 3}, 4};
static int hidden[16] = {1, 2, 3, 4, 5, 6, 7, 8};
const int numbers[40] = {3, 1, 4, 1, 5};
char huge[9000] = {1};
int alone = 7;
int never = 8;
struct node { struct node *next; int value; };
struct node last = {0, 9};
struct node chained = {&last, 10};
int swapped PAGED = 11;
int other PAGED = 12;

KEEP int reads_members(void) { return thing.b + hidden[5]; }
KEEP void writes_member(int v) { thing.a[2] = v; }
KEEP int indexes(int n) { return numbers[n] + hidden[n & 15]; }
KEEP int *forms(void) { return &hidden[3]; }
KEEP const char *says(void) { return "a string without a symbol"; }
KEEP int reads_page_of_huge(void) { return huge[8500]; }
KEEP int reads_after_call(void) { return reads_members() + alone; }
KEEP int through_pointer(void) { return chained.next->value; }
KEEP int handler(int a) { return a + 10; }
call table[] = {handler, handler};
KEEP int dispatch(int n) { return table[n & 1](n) + 1; }
KEEP int pure(int a) { return a * 0x12345 + 0x54321; }
KEEP int direct(int a) { return pure(a) + 1; }
KEEP int reads_swapped(void) { return swapped; }
KEEP int calls_reader(int a) { return reads_swapped() + direct(a); }
KEEP void writes_two(int v) { swapped = v; other = v + 1; }
"""
NAMES: dict[str, set[str]] = {
    "reads_members": {"thing", "hidden"},
    "writes_member": {"thing"},
    "indexes": {"numbers", "hidden"},
    "forms": {"hidden"},
    "says": {""},
    "reads_page_of_huge": {"huge"},
    "reads_after_call": {"alone"},
    "through_pointer": {"chained"},
    "handler": set(),
    "dispatch": {"table"},
    "pure": set(),
    "direct": set(),
    "reads_swapped": {"swapped"},
    "calls_reader": set(),
    "writes_two": {"swapped", "other"},
}


def names_of(image: Image, graph: CallGraph) -> dict[str, set[str]]:
    """Return the data that each function names, "" for what has no symbol."""
    data = NamedData(image, graph.references)
    found: dict[str, set[str]] = {name: set() for name in graph.functions.names}
    every = np.ones(image.page_count, bool)
    for reference, source in enumerate(graph.references.sources.tolist()):
        named = data.named(reference, every)
        found[graph.functions.names[source]].add(named.symbol or "")
    return found


@pytest.mark.parametrize("target", COMPILERS)
def test_the_data_that_functions_name_is_that_of_the_source(target: str, tmp_path: Path) -> None:
    with Image.open(build(tmp_path, target, SOURCE)) as image:
        graph = build_call_graph(image)
        found = names_of(image, graph)
    # Compilers of these count from one object to others: the first is named as well.
    anchor: set[str] = set() if target.startswith(("x86", "arm64")) else {"thing"}
    for name, expected in NAMES.items():
        assert expected <= found[name] <= (expected | anchor if expected else set()), name


AROUND_A_CALL = {
    "arm": """
        movw r0, #:lower16:first
        movt r0, #:upper16:first
        mov r4, r0
        bl callee
        ldr r1, [r0, #4]
        ldr r1, [r4, #8]
        bx lr
    """,
    "arm64": """
        adrp x0, first
        add x0, x0, :lo12:first
        mov x19, x0
        bl callee
        ldr w1, [x0, #4]
        ldr w1, [x19, #8]
        ret
    """,
    "riscv64": """
        la a0, first
        mv s1, a0
        call callee
        lw a1, 4(a0)
        lw a1, 8(s1)
        ret
    """,
}


@pytest.mark.parametrize("target", AROUND_A_CALL)
def test_a_call_leaves_only_the_registers_that_it_must_keep(target: str, tmp_path: Path) -> None:
    words = "".join(
        f".type {name}, %object\n.size {name}, 4\n{name}: .word 1\n"
        for name in ("first", "second", "third")
    )
    code = f"{words}.text\n.type direct, %function\n.globl direct\ndirect:{AROUND_A_CALL[target]}"
    lines = f".data\n.balign 16\n{code}.size direct, . - direct\n".splitlines()
    source = "__attribute__((used, noinline)) void callee(void) {}\nasm(\n"
    source += "\n".join(f'"{line.strip()}\\n"' for line in lines) + ");\n"
    with Image.open(build(tmp_path, target, source)) as image:
        found = names_of(image, build_call_graph(image))
    assert found["direct"] == {"first", "third"}


# Verdict


@pytest.fixture(scope="module", params=["x86_64", "arm", "thumb", "arm64", "riscv64"])
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Image]:
    """A program whose section .paged_data has pages of its own."""
    target: str = request.param
    with Image.open(build(tmp_path_factory.mktemp(target), target, SOURCE)) as image:
        yield image


RULES = """
[[rule]]
section = ".paged_data"
level = "NORMAL"
"""


def address_of(image: Image, name: str) -> int:
    symbol = image.symbols.find(name)
    assert symbol is not None
    return symbol.address


def from_roots(image: Image, *roots: str, rules: str = RULES, **more: Any) -> Check:
    level = np.zeros(image.page_count, np.uint8)
    decided = decide(image, RuleSet.parse(rules)).level
    segment = next(s for s in image.segments if s.name == ".paged_data")
    level[segment.pages.start : segment.pages.stop] = decided[
        segment.pages.start : segment.pages.stop
    ]
    data: bool = more.pop("data", True)
    declared = Declared(roots=roots, default_roots=False, **more)
    return check(image, level, declared, data=data)


def steps(found: Check, path: Any) -> list[str]:
    return [found.graph.functions.names[hop.function] for hop in path]


def test_pageable_data_that_the_closure_names_fails_with_the_way_to_it(program: Image) -> None:
    found = from_roots(program, "calls_reader")
    assert not found.ok
    assert not found.violations
    [violation] = found.data_violations
    assert steps(found, violation.path) == ["calls_reader", "reads_swapped"]
    named = violation.named
    assert (named.symbol, named.offset, named.size) == ("swapped", 0, 4)
    assert named.address == address_of(program, "swapped")
    assert named.pages == (program.page_of(named.address),)
    number = found.graph.functions.names.index("reads_swapped")
    starts, ends = found.graph.functions.starts, found.graph.functions.ends
    assert starts[number] <= named.site < ends[number]
    assert found.data_pages == DataPages(1, 0, 1)
    may_fault = {found.graph.functions.names[n] for n in np.flatnonzero(found.may_fault).tolist()}
    assert may_fault == {"reads_swapped", "calls_reader", "writes_two"}


def test_the_shortest_way_to_a_datum_is_told_and_each_datum_once(program: Image) -> None:
    found = from_roots(program, "calls_reader", "writes_two")
    paths = {v.named.symbol: steps(found, v.path) for v in found.data_violations}
    assert paths == {"swapped": ["writes_two"], "other": ["writes_two"]}
    assert len(found.data_violations) == 2


def test_data_out_of_reach_or_left_out_is_no_violation(program: Image) -> None:
    assert from_roots(program, "direct").ok
    assert from_roots(program, "calls_reader", cuts=("reads_swapped",)).ok
    found = from_roots(program, "calls_reader", data=False)
    assert found.ok
    assert found.data_pages == DataPages(None, 0, 0)
    assert not found.may_fault.any()


def test_a_function_marked_never_to_fault_that_names_pageable_data_is_found(
    program: Image,
) -> None:
    marked = (address_of(program, "calls_reader"), address_of(program, "direct"))
    found = from_roots(program, "direct", no_fault=marked)
    assert not found.ok
    assert not found.data_violations
    [violation] = found.no_fault_violations
    assert steps(found, violation.path) == ["calls_reader", "reads_swapped"]
    assert {named.symbol for named in violation.names} == {"swapped"}
    assert from_roots(program, "direct", no_fault=marked, data=False).ok


def test_suggested_rules_pin_data_by_its_name(program: Image) -> None:
    marked = (address_of(program, "writes_two"),)
    found = from_roots(program, "calls_reader", no_fault=marked)
    suggested = suggest_rules(program, found)
    assert '"swapped"' in suggested
    assert '"other"' in suggested, "what is marked never to fault needs it"
    assert '"never"' not in suggested
    assert "address = " not in suggested
    assert from_roots(program, "calls_reader", rules=RULES + suggested, no_fault=marked).ok
    without = suggest_rules(program, from_roots(program, "calls_reader", data=False))
    assert '"swapped"' not in without


def test_references_are_kept_with_the_graph(program: Image, tmp_path: Path) -> None:
    level = np.zeros(program.page_count, np.uint8)
    declared = Declared(roots=("calls_reader",), default_roots=False)
    first, second = (check(program, level, declared, cache=tmp_path) for _ in range(2))
    assert (first.cached, second.cached) == (False, True)
    assert len(first.graph.references)
    for name in ("sources", "addresses", "sites"):
        kept = getattr(second.graph.references, name)
        assert (kept == getattr(first.graph.references, name)).all()


# What an address means


def meant(
    addresses: list[int], sections: list[b.Section], symbols: list[b.Symbol], size: int = 0x6000
) -> list[tuple[str | None, int, int, list[int]]]:
    """Return symbol, address, size and pages of what addresses mean; text is the first page."""
    with Image.open(
        b.elf(
            [b.Load(BASE, b"\xc3" * size)],
            [b.Section(".text", BASE, 0x100, b.A | b.X), *sections],
            [b.Symbol("f", BASE, 16), *symbols],
        )
    ) as image:
        named = np.array(sorted(addresses), np.uint64)
        no = np.zeros(len(named), np.int64)
        data = NamedData(image, References.of(no, named, named))
        each = [data.named(n, np.ones(image.page_count, bool)) for n in range(len(named))]
        every = np.ones(len(data.symbols), bool)
        spans = {page for n in each for page in n.pages}
        assert set(np.flatnonzero(data.pages(every)).tolist()) == spans
        for page in spans:
            alone = np.arange(image.page_count) == page
            touching = data.touching(alone)[data.data].tolist()
            assert touching == [page in n.pages for n in each]
        by_name: list[bool] = data.by_name[data.data].tolist()
        assert by_name == [n.size > 0 or n.symbol == "sized" for n in each]
        return [(n.symbol, n.address - BASE, n.size, list(n.pages)) for n in each]


BASE = 0x400000
DATA = [b.Section(".data", BASE + 0x1000, 0x4000, b.A | b.W)]


def test_an_address_stands_for_the_object_that_it_lies_in() -> None:
    symbols = [
        b.Symbol("small", BASE + 0x1FF8, 16, b.OBJECT, 2),
        b.Symbol("loose", BASE + 0x2010, 0, b.OBJECT, 2),
        b.Symbol("next", BASE + 0x2020, 0, b.OBJECT, 2),
    ]
    assert meant([BASE + 0x2004], DATA, symbols) == [("small", 0x1FF8, 16, [1, 2])]
    assert meant([BASE + 0x201F], DATA, symbols) == [("loose", 0x2010, 16, [2])]


def test_of_a_large_object_and_of_none_the_page_alone_counts() -> None:
    symbols = [
        b.Symbol("sized", BASE + 0x1100, 0x2000, b.OBJECT, 2),
        b.Symbol("within", BASE + 0x1200, 8, b.OBJECT, 2),
    ]
    assert meant([BASE + 0x2345], DATA, symbols) == [("sized", 0x2345, 0, [2])]
    assert meant([BASE + 0x1201], DATA, symbols) == [("within", 0x1200, 8, [1])]
    assert meant([BASE + 0x4000], DATA, symbols) == [(None, 0x4000, 0, [4])]
    assert meant([BASE + 0x1080], DATA, symbols) == [(None, 0x1080, 0, [1])]


def test_an_object_of_exactly_a_page_counts_as_a_whole() -> None:
    for size, pages in ((0x1000, [1, 2]), (0x1001, [1])):
        symbols = [b.Symbol("sized", BASE + 0x1800, size, b.OBJECT, 2)]
        [(name, _, _, found)] = meant([BASE + 0x1800], DATA, symbols)
        assert (name, found) == ("sized", pages)


def test_an_object_without_a_size_ends_with_its_section() -> None:
    sections = [
        b.Section(".data", BASE + 0x1000, 0x100, b.A | b.W),
        b.Section(".rodata", BASE + 0x1100, 0x100),
    ]
    symbols = [b.Symbol("loose", BASE + 0x1080, 0, b.OBJECT, 2)]
    found = meant([BASE + 0x1081, BASE + 0x1101], sections, symbols)
    assert found == [("loose", 0x1080, 0x80, [1]), (None, 0x1101, 0, [1])]


def test_an_object_that_runs_past_its_section_ends_there() -> None:
    sections = [
        b.Section(".data", BASE + 0x1000, 0x100, b.A | b.W),
        b.Section(".rodata", BASE + 0x1100, 0x100),
    ]
    symbols = [b.Symbol("over", BASE + 0x10F0, 0x20, b.OBJECT, 2)]
    assert meant([BASE + 0x10F0], sections, symbols) == [("over", 0x10F0, 16, [1])]


def test_an_object_goes_by_its_own_name_before_a_label() -> None:
    symbols = [
        b.Symbol(name, BASE + 0x1000, 0, b.OBJECT, 2)
        for name in ("__start_data", "_sdata", "object", "__data_begin")
    ]
    symbols.append(b.Symbol("end", BASE + 0x1010, 0, b.OBJECT, 2))
    assert meant([BASE + 0x1004], DATA, symbols)[0][0] == "object"


# What counts as data


def x86_references(code: str, more: list[b.Section], load: int = BASE) -> list[int]:
    """Return the addresses of data that code names; its section lies at BASE."""
    text = bytes.fromhex(code)
    loads = [b.Load(BASE, text.ljust(0x2000, b"\xc3"))]
    if load != BASE:
        loads.insert(0, b.Load(load, bytes(0x1000)))
    sections = [b.Section(".text", BASE, len(text), b.A | b.X, load=len(loads) - 1), *more]
    symbols = [b.Symbol("f", BASE, len(text))]
    with Image.open(b.elf(loads, sections, symbols)) as image:
        found: list[int] = build_call_graph(image).references.addresses.tolist()
    return found


def test_forms_of_x86_operands() -> None:
    data = [b.Section(".data", BASE + 0x1000, 0x1000, b.A | b.W)]
    at = BASE + 0x1010
    here = at.to_bytes(4, "little").hex()
    forms = {
        "488b05" + (at - BASE - 7).to_bytes(4, "little").hex(): "mov rax, [rip + x]",
        "488b04dd" + here: "mov rax, [rbx*8 + x]",
        "488b8418" + here: "mov rax, [rax + rbx + x]",
        "488b0425" + here: "mov rax, [x]",
        "48c7c0" + here: "mov rax, x",
        "68" + here: "push x",
        "ff24c5" + here: "jmp [rax*8 + x]",
        "ff1425" + here: "call [x]",
        "488d87" + here: "lea rax, [rdi + x]",
        "f0ff0c25" + here: "lock dec [x]",
    }
    for code, form in forms.items():
        expected = [] if "another" in form else [at]
        assert x86_references(code + "c3", data) == expected, form
    two = (
        "c705" + (at - BASE - 10).to_bytes(4, "little").hex() + (at + 8).to_bytes(4, "little").hex()
    )
    assert x86_references(two + "c3", data) == [at, at + 8]
    inside = "b8" + BASE.to_bytes(4, "little").hex()
    assert x86_references(inside + "c3", data) == [], "what is in code is no data"


def test_a_displacement_may_be_negative() -> None:
    high = 0xFFFFFFFF81000000
    table = (high + 0x1010 & 0xFFFFFFFF).to_bytes(4, "little")
    text = bytes.fromhex("488b04dd") + table + bytes.fromhex("c3")  # mov rax, [rbx*8 - x]
    sections = [
        b.Section(".text", high, len(text), b.A | b.X),
        b.Section(".data", high + 0x1000, 0x1000, b.A | b.W),
    ]
    elf = b.elf([b.Load(high, text.ljust(0x2000))], sections, [b.Symbol("f", high, len(text))])
    with Image.open(elf) as image:
        assert build_call_graph(image).references.addresses.tolist() == [high + 0x1010]


def test_only_gs_relative_operands_are_per_cpu() -> None:
    per_cpu = [b.Section(".data..percpu", 0, 0x1000, b.A | b.W, load=0)]
    gs = "65488b0425" + "28000000"  # mov rax, gs:[0x28]
    ds = "488b0425" + "28000000"  # mov rax, [0x28]
    number = "48c7c0" + "00080000"  # mov rax, 0x800
    indexed = "65488b80" + "e0000000"  # mov rax, gs:[rax + 0xe0]
    assert x86_references(gs + ds + number + "c3", per_cpu, load=0) == [0x28]
    assert x86_references(indexed + "c3", per_cpu, load=0) == [0xE0]
    elsewhere = [b.Section(".data", 0, 0x1000, b.A | b.W, load=0)]
    assert x86_references(gs + "c3", elsewhere, load=0) == []


def test_in_an_image_without_sections_what_is_in_no_function_is_data(tmp_path: Path) -> None:
    # f: ldr r0, =g; ldr r1, =data; bx lr; its constants.  g: bx lr
    base = 0x8000
    words = [0xE59F0004, 0xE59F1004, 0xE12FFF1E, base + 20, base + 0x100, 0xE12FFF1E]
    code = b"".join(word.to_bytes(4, "little") for word in words)
    (tmp_path / "map").write_text(f"{base:08x} T f\n{base + 20:08x} T g\n{base + 24:08x} D d\n")
    with Image.open(
        code.ljust(0x1000, b"\0"), base=base, arch="arm", system_map=tmp_path / "map"
    ) as image:
        graph = build_call_graph(image)
    assert graph.references.addresses.tolist() == [base + 0x100]
    assert graph.references.sites.tolist() == [base + 4]


def test_riscv_code_may_count_from_gp() -> None:
    # lw a0, 8(gp); ret: what a linker makes of a load where it may.
    text = (0x0081A503).to_bytes(4, "little") + (0x00008067).to_bytes(4, "little")
    sections = [
        b.Section(".text", BASE, 8, b.A | b.X),
        b.Section(".sdata", BASE + 0x1000, 0x1000, b.A | b.W),
    ]
    symbols = [b.Symbol("f", BASE, 8), b.Symbol("__global_pointer$", BASE + 0x1800, 0, 0, 2)]
    elf = b.elf([b.Load(BASE, text.ljust(0x2000, b"\0"))], sections, symbols)
    with Image.open(elf, arch="riscv64") as image:
        assert build_call_graph(image).references.addresses.tolist() == [BASE + 0x1808]
