# SPDX-License-Identifier: MIT
"""``pagestep explain``: why something has its level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pagestep import Explanation, RuleSet, decide

from ._inspect import image_options, open_image, symbol_option
from ._output import console, print_json, table
from ._rules import rules_option

__all__ = ["explain"]

_OWNERS_SHOWN = 20  # of a page, on a terminal
_ASKED_SHOWN = _FORCING_SHOWN = 8


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("where")
@image_options
@symbol_option
@rules_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(
    image: Path,
    where: str,
    as_json: bool,
    system_map: str | None,
    rules: Path | None,
    **how: Any,
) -> None:
    """Say which rule or tag decided what becomes of WHERE in IMAGE, and what it beat.

    WHERE is a page number, an address such as 0xc0008000, a symbol, a symbol and a distance such
    as schedule+0x10, or a section's name.
    """
    given = None if rules is None else RuleSet.load(rules)
    with open_image(str(image), system_map=system_map, **how) as opened:
        policy = decide(opened, given)
        found = policy.explain(where)
    if as_json:
        print_json(found.facts())
        return
    _show(found)
    if policy.is_plain:
        console.print("\nthere are neither rules nor tags: every page is NORMAL")


def _show(found: Explanation) -> None:
    last = found.first_page + found.page_count - 1
    pages = f"page {last}" if found.page_count == 1 else f"pages {found.first_page} to {last}"
    size = f", {found.size:,} bytes" if found.kind in ("symbol", "section") else ""
    console.print(f"{found.kind} {found.where}: {found.address:#x}{size}, on {pages}")
    for note in found.notes:
        console.print(note)
    if found.owner is None:
        console.print("nobody owns it: alignment fill, or zeros between what is loaded")
    else:
        most = ", as most of its bytes ask" if len(found.asked) > 1 else ""
        console.print(f"\nfor {found.owner}{most if found.kind == 'section' else ''}:")
    for decision in found.decisions:
        console.print(f"  {decision.key:12} {decision.wish}")
        for wish in decision.beat:
            console.print(f"  {'':12} before {wish}")
    levels = ", ".join(f"{name} {count:,}" for name, count in found.levels.items() if count)
    console.print(f"\npages by level: {levels}")
    if found.page_count > 1 and found.asked:
        _show_sums(found)
    if found.kind == "section":
        return
    for page in found.pages:
        forced = f", which {page.forced_by} forces" if page.forced_by else ""
        console.print(
            f"\npage {page.page}: {page.level}{forced}; {page.lifecycle}, {page.codec} in ROM, "
            f"down to {page.lowest_tier}"
        )
        rows = [[o.name, f"{o.address:#x}", f"{o.size:,}", o.wish] for o in page.owners]
        table("", ["owner", "address", "bytes", "asks for"], rows[:_OWNERS_SHOWN], spare=2)
        if len(rows) > _OWNERS_SHOWN:
            console.print(f"and {len(rows) - _OWNERS_SHOWN:,} owners more: --json lists them")
    if len(found.pages) < found.page_count:
        console.print(f"\nand {found.page_count - len(found.pages):,} pages more")


def _show_sums(found: Explanation) -> None:
    """Print who asks for what in it, and who makes pages more careful than most of it asks."""
    console.print()
    table(
        "What its bytes ask for, the most first",
        ["level and who says so", "owners", "bytes", "pages"],
        [
            [str(each.wish), f"{each.owners:,}", f"{each.bytes:,}", f"{each.pages:,}"]
            for each in found.asked[:_ASKED_SHOWN]
        ],
        spare=1,
        cut=False,
    )
    if len(found.asked) > _ASKED_SHOWN:
        console.print(f"and {len(found.asked) - _ASKED_SHOWN:,} more: --json lists them")
    if found.forced_pages:
        console.print(
            f"\npages that are more careful than {found.asked[0].wish.value}: "
            f"{found.forced_pages:,}\n"
        )
        table(
            "Who forces them, the most pages first",
            ["owner", "pages", "asks for"],
            [
                [each.owner, f"{each.pages:,}", str(each.wish)]
                for each in found.forcing[:_FORCING_SHOWN]
            ],
        )
