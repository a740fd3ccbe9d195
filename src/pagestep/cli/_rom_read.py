# SPDX-License-Identifier: MIT
"""``pagestep rom info``, ``verify`` and ``extract``: what is in a ROM image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pagestep import BadRom, NotARom, Rom, RomCheck, show_size
from pagestep.store.rom import read_public_key

from ._inspect import segment_facts
from ._output import console, keep_apart, print_json, progress, table

__all__ = ["codec_facts", "codec_rows", "rom_extract", "rom_info", "rom_verify"]

_CALLED = {
    "raw": "raw",
    "lz4": "LZ4",
    "zstd": "zstd",
    "same": "one repeated word",
    "duplicate": "equal to another page",
    "absent": "left out",
}
_BAD_SHOWN_MAX = 10


def codec_facts(by_codec: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    """Return what JSON says of pages, by what holds them."""
    return {name: {"pages": pages, "bytes": size} for name, (pages, size) in by_codec.items()}


def codec_rows(by_codec: Mapping[str, tuple[int, int]]) -> list[list[str]]:
    """Return the same as rows of a table, without what holds none."""
    return [
        [_CALLED[name], f"{pages:,}", f"{size:,}"]
        for name, (pages, size) in by_codec.items()
        if pages
    ]


def _describe(rom: Rom) -> dict[str, Any]:
    return {
        "rom": rom.name,
        "arch": rom.arch,
        "base": rom.base,
        "page_size": rom.page_size,
        "pages": rom.page_count,
        "image_bytes": rom.image_size,
        "rom_bytes": rom.rom_size,
        "ram_bytes": rom.ram_size,
        "by_codec": codec_facts(rom.by_codec),
        "identity": rom.identity,
        "root": rom.root.hex(),
        "signer": rom.signer.hex() if rom.signer else None,
        "segments": [
            {**segment_facts(segment), "level": level.name}
            for segment, level in zip(rom.segments, rom.levels, strict=True)
        ],
    }


@click.command("info")
@click.argument("rom", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rom_info(rom: Path, as_json: bool) -> None:
    """Show what ROM is made of."""
    with Rom.open(rom) as opened:
        found, rows = _describe(opened), codec_rows(opened.by_codec)
    if as_json:
        print_json(found)
        return
    console.print(
        f"{rom}: {found['rom_bytes']:,} bytes for {found['pages']:,} pages of "
        f"{show_size(found['page_size'])} from {found['base']:#x}, {found['arch']}"
    )
    signer = found["signer"]
    console.print(f"signed with {signer}" if signer else "not signed")
    console.print(
        f"to open it a target needs {show_size(found['ram_bytes'])} of RAM for dictionaries\n"
    )
    table(
        "Pages, by what holds them",
        ["", "pages", "bytes"],
        rows,
    )
    console.print()
    table(
        "Segments",
        ["name", "address", "size", "pages", "flags", "most careful"],
        [
            [
                each["name"],
                f"{each['address']:#x}",
                show_size(each["size"]),
                f"{each['pages']:,}",
                each["flags"],
                each["level"],
            ]
            for each in found["segments"]
        ],
    )


def _faults(check: RomCheck) -> list[str]:
    """Say what is wrong, a line each."""
    wrong: list[str] = []
    if check.bad_pages:
        shown = ", ".join(map(str, check.bad_pages[:_BAD_SHOWN_MAX]))
        more = len(check.bad_pages) - _BAD_SHOWN_MAX
        pages = "bad page" if len(check.bad_pages) == 1 else "bad pages"
        wrong.append(f"{len(check.bad_pages)} {pages}: {shown}{f' and {more} more' * (more > 0)}")
    elif not check.root_holds:
        wrong.append("its pages are not those that its header speaks of")
    if check.signature_fault:
        wrong.append(check.signature_fault)
    return wrong


def _praise(check: RomCheck, pages: int, *, trusted: bool) -> str:
    """Say that nothing is wrong, and no more than that."""
    if check.absent_count:
        stored = f"{pages - check.absent_count:,} of {pages:,}"
        said = f"{stored} pages are as they were stored, {check.absent_count:,} were left out"
    else:
        said = f"all {pages:,} pages are as they were stored"
    if not check.is_signed:
        return f"{said}; it is not signed"
    if trusted:
        return f"{said}; it is signed with the key given"
    return f"{said}; the signature holds, but only --key says whose it is"


@click.command("verify")
@click.argument("rom", type=click.Path(path_type=Path))
@click.option(
    "--key", type=click.Path(path_type=Path), help="It must be signed with this key, PEM."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def rom_verify(context: click.Context, rom: Path, key: Path | None, as_json: bool) -> None:
    """Read every page of ROM and check it, the whole of them, and the signature.

    Exits with status 1 where something is wrong.
    """
    trusted = read_public_key(key) if key is not None else None
    check, pages, fault = RomCheck((), 0, False, False, ""), 0, ""
    try:
        with Rom.open(rom) as opened, progress("verify", opened.page_count) as advance:
            check = opened.verify(trusted=trusted, progress=advance)
            pages = opened.page_count
    except NotARom:
        raise
    except BadRom as error:  # damaged beyond opening: that is an answer too
        fault = str(error)
    is_good = not fault and check.is_good
    if as_json:
        print_json(
            {
                "ok": is_good,
                "fault": fault,
                "pages": pages,
                "bad_pages": list(check.bad_pages),
                "absent_pages": check.absent_count,
                "root_holds": check.root_holds,
                "signed": check.is_signed,
                "signature_fault": check.signature_fault,
            }
        )
    elif fault:
        console.print(fault)
    else:
        for line in _faults(check) or [_praise(check, pages, trusted=trusted is not None)]:
            console.print(f"{rom}: {line}")
    context.exit(0 if is_good else 1)


@click.command("extract")
@click.argument("rom", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path), required=True, metavar="OUT"
)
@click.option(
    "--key", type=click.Path(path_type=Path), help="It must be signed with this key, PEM."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rom_extract(rom: Path, out: Path, key: Path | None, as_json: bool) -> None:
    """Write the image that ROM was made from, its bytes in memory, to OUT."""
    keep_apart([rom, key], [out])
    trusted = read_public_key(key) if key is not None else None
    with (
        Rom.open(rom, trusted=trusted) as opened,
        progress("extract", opened.page_count) as advance,
    ):
        opened.extract_to(out, progress=advance)
        size = opened.image_size
    if as_json:
        print_json({"image_bytes": size, "output": str(out)})
