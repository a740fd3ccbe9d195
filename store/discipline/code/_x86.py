# SPDX-License-Identifier: MIT
"""Code of x86, 32 and 64 bits."""

from __future__ import annotations

from typing import Any

from ._found import CALL, JUMP, Found

_CALL, _JUMP, _BRANCH, _RETURN, _STOP, _PADDING, _BAD = range(1, 8)
_ADDRESS_CHARS_MIN = 7  # "0x10000": what is shorter is an offset or a small number

_CONDITIONS = "a ae b be c e g ge l le na nae nb nbe nc ne ng nge nl nle no np ns nz o p pe po s z"
_BRANCHES = (
    *(f"j{condition}" for condition in _CONDITIONS.split()),
    *("jcxz", "jecxz", "jrcxz", "loop", "loope", "loopne", "xbegin"),
)
_RETURNS = ("ret", "retf", "retfq", "iret", "iretd", "iretq", "sysret", "sysretq", "sysexit")
_WITH_PREFIX = {"call": _CALL, "jmp": _JUMP}
_WITH_PREFIX.update(dict.fromkeys(_BRANCHES, _BRANCH))
_WITH_PREFIX.update(dict.fromkeys(_RETURNS, _RETURN))
_PREFIXES = ("", "bnd ", "notrack ", "repz ", "repne ", "rep ", "data16 ")

# What an instruction does with the way on, by its mnemonic; the others only name data.
_KINDS: dict[str, int] = {
    **{prefix + name: kind for name, kind in _WITH_PREFIX.items() for prefix in _PREFIXES},
    **dict.fromkeys(("ud0", "ud1", "ud2", "hlt"), _STOP),
    **dict.fromkeys(("nop", "int3", "data16 nop"), _PADDING),
    ".byte": _BAD,
}


class X86Reader:
    """Reads functions of x86."""

    def __init__(self, disassembler: Any, bits: int) -> None:
        """Take Capstone's disassembler."""
        disassembler.skipdata = True
        self._lines = disassembler.disasm_lite
        self._mask = (1 << bits) - 1

    def read(self, code: bytes, start: int, found: Found) -> None:
        """Note what a function does; see ``Reader``."""
        kinds = _KINDS
        last, last_call, returns = 0, None, False
        for address, size, mnemonic, operands in self._lines(code, start):
            kind = kinds.get(mnemonic, 0)
            if not kind:
                last = 0
                if "0x" in operands or ":[" in operands or "[rip" in operands:
                    self._names(address, size, operands, found)
                continue
            if kind == _PADDING:
                continue
            elif kind == _CALL:
                last_call = self._call(address, size, operands, found)
            elif kind == _JUMP:
                self._jump(address, size, operands, found)
            elif kind == _BRANCH:
                found.transfer(address, int(operands, 16), JUMP)
            elif kind == _RETURN:
                returns = True
            elif kind == _BAD:
                found.bad_bytes(size)
            last = kind
        ends = last in (_JUMP, _RETURN, _STOP)
        found.end(returns, ends, last_call if last == _CALL else None)

    def _call(self, address: int, size: int, operands: str, found: Found) -> int | None:
        if operands[0].isdigit():
            target = int(operands, 16)
            # Position-independent 32-bit code calls the next instruction to learn where it is.
            if target != address + size:
                found.transfer(address, target, CALL)
                return target
            return None
        self._names(address, size, operands, found)
        slot = self._place(address + size, operands)
        if slot is None:
            found.indirect(address, CALL)
        else:
            found.through_slot(address, slot, CALL)
        return None

    def _jump(self, address: int, size: int, operands: str, found: Found) -> None:
        if operands[0].isdigit():
            found.transfer(address, int(operands, 16), JUMP)
            return
        self._names(address, size, operands, found)
        slot = self._place(address + size, operands)
        if slot is None:
            found.indirect(address, JUMP)
        else:
            found.through_slot(address, slot, JUMP)

    def _place(self, following: int, operands: str) -> int | None:
        """Return the address of ``[rip + 0x10]`` or ``[0x10]``, None for any other operand."""
        at = operands.find("[rip")
        if at >= 0:
            distance = int(operands[at + 7 : -1] or "0", 16)  # "[rip]" where it is 0
            place = following + (-distance if operands[at + 5 : at + 6] == "-" else distance)
            return place & self._mask
        at = operands.find("[0x")
        if at >= 0 and "gs:" not in operands and "fs:" not in operands:
            return int(operands[at + 1 : -1], 16)
        return None

    def _names(self, address: int, size: int, operands: str, found: Found) -> None:
        """Note what an operand in memory, and a constant behind it, name."""
        close = operands.rfind("]")
        if close >= 0:
            at = operands.rfind("[", 0, close) + 1
            per_cpu = operands[at - 4 : at - 1] in ("gs:", "fs:")
            place = self._displacement(address + size, operands[at:close], per_cpu)
            if place is not None:
                found.names(address, place, per_cpu=per_cpu)
        text = operands[operands.rfind(" ") + 1 :]
        if text[-1] != "]" and text.startswith(("0x", "-0x")) and len(text) >= _ADDRESS_CHARS_MIN:
            found.names(address, int(text, 16) & self._mask)

    def _displacement(self, following: int, place: str, per_cpu: bool) -> int | None:
        """Return the address that an operand counts from; None: registers alone know it."""
        number = place[place.rfind(" ") + 1 :]
        from_here = place.startswith("rip")
        if not number[0].isdigit():  # "[rip]" names the next instruction
            return None
        if not (from_here or per_cpu) and len(number) < _ADDRESS_CHARS_MIN:
            return None
        distance = int(number, 16)
        if place[-len(number) - 2 : -len(number)] == "- ":
            distance = -distance
        return (distance + (following if from_here else 0)) & self._mask
