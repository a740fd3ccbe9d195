# SPDX-License-Identifier: MIT
"""Code of RISC-V, 32 and 64 bits, with compressed instructions."""

from __future__ import annotations

from typing import Any

from ._found import CALL, JUMP, Found

_AUIPC, _LUI, _JAL, _JALR, _BRANCH = 0x17, 0x37, 0x6F, 0x67, 0x63
_RA, _T0 = 1, 5  # registers that return addresses are kept in
_STOPS = ("ebreak", "c.ebreak", "c.unimp", "unimp")
_RETURNS = ("mret", "sret", "uret", "mnret")
_CALL_WORDS = ("jal", "jalr")
# Registers that a function must give back as it found them, or never changes.
_KEPT_BY_CALLS = frozenset(["gp", "tp", "s0", "fp", "s1", *(f"s{n}" for n in range(2, 12))])
_STORES = frozenset(["sb", "sh", "sw", "sd", "swsp", "sdsp", "fsw", "fsd", "fswsp", "fsdsp"])
_COMPRESSED_JUMPS = ("c.j", "c.jal", "c.jr", "c.jalr", "c.beqz", "c.bnez")


class RiscvReader:
    """Reads functions of RISC-V.

    Capstone says where instructions begin; what they name is decoded here, as it prints
    distances where addresses are wanted.
    """

    def __init__(self, disassembler: Any, bits: int, global_pointer: int | None = None) -> None:
        """Take Capstone's disassembler, and what register gp holds, where that is known."""
        disassembler.skipdata = True
        self._lines = disassembler.disasm_lite
        self._mask = (1 << bits) - 1
        self._fixed = {} if global_pointer is None else {"gp": global_pointer}

    def read(self, code: bytes, start: int, found: Found) -> None:
        """Note what a function does; see ``Reader``."""
        ends, last_call, returns = False, None, False
        filled: tuple[int, int] | None = None  # the register that the last instruction filled
        bases = self._fixed.copy()  # registers that hold an address, or the upper part of one
        for address, size, mnemonic, operands in self._lines(code, start):
            before, filled = filled, None
            if mnemonic in ("nop", "c.nop"):
                continue
            if mnemonic == ".byte":
                # Zeros behind a function are padding: they are no instruction on purpose.
                if any(code[address - start : address - start + size]):
                    found.bad_bytes(size)
                continue
            last_call, ends = None, mnemonic in _STOPS or mnemonic in _RETURNS
            returns = returns or mnemonic in _RETURNS
            if bases:
                self._follow(address, mnemonic.removeprefix("c."), operands, bases, found)
            if size == 2:
                if mnemonic in _COMPRESSED_JUMPS:
                    last_call, ends, returned = _compressed(address, mnemonic, operands, found)
                    returns = returns or returned
                continue
            word = int.from_bytes(code[address - start : address - start + 4], "little")
            opcode, register = word & 0x7F, word >> 7 & 31
            if opcode in (_AUIPC, _LUI):
                value = _signed(word & 0xFFFFF000, 32) + (address if opcode == _AUIPC else 0)
                bases[operands.partition(",")[0]] = value
                filled = register, value
            elif opcode in (_JAL, _JALR, _BRANCH):
                last_call, ends, returned = self._jump(address, word, before, found)
                returns = returns or returned
        found.end(returns, ends, last_call)

    def _jump(
        self, address: int, word: int, before: tuple[int, int] | None, found: Found
    ) -> tuple[int | None, bool, bool]:
        """Note a jump; return what it calls, whether it ends the function, and returns."""
        opcode, link, source = word & 0x7F, word >> 7 & 31, word >> 15 & 31
        if opcode == _BRANCH:
            found.transfer(address, (address + _branch_distance(word)) & self._mask, JUMP)
            return None, False, False
        if opcode == _JAL:
            target = (address + _jal_distance(word)) & self._mask
        elif before is not None and before[0] == source:
            target = (before[1] + _signed(word >> 20, 12)) & self._mask & ~1
        else:
            return _register(address, link, source, found)
        found.transfer(address, target, CALL if link else JUMP)
        return (target, False, False) if link else (None, True, False)

    def _follow(
        self, address: int, mnemonic: str, operands: str, bases: dict[str, int], found: Found
    ) -> None:
        """Note what is read, written or formed beside an address that a register holds."""
        if mnemonic in _CALL_WORDS:
            for each in [each for each in bases if each not in _KEPT_BY_CALLS]:
                del bases[each]
            return
        if mnemonic.startswith("b"):  # a branch
            return
        register, _, rest = operands.partition(", ")
        if operands.endswith(")"):
            offset, _, source = operands.rpartition(", ")[2][:-1].partition("(")
            if source in bases:
                found.names(address, (bases[source] + int(offset or "0", 0)) & self._mask)
            if mnemonic not in _STORES:
                bases.pop(register, None)
            return
        terms = rest.split(", ")
        if len(terms) == 1 and mnemonic != "mv":  # compressed: "c.addi a0, 4" changes a0
            terms.insert(0, register)
        base = next((bases[term] for term in terms if term in bases), None)
        bases.pop(register, None)
        if base is None:
            return
        if mnemonic in ("addi", "mv"):  # to add nothing is printed as a move
            distance = int(terms[1], 0) if mnemonic == "addi" else 0
            bases[register] = (base + distance) & self._mask
            found.names(address, bases[register])
        elif mnemonic == "add":  # of an index: what it is added to stays what is named
            bases[register] = base


def _compressed(
    address: int, mnemonic: str, operands: str, found: Found
) -> tuple[int | None, bool, bool]:
    """Note a compressed jump, as ``_jump`` does."""
    if mnemonic == "c.jr":
        source = _RA if operands == "ra" else _T0 if operands == "t0" else -1
        return _register(address, 0, source, found)
    if mnemonic == "c.jalr":
        return _register(address, _RA, -1, found)
    target = address + int(operands.rpartition(" ")[2], 0)
    found.transfer(address, target, CALL if mnemonic == "c.jal" else JUMP)
    if mnemonic == "c.jal":
        return target, False, False
    return None, mnemonic == "c.j", False


def _register(address: int, link: int, source: int, found: Found) -> tuple[int | None, bool, bool]:
    """Note a jump to what a register holds."""
    if not link and source in (_RA, _T0):
        return None, True, True
    found.indirect(address, CALL if link else JUMP)
    return None, not link, False


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def _jal_distance(word: int) -> int:
    distance = (word >> 31 & 1) << 20 | (word >> 12 & 0xFF) << 12
    distance |= (word >> 20 & 1) << 11 | (word >> 21 & 0x3FF) << 1
    return _signed(distance, 21)


def _branch_distance(word: int) -> int:
    distance = (word >> 31 & 1) << 12 | (word >> 7 & 1) << 11
    distance |= (word >> 25 & 0x3F) << 5 | (word >> 8 & 15) << 1
    return _signed(distance, 13)
