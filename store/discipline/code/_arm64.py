# SPDX-License-Identifier: MIT
"""Code of 64-bit ARM."""

from __future__ import annotations

from typing import Any

from ._arm import CONDITIONS
from ._found import CALL, JUMP, Found

_CALL, _JUMP, _BRANCH, _CALL_REGISTER, _JUMP_REGISTER, _RETURN, _STOP = range(1, 8)
_PAGE, _ADD, _ADDRESS, _PADDING, _BAD = range(8, 13)

_KINDS: dict[str, int] = {
    **{"bl": _CALL, "b": _JUMP, "adrp": _PAGE, "add": _ADD, "sub": _ADD, "adr": _ADDRESS},
    **{"nop": _PADDING, ".byte": _BAD},
    **dict.fromkeys(("cbz", "cbnz", "tbz", "tbnz"), _BRANCH),
    **{f"b.{condition}": _BRANCH for condition in (*CONDITIONS, "al", "nv")},
    **dict.fromkeys(("blr", "blraa", "blrab", "blraaz", "blrabz"), _CALL_REGISTER),
    **dict.fromkeys(("br", "braa", "brab", "braaz", "brabz"), _JUMP_REGISTER),
    **dict.fromkeys(("ret", "retaa", "retab", "eret", "eretaa", "eretab"), _RETURN),
    **dict.fromkeys(("udf", "brk", "hlt"), _STOP),
}
# These write no register that they name first.
_READS_ONLY = ("st", "cmp", "cmn", "tst", "ccmp", "ccmn", "prfm")
_PAIRS = ("ldp", "stp", "ldnp", "stnp", "ldpsw")
_REGISTER_BYTES = {"w": 4, "s": 4, "q": 16}
_KEPT_BY_CALLS = frozenset(f"x{number}" for number in range(19, 30))


class Arm64Reader:
    """Reads functions of ARM64."""

    def __init__(self, disassembler: Any) -> None:
        """Take Capstone's disassembler."""
        disassembler.skipdata = True
        self._lines = disassembler.disasm_lite

    def read(self, code: bytes, start: int, found: Found) -> None:
        """Note what a function does; see ``Reader``."""
        last, last_call, returns = 0, None, False
        bases: dict[str, int] = {}  # registers that hold an address, or that of its page
        known = ("", 0)
        for address, size, mnemonic, operands in self._lines(code, start):
            kind = _KINDS.get(mnemonic, 0)
            before, known = known, ("", 0)
            if not kind:
                last = 0
                if bases:
                    _data(address, mnemonic, operands, bases, found)
                continue
            if kind == _PADDING:
                continue
            if kind == _CALL:
                last_call = int(operands[1:], 16)
                found.transfer(address, last_call, CALL)
                _forget_after_call(bases)
            elif kind in (_JUMP, _BRANCH):
                found.transfer(address, int(operands[operands.rfind("#") + 1 :], 16), JUMP)
            elif kind in (_CALL_REGISTER, _JUMP_REGISTER):
                _register(address, kind, operands, before, found)
                last_call = None
                if kind == _CALL_REGISTER:
                    _forget_after_call(bases)
            elif kind == _RETURN:
                returns = True
            elif kind == _BAD:
                found.bad_bytes(size)
            elif kind in (_PAGE, _ADD, _ADDRESS):
                known = _address(address, mnemonic, operands, bases, found)
            last = kind
        ends = last in (_JUMP, _JUMP_REGISTER, _RETURN, _STOP)
        found.end(returns, ends, last_call if last == _CALL else None)


def _register(address: int, kind: int, operands: str, known: tuple[str, int], found: Found) -> None:
    """Note a branch to a register; a linker's veneer fills it just before."""
    action = CALL if kind == _CALL_REGISTER else JUMP
    if known[0] == operands:
        found.transfer(address, known[1], action)
    else:
        found.indirect(address, action)


def _address(
    address: int, mnemonic: str, operands: str, bases: dict[str, int], found: Found
) -> tuple[str, int]:
    """Note an address that is formed; return the register that holds it."""
    register, _, rest = operands.partition(", ")
    register = _whole(register)
    if mnemonic in ("adrp", "adr"):
        bases[register] = int(rest[1:], 16)
        if mnemonic == "adrp":
            return "", 0
        found.names(address, bases[register])
        return register, bases[register]
    source, _, added = rest.partition(", ")
    base = bases.pop(register, None) if source == register else bases.get(source)
    if base is None:
        bases.pop(register, None)
        return "", 0
    if not added.startswith("#"):  # an index: what it is added to stays what is named
        bases[register] = base
        return "", 0
    number, _, shift = added[1:].partition(", lsl #")
    distance = int(number, 0) << int(shift or "0")
    bases[register] = base + (distance if mnemonic == "add" else -distance)
    found.names(address, bases[register])
    return register, bases[register]


def _data(address: int, mnemonic: str, operands: str, bases: dict[str, int], found: Found) -> None:
    """Note what is read or written beside an address that a register holds."""
    register, _, rest = operands.partition(", ")
    at = operands.find("[")
    if at >= 0:
        close = operands.find("]", at)
        source, _, offset = operands[at + 1 : close].partition(", ")
        base = bases.get(source)
        if base is not None:
            place = base + (int(offset[1:], 0) if offset.startswith("#") else 0)
            found.names(address, place)
            if mnemonic in _PAIRS:
                found.names(address, place + _REGISTER_BYTES.get(operands[0], 8))
            if close + 1 < len(operands):  # it changes with the access
                del bases[source]
        if mnemonic.startswith("ldp"):
            bases.pop(_whole(rest.partition(",")[0]), None)
    if mnemonic == "mov" and rest in bases:
        bases[register] = bases[rest]
    elif not mnemonic.startswith(_READS_ONLY):
        bases.pop(_whole(register), None)


def _whole(register: str) -> str:
    """Return the 64-bit register that one of 32 bits is half of."""
    return "x" + register[1:] if register.startswith("w") else register


def _forget_after_call(bases: dict[str, int]) -> None:
    """Forget the registers that a function may use as it likes."""
    for register in [each for each in bases if each not in _KEPT_BY_CALLS]:
        del bases[register]
