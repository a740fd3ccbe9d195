# SPDX-License-Identifier: MIT
"""The types that a kernel carries."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep.codecs.errors import BadImage
from pagestep.store.image import Btf, Image

from . import builders as b
from .test_hostile import changes, mutate

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
CONST, FUNC, PROTO = 10, 12, 13


class Types:
    """Writes BTF, type by type."""

    def __init__(self, order: str = "<") -> None:
        self._order = order
        self._strings = bytearray(b"\0")
        self._types = bytearray()
        self.count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        self._strings += text.encode() + b"\0"
        return len(self._strings) - len(text) - 1

    def add(self, kind: int, name: str = "", more: int = 0, items: list[int] | None = None) -> int:
        """Add a type; ``items`` are the numbers of its tail."""
        tail = items or []
        per = {STRUCT: 3, UNION: 3, PROTO: 2}.get(kind)
        count = len(tail) // per if per else 0
        self._types += struct.pack(
            f"{self._order}III{len(tail)}I", self.name(name), kind << 24 | count, more, *tail
        )
        self.count += 1
        return self.count

    def data(self) -> bytes:
        head = struct.pack(
            self._order + "HBBIIIII",
            *(0xEB9F, 1, 0, 24),
            *(0, len(self._types), len(self._types), len(self._strings)),
        )
        return head + bytes(self._types) + bytes(self._strings)


def some_types(order: str = "<") -> bytes:
    t = Types(order)
    integer = t.add(INT, "int", 4, [0])
    bio = t.add(STRUCT, "bio", 8)
    const_bio = t.add(CONST, more=bio)
    pointer = t.add(PTR, more=bio)
    const_pointer = t.add(PTR, more=const_bio)
    status = t.add(TYPEDEF, "status_t", integer)
    submit = t.add(PROTO, more=status, items=[t.name("bio"), pointer])
    submit_const = t.add(PROTO, more=integer, items=[0, const_pointer])
    other = t.add(PROTO, items=[t.name("n"), integer, 0, 0])
    t.add(FUNC, "submit_a", submit)
    t.add(FUNC, "submit_b", submit_const)
    t.add(FUNC, "print", other)
    to_submit = t.add(PTR, more=submit)
    t.add(TYPEDEF, "handler_t", t.add(TYPEDEF, "inner_t", to_submit))
    t.add(TYPEDEF, "number_t", integer)
    union = t.add(UNION, "", 8, [t.name("call"), to_submit, 0])
    t.add(STRUCT, "ops", 16, [t.name("n"), integer, 0, 0, union, 8])
    t.add(STRUCT, "ops2", 8, [t.name("print"), t.add(PTR, more=other), 0])
    return t.data()


SMALL = [some_types(), Types().data()]


@pytest.mark.parametrize("order", ["<", ">"])
def test_prototypes_are_the_same_without_typedefs_and_qualifiers(order: str) -> None:
    types = Btf(some_types(order))
    assert types.functions() == {
        "submit_a": {"int (struct bio*)"},
        "submit_b": {"int (struct bio*)"},
        "print": {"void (int, ...)"},
    }


def test_a_member_or_a_name_stands_for_what_it_points_at() -> None:
    types = Btf(some_types())
    assert types.prototype("handler_t") == {"int (struct bio*)"}
    assert types.prototype("ops.call") == {"int (struct bio*)"}, "in a union without a name"
    assert types.prototype("ops2.print") == {"void (int, ...)"}
    for wanted in ("ops.n", "ops.nothing", "nothing.call", "number_t", "nothing", "ops"):
        assert types.prototype(wanted) == set(), wanted


def test_types_that_contain_themselves_end() -> None:
    t = Types()
    t.add(STRUCT, "knot", 8, [0, 1, 0, 0, 1, 0])  # two members without a name: itself
    t.add(PTR, more=2)
    t.add(TYPEDEF, "round_t", 3)
    t.add(FUNC, "f", t.add(PROTO, more=2, items=[0, 3, 0, 2]))
    types = Btf(t.data())
    assert types.prototype("knot.x") == set()
    assert types.prototype("round_t") == set()
    assert len(types.functions()["f"]) == 1


def test_an_image_gives_its_types() -> None:
    data = some_types()
    sections = [b.Section(".BTF", 0x8000, len(data))]
    with Image.open(b.elf([b.Load(0x8000, data)], sections)) as image:
        types = image.btf()
        assert types is not None
        assert set(types.functions()) == {"submit_a", "submit_b", "print"}
    with Image.open(b"\x90" * 5000 + data + b"\x90" * 5000, raw=True) as image:
        types = image.btf()
        assert types is not None
        assert len(types) == len(Btf(data))
    with Image.open(b"\x90" * 5000, raw=True) as image:
        assert image.btf() is None


@pytest.mark.parametrize("cut", [0, 2, 20, 30, 100, -1])
def test_what_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(BadImage, match="BTF"):
        Btf(some_types()[:cut])


@pytest.mark.parametrize("kind", [0, 20, 31])
def test_a_kind_that_is_not_known_is_refused(kind: int) -> None:
    t = Types()
    t.add(kind, "x")
    with pytest.raises(BadImage, match=f"kind {kind}"):
        Btf(t.data())


@settings(max_examples=300, deadline=None)
@given(changes, st.one_of(st.just(1.0), st.floats(0.1, 1.0)))
def test_changed_types_are_read_or_refused(
    what: list[tuple[float, int, int, str]], keep: float
) -> None:
    try:
        types = Btf(mutate(some_types(), what, keep))
    except BadImage:
        return
    assert all(len(text) <= 1024 for texts in types.functions().values() for text in texts)
    types.prototype("ops.call")
    types.prototype("handler_t")


@pytest.mark.kernel
def test_the_x86_kernel_has_the_types_of_its_functions(x86_kernel: Path) -> None:
    with Image.open(x86_kernel) as image:
        types = image.btf()
    assert types is not None
    functions = types.functions()
    assert len(functions) > 30_000
    assert functions["submit_bio"] == {"void (struct bio*)"}
    assert types.prototype("block_device_operations.submit_bio") == {"void (struct bio*)"}
    assert types.prototype("irq_handler_t") == {"enum irqreturn (int, void*)"}
    faults = types.prototype("vm_operations_struct.fault")
    assert faults
    assert faults <= functions["filemap_fault"]
