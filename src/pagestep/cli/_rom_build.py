# SPDX-License-Identifier: MIT
"""``pagestep rom build``: a ROM image of a kernel or firmware."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import click

from pagestep import Level, PagePolicy, RomImage, RomPlan, RuleSet, build_rom, decide, show_size
from pagestep.store import WrittenBeside
from pagestep.store.rom import read_private_key
from pagestep.store.rom.output import FORMATS, render

from ._inspect import image_options, open_image, symbol_option
from ._output import console, keep_apart, number, print_json, stages, table
from ._rom_read import codec_facts, codec_rows
from ._rules import rules_option, show_idle_rules
from ._trace import trace_of

__all__ = ["rom_build"]


def _levels(given: tuple[str, ...]) -> dict[str, Level]:
    """Return levels of segments, from ``SECTION=LEVEL``."""
    levels: dict[str, Level] = {}
    for each in given:
        section, equals, name = each.rpartition("=")
        if not equals or name.upper() not in Level.__members__:
            raise click.BadParameter(
                f"{each!r} is not SECTION=LEVEL, with a level of {', '.join(Level.__members__)}",
                param_hint="--level",
            )
        level = Level[name.upper()]
        if levels.setdefault(section, level) != level:
            raise click.BadParameter(f"{section} is given two levels", param_hint="--level")
    return levels


_SUFFIXES = {
    **{each.suffix: name for name, each in FORMATS.items()},
    **dict.fromkeys((".ihex", ".ihx"), "hex"),
    **dict.fromkeys((".s19", ".s28", ".s37", ".mot"), "srec"),
}
_MISLEADING = (".elf", ".h", ".s", ".so", ".a")


def _formats(given: str | None, out: Path) -> list[str]:
    """Return the formats asked for, or the one that the file's name says; else plain bytes."""
    suffix = out.suffix.lower()
    if given is None:
        if suffix in _MISLEADING:
            raise click.UsageError(f"{out}: no format of that suffix: give --format")
        return [_SUFFIXES.get(suffix, "bin")]
    formats = _names(given)
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise click.BadParameter(
            f"{unknown[0]!r} is not one of {', '.join(FORMATS)}", param_hint="--format"
        )
    return formats


def _names(given: str) -> list[str]:
    """Return the names of a list with commas."""
    return [name.strip().lower() for name in given.split(",")]


def _paths(formats: list[str], out: Path) -> dict[str, Path]:
    """Return a path for each format: OUT itself for one, OUT and a suffix for each of several."""
    if len(formats) == 1:
        return {formats[0]: out}
    return {name: out.with_name(out.name + FORMATS[name].suffix) for name in formats}


def _write(built: RomImage, outputs: dict[str, Path], options: dict[str, Any]) -> None:
    """Write all outputs; where one cannot be written, none of them appears."""
    with ExitStack() as files:
        for name, path in outputs.items():
            content = render(built.data, name, **options)
            files.enter_context(WrittenBeside(path)).write(content)


def _refuse_unaligned(load_address: int, page_size: int) -> None:
    if load_address % page_size:
        raise click.BadParameter(
            f"{load_address:#x}: pages that are used in place need a multiple of {page_size}",
            param_hint="--load-addr",
        )


def _found(built: RomImage, outputs: dict[str, Path]) -> dict[str, Any]:
    return {
        "image_bytes": built.image_bytes,
        "rom_bytes": len(built.data),
        "pages": built.page_count,
        "by_codec": codec_facts(built.by_codec),
        "header_bytes": built.header_bytes,
        "index_bytes": built.index_bytes,
        "dictionary_bytes": built.dictionary_bytes,
        "padding_bytes": built.padding_bytes,
        "ram_bytes": built.ram_bytes,
        "time_us": built.time_us,
        "time_us_bound": built.time_us_bound,
        "outputs": {name: str(path) for name, path in outputs.items()},
    }


def _show(built: RomImage, outputs: dict[str, Path]) -> None:
    console.print(
        f"{show_size(built.image_bytes)} in {built.page_count:,} pages became "
        f"{len(built.data):,} bytes, {len(built.data) / max(built.image_bytes, 1):.1%}\n"
    )
    rows = [
        *codec_rows(built.by_codec),
        ["dictionaries", "", f"{built.dictionary_bytes:,}"],
        ["index", "", f"{built.index_bytes:,}"],
        ["header", "", f"{built.header_bytes:,}"],
        ["padding", "", f"{built.padding_bytes:,}"],
    ]
    table("What the ROM image holds", ["", "pages", "bytes"], rows)
    if built.time_us_bound is not None:
        console.print(
            f"\nexpected time of a page {built.time_us:.3f} µs; with these dictionaries "
            f"no choice of codecs that fits is below {built.time_us_bound:.3f} µs"
        )
    console.print(
        f"\nto open it a target needs {show_size(built.ram_bytes)} of RAM for dictionaries"
    )
    for name, path in outputs.items():
        console.print(f"{FORMATS[name].description}: {path}")


