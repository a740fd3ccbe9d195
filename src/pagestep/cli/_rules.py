# SPDX-License-Identifier: MIT
"""The option ``--rules``, and what commands say of rules that do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pagestep import PagePolicy

from ._output import console

__all__ = ["rules_option", "show_idle_rules", "unmatched_facts"]

_UNMATCHED_SHOWN = 5  # where rules are not what the command is about


def _only_one(_context: click.Context, _option: click.Parameter, given: Any) -> Path | None:
    if len(given) > 1:
        raise click.UsageError(
            f"--rules is given {len(given)} times: give one file that includes the others"
        )
    return Path(given[0]) if given else None


def rules_option(command: Any) -> Any:
    """Add the option that gives a file of rules."""
    return click.option(
        "--rules",
        "rules",
        type=click.Path(path_type=Path),
        multiple=True,  # so that a second one is refused, and not silently the only one
        callback=_only_one,
        metavar="FILE",
        help="Rules, in TOML: what may leave RAM, and how gladly.",
    )(command)


def unmatched_facts(policy: PagePolicy) -> list[dict[str, Any]]:
    """Return what JSON says of rules that match nothing, or less than they say."""
    return [
        {
            "file": each.rule.file,
            "line": each.rule.line,
            "reason": each.reason,
            "is_partial": each.is_partial,
        }
        for each in policy.unmatched
    ]


def show_idle_rules(
    path: Path | None, policy: PagePolicy, *, shown_max: int | None = _UNMATCHED_SHOWN
) -> None:
    """Say that a file has no rules, and which of its rules match nothing.

    Args:
        path: The file of rules that was given; None: there is none.
        policy: What was decided by it.
        shown_max: How many rules to name at most; None: all.
    """
    if path is None:
        return
    if not policy.rules.rules:
        but = " but what is tagged" if policy.has_tags else ""
        console.print(f"{path} has no rules: all{but} is PINNED")
    found = unmatched_facts(policy)
    for each in found[:shown_max]:
        what = "matches less than it says" if each["is_partial"] else "matches nothing"
        console.print(f"{each['file']}:{each['line']}: this rule {what}: {each['reason']}")
    more = len(found) - len(found[:shown_max])
    if more:
        console.print(
            f"and {more:,} {'rule' if more == 1 else 'rules'} more: `pagestep inspect` lists them"
        )
