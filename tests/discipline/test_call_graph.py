# SPDX-License-Identifier: MIT
"""Call graphs of compiled programs, which are known from their source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pagestep.codecs.errors import Unsupported
from pagestep.store.discipline import CallGraph, How, build_call_graph, functions_of
from pagestep.store.image import Image

from ..image import builders as b
from .programs import CALLS, COMPILERS, build


@pytest.fixture(scope="module", params=COMPILERS)
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CallGraph:
    target: str = request.param
    # Too far for one instruction on most: linkers put veneers between.
    path = build(tmp_path_factory.mktemp(target), target, far=0x3000000)
    with Image.open(path) as image:
        assert image.arch == target.partition("-")[0].replace("armv5", "arm")
        return build_call_graph(image)


def calls_of(graph: CallGraph) -> dict[str, dict[str, How]]:
    """Return who goes on in whom, by name; what goes through a veneer goes straight on."""
    names = graph.functions.names
    found: dict[str, dict[str, How]] = {name: {} for name in names}
    for source, target, how in zip(
        graph.edges.sources.tolist(),
        graph.edges.targets.tolist(),
        graph.edges.hows.tolist(),
        strict=True,
    ):
        found[names[source]][names[target]] = How(how)
    for calls in found.values():
        for veneer in [name for name in calls if is_veneer(name)]:
            del calls[veneer]
            calls.update(found[veneer])
    return found


def is_veneer(name: str) -> bool:
    return "veneer" in name or name.startswith("__AArch64") or "Thunk" in name


def test_every_edge_is_one_of_the_source_and_the_other_way_round(graph: CallGraph) -> None:
    found = calls_of(graph)
    assert {name: set(found[name]) for name in CALLS} == CALLS


def test_calls_jumps_and_running_on_are_told_apart(graph: CallGraph) -> None:
    found = calls_of(graph)
    assert found["direct"]["leaf"] is How.CALL
    assert found["falls"]["fallen"] is How.FALL
    assert found["tail"]["leaf"] in (How.JUMP, How.CALL)  # not every compiler makes a jump


def test_sites_lie_in_their_function(graph: CallGraph) -> None:
    starts, ends = graph.functions.starts, graph.functions.ends
    known = graph.edges.sites > 0
    sources, sites = graph.edges.sources[known], graph.edges.sites[known]
    assert ((starts[sources] <= sites) & (sites < ends[sources])).all()


def test_calls_by_pointer_are_counted_where_they_are(graph: CallGraph) -> None:
    numbers: list[int] = graph.indirect_sources.tolist()
    sources = {graph.functions.names[n] for n in numbers}
    assert {name for name in sources if not is_veneer(name)} == {
        "by_pointer",
        "tail_by_pointer",
        "dispatch",
    }


def test_addresses_that_are_taken_are_known(graph: CallGraph) -> None:
    taken = {graph.functions.names[n] for n in np.flatnonzero(graph.taken).tolist()}
    assert {"handler_a", "handler_b", "handler_c", "paged_handler"} <= taken
    # A veneer has the addresses of leaf and far_leaf beside its code.
    assert not taken & {"direct", "pageable", "middle", "dies"}


def test_all_code_is_decoded_and_inside(graph: CallGraph) -> None:
    assert graph.not_decoded_bytes == 0
    assert graph.outside == 0
    assert graph.notes == ()


def test_a_rare_part_of_a_function_belongs_to_the_graph(tmp_path: Path) -> None:
    source = """
    volatile int sink;
    #define KEEP __attribute__((noinline, noclone, used))
    KEEP int direct(int a) { return a + sink; }
    KEEP __attribute__((cold)) int rare(int a) { sink = a; return sink; }
    KEEP int splits(int a)
    {
        if (__builtin_expect(a < sink, 0)) {
            sink = rare(a) + rare(a + 1) * rare(a + 2);
            sink = 9;
        }
        return a + sink;
    }
    """
    with Image.open(build(tmp_path, "x86_64", source)) as image:
        found = calls_of(build_call_graph(image))
    assert found["splits"] == {"splits.cold": How.JUMP}
    assert found["splits.cold"] == {"splits": How.JUMP, "rare": How.CALL}


X86 = 0xFFFFFFFF81000000


def assembled(code: bytes, symbols: list[b.Symbol], data: bytes = bytes(64)) -> Image:
    text = code.ljust(0x1000, b"\xcc")
    return Image.open(
        b.elf(
            [b.Load(X86, text), b.Load(X86 + 0x1000, data, flags=6)],
            [
                b.Section(".text", X86, len(code), b.A | b.X),
                b.Section(".data", X86 + 0x1000, len(data), b.A | b.W, load=1),
            ],
            symbols,
        )
    )


def test_calls_through_a_slot_go_where_the_image_says() -> None:
    # f: call *0xff9(%rip) to the first slot; jmp *abs32 through the second, which is empty.
    code = bytes.fromhex("ff15fa0f0000ff24250810 0081c3".replace(" ", ""))
    code += b"\x90" * 2 + b"\xc3"
    data = (X86 + 16).to_bytes(8, "little") + bytes(56)
    with assembled(code, [b.Symbol("f", X86, 14), b.Symbol("g", X86 + 16, 1)], data) as image:
        graph = build_call_graph(image)
    assert calls_of(graph)["f"] == {"g": How.SLOT}
    assert graph.indirect_sites.tolist() == [X86 + 6]
    assert graph.taken.tolist() == [False, True]


def test_an_address_that_code_forms_is_taken() -> None:
    # f: lea 9(%rip), %rax; ret
    code = bytes.fromhex("488d0509000000c3").ljust(16, b"\xcc") + b"\xc3"
    with assembled(code, [b.Symbol("f", X86, 8), b.Symbol("g", X86 + 16, 1)]) as image:
        assert build_call_graph(image).taken.tolist() == [False, True]


@pytest.mark.parametrize(("first", "falls"), [("0fe0a0e1", True), ("00f020e3", False)])
def test_a_jump_of_old_arm_code_is_a_call_where_lr_is_set_before(first: str, falls: bool) -> None:
    # f: mov lr, pc (or a nop); bx r3.  g: bx lr
    code = bytes.fromhex(first + "13ff2fe1" + "1eff2fe1")
    elf = b.elf(
        [b.Load(0x8000, code)],
        [b.Section(".text", 0x8000, len(code), b.A | b.X)],
        [b.Symbol("f", 0x8000, 8), b.Symbol("g", 0x8008, 4)],
        bits=32,
        machine=b.EM_ARM,
    )
    with Image.open(elf) as image:
        graph = build_call_graph(image)
    assert calls_of(graph)["f"] == ({"g": How.FALL} if falls else {})
    assert graph.indirect_sites.tolist() == [0x8004]


def test_a_retpoline_is_a_call_by_pointer() -> None:
    # f: call thunk; ret.  thunk: jmp *%rax
    code = bytes.fromhex("e80b000000c3").ljust(16, b"\xcc") + bytes.fromhex("ffe0")
    symbols = [b.Symbol("f", X86, 6), b.Symbol("__x86_indirect_thunk_rax", X86 + 16, 2)]
    with assembled(code, symbols) as image:
        graph = build_call_graph(image)
    assert graph.indirect_sites.tolist() == [X86], "the thunk's own jump is its callers'"
    assert calls_of(graph)["f"] == {"__x86_indirect_thunk_rax": How.CALL}


def test_a_call_that_returns_is_followed_by_what_stands_behind_it() -> None:
    # f: call g.  behind: ret.  g: mov %eax, %eax, and runs on into h: ret
    code = bytes.fromhex("e803000000c3cccc89c0c3")
    symbols = [b.Symbol("f", X86, 5), b.Symbol("behind", X86 + 5, 1)]
    symbols += [b.Symbol("g", X86 + 8, 2), b.Symbol("h", X86 + 10, 1)]
    with assembled(code, symbols) as image:
        found = calls_of(build_call_graph(image))
    assert found["f"] == {"g": How.CALL, "behind": How.FALL}
    assert found["g"] == {"h": How.FALL}


def test_a_jump_that_may_be_patched_in_belongs_to_its_function() -> None:
    place = X86 + 0x1000
    table = (X86 - place).to_bytes(4, "little", signed=True)
    table += (X86 + 16 - place - 4).to_bytes(4, "little", signed=True) + bytes(8)
    text = (b"\x90" * 5 + b"\xc3").ljust(16, b"\xcc") + b"\xc3".ljust(0xFF0, b"\xcc")
    elf = b.elf(
        [b.Load(X86, text + table)],
        [b.Section(".text", X86, 32, b.A | b.X), b.Section("__jump_table", place, 16)],
        [b.Symbol("f", X86, 6), b.Symbol("f.cold", X86 + 16, 1)],
    )
    with Image.open(elf) as image:
        graph = build_call_graph(image)
    assert calls_of(graph)["f"] == {"f.cold": How.JUMP_LABEL}


@pytest.mark.parametrize("by_slot", [False, True])
@pytest.mark.parametrize("size", [12, 14])
def test_what_alternatives_may_patch_in_belongs_to_the_function_patched(
    size: int, by_slot: bool
) -> None:
    code = (b"\x90" * 5 + b"\xc3").ljust(16, b"\xcc") + b"\xc3".ljust(16, b"\xcc")
    place = X86 + 0x1000  # of the table; the replacement stands behind it, and calls g
    table = (X86 - place).to_bytes(4, "little", signed=True) + (size - 4).to_bytes(4, "little")
    table += bytes(size - 10) + bytes([5, 6 if by_slot else 5])
    at = place + size
    replacement = b"\xe8" + (X86 + 16 - at - 5).to_bytes(4, "little", signed=True)
    if by_slot:  # call *0(%rip): through what stands behind it
        replacement = bytes.fromhex("ff1500000000") + (X86 + 16).to_bytes(8, "little")
    data = table + replacement
    text = code.ljust(0x1000, b"\xcc")
    elf = b.elf(
        [b.Load(X86, text + data)],
        [
            b.Section(".text", X86, 32, b.A | b.X),
            b.Section(".altinstructions", place, size),
            b.Section(".altinstr_replacement", at, len(replacement), b.A | b.X),
        ],
        [b.Symbol("f", X86, 6), b.Symbol("g", X86 + 16, 1)],
    )
    with Image.open(elf) as image:
        graph = build_call_graph(image)
    assert calls_of(graph)["f"] == {"g": How.ALTERNATIVE}
    assert graph.notes == ()
    assert graph.edges.sites.tolist() == [at]


def test_a_table_of_another_form_is_passed_over_with_a_note() -> None:
    text = b"\xc3".ljust(0x1000, b"\xcc")
    elf = b.elf(
        [b.Load(X86, text + bytes(range(1, 45)))],
        [
            b.Section(".text", X86, 32, b.A | b.X),
            b.Section(".altinstructions", X86 + 0x1000, 13),
            b.Section("__ex_table", X86 + 0x1020, 12),
        ],
        [b.Symbol("f", X86, 1)],
    )
    with Image.open(elf) as image:
        notes = build_call_graph(image).notes
    assert len(notes) == 2
    assert all("form that is not known" in note for note in notes)


# Functions


def test_functions_without_a_size_reach_to_the_next_symbol() -> None:
    symbols = [
        b.Symbol("sized", X86, 8),
        b.Symbol("loose", X86 + 8),
        b.Symbol("label", X86 + 20, 0, 0),
        b.Symbol("last", X86 + 32),
        b.Symbol("alias_of_last", X86 + 32),
        b.Symbol("data", X86 + 0x1000, 8, b.OBJECT, 2),
    ]
    with assembled(b"\x90" * 47 + b"\xc3", symbols) as image:
        functions = functions_of(image)
    assert functions.names == ("sized", "loose", "label", "last")
    assert functions.aliases[-1] == ("last", "alias_of_last")
    assert (functions.starts - np.uint64(X86)).tolist() == [0, 8, 20, 32]
    assert (functions.ends - np.uint64(X86)).tolist() == [8, 20, 32, 48]
    assert functions.unsized == 3


def test_a_label_inside_a_function_is_none_and_a_function_inside_one_is() -> None:
    symbols = [
        b.Symbol("outer", X86, 32),
        b.Symbol("inner", X86 + 8, 8),
        b.Symbol("label", X86 + 20, 0, 0),
    ]
    with assembled(b"\x90" * 31 + b"\xc3", symbols) as image:
        functions = functions_of(image)
    assert functions.names == ("outer", "inner")
    assert (functions.ends - np.uint64(X86)).tolist() == [8, 32], "the rest is the inner one's"


def test_labels_of_the_linker_are_no_functions() -> None:
    symbols = [
        b.Symbol("_stext", X86),
        b.Symbol("first", X86, 8),
        b.Symbol("__kprobes_text_end", X86 + 16),
        b.Symbol("__key_link_end", X86 + 24),
    ]
    with assembled(b"\x90" * 63 + b"\xc3", symbols) as image:
        assert functions_of(image).names == ("first", "__key_link_end")


def test_images_without_symbols_are_refused_with_the_remedy() -> None:
    with (
        Image.open(b.elf([b.Load(X86, b"\xc3" * 64)])) as image,
        pytest.raises(Unsupported, match=r"--system-map.*-dbg.*unstripped"),
    ):
        build_call_graph(image)
    with (
        assembled(b"\xc3", [b.Symbol("d", X86 + 0x1000, 8, b.OBJECT, 2)]) as image,
        pytest.raises(Unsupported, match="none is a function"),
    ):
        build_call_graph(image)


def test_code_of_another_processor_is_refused() -> None:
    with (
        Image.open(b.small_elf(b"\0" * 64), arch="mips") as image,
        pytest.raises(Unsupported, match=r"mips.*x86_64"),
    ):
        build_call_graph(image)


def test_without_capstone_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "capstone", None)
    with (
        Image.open(b.small_elf(b"\xc3" * 64)) as image,
        pytest.raises(Unsupported, match=r"pip install 'pagestep\[check\]'"),
    ):
        build_call_graph(image)
