# SPDX-License-Identifier: MIT
"""The check: closure, verdict, suggestions, the cache."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep.codecs.errors import InvalidArgument
from pagestep.store.discipline import (
    CUTS,
    Check,
    Declared,
    How,
    InterruptPages,
    check,
    suggest_rules,
)
from pagestep.store.discipline._edges import Edges
from pagestep.store.discipline._reach import path_to, reach
from pagestep.store.discipline._roots import default_cuts, linux_roots
from pagestep.store.image import ARCHES, Image
from pagestep.store.policy import RuleSet, decide
from pagestep.store.trace import KIND_FETCH, KIND_READ, KIND_WRITE, Trace, TraceWriter

from ..image import builders as b
from .programs import build

NORMAL = 3


@dataclass
class Calls:
    """Declared calls; what rules make of ``[[indirect]]`` looks the same."""

    callers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    prototype: str | None = None


@pytest.fixture(scope="module", params=["x86_64", "arm", "thumb", "arm64", "riscv32"])
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Image]:
    """A program whose section .paged has pages of its own."""
    target: str = request.param
    with Image.open(build(tmp_path_factory.mktemp(target), target)) as image:
        yield image


def paged(image: Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return levels: all PINNED, but .paged."""
    level = np.zeros(image.page_count, np.uint8)
    segment = next(s for s in image.segments if s.name == ".paged")
    level[segment.pages.start : segment.pages.stop] = NORMAL
    return level


def from_roots(image: Image, *roots: str, **more: Any) -> Check:
    traces: Any = more.pop("traces", ())
    declared = Declared(roots=roots, default_roots=False, **more)
    return check(image, paged(image), declared, traces=traces)


