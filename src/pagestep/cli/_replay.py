# SPDX-License-Identifier: MIT
"""``pagestep replay``: a trace of page accesses against a store with a budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from pagestep import BadTrace, Image, PageStore, Replay, show_size
from pagestep import replay as run_replay
from pagestep.codecs import filter_for, train_dictionary
from pagestep.codecs.registry import codec_info
from pagestep.store.trace import Block, Trace, generate

from ._inspect import image_options, open_image, symbol_option
from ._output import console, print_json, progress, stages, table
from ._rules import rules_option, show_idle_rules
from ._trace import naming, trace_of

__all__ = ["replay"]

_GENERATED_EVENTS = 2_000_000
_DICTIONARY_BYTES, _DICTIONARY_BYTES_MIN = 64 << 10, 1 << 10
_TIERS = {
    "compressed": "compressed in RAM",
    "same": "one repeated word",
    "rom": "ROM image",
    "disk": "image on disk",
    "swap": "swap file",
    "zero": "never written",
}


def _trace_of(
    path: Path | None, image: Image, seed: int, life: ExitStack
) -> tuple[Iterator[Block], int, str]:
    """Return blocks, the number of events if it is known, and what to call the trace.

    The trace's file is closed with ``life``.
    """
    if path is None:
        made = generate(image.page_count, events=_GENERATED_EVENTS, seed=seed)
        return made, _GENERATED_EVENTS, f"generated, seed {seed}: not a recording"
    trace = life.enter_context(trace_of(path, image))
    with naming(path):
        totals = trace.totals()
    return _blocks(trace, path), totals.event_count if totals else 0, path.name


def _blocks(trace: Trace, path: Path) -> Iterator[Block]:
    with naming(path):
        yield from trace


def _sample_events(events: int) -> int:
    """Return after how many events to look at the store: a short trace has a picture too."""
    return min(max(events // 256, 256), 1 << 16) if events else 1 << 16


def _dictionary(image: Image, wanted: bool) -> bytes:
    if not wanted:
        return b""
    size_bytes = min(_DICTIONARY_BYTES, image.page_count * image.page_size // 16)
    if size_bytes < _DICTIONARY_BYTES_MIN:
        return b""
    with stages() as show:
        show("training a dictionary", 0, 0)
        return train_dictionary(
            image.flat(),
            size_bytes,
            filter=filter_for(image.arch),
            address=image.base,
            page_size=image.page_size,
        )


def _summary(result: Replay, ram: str, trace: str) -> dict[str, Any]:
    stats = result.stats
    if stats is None:
        raise BadTrace(f"{trace}: there is not one access in it")
    return {
        "trace": trace,
        "ram": stats.budget_bytes,
        "events": result.events,
        "verified": result.verified,
        "faults": stats.faults,
        "by_tier": {
            name: {"faults": tier.faults, "bytes": tier.bytes, "seconds": tier.ns / 1e9}
            for name, tier in stats.by_tier.items()
        },
        "page_outs": stats.page_outs,
        "encodes": stats.encodes,
        "encode_seconds": stats.encode_ns / 1e9,
        "discards": stats.discards,
        "resident_bytes_max": stats.used_bytes_max,
        "hot_bytes": stats.hot_bytes,
        "pool_bytes": stats.pool_bytes,
        "metadata_bytes": stats.metadata_bytes,
        "hot_pages": stats.hot_pages,
        "compressed_pages": stats.compressed_pages,
        "same_pages": stats.same_pages,
        "absent_pages": stats.absent_pages,
        "dirty_pages": stats.dirty_pages,
        "given_up_pages": result.given_up,
        "by_level": {
            name: {
                "pages": stats.pages_by_level[name],
                "faults": stats.by_level[name],
                "hot_pages": stats.hot_by_level[name],
            }
            for name in stats.by_level
        },
        "audit": {
            "evictions": stats.audited,
            "held_victims": stats.held_victims,
            "fresh_victims": stats.fresh_victims,
            "shortfalls": list(stats.shortfalls),
        },
    }


def _show(found: dict[str, Any], image: Image, elsewhere: str) -> None:
    console.print(
        f"{found['events']:,} accesses ({found['trace']}), each of the {found['verified']:,} "
        "fetches and reads compared with the image"
    )
    console.print(
        f"{show_size(image.page_count * image.page_size)} of pages in "
        f"{show_size(found['ram'])} of RAM; at most "
        f"{show_size(found['resident_bytes_max'])} were used\n"
    )
    rows = [
        [
            _TIERS[name],
            f"{tier['faults']:,}",
            show_size(tier["bytes"]),
            f"{tier['seconds']:.3f} s",
            f"{tier['seconds'] / tier['faults'] * 1e6:.1f} µs" if tier["faults"] else "",
        ]
        for name, tier in found["by_tier"].items()
        if tier["faults"]
    ]
    faults = found["faults"]
    total = sum(tier["seconds"] for tier in found["by_tier"].values())
    moved = sum(tier["bytes"] for tier in found["by_tier"].values())
    rows.append(["all", f"{faults:,}", show_size(moved), f"{total:.3f} s", ""])
    table("Faults, by where the page was found", ["tier", "faults", "bytes", "time", "each"], rows)
    _show_levels(found)
    console.print(
        f"\n{found['page_outs']:,} pages left a frame; {found['encodes']:,} were "
        f"compressed, in {found['encode_seconds']:.3f} s"
    )
    console.print(
        f"at the end: {found['hot_pages']:,} pages hot, {found['compressed_pages']:,} compressed "
        f"in {show_size(found['pool_bytes'])}, {found['absent_pages']:,} {elsewhere} only, "
        f"{found['same_pages']:,} of one word"
    )


def _show_levels(found: dict[str, Any]) -> None:
    levels = {name: level for name, level in found["by_level"].items() if level["pages"]}
    if len(levels) > 1:
        console.print()
        table(
            "By level",
            ["level", "pages", "faults", "each", "hot at the end"],
            [
                [
                    name,
                    f"{level['pages']:,}",
                    f"{level['faults']:,}",
                    f"{level['faults'] / level['pages']:.2f}",
                    f"{level['hot_pages']:,}",
                ]
                for name, level in levels.items()
            ],
        )
    if found["given_up_pages"]:
        console.print(f"\n{found['given_up_pages']:,} pages were given up when start-up ended")
    audit = found["audit"]
    if audit["evictions"]:
        share = [sum(audit["shortfalls"][:end]) / audit["evictions"] for end in (1, 5, 9)]
        console.print(
            f"\n{audit['evictions']:,} evictions held against all frames: "
            f"{audit['held_victims']:,} of held pages, {audit['fresh_victims']:,} of pages just "
            "come\nthe victim's idle time, times its weight, was the greatest in "
            f"{share[0]:.1%}, above a 16th of it in {share[1]:.1%}, above a 256th in {share[2]:.1%}"
        )


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@image_options
@symbol_option
@rules_option
@click.option(
    "--trace", type=click.Path(path_type=Path), help="A trace of this image; else one is made up."
)
@click.option(
    "--rom", type=click.Path(path_type=Path), help="A ROM image of it, which pages are read from."
)
@click.option("--ram", default="8MiB", show_default=True, help="The budget.")
@click.option(
    "--policy",
    type=click.Choice(["s3fifo", "lru", "random", "worst"]),
    default="s3fifo",
    show_default=True,
    help="Who leaves; random and worst are for tests.",
)
@click.option("--codec", default="lz4", show_default=True, help="Codec of compressed pages.")
@click.option("--codec-level", type=int, help="The codec's level.")
@click.option("--cold-codec", help="A denser one, for pages that stay cold when room is needed.")
@click.option("--dictionary/--no-dictionary", default=True, help="Train one on the image first.")
@click.option(
    "--pool-percent",
    default=25,
    show_default=True,
    help="Of RAM beside tables, for clean compressed pages.",
)
@click.option(
    "--scratch/--no-scratch", default=True, help="Written pages may go to a temporary file."
)
@click.option("--audit", is_flag=True, help="Hold every eviction against all frames.")
@click.option("--seed", default=1, show_default=True, help="For a trace that is made up.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the run into this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def replay(
    image: Path,
    trace: Path | None,
    rom: Path | None,
    rules: Path | None,
    ram: str,
    dictionary: bool,
    seed: int,
    picture: Path | None,
    as_json: bool,
    policy: str,
    codec: str,
    codec_level: int | None,
    cold_codec: str | None,
    audit: bool,
    system_map: str | None,
    pool_percent: int,
    scratch: bool,
    **how: Any,
) -> None:
    """Run a trace of page accesses on a real store, and verify every page against IMAGE."""
    with open_image(str(image), system_map=system_map, **how) as opened, ExitStack() as life:
        blocks, events, called = _trace_of(trace, opened, seed, life)
        with (
            PageStore.open(
                opened,
                rom=rom,
                rules=rules,
                ram=ram,
                policy=policy,
                codec=codec,
                codec_level=codec_level,
                cold_codec=cold_codec,
                dictionary=_dictionary(opened, dictionary and codec_info(codec).takes_dictionary),
                pool_percent=pool_percent,
                timed=True,
                audit=audit,
                scratch=scratch,
            ) as store,
            progress("replay", events) as advance,
        ):
            result = run_replay(
                store, blocks, sample_events=_sample_events(events), progress=advance
            )
        found = _summary(result, ram, called)
        if picture is not None:
            from ._picture import draw_run

            draw_run(result.samples, picture, marks=result.marks)
        if as_json:
            print_json(found)
        else:
            _show(found, opened, "on disk" if rom is None else "in ROM or on disk")
            if store.policy is not None:
                show_idle_rules(rules, store.policy)
            if picture is not None:
                console.print(f"\npicture of the run: {picture}")
