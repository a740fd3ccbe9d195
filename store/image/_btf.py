# SPDX-License-Identifier: MIT
"""BTF: the types of a kernel's functions, as the kernel carries them for BPF.

What is read is what a call by a pointer needs: the prototype of each function, of each
member of a struct that points at functions, and of each type's name that stands for such a
pointer. Two prototypes are the same where their text is: names of types, without typedefs
and qualifiers. The format is that of the kernel's Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pagestep.codecs.errors import BadImage

MAGIC = 0xEB9F
TYPES_MAX = 1 << 22
NAME_MAX = 512
TEXT_MAX = 1024  # of a prototype; one of a kernel has a few hundred characters
PARAMETERS_MAX = 64
DEPTH_MAX = 32

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = range(1, 9)
_VOLATILE, _CONST, _RESTRICT, _FUNC, _PROTO, _VAR, _DATASEC, _FLOAT = range(9, 17)
_DECL_TAG, _TYPE_TAG, _ENUM64 = 17, 18, 19
_TRANSPARENT = (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG)
_PREFIXES = {
    _STRUCT: "struct ",
    _UNION: "union ",
    _ENUM: "enum ",
    _ENUM64: "enum ",
    _FWD: "struct ",
}
_TAIL_BYTES = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_ITEM_BYTES = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _PROTO: 8, _DATASEC: 12, _ENUM64: 12}


class Btf:
    r"""The types of one kernel.

    >>> import struct
    >>> header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 24, 24, 3)
    >>> types = struct.pack("<6I", 0, 13 << 24, 0, 1, 12 << 24, 1)
    >>> Btf(header + types + b"\0f\0").functions()
    {'f': {'void ()'}}
    """

    def __init__(self, data: bytes, *, name: str = "BTF") -> None:
        """Read the headers of all types.

        Args:
            data: The section's bytes.
            name: What to call it in messages.

        Raises:
            BadImage: It is damaged.
        """
        self._name = name
        self._order = "<" if data[:2] == b"\x9f\xeb" else ">"
        if len(data) < 24 or self._u16(data) != MAGIC:
            raise BadImage(f"{name}: no BTF: it begins with {data[:2].hex()}, not with eb9f")
        fields = struct.unpack_from(self._order + "IIIII", data, 4)
        header_size, type_at, type_size, string_at, string_size = fields
        types = data[header_size + type_at : header_size + type_at + type_size]
        self._strings = data[header_size + string_at : header_size + string_at + string_size]
        if len(types) < type_size or len(self._strings) < string_size:
            raise BadImage(f"{name}: it is cut off: its types or names do not fit in its bytes")
        self._types = types
        self._heads: list[tuple[int, int, int, int, int]] = [(0, 0, 0, 0, 0)]
        self._heads += self._read_heads()
        self._texts: dict[int, str] = {0: "void"}

    def _u16(self, data: bytes) -> int:
        return int(struct.unpack_from(self._order + "H", data)[0])

    def _read_heads(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield name, kind, count, size or type, and where the rest of each type begins."""
        head = struct.Struct(self._order + "III")
        at, size, number = 0, len(self._types), 0
        while at < size:
            number += 1
            if at + head.size > size or number > TYPES_MAX:
                raise BadImage(f"{self._name}: type {number} is cut off: the file is damaged")
            name, info, more = head.unpack_from(self._types, at)
            kind, count = info >> 24 & 31, info & 0xFFFF
            if kind == _FWD:
                count = info >> 31  # 1 for a union
            at += head.size
            if not 1 <= kind <= _ENUM64:
                raise BadImage(f"{self._name}: type {number} is of kind {kind}, which is not known")
            yield name, kind, count, more, at
            at += _TAIL_BYTES.get(kind, 0) + _ITEM_BYTES.get(kind, 0) * count
        if at > size:
            raise BadImage(f"{self._name}: type {number} is cut off: the file is damaged")

    def __len__(self) -> int:
        """Return how many types there are."""
        return len(self._heads) - 1

    def _string(self, at: int) -> str:
        end = self._strings.find(b"\0", at, at + NAME_MAX)
        return self._strings[at : end if end >= 0 else at + NAME_MAX].decode("ascii", "replace")

    def _items(self, place: int, kind: int, count: int) -> Iterator[tuple[int, ...]]:
        form = struct.Struct(self._order + "I" * (_ITEM_BYTES[kind] // 4))
        for i in range(count):
            yield form.unpack_from(self._types, place + i * form.size)

    def _head(self, number: int) -> tuple[int, int, int, int, int]:
        return self._heads[number] if number < len(self._heads) else self._heads[0]

    def _plain(self, number: int) -> int:
        """Return the type behind typedefs and qualifiers."""
        for _ in range(DEPTH_MAX):
            _, kind, _, more, _ = self._head(number)
            if kind not in _TRANSPARENT:
                return number
            number = more
        return 0

    def text(self, number: int, depth: int = 0) -> str:
        """Return a type as text, without typedefs and qualifiers."""
        number = self._plain(number)
        if number not in self._texts:
            if depth > DEPTH_MAX:
                return "..."
            text = self._spell(number, depth)
            self._texts[number] = text if len(text) <= TEXT_MAX else f"type {number}"
        return self._texts[number]

    def _spell(self, number: int, depth: int) -> str:
        name, kind, count, more, place = self._head(number)
        if kind == _PTR:
            return self.text(more, depth + 1) + "*"
        if kind == _ARRAY:
            element = int(struct.unpack_from(self._order + "I", self._types, place)[0])
            return self.text(element, depth + 1) + "[]"
        if kind == _PROTO and count <= PARAMETERS_MAX:
            parameters = [
                # The last one of a variable list has neither name nor type.
                self.text(each, depth + 1) if each or label else "..."
                for label, each in self._items(place, kind, count)
            ]
            return f"{self.text(more, depth + 1)} ({', '.join(parameters)})"
        called = self._string(name) or f"type {number}"
        if kind == _FWD and count:
            kind = _UNION
        return _PREFIXES.get(kind, "") + called

    def _pointed_prototype(self, number: int) -> str | None:
        """Return the prototype of what a type points at, or of the type itself."""
        number = self._plain(number)
        _, kind, _, more, _ = self._head(number)
        if kind == _PTR:
            number = self._plain(more)
            kind = self._head(number)[1]
        return self.text(number) if kind == _PROTO else None

    def functions(self) -> dict[str, set[str]]:
        """Return the prototypes of the functions of each name."""
        found: dict[str, set[str]] = {}
        for name, kind, _, more, _ in self._heads:
            if kind == _FUNC:
                found.setdefault(self._string(name), set()).add(self.text(more))
        return found

    def prototype(self, wanted: str) -> set[str]:
        """Return what ``"struct.member"`` or the name of a type points at.

        Args:
            wanted: Such as ``"block_device_operations.submit_bio"`` or ``"irq_handler_t"``.

        Returns:
            Prototypes as text; several where several types have that name, none where there
            is no such type, or it is no pointer to a function.
        """
        outer, dot, member = wanted.partition(".")
        kinds = (_STRUCT, _UNION) if dot else (_TYPEDEF,)
        key = outer.encode()
        found: set[str | None] = set()
        for number, (name, kind, _, _, _) in enumerate(self._heads):
            if kind in kinds and self._strings[name : name + len(key) + 1] == key + b"\0":
                if dot:
                    found |= set(self._members(number, member, set()))
                else:
                    found.add(self._pointed_prototype(number))
        return {each for each in found if each is not None}

    def _members(self, number: int, wanted: str, seen: set[int]) -> Iterator[str | None]:
        """Yield what the members of a name point at.

        Members of a struct without a name are members of what it stands in.
        """
        _, kind, count, _, place = self._head(number)
        if kind not in (_STRUCT, _UNION) or number in seen or len(seen) > DEPTH_MAX:
            return
        seen.add(number)
        for label, member, _ in self._items(place, kind, count):
            name = self._string(label)
            if name == wanted:
                yield self._pointed_prototype(member)
            elif not name:
                yield from self._members(self._plain(member), wanted, seen)


def find_btf(flat: NDArray[np.uint8], *, name: str) -> Btf | None:
    """Find BTF by its header in an image that has no sections, or return None."""
    data, step = flat.data, 1 << 20
    head = struct.pack("<HBBIII", MAGIC, 1, 0, 24, 0, 0)[:12]
    for at in range(0, len(data), step):
        found = bytes(data[at : at + step + len(head)]).find(head)
        if found < 0:
            continue
        start = at + found
        sizes = struct.unpack("<III", bytes(data[start + 12 : start + 24]).ljust(12, b"\0"))
        end = start + 24 + sizes[1] + sizes[2]
        if sizes[1] == sizes[0] and end <= len(data):
            try:
                return Btf(bytes(data[start:end]), name=name)
            except BadImage:
                continue
    return None
