# SPDX-License-Identifier: MIT
"""The options of ``render``, and the checks that several formats share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pagestep.codecs.errors import InvalidArgument, Unsupported

_ALIGN_MAX = 1 << 20
_WORD_END = 1 << 32
# File scope has no names for us that begin with an underscore: they are the compiler's.
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
# C99 to C23, and asm, which most compilers take for one.
_KEYWORDS = """
alignas alignof asm auto bool break case char const constexpr continue default do double else
enum extern false float for goto if inline int long nullptr register restrict return short
signed sizeof static static_assert struct switch thread_local true typedef typeof typeof_unqual
union unsigned void volatile while
"""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of ``render``, as they were given; each format checks those that it heeds."""

    name: str
    load_address: int
    arch: str
    byteorder: str | None
    align: int
    uf2_family: int | None
    elf_flags: int | None

    def symbol(self) -> str:
        """Return ``name``.

        Raises:
            InvalidArgument: It is no identifier that C leaves to its users.
        """
        if not _IDENTIFIER.fullmatch(self.name) or self.name in _KEYWORDS.split():
            raise InvalidArgument(
                f"name {self.name!r} is no C identifier: begin with a letter, go on with letters, "
                "digits and underscores, and take no keyword"
            )
        return self.name

    def alignment(self) -> int:
        """Return ``align``, in bytes.

        Raises:
            InvalidArgument: It is no power of two from 1 to 2**20.
        """
        if not 1 <= self.align <= _ALIGN_MAX or self.align & (self.align - 1):
            raise InvalidArgument(f"align={self.align}: must be a power of two, 1 to {_ALIGN_MAX}")
        return self.align

    def address_for(self, size: int) -> int:
        """Return ``load_address``, for a ROM image of ``size`` bytes.

        Raises:
            InvalidArgument: Its bytes would not all have addresses from 0 to 2**32 - 1.
            Unsupported: No address would do.
        """
        if size > _WORD_END:
            raise Unsupported(
                f"a ROM image of {size} bytes has no room in 32-bit addresses: take format bin"
            )
        if not 0 <= self.load_address <= _WORD_END - size:
            raise InvalidArgument(
                f"load_address={self.load_address:#x}: must be from 0 to {_WORD_END - size:#x}, "
                f"so that {size} bytes end within 32-bit addresses"
            )
        return self.load_address


def word(number: int, what: str) -> int:
    """Return a number of 32 bits.

    Raises:
        InvalidArgument: It has more, or is negative.
    """
    if not 0 <= number < _WORD_END:
        raise InvalidArgument(f"{what}={number:#x}: must be from 0 to {_WORD_END - 1:#x}")
    return number