def names_of(found: Check, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> set[str]:
    return {found.graph.functions.names[n] for n in np.flatnonzero(mask).tolist()}


def address_of(image: Image, name: str) -> int:
    symbol = image.symbols.find(name)
    assert symbol is not None
    return symbol.address


def steps(found: Check, path: Any) -> list[str]:
    return [found.graph.functions.names[hop.function] for hop in path]


def test_what_only_calls_pinned_functions_passes(program: Image) -> None:
    found = from_roots(program, "direct")
    assert found.ok
    assert names_of(found, found.closure) == {"direct", "leaf"}
    assert found.shares["closure"].functions == 2


def test_a_pageable_function_in_the_closure_fails_with_the_way_to_it(program: Image) -> None:
    found = from_roots(program, "calls_pageable", "tail")
    assert not found.ok
    [violation] = found.violations
    assert steps(found, violation.path) == ["calls_pageable", "middle", "pageable"]
    assert violation.pages == (program.page_of(address_of(program, "pageable")),)
    first, *others = violation.path
    assert first.how is None
    assert all(hop.how in (How.CALL, How.JUMP) and hop.site for hop in others)


def test_a_cut_is_not_entered(program: Image) -> None:
    found = from_roots(program, "calls_pageable", cuts=("mid*",))
    assert found.ok
    assert [found.graph.functions.names[n] for n in found.cuts_met] == ["middle"]
    assert names_of(found, found.closure) == {"calls_pageable", "direct", "leaf"}
    assert "calls_pageable" not in names_of(found, found.may_fault)


def test_a_root_that_is_cut_is_said(program: Image) -> None:
    found = from_roots(program, "calls_pageable", "direct", cuts=("calls_pageable",))
    assert found.ok
    assert found.roots.keys() == {"given"}
    assert any("calls_pageable is to start from" in note for note in found.notes)


def test_what_may_fault_is_whatever_leads_to_a_pageable_function(program: Image) -> None:
    found = from_roots(program, "direct")
    assert names_of(found, found.may_fault) == {
        "pageable",
        "paged_handler",
        "middle",
        "calls_pageable",
    }


def test_a_function_marked_never_to_fault_that_may_is_found(program: Image) -> None:
    marked = (address_of(program, "calls_pageable"), address_of(program, "tail"))
    found = from_roots(program, "direct", no_fault=marked)
    assert not found.ok
    [violation] = found.no_fault_violations
    assert steps(found, violation.path) == ["calls_pageable", "middle", "pageable"]
    assert not found.violations


def test_a_function_marked_to_fault_is_as_good_as_pageable(program: Image) -> None:
    found = from_roots(program, "direct", may_fault=(address_of(program, "leaf"),))
    assert not found.ok
    [violation] = found.marked
    assert steps(found, violation.path) == ["direct", "leaf"]
    assert {"leaf", "direct", "tail", "calls_pageable"} <= names_of(found, found.may_fault)


def test_a_call_by_pointer_is_counted_until_it_is_declared(program: Image) -> None:
    found = from_roots(program, "takes")
    assert found.ok
    assert len(found.undeclared) == 1
    calls = Calls(("by_*",), ("handler_c", "paged_handler"))
    found = from_roots(program, "takes", indirect=(calls,))
    assert len(found.undeclared) == 0
    [violation] = found.violations
    assert steps(found, violation.path) == ["takes", "by_pointer", "paged_handler"]
    last = violation.path[-1]
    assert last.how is How.DECLARED
    assert last.site in found.graph.indirect_sites.tolist()
    assert "handler_c" in names_of(found, found.closure)


@pytest.mark.parametrize("targets", [(), ("*",)])
def test_a_declaration_without_names_means_all_whose_address_is_taken(
    program: Image, targets: tuple[str, ...]
) -> None:
    found = from_roots(program, "dispatch", indirect=(Calls(("dispatch",), targets),))
    reached = names_of(found, found.closure)
    assert {"handler_a", "handler_b", "handler_c", "paged_handler"} <= reached
    assert "middle" not in reached


def test_a_prototype_without_types_is_noted(program: Image) -> None:
    calls = Calls(("dispatch",), (), "ops.call")
    found = from_roots(program, "dispatch", indirect=(calls,))
    assert any("BTF" in note for note in found.notes)


def test_what_is_declared_and_not_there_is_said(program: Image) -> None:
    calls = Calls(("nobody",), ("leaf",))
    found = from_roots(program, "direct", "no_root", cuts=("no_cut*",), indirect=(calls,))
    assert found.unmatched == ("no_cut*", "nobody", "no_root")


def test_nothing_to_start_from_is_an_error_that_says_root(program: Image) -> None:
    with pytest.raises(InvalidArgument, match="--root"):
        from_roots(program, "no_such_function")


def test_levels_of_another_image_are_refused(program: Image) -> None:
    with pytest.raises(InvalidArgument, match="pages"):
        check(program, np.zeros(1, np.uint8), Declared(roots=("direct",)))


# Traces


def recording(image: Image, events: list[tuple[int, int]]) -> InterruptPages:
    file = io.BytesIO()
    with TraceWriter(
        file,
        page_size=image.page_size,
        page_count=image.page_count,
        identity=bytes.fromhex(image.identity),
        clock="step",
    ) as writer:
        pages, kinds = np.array(events).T
        writer.events(pages, kinds, np.arange(len(events)))
    file.seek(0)
    return InterruptPages.of(Trace.open(file), "recorded")


def test_pages_seen_in_interrupts_join_what_must_be_resident(program: Image) -> None:
    page = program.page_of(address_of(program, "pageable"))
    start = program.page_of(address_of(program, "direct"))
    seen = recording(program, [(start, KIND_FETCH), (page, KIND_FETCH), (page, KIND_READ)])
    found = from_roots(program, "direct", traces=[seen])
    assert not found.ok
    assert [(v.page_no, v.use) for v in found.trace_violations] == [
        (page, "fetched"),
        (page, "read"),
    ]
    on_page = {found.graph.functions.names[n] for n in found.trace_violations[0].functions}
    assert on_page == {"pageable", "paged_handler"}
    shares = found.shares
    assert shares["trace"].pages == 2
    assert shares["joined"].bytes == shares["trace"].bytes, "the closure lies on those pages"
    assert found.data_pages.traced == 0


def test_data_seen_in_interrupts_is_told_apart(program: Image) -> None:
    page = program.page_of(address_of(program, "pageable"))
    seen = recording(program, [(page, KIND_WRITE), (page, KIND_READ)])
    assert seen.read.tolist() == []
    found = from_roots(program, "direct", traces=[seen])
    assert [v.use for v in found.trace_violations] == ["written"]
    assert found.shares["trace"].pages == 0
    assert found.data_pages.traced == 1


# Suggestions

RULES = """
[[rule]]
section = ".paged"
level = "EAGER"
"""


def test_suggested_rules_make_it_pass(program: Image) -> None:
    rules = RULES + '[[rule]]\nsection = ".far"\nlevel = "NORMAL"\n'
    seen = recording(program, [(program.page_of(address_of(program, "far_back")), KIND_FETCH)])
    declared = Declared(
        roots=("calls_pageable",),
        default_roots=False,
        no_fault=(address_of(program, "far_tail"),),
    )

    def run(text: str) -> Check:
        level = decide(program, RuleSet.parse(text)).level
        return check(program, level, declared, traces=[seen])

    found = run(rules)
    assert found.violations
    assert found.no_fault_violations
    assert found.trace_violations
    suggested = suggest_rules(program, found)
    assert run(rules + suggested).ok
    assert '"pageable"' in suggested
    assert '"paged_handler"' not in suggested


def test_addresses_are_suggested_only_for_pages_of_no_such_function(program: Image) -> None:
    page = program.page_of(address_of(program, "pageable"))
    seen = recording(program, [(page, KIND_FETCH)])
    by_name = suggest_rules(program, from_roots(program, "calls_pageable", traces=[seen]))
    assert "address" not in by_name
    found = from_roots(program, "direct", traces=[seen])
    suggested = suggest_rules(program, found)
    address = program.address_of(page)
    assert f"address = [{address:#x}, {address + 4096:#x}]" in suggested
    level = decide(program, RuleSet.parse(RULES + suggested)).level
    assert check(program, level, Declared(roots=("direct",)), traces=[seen]).ok


def test_suggestions_mend_what_must_never_fault(program: Image) -> None:
    marked = (address_of(program, "calls_pageable"),)
    declared = Declared(roots=("direct",), default_roots=False, no_fault=marked)
    found = check(program, decide(program, RuleSet.parse(RULES)).level, declared)
    assert not found.ok
    rules = RuleSet.parse(RULES + suggest_rules(program, found))
    assert check(program, decide(program, rules).level, declared).ok


TEXT = 0x10000
LONG = b.elf(
    [b.Load(TEXT, b"\x55" * 0x2FFF + b"\xc3")],
    [b.Section(".text", TEXT, 0x3000, b.A | b.X)],
    [b.Symbol("outer", TEXT, 0x3000), b.Symbol("inner", TEXT + 0xFF0, 64)],
)


def test_each_page_that_a_function_touches_counts() -> None:
    with Image.open(LONG) as image:
        declared = Declared(roots=("inner",), default_roots=False)
        level = np.array([NORMAL, 0, NORMAL], np.uint8)
        [violation] = check(image, level, declared).violations
        assert violation.pages == (0, 2), "what is left of the outer one is the inner one's"
        level = np.array([0, 0, NORMAL], np.uint8)
        [violation] = check(image, level, declared).violations
        assert violation.pages == (2,)


def test_what_no_name_covers_is_suggested_by_address() -> None:
    rules = '[[rule]]\nsection = ".text"\nlevel = "NORMAL"\n'
    with Image.open(LONG) as image:
        declared = Declared(roots=("inner",), default_roots=False)
        found = check(image, decide(image, RuleSet.parse(rules)).level, declared)
        suggested = suggest_rules(image, found)
        assert '"inner"' in suggested
        assert '"outer"' not in suggested
        assert "address = [0x11000, 0x13000]" in suggested
        assert check(image, decide(image, RuleSet.parse(rules + suggested)).level, declared).ok


def test_names_with_wild_letters_mean_themselves() -> None:
    base = 0x10000
    text = b"\xc3" * 64
    elf = b.elf(
        [b.Load(base, text)],
        [b.Section(".text", base, 64, b.A | b.X)],
        [b.Symbol('odd[0]*"?\\', base, 16), b.Symbol("oddity", base + 16, 16)],
    )
    with Image.open(elf) as image:
        level = np.full(image.page_count, NORMAL, np.uint8)
        declared = Declared(roots=("odd[[]*",), default_roots=False)
        found = check(image, level, declared)
        assert names_of(found, found.closure) == {'odd[0]*"?\\'}
        rules = '[[rule]]\nsection = ".text"\nlevel = "NORMAL"\n'
        rules += suggest_rules(image, found)
        assert check(image, decide(image, RuleSet.parse(rules)).level, declared).ok


# Roots and cuts


def test_the_vector_table_of_firmware_is_where_it_starts(tmp_path: Path) -> None:
    source = """
    #define KEEP __attribute__((noinline, used))
    volatile int sink;
    KEEP int leaf(int a) { sink = a; return a; }
    KEEP void direct(void) { leaf(1); }
    KEEP void tick(void) { leaf(2); }
    KEEP void spare(void) { leaf(3); }
    extern void (*const vectors[])(void);
    __attribute__((section(".vectors"), used))
    void (*const vectors[])(void) = {(void *)0x20001000, direct, 0, tick, (void *)1, spare};
    """
    with Image.open(build(tmp_path, "thumb", source)) as image:
        assert image.arch == "thumb"
        found = check(image, np.zeros(image.page_count, np.uint8))
    names = [found.graph.functions.names[n] for n in found.roots["vectors"]]
    assert sorted(names) == ["direct", "tick"], "the table ends at what is no function"


def test_default_roots_and_cuts_are_lists_of_names() -> None:
    for arch in ARCHES:
        assert set(linux_roots(arch)) == {
            "fault handler",
            "interrupt entry",
            "swap-in",
            "block I/O",
            "scheduler",
        }
    assert len(default_cuts()) == len(set(default_cuts()))
    assert all(why and globs for why, globs in CUTS.items())


# The search, against a simple one

graphs = st.integers(1, 24).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(
            st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=count * 3
        ),
        st.sets(st.integers(0, count - 1), max_size=3),
        st.sets(st.integers(0, count - 1), max_size=4),
        st.integers(0, count),
        st.booleans(),
    )
)


