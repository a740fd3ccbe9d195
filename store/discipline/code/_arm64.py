# SPDX-License-Identifier: MIT
"""Code of 64-bit ARM."""

from __future__ import annotations

from typing import Any

from ._arm import CONDITIONS
from ._found import CALL, JUMP, Found

_CALL, _JUMP, _BRANCH, _CALL_REGISTER, _JUMP_REGISTER, _RETURN, _STOP = range(1, 8)
_PAGE, _ADD, _ADDRESS, _PADDING, _BAD = range(8, 13)

_KINDS: dict[str, int] = {
    **{"bl": _CALL, "b": _JUMP, "adrp": _PAGE, "add": _ADD, "adr": _ADDRESS},
    **{"nop": _PADDING, ".byte": _BAD},
    **dict.fromkeys(("cbz", "cbnz", "tbz", "tbnz"), _BRANCH),
    **{f"b.{condition}": _BRANCH for condition in (*CONDITIONS, "al", "nv")},
    **dict.fromkeys(("blr", "blraa", "blrab", "blraaz", "blrabz"), _CALL_REGISTER),
    **dict.fromkeys(("br", "braa", "brab", "braaz", "brabz"), _JUMP_REGISTER),
    **dict.fromkeys(("ret", "retaa", "retab", "eret", "eretaa", "eretab"), _RETURN),
    **dict.fromkeys(("udf", "brk", "hlt"), _STOP),
}


class Arm64Reader:
    """Reads functions of ARM64."""

    def __init__(self, disassembler: Any) -> None:
        """Take Capstone's disassembler."""
        disassembler.skipdata = True
        self._lines = disassembler.disasm_lite

    def read(self, code: bytes, start: int, found: Found) -> None:
        """Note what a function does; see ``Reader``."""
        last, last_call, returns = 0, None, False
        pages: dict[str, int] = {}
        known = ("", 0)
        for address, size, mnemonic, operands in self._lines(code, start):
            kind = _KINDS.get(mnemonic, 0)
            before, known = known, ("", 0)
            if not kind:
                last = 0
                continue
            if kind == _PADDING:
                continue
            if kind == _CALL:
                last_call = int(operands[1:], 16)
                found.transfer(address, last_call, CALL)
            elif kind in (_JUMP, _BRANCH):
                found.transfer(address, int(operands[operands.rfind("#") + 1 :], 16), JUMP)
            elif kind in (_CALL_REGISTER, _JUMP_REGISTER):
                _register(address, kind, operands, before, found)
                last_call = None
            elif kind == _RETURN:
                returns = True
            elif kind == _BAD:
                found.bad_bytes(size)
            elif kind in (_PAGE, _ADD, _ADDRESS):
                known = _address(kind, operands, pages, found)
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


def _address(kind: int, operands: str, pages: dict[str, int], found: Found) -> tuple[str, int]:
    """Note an address that is formed; return the register that holds it."""
    register, _, rest = operands.partition(", ")
    if kind == _PAGE:
        pages[register] = int(rest[1:], 16)
        return "", 0
    if kind == _ADDRESS:
        found.references.append(int(rest[1:], 16))
        return register, int(rest[1:], 16)
    source, _, number = rest.partition(", #")
    page = pages.get(source)
    if page is None or not number or "," in number:
        return "", 0
    found.references.append(page + int(number, 0))
    return register, page + int(number, 0)
