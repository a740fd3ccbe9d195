# SPDX-License-Identifier: MIT
"""Code of 32-bit ARM, in its ARM and in its Thumb encoding."""

from __future__ import annotations

import re
from typing import Any

from ._found import CALL, JUMP, Found

_CALL, _BRANCH, _CALL_REGISTER, _JUMP_REGISTER, _PADDING, _BAD = range(1, 7)
CONDITIONS = ["eq", "ne", "hs", "lo", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le"]
_ENDS = ("", ".w", ".n")

_KINDS: dict[str, int] = {}
for _condition in ("", *CONDITIONS):
    for _end in _ENDS:
        _KINDS["b" + _condition + _end] = _BRANCH
        _KINDS["bl" + _condition + _end] = _CALL
        _KINDS["blx" + _condition + _end] = _CALL_REGISTER
        _KINDS["bx" + _condition + _end] = _JUMP_REGISTER
_KINDS.update({"nop": _PADDING, "nop.w": _PADDING, ".byte": _BAD})
# Without a condition these end a function where they write pc; with one they may not.
_ALWAYS = {
    *(f"{name}{end}" for name in ("b", "bx", "mov", "ldr", "pop", "ldm") for end in _ENDS),
    *("movs", "subs", "ldmdb", "ldmib", "ldmda", "rfeia", "rfedb", "eret", "udf", "add"),
}
_STOPS = ("udf", "udf.w", "rfeia", "rfedb", "eret")
_PADDING_MOVE = ("mov", "r0, r0")  # a nop before processors had one
_PC_RELATIVE = re.compile(r"\[pc(?:, #(-?\w+))?\]$")
_FORMED = re.compile(r"r\d+, pc, #(\w+)$")  # add r0, pc, #8: where a constant is
# These write no register that they name first.
_READS_ONLY = ("str", "stm", "vst", "push", "cmp", "cmn", "tst", "teq", "pld")
_SEVERAL = ("ldm", "stm", "ldm.w", "stm.w")
_ADDS = ("add", "adds", "add.w", "sub", "subs", "sub.w")
_MOVES = ("mov", "movs", "mov.w")
_LOST_IN_CALLS = ("r0", "r1", "r2", "r3", "ip", "r12", "lr")


class _Pool:
    """The words between instructions that these load: they are no code."""

    def __init__(self) -> None:
        self._words: set[int] = set()

    def add(self, place: int, size: int) -> None:
        self._words.update(range(place, place + size, 2))

    def __contains__(self, address: int) -> bool:
        return address in self._words


class ArmReader:
    """Reads functions of ARM or Thumb code; which, an image's architecture says."""

    def __init__(self, disassembler: Any, *, thumb: bool) -> None:
        """Take Capstone's disassembler."""
        disassembler.skipdata = True
        self._lines = disassembler.disasm_lite
        self._pc_ahead = 4 if thumb else 8

    def read(self, code: bytes, start: int, found: Found) -> None:
        """Note what a function does; see ``Reader``."""
        pool = _Pool()
        known = ("", 0, False)  # a register that the last instruction filled: place or value
        halves: dict[str, int] = {}
        bases: dict[str, int] = {}  # registers that hold an address
        ends, last_call, returns, link = False, None, False, False
        for address, size, mnemonic, operands in self._lines(code, start):
            if address in pool:
                continue
            kind = _KINDS.get(mnemonic, 0)
            if kind == _PADDING or (mnemonic, operands) == _PADDING_MOVE:
                continue
            if kind == _BAD:
                found.bad_bytes(size)
                continue
            last_call, ends = None, mnemonic in _STOPS
            if kind:
                last_call = self._branch(address, kind, operands, known, found)
                returns = returns or (kind == _JUMP_REGISTER and operands == "lr")
                ends = kind in (_BRANCH, _JUMP_REGISTER) and mnemonic in _ALWAYS
                if kind == _JUMP_REGISTER and link:
                    ends = False  # "mov lr, pc" before it makes it a call
            elif "pc" in operands:
                returned = self._with_pc(address, mnemonic, operands, pool, found)
                returns = returns or returned
                ends = _writes_pc(operands) and mnemonic in _ALWAYS and not link
            if bases:
                self._follow(address, kind, mnemonic, operands, bases, found)
            known = self._filled(address, mnemonic, operands, halves)
            if known[0]:
                _form(address, known, code, start, bases, found)
            link = mnemonic == "mov" and operands == "lr, pc"
        found.end(returns, ends, last_call)

    def _branch(
        self, address: int, kind: int, operands: str, known: tuple[str, int, bool], found: Found
    ) -> int | None:
        """Note a branch; return what it calls, if it does and that is known."""
        if operands.startswith("#"):
            target = int(operands[1:], 16) & ~1
            if kind == _BRANCH:
                found.transfer(address, target, JUMP)
                return None
            found.transfer(address, target, CALL)
            return target
        if operands == "lr" and kind == _JUMP_REGISTER:
            return None
        action = CALL if kind == _CALL_REGISTER else JUMP
        register, value, is_place = known
        if register != operands:
            found.indirect(address, action)
        elif is_place:
            found.through_slot(address, value, action)
        else:
            found.transfer(address, value & ~1, action)
        return None

    def _with_pc(
        self, address: int, mnemonic: str, operands: str, pool: _Pool, found: Found
    ) -> bool:
        """Note what an instruction does with pc; return whether it returns."""
        place = self._place(address, operands)
        if place is not None:
            pool.add(place, 8 if mnemonic.startswith(("ldrd", "vldr")) else 4)
        formed = _FORMED.match(operands) if mnemonic == "add" else None
        if formed is not None:
            pool.add(address + self._pc_ahead + int(formed[1], 0), 8)
        if not _writes_pc(operands):
            return False
        if operands.endswith("pc}") or operands in ("pc, lr", "pc, [sp], #4"):
            return True
        if operands.startswith("pc, lr, #"):  # subs pc, lr, #4: the end of an exception
            return True
        if place is not None:
            found.through_slot(address, place, JUMP)
        # What adds to pc, or loads from beside it, goes by a table within the function.
        elif not operands.startswith(("pc, pc", "pc, [pc")):
            found.indirect(address, JUMP)
        return False

    def _place(self, address: int, operands: str) -> int | None:
        match = _PC_RELATIVE.search(operands)
        if match is None:
            return None
        return ((address + self._pc_ahead) & ~3) + int(match[1] or "0", 0)

    def _filled(
        self, address: int, mnemonic: str, operands: str, halves: dict[str, int]
    ) -> tuple[str, int, bool]:
        """Return which register an instruction fills with what is known of it."""
        if mnemonic in ("movw", "movt"):
            register, _, number = operands.partition(", #")
            value = int(number, 0)
            if mnemonic == "movw":
                halves[register] = value
                return "", 0, False
            return register, value << 16 | halves.pop(register, 0), False
        if mnemonic in ("ldr", "ldr.w"):
            place = self._place(address, operands)
            if place is not None:
                return operands.partition(",")[0], place, True
        return "", 0, False

    def _follow(
        self,
        address: int,
        kind: int,
        mnemonic: str,
        operands: str,
        bases: dict[str, int],
        found: Found,
    ) -> None:
        """Note what is read, written or formed beside an address that a register holds."""
        if kind:
            if kind in (_CALL, _CALL_REGISTER):
                for each in _LOST_IN_CALLS:
                    bases.pop(each, None)
            return
        if mnemonic in _ADDS:
            self._sum(address, mnemonic, operands, bases, found)
            return
        register, _, rest = operands.partition(", ")
        if "[" in operands:
            self._access(address, mnemonic, operands, bases, found)
            if mnemonic.startswith("ldrd"):
                bases.pop(rest.partition(",")[0], None)
        elif mnemonic in _SEVERAL and register in bases:
            found.names(address, bases[register] + 4 * operands.count(",") - 4)
        if mnemonic in _MOVES and rest in bases:
            bases[register] = bases[rest]
        elif not mnemonic.startswith(_READS_ONLY) and mnemonic != "movt":
            filled = operands[operands.find("{") + 1 : -1] if operands[-1:] == "}" else register
            for each in filled.split(", "):
                bases.pop(each, None)

    def _access(
        self, address: int, mnemonic: str, operands: str, bases: dict[str, int], found: Found
    ) -> None:
        """Note what is read or written."""
        at = operands.find("[")
        close = operands.find("]", at)
        source, _, offset = operands[at + 1 : close].partition(", ")
        base = bases.get(source)
        if base is not None:
            place = base + (int(offset[1:], 0) if offset.startswith("#") else 0)
            found.names(address, place)
            if mnemonic.startswith(("ldrd", "strd")):
                found.names(address, place + 4)
            if close + 1 < len(operands):  # it changes with the access
                del bases[source]

    def _sum(
        self, address: int, mnemonic: str, operands: str, bases: dict[str, int], found: Found
    ) -> None:
        """Note an address that is formed from one that a register holds."""
        register, *terms = operands.split(", ")
        if len(terms) == 1:  # "adds r0, #4" changes r0
            terms.insert(0, register)
        base = next((bases[term] for term in terms[:2] if term in bases), None)
        bases.pop(register, None)
        if base is None:
            return
        distance = 0
        if terms[1].startswith("#"):
            distance = int(terms[1][1:], 0)
        elif "pc" in terms:  # the constant was a distance
            distance = address + self._pc_ahead
        else:  # an index: what it is added to stays what is named
            bases[register] = base
            return
        base += -distance if mnemonic.startswith("sub") else distance
        bases[register] = base & 0xFFFFFFFF
        found.names(address, bases[register])


def _form(
    address: int,
    known: tuple[str, int, bool],
    code: bytes,
    start: int,
    bases: dict[str, int],
    found: Found,
) -> None:
    """Note the address that an instruction fills a register with."""
    register, value, is_place = known
    constant = _word(code, value - start) if is_place else value
    if constant is not None:
        bases[register] = constant
        found.names(address, constant)


def _word(code: bytes, at: int) -> int | None:
    """Return a constant among a function's code, None where it lies elsewhere."""
    return int.from_bytes(code[at : at + 4], "little") if 0 <= at <= len(code) - 4 else None


def _writes_pc(operands: str) -> bool:
    return operands.startswith("pc, ") or operands.endswith("pc}")
