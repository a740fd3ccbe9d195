# SPDX-License-Identifier: MIT
"""Symbols that a kernel carries in itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep.store.image import Image, Symbol

from . import builders as b
from .exercise import open_or_refuse
from .kallsyms import BASE, Entry, Table, blob, encode_name, kernel, some_entries
from .test_hostile import changes, mutate

LAYOUTS = [
    Table(),
    Table(percpu=True),
    Table(relative=False),
    Table(layout="6.2"),
    Table(layout="6.4"),
    Table(layout="6.4", percpu=True),
    Table(layout="6.4", relative=False),
    Table(marker_bytes=8),
    Table(base=0),
    Table(bits=32),
    Table(bits=32, relative=False),
    Table(bits=32, layout="6.2"),
    Table(bits=32, layout="6.4"),
    Table(bits=32, order=">"),
    Table(order=">", layout="6.4"),
]


def expected(entries: list[Entry]) -> set[tuple[int, str, str]]:
    return {
        (e.address, e.name, "func" if e.letter in "tT" else "object")
        for e in entries
        if e.letter != "a"
    }


@pytest.mark.parametrize("table", LAYOUTS, ids=str)
@pytest.mark.parametrize("count", [300, 511, 700])
def test_each_layout_is_read(table: Table, count: int) -> None:
    entries = some_entries(count, bits=table.bits, percpu=table.percpu)
    with Image.open(kernel(entries, table)) as image:
        found = {(s.address, s.name, s.kind) for s in image.symbols}
    assert found == expected(entries)


def test_sizes_are_up_to_the_next_symbol_or_the_end_of_the_section() -> None:
    base = BASE[64]
    entries = some_entries()
    entries.append(Entry(base + 0x3FF0, "t", "last_of_text"))
    with Image.open(kernel(entries, Table())) as image:
        assert image.symbols.find("do_sched_irq_page_5_initxxxxx") == Symbol(
            "do_sched_irq_page_5_initxxxxx", base + 80, 16, "func"
        )
        last = image.symbols.find("last_of_text")
        assert last is not None
        assert last.size == 16
        assert image.symbols.find("_text") == Symbol("_text", base, 16, "func")


def test_a_raw_kernel_has_them_too() -> None:
    entries = some_entries(bits=32)
    data = bytes(0x4000) + blob(entries, Table(bits=32)) + bytes(300)
    with Image.open(data, base=BASE[32], arch="arm") as image:
        assert {(s.address, s.name, s.kind) for s in image.symbols} == expected(entries)
        assert image.symbols[-1].size == 0, "nobody knows where the last one ends"
    with Image.open(data, base=BASE[32]) as image:  # of no known instruction set
        assert len(image.symbols) == len(expected(entries))


def test_a_symbol_table_goes_before() -> None:
    base = BASE[64]
    data = bytes(0x100) + blob(some_entries(), Table())
    sections = [b.Section(".text", base, len(data), b.A | b.X)]
    with Image.open(b.elf([b.Load(base, data)], sections, [b.Symbol("f", base)])) as image:
        assert [s.name for s in image.symbols] == ["f"]


def test_addresses_that_do_not_rise_are_no_table() -> None:
    entries = some_entries()
    entries[300], entries[301] = entries[301], entries[300]
    with Image.open(kernel(entries, Table(relative=False))) as image:
        assert not len(image.symbols)


def test_names_that_do_not_begin_where_the_markers_say_are_no_table() -> None:
    data = kernel(some_entries(), Table())
    coded = [encode_name(e.letter + e.name) for e in some_entries()[:256]]
    marker = sum(map(len, coded)).to_bytes(4, "little")
    assert data.count(marker) == 1
    wrong = (int.from_bytes(marker, "little") + 4).to_bytes(4, "little")
    with Image.open(data.replace(marker, wrong)) as image:
        assert not len(image.symbols)


def test_a_table_of_another_kernel_is_not_taken() -> None:
    # Its _text is nowhere in this image.
    with Image.open(kernel(some_entries(), Table(base=0xFFFF000080000000))) as image:
        assert not len(image.symbols)


SEEDS = [kernel(some_entries(300, bits=t.bits, percpu=t.percpu), t) for t in LAYOUTS[::2]]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), changes, st.one_of(st.just(1.0), st.floats(0.3, 1.0)))
def test_changed_tables_are_read_or_passed_over(
    seed: bytes, what: list[tuple[float, int, int, str]], keep: float
) -> None:
    open_or_refuse(mutate(seed, what, keep))


def test_tokens_that_would_spell_gigabytes_are_passed_over() -> None:
    from .kallsyms import TOKENS

    longest = TOKENS[9]
    TOKENS[9] = b"x" * 900
    try:
        # Each name is a hundred tokens of 900 bytes.
        entries = some_entries(400)
        entries[200] = Entry(entries[200].address, "T", "x" * 90_000)
        data = kernel(entries, Table())
    finally:
        TOKENS[9] = longest
    with Image.open(data) as image:
        assert not len(image.symbols)


@pytest.mark.kernel
def test_the_x86_kernel_names_its_functions(x86_kernel: Path) -> None:
    with Image.open(x86_kernel) as image:
        symbols = image.symbols
        assert 60_000 < len(symbols) < 120_000
        assert sum(symbol.kind == "func" for symbol in symbols) > 40_000
        text = next(s for s in image.segments if s.name == ".text")
        for name in ("schedule", "do_swap_page", "asm_exc_page_fault", "submit_bio", "panic"):
            symbol = symbols.find(name)
            assert symbol is not None, name
            assert symbol.kind == "func"
            assert symbol.size
            assert text.address <= symbol.address < text.address + text.size
        start, stop = (symbols.find(f"{n}_init_smp") for n in ("kernel", "smp"))
        assert start is None or stop is None or start != stop
        first = symbols.find("_text")
        assert first is not None
        assert first.address == image.base
        banner = symbols.find("linux_banner")
        assert banner is not None
        place = image.address_of(image.page_of(banner.address))
        page = image.read(image.page_of(banner.address))
        assert page[banner.address - place :].startswith(b"Linux version 6.1")


@pytest.mark.kernel
def test_the_arm_kernel_has_no_sections_and_names_its_functions(arm_kernel: Path) -> None:
    with Image.open(arm_kernel) as image:
        assert 25_000 < len(image.symbols) < 45_000
        for name in ("schedule", "do_swap_page", "do_DataAbort", "vector_swi"):
            symbol = image.symbols.find(name)
            assert symbol is not None, name
            assert image.base < symbol.address < image.base + image.page_count * 4096
