# SPDX-License-Identifier: MIT
"""Sizes as people write them: 4096, "8MiB", "1 GB"."""

from __future__ import annotations

import re
from typing import Any

from pagestep.codecs.errors import InvalidArgument

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS[f"{_letter}ib"] = _UNITS[_letter] = 1 << (10 * _power)
    _UNITS[f"{_letter}b"] = 1000**_power

_SIZE_MAX = (1 << 63) - 1
_SIZE = re.compile(r"\s*(\d{1,19})(?:\.(\d{1,6}))?\s*([A-Za-z]*)\s*", re.ASCII)


def parse_size(size: int | str, what: str = "size") -> int:
    """Return a size in bytes.

    Args:
        size: Bytes as an int, or text such as ``"8MiB"``, ``"1.5G"``, ``"200kB"``.
            ``K``, ``M``, ``G``, ``T`` alone and with ``iB`` are powers of 1024,
            with ``B`` powers of 1000.
        what: The argument's name, for the message.

    Returns:
        The size in bytes, not negative.

    Raises:
        InvalidArgument: The text is no size, or the number is negative or beyond 63 bits.

    >>> parse_size("8MiB")
    8388608
    """
    given: Any = size  # it may be what no type allows
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise InvalidArgument(f'{what} is {size!r}: write whole bytes, or a size such as "8MiB"')
    count = size if isinstance(size, int) else _parse(size, what)
    if count < 0:
        raise InvalidArgument(f"{what} is {size} bytes: it cannot be negative")
    if count > _SIZE_MAX:
        raise InvalidArgument(f"{what} is {size}: it is at most {_SIZE_MAX} bytes")
    return count


def _parse(size: str, what: str) -> int:
    match = _SIZE.fullmatch(size)
    unit = _UNITS.get(match[3].lower()) if match else None
    if match is None or unit is None:
        raise InvalidArgument(f'{what} is {size!r}: write bytes, or a size such as "8MiB"')
    fraction = match[2] or ""
    return int(match[1] + fraction) * unit // int("1" + "0" * len(fraction))


def show_size(size: int) -> str:
    """Return a size in bytes as people read it.

    >>> show_size(1 << 30)
    '1 GiB'
    """
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power:
            return f"{size / (1 << power):.4g} {unit}"
    return f"{size} B"