def distances(
    count: int,
    edges: set[tuple[int, int]],
    roots: set[int],
    blocked: set[int],
    virtual_from: int,
) -> dict[int, int]:
    """Return how far each node is; to leave a virtual one costs nothing."""
    found = {root: 0 for root in roots - blocked}
    waiting = deque(found)
    while waiting:
        node = waiting.popleft()
        for source, target in edges:
            cost = found[node] + (node < virtual_from)
            if source == node and target not in blocked and cost < found.get(target, count * 2):
                found[target] = cost
                waiting.append(target)
    return found


@settings(max_examples=300, deadline=None)
@given(graphs)
def test_the_search_finds_what_a_simple_one_finds_by_paths_as_short(
    graph: tuple[int, list[tuple[int, int]], set[int], set[int], int, bool],
) -> None:
    count, pairs, roots, blocked, virtual_from, backwards = graph
    # A virtual node only joins functions; none is a root, none follows another.
    pairs = [(s, t) for s, t in pairs if s < virtual_from or t < virtual_from]
    roots = {root for root in roots if root < virtual_from}
    sources, targets = np.array(pairs, np.int64).reshape(-1, 2).T
    edges = Edges.of(
        sources, targets, np.arange(len(pairs), dtype=np.uint64), np.zeros(len(pairs), np.uint8)
    )
    assert len(edges) == len(set(pairs))
    mask = np.zeros(count, bool)
    mask[list(blocked)] = True
    reached = reach(
        edges,
        count,
        np.array(sorted(roots), np.int64),
        blocked=mask,
        virtual_from=virtual_from,
        backwards=backwards,
    )
    known = {(t, s) if backwards else (s, t) for s, t in pairs}
    expected = distances(count, known, roots, blocked, virtual_from)
    assert set(np.flatnonzero(reached.mask).tolist()) == set(expected)
    for node, distance in expected.items():
        path = path_to(edges, reached, node, backwards=backwards)
        hops = [(int(edges.sources[e]), int(edges.targets[e])) for e in path]
        starts = [t if backwards else s for s, t in hops]
        assert sum(start < virtual_from for start in starts) == distance
        ends = hops[::-1] if backwards else hops
        assert all(a[not backwards] == b[backwards] for a, b in pairwise(ends))
        first = (ends[0][1] if backwards else ends[0][0]) if hops else node
        assert first in roots


