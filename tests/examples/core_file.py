# SPDX-License-Identifier: MIT
"""A writer of ELF cores, for tests of those who read them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

ET_EXEC, ET_CORE = 2, 4
PT_LOAD, PT_NOTE = 1, 4
NO_ADDRESS = (1 << 64) - 1


@dataclass(frozen=True)
class Memory:
    """A run of memory to be dumped; ``size`` may be more than what is dumped of it."""

    virtual: int
    physical: int
    content: bytes
    size: int


def note(name: bytes, content: bytes) -> bytes:
    """Return one note, its parts aligned to 4 bytes."""

    def aligned(part: bytes) -> bytes:
        return part + bytes(-len(part) % 4)

    head = struct.pack("<3I", len(name) + 1, len(content), 0)
    return head + aligned(name + b"\0") + aligned(content)


def core_file(
    memory: list[Memory], vmcoreinfo: bytes = b"", *, kind: int = ET_CORE, gap: int = 0
) -> bytes:
    """Return an ELF core, 64 bits, little-endian, of x86-64; ``gap`` bytes before each run."""
    notes = note(b"VMCOREINFO", vmcoreinfo)
    at = 64 + 56 * (1 + len(memory))
    heads = [struct.pack("<2I6Q", PT_NOTE, 0, at, 0, 0, len(notes), len(notes), 4)]
    body = notes
    for run in memory:
        body += b"\xee" * gap
        heads.append(
            struct.pack(
                "<2I6Q",
                PT_LOAD,
                7,
                at + len(body),
                run.virtual,
                run.physical,
                len(run.content),
                run.size,
                1,
            )
        )
        body += run.content
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head = struct.pack("<2HI3QI6H", kind, 62, 1, 0, 64, 0, 0, 64, 56, len(heads), 0, 0, 0)
    return ident + head + b"".join(heads) + body
