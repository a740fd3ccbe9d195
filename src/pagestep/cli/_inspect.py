# SPDX-License-Identifier: MIT
"""``pagestep inspect``: what an image is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from pagestep import Image, Level, PagePolicy, RuleSet, Segment, decide, show_size
from pagestep.store.image import ARCHES

from ._output import console, number, print_json, table
from ._rules import rules_option, show_idle_rules, unmatched_facts

__all__ = [
    "image_options",
    "inspect",
    "open_image",
    "segment_facts",
    "symbol_option",
]

_OWNERS_SHOWN = 10  # of those that force other owners' pages, on a terminal


def image_options(command: Any) -> Any:
    """Add the options that say how an image is to be read."""
    for option in (
        click.option("--raw", is_flag=True, help="Take the file's bytes as they are."),
        click.option(
            "--base", metavar="ADDRESS", help="Address of page 0, if not given by the file."
        ),
        click.option(
            "--arch",
            type=click.Choice(ARCHES, case_sensitive=False),
            metavar="ARCH",
            help="Instruction set, where the file does not say it.",
        ),
        click.option("--page-size", default=4096, show_default=True, help="Bytes of a page."),
    ):
        command = option(command)
    return command


def symbol_option(command: Any) -> Any:
    """Add the option that says where the image's symbols are."""
    return click.option(
        "--system-map",
        type=click.Path(),
        help="A System.map, or an ELF file, with the image's symbols.",
    )(command)


def open_image(path: str, *, base: str | None, **how: Any) -> Image:
    """Open the image that a command was given."""
    address = None if base is None else number(base, "--base")
    return Image.open(path, base=address, **how)


def segment_facts(segment: Segment) -> dict[str, Any]:
    """Return what JSON says of a segment."""
    return {
        "name": segment.name,
        "address": segment.address,
        "size": segment.size,
        "first_page": segment.pages.start,
        "pages": len(segment.pages),
        "flags": segment.flags,
        "kind": segment.kind,
    }


def _policy_facts(policy: PagePolicy) -> dict[str, Any]:
    counts = policy.pages_by_level
    sharing = policy.sharing
    return {
        "levels": {level.name: counts[level] for level in Level},
        "once_pages": int(np.count_nonzero(policy.once)),
        "pageable_pages": policy.pageable_pages,
        "unowned_pages": policy.unowned_pages,
        "sharing_pages": sharing.pages,
        "sharing_bytes": sharing.bytes,
        "sharing_pinned_pages": sharing.pinned_pages,
        "sharing_forced_by": [
            {
                "owner": each.owner,
                "level": each.level.name,
                "pages": each.pages,
                "bytes": each.bytes,
            }
            for each in sharing.forced_by
        ],
        "unmatched_rules": unmatched_facts(policy),
    }


def _describe(image: Image, policy: PagePolicy) -> dict[str, Any]:
    flat = image.flat()
    same = flat.reshape(image.page_count, -1, 8) == flat.reshape(image.page_count, -1, 8)[:, :1]
    same_filled = int(np.count_nonzero(same.all(axis=(1, 2))))
    return {
        "image": image.name,
        "kind": image.kind,
        "payload": image.payload,
        "arch": image.arch,
        "byteorder": image.byteorder,
        "base": image.base,
        "page_size": image.page_size,
        "pages": image.page_count,
        "bytes": image.page_count * image.page_size,
        "same_filled_pages": same_filled,
        "identity": image.identity,
        "build_id": image.build_id,
        "segments": [segment_facts(segment) for segment in image.segments],
        **_policy_facts(policy),
    }


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@image_options
@symbol_option
@rules_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(
    image: Path, as_json: bool, system_map: str | None, rules: Path | None, **how: Any
) -> None:
    """Show what IMAGE is made of: its segments, their pages, and how much may leave RAM."""
    given = None if rules is None else RuleSet.load(rules)
    with open_image(str(image), system_map=system_map, **how) as opened:
        policy = decide(opened, given)
        found = _describe(opened, policy)
    if as_json:
        print_json(found)
        return
    packed = f", packed with {found['payload']}" if found["payload"] else ""
    console.print(f"{image.name}: {found['kind']}, {found['arch']}{packed}")
    console.print(
        f"{found['pages']:,} pages of {show_size(found['page_size'])} from {found['base']:#x}, "
        f"{show_size(found['bytes'])}; {found['same_filled_pages']:,} of them hold one repeated "
        "word\n"
    )
    table(
        "Segments",
        ["name", "address", "size", "pages", "flags"],
        [
            [s["name"], f"{s['address']:#x}", show_size(s["size"]), f"{s['pages']:,}", s["flags"]]
            for s in found["segments"]
        ],
    )
    if not policy.is_plain:
        _show_policy(found)
    show_idle_rules(rules, policy, shown_max=None)


def _show_policy(found: dict[str, Any]) -> None:
    """Print the levels, and what sharing of pages costs."""
    pages = found["pages"]
    console.print()
    table(
        "Levels",
        ["level", "pages", "share"],
        [
            [name, f"{count:,}", f"{count / pages:.1%}"]
            for name, count in found["levels"].items()
            if count
        ],
    )
    console.print(
        f"\npageable: {found['pageable_pages']:,} of {pages:,} pages, "
        f"{found['pageable_pages'] / pages:.1%}; dropped when start-up ends: "
        f"{found['once_pages']:,}; owned by nobody: {found['unowned_pages']:,}"
    )
    if found["sharing_pages"]:
        console.print(
            f"pages that are more careful than an owner on them asked for: "
            f"{found['sharing_pages']:,}, of them PINNED: {found['sharing_pinned_pages']:,}; "
            f"such owners' bytes: {show_size(found['sharing_bytes'])}\n"
        )
        table(
            "Who forces them, the most pages first",
            ["owner", "level", "pages", "bytes of others"],
            [
                [each["owner"], each["level"], f"{each['pages']:,}", f"{each['bytes']:,}"]
                for each in found["sharing_forced_by"][:_OWNERS_SHOWN]
            ],
        )
