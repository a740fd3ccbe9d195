# SPDX-License-Identifier: MIT
"""Which codecs there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from . import _lib
from .errors import InvalidArgument

__all__ = ["CODECS", "CodecInfo", "codec_info"]


@dataclass(frozen=True, slots=True)
class CodecInfo:
    """What is known of a codec before it is opened."""

    name: str
    """How people call it."""
    id: int
    """How files call it: stable, never reused."""
    level_min: int
    level_max: int
    level_default: int
    takes_dictionary: bool
    is_filtered: bool
    """Whether a branch filter is applied; codecs that are not ignore it."""


def _info(
    name: str, levels: tuple[int, int, int] = (0, 0, 0), *, compresses: bool = False
) -> CodecInfo:
    return CodecInfo(name, _lib.CODEC_IDS[name], *levels, compresses, compresses)


CODECS: Final[Mapping[str, CodecInfo]] = MappingProxyType(
    {
        info.name: info
        for info in (
            _info("raw"),
            _info("same"),
            _info("lz4", (0, 12, 0), compresses=True),
            _info("zstd", (1, 22, 9), compresses=True),
        )
    }
)
"""Name to codec."""


def codec_info(name_or_id: str | int) -> CodecInfo:
    """Return the codec with this name or id.

    Raises:
        InvalidArgument: There is none.

    >>> codec_info(3).name
    'zstd'
    """
    for info in CODECS.values():
        if name_or_id in (info.name, info.id):
            return info
    raise InvalidArgument(f"codec {name_or_id!r}: not one of {', '.join(CODECS)}")
