# SPDX-License-Identifier: MIT
"""What all commands share: how they print, show progress, and fail."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from pagestep import PageStepError

__all__ = [
    "Group",
    "console",
    "keep_apart",
    "number",
    "print_json",
    "progress",
    "stages",
    "table",
]

# In a pipe lines are as long as they are. No markup: "[x]" in a file's name is its name.
_PIPE_WIDTH = 10_000
console = Console(
    highlight=False,
    markup=False,
    emoji=False,
    width=None if sys.stdout.isatty() else _PIPE_WIDTH,
)

_PROGRESS_AFTER_S = 1.0
_GAP = 2  # between columns
_NAME_WIDTH_MIN = 12  # a name that is cut shorter says nothing


class _Failure(click.ClickException):
    """Misuse or bad input: one line that says what is wrong, and status 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"pagestep: {' '.join(self.message.split())}", file=file, err=True)


def _reason(error: Exception) -> str:
    if isinstance(error, PageStepError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"there is not enough memory for that: {error}"
    return str(error)


def _usage(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    return f"{message}; see {error.ctx.command_path if error.ctx else 'pagestep'} --help"


class Group(click.Group):
    """A group whose commands say in one line what is wrong, and exit with status 2."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Read the group's own arguments."""
        with _one_line():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with _one_line():
            return super().invoke(ctx)


class _Interrupted(_Failure):
    """Stopped from the keyboard."""

    exit_code = 130


@contextmanager
def _one_line() -> Generator[None]:
    """Turn errors of the library, of files and of usage into one line."""
    try:
        yield
    except KeyboardInterrupt:
        raise _Interrupted("interrupted") from None
    except (click.exceptions.NoArgsIsHelpError, BrokenPipeError):
        raise  # help, which has many lines; and a reader who has seen enough
    except click.UsageError as error:
        raise _Failure(_usage(error)) from error
    except (PageStepError, OSError, MemoryError) as error:
        raise _Failure(_reason(error)) from error


def number(text: str, option: str) -> int:
    """Return the number that an option was given, such as 4096 or 0x1000."""
    try:
        return int(text, 0)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a number such as 0x8000", param_hint=option
        ) from None


def keep_apart(inputs: Iterable[Path | None], outputs: Iterable[Path]) -> None:
    """Refuse to write over what is read."""
    for given in inputs:
        for out in outputs:
            if given is not None and out.exists() and given.exists() and out.samefile(given):
                raise click.UsageError(f"{out} is read: give the output another name")


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(value, indent=2))


def table(
    title: str, columns: list[str], rows: list[list[str]], *, spare: int = 0, cut: bool = True
) -> None:
    """Print a table: the first column to the left, the others, which are numbers, to the right.

    Where a terminal is too narrow, names in the first column are cut, and nothing else is: what
    stands in the others (an address, a file and line) is of no use by halves.

    Args:
        title: Printed above; may be empty.
        columns: Their headers.
        rows: As many cells each.
        spare: A column that is left out before more is lost; 0: none.
        cut: Whether the first column may be cut.
    """
    room = _room(columns, rows)
    needed = max((len(row[0]) for row in rows), default=0)
    if spare and room < (min(needed, _NAME_WIDTH_MIN) if cut else needed):
        columns, rows = _without(columns, spare), [_without(row, spare) for row in rows]
        room = _room(columns, rows)
    if room < (min(needed, _NAME_WIDTH_MIN) if cut else needed):
        _print_as_lines(title, columns, rows)
        return
    rows = [[row[0] if len(row[0]) <= room else row[0][: room - 1] + "…", *row[1:]] for row in rows]
    shown = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for i, column in enumerate(columns):
        shown.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    console.print(title, style="italic")
    console.print(shown)


def _room(columns: list[str], rows: list[list[str]]) -> int:
    """Return how many letters the other columns leave to the first."""
    others = zip(*([columns, *rows]), strict=True)
    return console.width - sum(max(map(len, each)) + _GAP for each in list(others)[1:]) - _GAP


def _without(cells: list[str], index: int) -> list[str]:
    return cells[:index] + cells[index + 1 :]


def _print_as_lines(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print each row as lines, which a terminal breaks where it must, and loses nothing of."""
    console.print(title, style="italic")
    for row in rows:
        console.print(row[0], soft_wrap=True)
        for column, cell in zip(columns[1:], row[1:], strict=True):
            console.print(f"  {column}: {cell}", soft_wrap=True)


@contextmanager
def progress(what: str, total: int) -> Generator[Callable[[int], None]]:
    """Give a function to call with what was done.

    A bar is drawn on a terminal only, once a second has passed.

    Args:
        what: What is being done.
        total: How much there is to do; 0 where that is not known.
    """
    done_so_far = 0
    with stages() as show:
        show(what, 0, total)

        def advance(done: int) -> None:
            nonlocal done_so_far
            done_so_far += done
            show(what, done_so_far, total)

        yield advance


@contextmanager
def stages() -> Generator[Callable[[str, int, int], None]]:
    """Give a function to call with what is being done, how much is done, how much there is.

    A bar is drawn on a terminal only, once a second has passed.
    """
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    task = shown.add_task("", total=None)
    # By the clock, not by calls: some stages make none.
    start = threading.Timer(_PROGRESS_AFTER_S, shown.start)
    start.daemon = True
    if sys.stderr.isatty():
        start.start()

    def show(what: str, done: int, total: int) -> None:
        shown.update(task, description=what, completed=done, total=total or None)

    try:
        yield show
    finally:
        start.cancel()
        if start.is_alive():
            start.join()  # it may just be starting what is to be stopped
        shown.stop()
