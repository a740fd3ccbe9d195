# SPDX-License-Identifier: MIT
"""Alignment fill: bytes between functions or variables that belong to nobody."""

from __future__ import annotations

import re
from typing import Final

# What assemblers and linkers fill code with, beside zeros: their encodings of "no operation".
_X86: Final = (
    rb"[\x90\xcc]"
    rb"|\x66*\x2e?\x0f\x1f(?:[\x00\x02\x03]|[\x40-\x43].|[\x44].{2}|[\x80-\x83].{4}|\x84.{5})"
    rb"|\x66+\x90|\x66*\x2e?\x8d(?:[\x76\x7f].|[\xb6\xbf].{4}|\x74\x26.|\xb4\x26.{4})"
)
_NOPS: Final = {
    "x86": _X86,
    "x86_64": _X86,
    "arm": rb"\x00\xf0\x20\xe3|\x00\x00\xa0\xe1|\x00\xbf|\xc0\x46|\xaf\xf3\x00\x80",
    "thumb": rb"\x00\xbf|\xc0\x46|\xaf\xf3\x00\x80",
    "arm64": rb"\x1f\x20\x03\xd5",
    "riscv32": rb"\x01\x00|\x13\x00\x00\x00",
    "riscv64": rb"\x01\x00|\x13\x00\x00\x00",
}


class Fill:
    """Knows the fill of one instruction set."""

    def __init__(self, arch: str) -> None:
        """Take the image's ``arch``; of one that is not known only zeros count as fill."""
        nops = _NOPS.get(arch)
        self._code = re.compile(rb"(?:\x00|" + nops + rb")*", re.DOTALL) if nops else None

    def is_fill(self, data: bytes, end_offset: int, is_code: bool) -> bool:
        r"""Return whether bytes are no more than the alignment of what follows asks for.

        Args:
            data: The bytes.
            end_offset: Where what follows them begins; its alignment is what that shows.
            is_code: They lie in a section of code.

        >>> Fill("x86").is_fill(b"\x90" * 7, 0x1000, True)
        True
        >>> Fill("x86").is_fill(b"\x90" * 7, 0x1004, True)
        False
        """
        if len(data) >= (end_offset & -end_offset):
            return False
        if not data.strip(b"\0"):
            return True
        return bool(is_code and self._code and self._code.fullmatch(data))
