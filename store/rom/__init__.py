# SPDX-License-Identifier: MIT
"""ROM images: built from an image, read where they lie (docs/FORMAT.md)."""

from ._assemble import RomImage
from ._build import build_rom
from ._plan import RomPlan
from ._rom import Rom, RomCheck
from ._sign import read_private_key, read_public_key

__all__ = [
    "Rom",
    "RomCheck",
    "RomImage",
    "RomPlan",
    "build_rom",
    "read_private_key",
    "read_public_key",
]
