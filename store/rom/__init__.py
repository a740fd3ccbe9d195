# SPDX-License-Identifier: MIT
"""ROM images: built from an image, read where they lie (docs/FORMAT.md)."""

from ._build import RomImage, RomPlan, build_rom

__all__ = ["RomImage", "RomPlan", "build_rom"]
