# SPDX-License-Identifier: MIT
"""UF2 (github.com/microsoft/uf2): blocks of 512 bytes, each with its address."""

from __future__ import annotations

import numpy as np

from pagestep.codecs.errors import InvalidArgument

from ._options import Options, word

_PAYLOAD_SIZE = 256
_FAMILY_PRESENT = 0x2000
_ERASED = 0xFF
_BLOCK = np.dtype(
    [
        ("magic_first", "<u4"),
        ("magic_second", "<u4"),
        ("flags", "<u4"),
        ("address", "<u4"),
        ("payload_size", "<u4"),
        ("block_no", "<u4"),
        ("block_count", "<u4"),
        ("family", "<u4"),
        ("payload", "u1", (_PAYLOAD_SIZE,)),
        ("padding", "u1", (476 - _PAYLOAD_SIZE,)),
        ("magic_last", "<u4"),
    ]
)


def uf2(rom: memoryview, options: Options) -> bytes:
    """Return UF2 blocks; what the last has to spare is 0xFF, as erased flash is."""
    address = options.address_for(len(rom))
    if address % _PAYLOAD_SIZE:
        raise InvalidArgument(
            f"load_address={address:#x}: must be a multiple of {_PAYLOAD_SIZE} in UF2, whose "
            "blocks are pages of flash"
        )
    count = -(-len(rom) // _PAYLOAD_SIZE)
    blocks = np.zeros(count, _BLOCK)
    blocks["magic_first"] = 0x0A324655
    blocks["magic_second"] = 0x9E5D5157
    blocks["magic_last"] = 0x0AB16F30
    blocks["block_no"] = np.arange(count)
    blocks["block_count"] = count
    blocks["address"] = address + np.arange(count) * _PAYLOAD_SIZE
    blocks["payload_size"] = _PAYLOAD_SIZE
    if options.uf2_family is not None:
        blocks["flags"] = _FAMILY_PRESENT
        blocks["family"] = word(options.uf2_family, "uf2_family")
    blocks["padding"] = _ERASED
    whole = np.frombuffer(rom, np.uint8)
    full = len(rom) // _PAYLOAD_SIZE
    blocks["payload"][:full] = whole[: full * _PAYLOAD_SIZE].reshape(full, _PAYLOAD_SIZE)
    if full < count:
        rest = whole[full * _PAYLOAD_SIZE :]
        blocks["payload"][full] = _ERASED
        blocks["payload"][full, : len(rest)] = rest
    return blocks.tobytes()