@click.command("build")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path), required=True, metavar="OUT"
)
@image_options
@symbol_option
@rules_option
@click.option(
    "--codecs",
    default=",".join(RomPlan().codecs),
    show_default=True,
    help="What the target can decode.",
)
@click.option(
    "--level", "levels", multiple=True, metavar="SECTION=LEVEL", help="Level of a section's pages."
)
@click.option("--in-place", multiple=True, metavar="SECTION", help="Stored raw and aligned.")
@click.option("--leave-out", multiple=True, metavar="SECTION", help="Not stored.")
@click.option(
    "--trace", type=click.Path(path_type=Path), help="A trace of this image: what it uses first."
)
@click.option("--max-size", help="Choose codecs page by page, so that it fits.")
@click.option(
    "--dictionary",
    type=click.Choice(["compressed", "in-place", "none"]),
    default="compressed",
    show_default=True,
    help="In place, the target needs no RAM for it.",
)
@click.option("--dictionary-size", help="Bytes at most.")
@click.option("--align", default="1", show_default=True, help="Size is a multiple of this.")
@click.option(
    "--erased-val", default="0xff", show_default=True, help="What padding is filled with."
)
@click.option("--sign", "key", type=click.Path(path_type=Path), help="Ed25519 private key, PEM.")
@click.option(
    "--format",
    "formats",
    metavar="FORMAT,…",
    help=f"Of {', '.join(FORMATS)}; else by OUT's suffix. Several: OUT and a suffix for each.",
)
@click.option("--load-addr", default="0", show_default=True, help="For hex, srec and uf2.")
@click.option("--name", default="pagestep_rom", show_default=True, help="Symbol, for c and elf.")
@click.option("--uf2-family", help="Family of boards, for uf2.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Pages coded at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rom_build(
    image: Path,
    out: Path,
    system_map: str | None,
    rules: Path | None,
    codecs: str,
    levels: tuple[str, ...],
    in_place: tuple[str, ...],
    leave_out: tuple[str, ...],
    trace: Path | None,
    max_size: str | None,
    dictionary: Any,
    dictionary_size: str | None,
    align: str,
    erased_val: str,
    key: Path | None,
    formats: str | None,
    load_addr: str,
    name: str,
    uf2_family: str | None,
    threads: int | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Build a ROM image of IMAGE: every page compressed by itself, read where it lies."""
    outputs = _paths(_formats(formats, out), out)
    keep_apart([image, trace, key, rules], outputs.values())
    if rules is not None and levels:
        raise click.UsageError("--level and --rules: a rule for the section says the same")
    given = None if rules is None else RuleSet.load(rules)
    options: dict[str, Any] = {
        "name": name,
        "load_address": number(load_addr, "--load-addr"),
        "uf2_family": number(uf2_family, "--uf2-family") if uf2_family else None,
    }
    with (
        open_image(str(image), system_map=system_map, **how) as opened,
        trace_of(trace, opened) if trace else nullcontext() as events,
        stages() as progress,
    ):
        decided = _levels(levels) if levels else decide(opened, given)
        plan = RomPlan(
            codecs=_names(codecs),
            levels=decided,
            in_place=in_place,
            leave_out=leave_out,
            trace=events,
            size_max=max_size,
            dictionary=dictionary,
            dictionary_size=dictionary_size,
            align=align,
            erased_value=number(erased_val, "--erased-val"),
            key=read_private_key(key) if key is not None else None,
        )
        options |= {
            "arch": opened.arch,
            "byteorder": None if opened.arch.endswith("eb") else opened.byteorder,
            "align": opened.page_size if in_place else 8,
        }
        if in_place:
            _refuse_unaligned(options["load_address"], opened.page_size)
        for each in outputs:
            render(b"\0", each, **options)  # so that a wrong option is not found minutes later
        built = build_rom(opened, plan, threads=threads, progress=progress)
        _write(built, outputs, options)
    if as_json:
        print_json(_found(built, outputs))
    else:
        _show(built, outputs)
        if isinstance(decided, PagePolicy):
            show_idle_rules(rules, decided)
