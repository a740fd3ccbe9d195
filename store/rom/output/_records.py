# SPDX-License-Identifier: MIT
"""Intel HEX and Motorola S-records, by bincopy."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pagestep.codecs.errors import Unsupported

from ._options import Options

# bincopy has no types; imported so, it is Any to every checker.
_bincopy: Any = import_module("bincopy")

_RECORD_BYTES = 32
_SREC_RECORDS_MAX = (1 << 24) - 1  # what a count record can say
_HEX_END = ":00000001FF\n"


def intel_hex(rom: memoryview, options: Options) -> bytes:
    """Return Intel HEX: extended linear addresses, no start address.

    bincopy cuts records from the first byte on. The bytes before the first multiple of a record's
    size are a file of their own, so that no record crosses 64 KiB, where loaders disagree.
    """
    address = options.address_for(len(rom))
    head = -address % _RECORD_BYTES
    text = ""
    for piece, at in ((rom[:head], address), (rom[head:], address + head)):
        if piece:
            text = text.removesuffix(_HEX_END) + _file(piece, at).as_ihex(_RECORD_BYTES)
    return text.encode("ascii")


def srec(rom: memoryview, options: Options) -> bytes:
    """Return S-records: S3 with 32-bit addresses, their count, and S7, which ends the file."""
    address = options.address_for(len(rom))
    if len(rom) > _SREC_RECORDS_MAX * _RECORD_BYTES:
        raise Unsupported(
            f"a ROM image of {len(rom)} bytes: S-records hold {_SREC_RECORDS_MAX * _RECORD_BYTES} "
            "at most; take format bin or hex"
        )
    file = _file(rom, address)
    file.execution_start_address = 0  # as objcopy writes it where there is nothing to run
    text: str = file.as_srec(_RECORD_BYTES)
    return text.encode("ascii")


def _file(rom: memoryview, address: int) -> Any:
    file = _bincopy.BinFile()
    file.add_binary(rom, address)
    return file
