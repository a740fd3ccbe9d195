# SPDX-License-Identifier: MIT
"""The reader of each instruction set; disassembly is Capstone's."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from pagestep.codecs.errors import Unsupported

from ._arm import ArmReader
from ._arm64 import Arm64Reader
from ._found import Reader
from ._riscv import RiscvReader
from ._x86 import X86Reader


def _x86(capstone: Any, _gp: int | None) -> Reader:
    return X86Reader(capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32), 32)


def _x86_64(capstone: Any, _gp: int | None) -> Reader:
    return X86Reader(capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64), 64)


def _arm(capstone: Any, _gp: int | None) -> Reader:
    return ArmReader(capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_ARM), thumb=False)


def _thumb(capstone: Any, _gp: int | None) -> Reader:
    return ArmReader(capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB), thumb=True)


def _arm64(capstone: Any, _gp: int | None) -> Reader:
    return Arm64Reader(capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM))


def _riscv32(capstone: Any, gp: int | None) -> Reader:
    mode = capstone.CS_MODE_RISCV32 | capstone.CS_MODE_RISCVC
    return RiscvReader(capstone.Cs(capstone.CS_ARCH_RISCV, mode), 32, gp)


def _riscv64(capstone: Any, gp: int | None) -> Reader:
    mode = capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC
    return RiscvReader(capstone.Cs(capstone.CS_ARCH_RISCV, mode), 64, gp)


_OPEN: dict[str, Callable[[Any, int | None], Reader]] = {
    "x86": _x86,
    "x86_64": _x86_64,
    "arm": _arm,
    "thumb": _thumb,
    "arm64": _arm64,
    "riscv32": _riscv32,
    "riscv64": _riscv64,
}
CODE_ARCHES = tuple(_OPEN)
"""The instruction sets whose code can be read."""


def open_reader(arch: str, global_pointer: int | None = None) -> Reader:
    """Return the reader for an instruction set.

    Args:
        arch: See ``Image.arch``.
        global_pointer: What register gp holds throughout, where RISC-V code relies on that.

    Raises:
        Unsupported: There is none, or Capstone is not installed.
    """
    if arch not in _OPEN:
        raise Unsupported(
            f"code of {arch} cannot be checked: {', '.join(CODE_ARCHES)} can; "
            "where the file does not say it, give --arch (arch=)"
        )
    try:
        capstone = import_module("capstone")
    except ImportError as error:
        raise Unsupported(
            "reading code needs Capstone: install it with pip install 'pagestep[check]'"
        ) from error
    return _OPEN[arch](capstone, global_pointer)
