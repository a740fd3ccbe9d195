# SPDX-License-Identifier: MIT
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagestep.codecs import FILTERS, apply_filter, undo_filter
from pagestep.codecs.errors import InvalidArgument

OPCODES = [b"\xe8", b"\xe9", b"\xeb", b"\xf0\xf8", b"\x94", b"\xef\x00", b"\x97\x02", b"\x83\xb2"]


@given(
    name=st.sampled_from(sorted(FILTERS)),
    pieces=st.lists(st.one_of(st.sampled_from(OPCODES), st.binary(max_size=6)), max_size=80),
    address=st.integers(0, 2**64 - 1),
)
def test_undo_inverts_apply(name: str, pieces: list[bytes], address: int) -> None:
    original = b"".join(pieces)
    data = bytearray(original)
    apply_filter(name, data, address=address)
    undo_filter(name, data, address=address)
    assert data == original
    undo_filter(name, data, address=address)
    apply_filter(name, data, address=address)
    assert data == original


def model_x86(data: bytes, address: int) -> bytes:
    """The filter as its description has it, slowly."""
    out = bytearray(data)
    at = 0
    while at + 5 <= len(out):
        if out[at] not in (0xE8, 0xE9):
            at += 1
            continue
        offset = int.from_bytes(out[at + 1 : at + 5], "little", signed=True)
        if -(1 << 24) <= offset < 1 << 24:
            target = (offset + address + at + 5 + (1 << 24)) % (1 << 25) - (1 << 24)
            out[at + 1 : at + 5] = target.to_bytes(4, "little", signed=True)
        at += 5
    return bytes(out)


def model_words(data: bytes, address: int, opcode: int, bits: int, ahead: int) -> bytes:
    """ARM's and ARM64's, slowly."""
    words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data) - 3, 4)]
    for n, word in enumerate(words):
        if word >> bits == opcode:
            target = (word + ((address + 4 * n + ahead) >> 2)) % (1 << bits)
            words[n] = opcode << bits | target
    whole = b"".join(word.to_bytes(4, "little") for word in words)
    return whole + data[len(whole) :]


@given(
    pieces=st.lists(st.one_of(st.sampled_from(OPCODES), st.binary(max_size=6)), max_size=80),
    address=st.integers(0, 2**63),
)
def test_filters_do_what_their_descriptions_say(pieces: list[bytes], address: int) -> None:
    original = b"".join(pieces)
    wanted = {
        "none": original,
        "x86": model_x86(original, address),
        "arm": model_words(original, address, 0xEB, 24, 8),
        "arm64": model_words(original, address, 0x94 >> 2, 26, 0),
    }
    for name, expected in wanted.items():
        data = bytearray(original)
        apply_filter(name, data, address=address)
        assert data == expected, name


def test_ids_and_arrays_do_as_well() -> None:
    data = np.zeros(64, dtype=np.uint8)
    data[0] = 0xE8
    apply_filter(1, data, address=0x100)
    assert data[1:5].tobytes() == b"\x05\x01\x00\x00"


def test_misuse() -> None:
    with pytest.raises(InvalidArgument, match="not one of none, x86"):
        apply_filter("sparc", bytearray(8))
    with pytest.raises(InvalidArgument, match="writable"):
        apply_filter("x86", bytes(8))
    with pytest.raises(InvalidArgument, match="64 bits"):
        undo_filter("x86", bytearray(8), address=1 << 64)