def test_a_declared_call_is_one_step() -> None:
    # 0 goes on in 3 by 1 and 2, or by the declared call 4: that way is shorter.
    sources, targets = np.array([(0, 1), (1, 2), (2, 3), (0, 4), (4, 2)], np.int64).T
    edges = Edges.of(sources, targets, np.zeros(5, np.uint64), np.zeros(5, np.uint8))
    reached = reach(edges, 5, np.array([0]), virtual_from=4)
    hops = [int(edges.targets[edge]) for edge in path_to(edges, reached, 3)]
    assert hops == [4, 2, 3]


# The cache


def test_a_graph_is_kept_and_found_again(program: Image, tmp_path: Path) -> None:
    declared = Declared(roots=("calls_pageable",), default_roots=False)

    def run() -> Check:
        return check(program, paged(program), declared, cache=tmp_path / "kept")

    first, second = run(), run()
    assert (first.cached, second.cached) == (False, True)
    assert first.violations == second.violations
    assert (first.graph.edges.sites == second.graph.edges.sites).all()
    assert first.shares == second.shares
    [file] = (tmp_path / "kept").iterdir()
    good = file.read_bytes()
    for damaged in (b"", b"PK", good[: len(good) // 2], good[:-30], b"\0" * len(good)):
        file.write_bytes(damaged)
        assert not run().cached
        assert file.read_bytes() == good, "it is made anew, the same"
    for at in range(40, len(good), len(good) // 60):
        changed = bytearray(good)
        changed[at] ^= 0xFF
        file.write_bytes(changed)
        found = run()
        assert not found.cached
        assert found.violations == first.violations


def test_another_image_and_other_symbols_have_graphs_of_their_own(tmp_path: Path) -> None:
    def kept(size: int, code: bytes) -> int:
        elf = b.elf(
            [b.Load(0x10000, code)],
            [b.Section(".text", 0x10000, len(code), b.A | b.X)],
            [b.Symbol("f", 0x10000, size)],
        )
        with Image.open(elf) as image:
            declared = Declared(roots=("f",), default_roots=False)
            found = check(image, np.zeros(image.page_count, np.uint8), declared, cache=tmp_path)
            assert not found.cached
        return len(list(tmp_path.iterdir()))

    assert kept(8, b"\xc3" * 64) == 1
    assert kept(16, b"\xc3" * 64) == 2
    assert kept(8, b"\x90" * 63 + b"\xc3") == 3
    for n in range(20):
        assert kept(8, b"\x90" * n + b"\xcc" + b"\xc3" * 64) <= 16


def test_a_folder_that_cannot_be_made_is_noted(program: Image, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    declared = Declared(roots=("direct",), default_roots=False)
    found = check(program, paged(program), declared, cache=tmp_path / "file")
    assert found.ok
    assert any("was not kept" in note for note in found.notes)
