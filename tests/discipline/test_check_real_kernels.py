# SPDX-License-Identifier: MIT
"""Debian's kernels: the graph and every path, against another disassembler."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pagestep.store.discipline import (
    Check,
    Declared,
    Hop,
    How,
    InterruptPages,
    check,
    suggest_rules,
)
from pagestep.store.image import Image
from pagestep.store.policy import RuleSet, decide
from pagestep.store.trace import Trace

from ..image.test_real_kernels import vmlinux_of

pytestmark = pytest.mark.kernel

DATA = Path(__file__).resolve().parents[2] / "data"
SHIPPED = Path(__file__).resolve().parents[2] / "examples" / "rules"
RULES = """
[[rule]]
section = ".text"
level = "NORMAL"
"""
_TRANSFER = re.compile(rb"^([0-9a-f]+):\t(?:\w+ )?(call|jmp|j\w+|loop\w*) +(?:0x)?([0-9a-f]{16})\b")
_COMMENT = re.compile(r"# (?:0x)?([0-9a-f]+)\b")
_NUMBER = re.compile(r"(%gs:)?(-?)(\$?)(-?)0x([0-9a-f]+)(?!\w)(\(%rip\))?")
_SLOT = re.compile(rb"^([0-9a-f]+):\t(?:\w+ )?(?:call|jmp) +\*.*# (?:0x)?([0-9a-f]+)\b")


@dataclass(frozen=True)
class Calls:
    callers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    prototype: str | None = None


@pytest.fixture(scope="module")
def x86(x86_kernel: Path) -> Iterator[Image]:
    with Image.open(x86_kernel) as image:
        yield image


@pytest.fixture(scope="module")
def found(x86: Image, tmp_path_factory: pytest.TempPathFactory) -> Check:
    """The check with all of .text pageable."""
    level = decide(x86, RuleSet.parse(RULES)).level
    return check(x86, level, cache=tmp_path_factory.getbasetemp() / "graphs")


@pytest.fixture(scope="module")
def objdump(x86_kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Objdump:
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed (binutils)")
    return Objdump(tmp_path_factory.mktemp("vmlinux"), vmlinux_of(x86_kernel))


class Objdump:
    """Every call and jump of the kernel's code, as objdump sees it."""

    def __init__(self, folder: Path, vmlinux: bytes) -> None:
        self._path = folder / "vmlinux"
        self._path.write_bytes(vmlinux)
        self.targets: dict[int, int] = {}
        self.slots: dict[int, int] = {}
        sections = (".text", ".init.text", ".altinstr_replacement", ".exit.text")
        command = ["objdump", "-d", "--no-show-raw-insn", *(f"-j{name}" for name in sections)]
        with subprocess.Popen([*command, str(self._path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if match := _TRANSFER.match(line):
                    self.targets[int(match[1], 16)] = int(match[3], 16)
                elif match := _SLOT.match(line):
                    self.slots[int(match[1], 16)] = int(match[2], 16)
        assert process.returncode == 0

    def function(self, start: int, end: int) -> list[str]:
        """Return one function's instructions."""
        where = [f"--start-address={start:#x}", f"--stop-address={end:#x}"]
        command = ["objdump", "-d", "--no-show-raw-insn", *where, str(self._path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [line.split("\t", 1)[1] for line in text.splitlines() if re.match(r"\w+:\t", line)]


@pytest.fixture(scope="module")
def recorded(x86: Image) -> list[InterruptPages]:
    found: list[InterruptPages] = []
    for name in ("x86-cloud-interrupts.trace", "x86-cloud-faults.trace"):
        with Trace.open(DATA / name) as trace:
            if trace.identity != bytes.fromhex(x86.identity):
                pytest.skip("the shipped rules and recordings are of another version of the kernel")
            found.append(InterruptPages.of(trace, name))
    return found


def addresses_in(line: str) -> set[tuple[int, bool]]:
    """Return the numbers of an instruction that may be addresses, and which go by %gs."""
    if re.match(r"(?:cs |data16 )*nop", line):
        return set()
    code = line.partition("#")[0].partition("<")[0]
    found: set[tuple[int, bool]] = set()
    for gs, minus, _, other_minus, digits, relative in _NUMBER.findall(code):
        number = -int(digits, 16) if minus or other_minus else int(digits, 16)
        if not relative:
            found.add((number & (1 << 64) - 1, bool(gs)))
    if match := _COMMENT.search(line):
        found.add((int(match[1], 16), "%gs:" in line))
    return found


def test_the_data_that_functions_name_is_what_objdump_sees(
    x86: Image, found: Check, objdump: Objdump
) -> None:
    functions, references = found.graph.functions, found.graph.references
    sections = [(s.address, s.address + s.size, s.name) for s in x86.segments if "x" not in s.flags]

    def is_data(address: int, by_gs: bool) -> bool:
        return any(
            low <= address < high and (name == ".data..percpu") == by_gs
            for low, high, name in sections
        )

    rng = np.random.default_rng(1)
    chosen = rng.choice(np.flatnonzero(found.closure), 200, replace=False).tolist()
    total = 0
    in_function = functions.at(references.sites) == references.sources  # else in an alternative
    for number in chosen:
        expected = {
            address
            for line in objdump.function(int(functions.starts[number]), int(functions.ends[number]))
            for address, by_gs in addresses_in(line)
            if is_data(address, by_gs)
        }
        own = (references.sources == number) & in_function
        got = set(references.addresses[own].tolist())
        assert got == expected, functions.names[number]
        total += len(got)
    assert total > 300


def pointer(image: Image, address: int) -> int:
    page = image.page_of(address)
    at = address - image.address_of(page)
    return int.from_bytes(image.read(page)[at : at + 8], "little")


def edge_holds(image: Image, found: Check, objdump: Objdump, source: int, hop: Hop) -> bool:
    """Whether objdump sees what a path says of two functions."""
    functions = found.graph.functions
    start, end = int(functions.starts[hop.function]), int(functions.ends[hop.function])

    def inside(target: int | None) -> bool:
        return target is not None and start <= target < end

    if hop.how in (How.CALL, How.JUMP):
        own = int(functions.starts[source]) <= hop.site < int(functions.ends[source])
        return own and inside(objdump.targets.get(hop.site))
    if hop.how is How.SLOT:
        slot = objdump.slots.get(hop.site)
        return slot is not None and inside(pointer(image, slot))
    if hop.how is How.ALTERNATIVE:
        slot = objdump.slots.get(hop.site)
        by_slot = slot is not None and inside(pointer(image, slot))
        return by_slot or inside(objdump.targets.get(hop.site))
    if hop.how is How.FALL:
        lines = objdump.function(int(functions.starts[source]), int(functions.ends[source]))
        real = [line for line in lines if not line.startswith(("nop", "int3", "xchg   %ax,%ax"))]
        ended = real and re.match(r"(ret|jmp|ud2|iret)", real[-1]) is not None
        return start - int(functions.ends[source]) <= 64 and not ended
    return hop.how in (How.JUMP_LABEL, How.EXCEPTION)


def test_every_call_and_jump_of_the_closure_is_one_that_objdump_sees(
    x86: Image, found: Check, objdump: Objdump
) -> None:
    edges = found.graph.edges
    chosen = np.flatnonzero(found.closure[edges.sources])
    assert len(chosen) > 10_000
    wrong = [
        (found.graph.functions.names[int(edges.sources[e])], hex(int(edges.sites[e])))
        for e in chosen.tolist()
        if edges.hows[e] != How.FALL
        and not edge_holds(
            x86,
            found,
            objdump,
            int(edges.sources[e]),
            Hop(int(edges.targets[e]), How(int(edges.hows[e])), int(edges.sites[e])),
        )
    ]
    assert wrong == []


def test_no_call_that_objdump_sees_in_the_closure_is_missing(
    found: Check, objdump: Objdump
) -> None:
    functions, edges = found.graph.functions, found.graph.edges
    sites = np.array(list(objdump.targets), np.uint64)
    sources = functions.at(sites)
    targets = functions.at(np.array(list(objdump.targets.values()), np.uint64))
    count = len(functions)
    known = np.unique(edges.sources * count + edges.targets)
    crossing = (sources >= 0) & (targets >= 0) & (sources != targets)
    crossing[crossing] = found.closure[sources[crossing]]
    assert np.count_nonzero(crossing) > 20_000
    missing = crossing & ~np.isin(sources * count + targets, known)
    numbers: list[int] = sources[missing].tolist()
    assert [functions.names[n] for n in numbers] == []


def test_every_path_that_is_printed_is_one_that_objdump_sees(
    x86: Image, found: Check, objdump: Objdump
) -> None:
    roots = {number for group in found.roots.values() for number in group}
    known: dict[tuple[int, Hop], bool] = {}
    assert len(found.violations) > 3000
    for violation in found.violations:
        assert violation.path[0].function in roots
        assert violation.path[-1].function == violation.function
        for before, hop in pairwise(violation.path):
            key = (before.function, hop)
            if key not in known:
                known[key] = edge_holds(x86, found, objdump, before.function, hop)
            assert known[key], (found.graph.functions.names[before.function], hop)
    assert len(known) >= 200


def test_the_closure_is_of_the_size_that_was_measured(found: Check) -> None:
    shares = found.shares
    assert 40_000 < shares["text"].functions < 50_000
    assert 3_500 < shares["closure"].functions < 6_000
    assert 0.08 < shares["closure"].bytes / shares["text"].bytes < 0.16
    assert 0.30 < shares["closure"].pages / shares["text"].pages < 0.45
    assert set(found.roots) == {
        *("fault handler", "interrupt entry", "swap-in", "block I/O", "scheduler")
    }
    assert found.graph.notes == ()
    assert found.graph.outside == 0
    assert found.graph.not_decoded_bytes < 1000
    assert len(found.undeclared) > 500


def test_cuts_keep_panics_out(x86: Image, found: Check, tmp_path: Path) -> None:
    names = found.graph.functions.names
    in_closure = {names[n] for n in np.flatnonzero(found.closure).tolist()}
    assert not in_closure & {"panic", "_printk", "oops_end", "__warn_printk"}
    assert {"do_swap_page", "handle_mm_fault", "asm_exc_page_fault", "schedule"} <= in_closure
    level = np.zeros(x86.page_count, np.uint8)
    without = check(x86, level, Declared(default_cuts=False), cache=found_cache(tmp_path))
    assert without.ok
    more = {names[n] for n in np.flatnonzero(without.closure).tolist()}
    assert in_closure < more
    assert {"panic", "_printk"} <= more


def found_cache(tmp_path: Path) -> Path:
    """Return the folder that the fixture's graph is kept in."""
    return tmp_path.parent / "graphs"


def test_suggested_rules_make_it_pass_and_one_that_pages_a_function_fails_again(
    x86: Image, found: Check, tmp_path: Path
) -> None:
    suggested = suggest_rules(x86, found)
    # Of its data per-CPU variables and strings have no symbols in this kernel.
    assert suggested.count("address = ") < 200
    assert "by a recording" not in suggested
    assert '"pv_ops"' in suggested

    def run(text: str) -> Check:
        level = decide(x86, RuleSet.parse(text)).level
        return check(x86, level, cache=found_cache(tmp_path))

    mended = run(RULES + suggested)
    assert mended.cached
    assert mended.ok
    text = mended.shares["text"].pages
    assert mended.shares["pinned"].pages < text * 0.6
    symbol = x86.symbols.find("do_swap_page")
    assert symbol is not None
    start = x86.address_of(x86.page_of(symbol.address))
    paged = f'[[rule]]\naddress = [{start:#x}, {start + 4096:#x}]\nlevel = "NORMAL"\n'
    broken = run(RULES + suggested + paged)
    assert not broken.ok
    failing = {broken.graph.functions.names[v.function] for v in broken.violations}
    assert "do_swap_page" in failing


def test_suggested_rules_pin_data_as_well(x86: Image, tmp_path: Path) -> None:
    rules = '[[rule]]\nsection = "*"\nlevel = "NORMAL"\n'

    def run(text: str) -> Check:
        level = decide(x86, RuleSet.parse(text)).level
        return check(x86, level, cache=found_cache(tmp_path))

    found = run(rules)
    assert found.data_pages.named is not None
    assert 250 < found.data_pages.named < 450
    assert len(found.data_violations) > 1000
    mended = run(rules + suggest_rules(x86, found))
    assert mended.ok
    assert mended.data_pages == found.data_pages
    symbol = x86.symbols.find("init_mm")
    assert symbol is not None
    start = x86.address_of(x86.page_of(symbol.address))
    paged = f'[[rule]]\naddress = [{start:#x}, {start + 4096:#x}]\nlevel = "NORMAL"\n'
    broken = run(rules + suggest_rules(x86, found) + paged)
    assert not broken.violations
    [violation] = [v for v in broken.data_violations if v.named.symbol == "init_mm"]
    assert violation.path[0].function in {n for group in broken.roots.values() for n in group}


def test_a_prototype_joins_callers_with_functions_of_that_type(
    x86: Image, found: Check, tmp_path: Path
) -> None:
    calls = Calls(("__submit_bio",), (), "block_device_operations.submit_bio")
    level = decide(x86, RuleSet.parse(RULES)).level
    declared = Declared(indirect=(calls,))
    typed = check(x86, level, declared, cache=found_cache(tmp_path))
    assert typed.notes == ()
    assert typed.unmatched == ()
    names = found.graph.functions.names
    more = {names[n] for n in np.flatnonzero(typed.closure & ~found.closure).tolist()}
    assert more, "drivers' submit functions are reached by their type alone"
    by_type = [v for v in typed.violations if v.path[-1].how is How.PROTOTYPE]
    assert by_type
    for violation in by_type:
        before, last = violation.path[-2:]
        assert names[before.function] == "__submit_bio"
        assert last.site in typed.graph.indirect_sites.tolist()
    unknown = check(
        x86,
        level,
        Declared(indirect=(Calls(("*",), (), "no_such.member"),)),
        cache=found_cache(tmp_path),
    )
    assert unknown.unmatched == ("no_such.member",)


def test_a_kernel_without_sections_is_checked_by_its_own_symbols(arm_kernel: Path) -> None:
    with Image.open(arm_kernel) as image:
        level = np.full(image.page_count, 3, np.uint8)
        found = check(image, level)
        shares = found.shares
        assert shares["text"].functions > 25_000
        assert 2_000 < shares["closure"].functions < 6_000
        assert {"fault handler", "interrupt entry", "scheduler"} <= set(found.roots)
        # Every direct call of the closure, decoded by hand: BL and B have their distance in
        # the low 24 bits.
        edges, flat = found.graph.edges, image.flat().reshape(-1)
        direct = found.closure[edges.sources] & (edges.hows == How.CALL)
        assert np.count_nonzero(direct) > 5_000
        for edge in np.flatnonzero(direct).tolist():
            site, target = int(edges.sites[edge]), int(edges.targets[edge])
            at = site - image.base
            word = int.from_bytes(flat[at : at + 4].tobytes(), "little")
            if word >> 24 & 15 == 11:  # BL
                distance = (word & 0xFFFFFF) - (word >> 23 & 1) * (1 << 24)
                goal = site + 8 + distance * 4
                functions = found.graph.functions
                assert int(functions.starts[target]) <= goal < int(functions.ends[target])


def test_no_page_that_ran_in_interrupts_or_faults_is_outside_what_is_suggested(
    x86: Image, recorded: list[InterruptPages], tmp_path: Path
) -> None:
    traces = recorded
    cache = found_cache(tmp_path)
    level = decide(x86, RuleSet.parse(RULES)).level
    loose = check(x86, level, traces=traces, cache=cache)
    assert len(loose.trace_violations) > 300
    shares = loose.shares
    assert 0 < shares["trace"].pages < shares["joined"].pages
    assert shares["closure"].pages < shares["joined"].pages < shares["text"].pages * 0.6
    # The code alone does not say it all.
    reached = {page for v in loose.violations for page in v.pages}
    fetched = {page for trace in traces for page in trace.fetched.tolist()}
    assert len(fetched - reached) > 50
    suggested = suggest_rules(x86, loose)
    mended = decide(x86, RuleSet.parse(RULES + suggested)).level
    assert check(x86, mended, traces=traces, cache=cache).ok
    assert not mended[sorted(fetched)].any()


def test_the_shipped_rules_pass_and_no_page_seen_in_interrupts_is_outside(
    x86: Image, recorded: list[InterruptPages], tmp_path: Path
) -> None:
    cache = found_cache(tmp_path)
    closure = decide(x86, RuleSet.load(SHIPPED / "debian-x86.toml")).level
    assert check(x86, closure, cache=cache).ok
    assert not check(x86, closure, traces=recorded, cache=cache).ok
    seen = decide(x86, RuleSet.load(SHIPPED / "debian-x86-seen.toml")).level
    found = check(x86, seen, traces=recorded, cache=cache)
    assert found.ok
    for pages in recorded:
        assert len(pages.fetched) > 200
        for used in (pages.fetched, pages.read, pages.written):
            assert not seen[used].any(), "in use in interrupt or fault context, and not PINNED"
    # And most may leave all the same.
    assert np.count_nonzero(seen) > 0.8 * x86.page_count


def test_one_rule_more_that_pages_a_function_of_the_closure_fails(
    x86: Image,
    found: Check,
    recorded: list[InterruptPages],
    objdump: Objdump,
    tmp_path: Path,
) -> None:
    assert recorded
    far = max(found.violations, key=lambda violation: (len(violation.path), violation.function))
    names = found.graph.functions.names
    start = x86.address_of(far.pages[0])
    text = 'include = ["debian-x86.toml"]\n[[rule]]\nlevel = "LAST_RESORT"\n'
    text += f"address = [{start:#x}, {start + x86.page_size:#x}]\n"
    level = decide(x86, RuleSet.parse(text, folder=SHIPPED)).level
    broken = check(x86, level, cache=found_cache(tmp_path))
    assert not broken.ok
    [violation] = [each for each in broken.violations if each.function == far.function]
    assert violation.pages == (far.pages[0],)
    assert len(violation.path) > 5
    for before, hop in pairwise(violation.path):
        assert edge_holds(x86, found, objdump, before.function, hop), names[hop.function]
