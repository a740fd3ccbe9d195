# SPDX-License-Identifier: MIT
"""``pagestep check``: what must stay in RAM and does not, with the way to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pagestep import Image, RuleSet, decide
from pagestep.store import WrittenBeside
from pagestep.store.discipline import Check, Declared, InterruptPages, check, suggest_rules
from pagestep.store.policy import PagePolicy, fault_marks

from ._check_report import check_facts, show_check
from ._inspect import image_options, open_image, symbol_option
from ._output import console, keep_apart, print_json, stages
from ._rules import rules_option, show_idle_rules, unmatched_facts
from ._trace import naming, trace_of

__all__ = ["check_command"]

Show = Callable[[str, int, int], None]


def _declared(
    image: Image,
    rules: RuleSet | None,
    roots: tuple[str, ...],
    cuts: tuple[str, ...],
    default_roots: bool,
    default_cuts: bool,
) -> Declared:
    may_fault, no_fault = fault_marks(image)
    given = rules or RuleSet()
    return Declared(
        roots=(*given.roots, *roots),
        cuts=(*given.cuts, *cuts),
        default_roots=default_roots,
        default_cuts=default_cuts,
        indirect=given.indirect,
        may_fault=tuple(sorted(may_fault)),
        no_fault=tuple(sorted(no_fault)),
    )


def _interrupt_pages(paths: tuple[Path, ...], image: Image, show: Show) -> list[InterruptPages]:
    found: list[InterruptPages] = []
    for path in paths:
        show(f"reading {path.name}", 0, 0)
        with naming(path), trace_of(path, image) as trace:
            found.append(InterruptPages.of(trace, path.name))
    return found


def _cache_folder() -> Path:
    """Return where the user's programs keep what they can make again (XDG base directories)."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "pagestep"


def _refuse_unmatched(found: Check, roots: tuple[str, ...], cuts: tuple[str, ...]) -> None:
    for option, globs in (("--root", roots), ("--cut", cuts)):
        for glob in globs:
            if glob in found.unmatched:
                raise click.BadParameter(
                    f"{glob!r} is the name of no function of the image", param_hint=option
                )


def _write(text: str, out: str) -> None:
    if out == "-":
        click.echo(text, nl=False)
        return
    with WrittenBeside(out) as file:
        file.write(text.encode())


@click.command("check")
@click.argument("image", type=click.Path(path_type=Path))
@image_options
@symbol_option
@rules_option
@click.option("--root", "roots", multiple=True, metavar="GLOB", help="Start here too.")
@click.option("--default-roots/--no-default-roots", default=True, help="Start where faults do.")
@click.option("--cut", "cuts", multiple=True, metavar="GLOB", help="Do not enter these.")
@click.option("--default-cuts/--no-default-cuts", default=True, help="Nor panics and warnings.")
@click.option(
    "--interrupt-trace",
    "traces",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A trace of what was done in interrupt or fault context alone.",
)
@click.option("--data/--no-data", default=True, help="Data that they name must be PINNED too.")
@click.option("--may-fault", is_flag=True, help="List functions that may touch pageable memory.")
@click.option("--suggest", metavar="FILE", help="Write rules there that mend it; - prints them.")
@click.option("--all", "everything", is_flag=True, help="Show all, not the first few.")
@click.option("--cache/--no-cache", default=True, help="Keep the call graph for the next time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def check_command(
    context: click.Context,
    /,
    image: Path,
    rules: Path | None,
    roots: tuple[str, ...],
    cuts: tuple[str, ...],
    default_roots: bool,
    default_cuts: bool,
    traces: tuple[Path, ...],
    data: bool,
    may_fault: bool,
    suggest: str | None,
    everything: bool,
    cache: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Find what must stay in RAM so that a fault in IMAGE never needs a page that can fault.

    From the fault handler, the interrupt entry, swap-in, block I/O and the scheduler it follows
    calls. Exits with status 1 where a function that it comes to, or data that such a function
    names, is not PINNED.
    """
    if as_json and suggest == "-":
        raise click.UsageError("--suggest - and --json both print: write the rules to a file")
    if suggest not in (None, "-"):
        keep_apart([image, rules, *traces], [Path(str(suggest))])
    given = None if rules is None else RuleSet.load(rules)
    with open_image(str(image), **how) as opened, stages() as show:
        show("reading symbols", 0, 0)
        policy: PagePolicy = decide(opened, given)
        found = check(
            opened,
            policy.level,
            _declared(opened, given, roots, cuts, default_roots, default_cuts),
            traces=_interrupt_pages(traces, opened, show),
            data=data,
            cache=_cache_folder() if cache else None,
            progress=show,
        )
        _refuse_unmatched(found, roots, cuts)
        rules_text = suggest_rules(opened, found) if suggest else ""
        facts = check_facts(opened, policy.level, found, with_may_fault=may_fault)
        facts["traces"] = [path.name for path in traces]
        facts["unmatched_rules"] = unmatched_facts(policy)
    if suggest is not None:
        _write(rules_text, suggest)
    if as_json:
        print_json(facts)
    elif suggest != "-":
        if policy.is_plain:
            console.print("there are neither rules nor tags: every page is NORMAL")
        show_idle_rules(rules, policy)
        show_check(facts, everything=everything)
        if suggest:
            console.print(f"\nrules that mend it: {suggest}")
    if not found.ok:
        context.exit(1)
