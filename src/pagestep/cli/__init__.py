# SPDX-License-Identifier: MIT
"""The command ``pagestep``: a thin front over the public interface."""

from __future__ import annotations

import click

from ._check import check_command
from ._explain import explain
from ._inspect import inspect
from ._output import Group
from ._replay import replay
from ._rom import rom

__all__ = ["main"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pagestep")
def main() -> None:
    """Keep the pages of a kernel or firmware image in a small amount of RAM."""


main.add_command(check_command)
main.add_command(explain)
main.add_command(inspect)
main.add_command(replay)
main.add_command(rom)
