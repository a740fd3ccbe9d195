# SPDX-License-Identifier: MIT
"""``pagestep inspect``: what an image is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from pagestep import Image, Segment, show_size
from pagestep.store.image import ARCHES

from ._output import console, number, print_json, table

__all__ = ["image_options", "inspect", "open_image", "segment_facts"]


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


def _describe(image: Image) -> dict[str, Any]:
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
    }


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@image_options
@click.option("--system-map", type=click.Path(), help="A System.map with the image's symbols.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(image: Path, as_json: bool, system_map: str | None, **how: Any) -> None:
    """Show what IMAGE is made of: its segments, their sizes, and how they become pages."""
    with open_image(str(image), system_map=system_map, **how) as opened:
        found = _describe(opened)
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
