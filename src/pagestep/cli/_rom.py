# SPDX-License-Identifier: MIT
"""``pagestep rom``: ROM images, built and read."""

from __future__ import annotations

import click

from ._rom_build import rom_build

__all__ = ["rom"]


@click.group()
def rom() -> None:
    """Build ROM images, look into them, check them, and get the bytes back."""


rom.add_command(rom_build)
