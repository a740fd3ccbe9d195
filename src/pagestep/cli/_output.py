# SPDX-License-Identifier: MIT
"""What all commands share: how they print, show progress, and fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from pagestep import PageStepError

__all__ = ["Group", "console", "print_json", "progress", "size", "table"]

console = Console(highlight=False)

_USAGE_ERROR = 2


class Group(click.Group):
    """A group whose commands say in one line what is wrong, and exit with status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn the library's errors, and those of files, into one line."""
        try:
            return super().invoke(ctx)
        except (PageStepError, OSError) as error:
            message = " ".join(str(error).split())
            click.echo(f"pagestep: {message}", err=True)
            ctx.exit(_USAGE_ERROR)


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(value, indent=2))


def size(count: int) -> str:
    """Return a number of bytes as people read it, four digits at most.

    >>> size(8 << 20), size(1536), size(12)
    ('8 MiB', '1.5 KiB', '12 B')
    """
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} B"


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table: the first column to the left, the others, which are numbers, to the right."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        shown.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


@contextmanager
def progress(what: str, total: int) -> Iterator[Any]:
    """Give a function to call with what was done; a bar is drawn on a terminal only."""
    shown = Progress(
        TextColumn(what),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with shown:
        task = shown.add_task(what, total=total or None)
        yield lambda done: shown.advance(task, done)
