# SPDX-License-Identifier: MIT
"""ROM images: built from an image, read where they lie (docs/FORMAT.md)."""

from ._build import RomImage, RomPlan, build_rom
from ._rom import Rom, RomCheck

__all__ = ["Rom", "RomCheck", "RomImage", "RomPlan", "build_rom"]
