# SPDX-License-Identifier: MIT
"""``pagestep rom``: ROM images, built and read."""

from __future__ import annotations

import click

from ._rom_build import rom_build
from ._rom_read import rom_extract, rom_info, rom_verify

__all__ = ["rom"]


@click.group()
def rom() -> None:
    """Build ROM images, look into them, check them, and get the bytes back."""


for command in (rom_build, rom_info, rom_verify, rom_extract):
    rom.add_command(command)
