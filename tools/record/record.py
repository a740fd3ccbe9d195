# SPDX-License-Identifier: MIT
"""Record which pages a kernel touches in interrupts and in faults.

    python tools/record/record.py linux-image-VERSION.deb --out-prefix data/NAME

writes NAME-interrupts.trace and NAME-faults.trace, and prints what was seen. README.md says how
it works.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import guest
import numpy as np
import numpy.typing as npt
from guest import CannotRecord
from plan import MARKS, make_plan, read_symbols
from report import Sites, print_report, read_sites

from pagestep import Image
from pagestep.store.trace import TraceWriter

HERE = Path(__file__).resolve().parent
PLUGIN_SOURCES, CLOCK_SOURCES = ("plugin.c", "context.c"), ("still_clock.c",)
EVENT = np.dtype([("time", "<u8"), ("token", "<u4"), ("kind", "<u4")])
MARK, KINDS = 0, {1: "interrupts", 2: "faults"}
LEVEL = 22

Events = npt.NDArray[np.void]


def build_library(target: Path, names: Sequence[str]) -> None:
    """Compile the plugin, or what is preloaded with it."""
    flags = "-std=c11 -O2 -Wall -Wextra -Wpedantic -Werror -fPIC -shared -fvisibility=hidden"
    sources = [str(HERE / name) for name in names]
    guest.run(["cc", *flags.split(), "-o", str(target), *sources])


def record(package: guest.Package, image: Image, scratch: Path) -> tuple[Events, Sites]:
    """Boot twice, first for the symbols; return the events and the executed blocks."""
    scratch = scratch.resolve()
    plugin, clock, files = scratch / "record.so", scratch / "clock.so", scratch / "files.cpio"
    build_library(plugin, PLUGIN_SOURCES)
    build_library(clock, CLOCK_SOURCES)
    files.write_bytes(guest.initial_files(package))
    guest.boot(package, files, scratch / "console-symbols")
    kallsyms = guest.read_symbols(scratch / "console-symbols")
    (scratch / "kallsyms").write_bytes(kallsyms)
    symbols = read_symbols(kallsyms)
    if (image.base, "_text") not in symbols:
        raise CannotRecord(f"_text is not at {image.base:#x}: the guest moved, or has no symbols")
    plan = scratch / "plan"
    plan.write_text(make_plan(symbols, image.page_count * image.page_size))
    events, sites = scratch / "events", scratch / "sites"
    arguments = f"{plugin},plan={plan},events={events},sites={sites}"
    guest.boot(package, files, scratch / "console", guest.Recorder(arguments, clock))
    return np.fromfile(events, dtype=EVENT), read_sites(sites, symbols)


def mark_names(events: Events) -> list[tuple[int, str]]:
    """Return (index of the event, name) of each mark, having seen that none is missing."""
    names = [*MARKS, *guest.phase_names()]
    found = np.flatnonzero(events["kind"] == MARK)
    numbers = [int(number) for number in events["token"][found]]
    if numbers != list(range(len(names))):
        raise CannotRecord(f"the guest reached marks {numbers}, not all of {', '.join(names)}")
    return [(int(index), name) for index, name in zip(found, names, strict=True)]


def write_trace(events: Events, kind: int, image: Image, out: Path) -> None:
    """Write the events of one kind of context, between all marks."""
    with TraceWriter(
        out,
        page_size=image.page_size,
        page_count=image.page_count,
        identity=bytes.fromhex(image.identity),
        level=LEVEL,
    ) as writer:
        done = 0
        for index, name in [*mark_names(events), (len(events), "")]:
            part = events[done:index]
            part = part[part["kind"] == kind]
            token = part["token"]
            writer.events(token >> 2, (token & 3).astype(np.uint8), part["time"])
            if name:
                writer.mark(name)
            done = index
    click.echo(f"{out}: {np.count_nonzero(events['kind'] == kind)} events, {out.stat().st_size} B")


@click.command()
@click.argument("package", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out-prefix", required=True, help="Path of the traces, up to -interrupts.trace.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything between in this folder, consoles and symbols too.",
)
def main(package: Path, out_prefix: str, keep: Path | None) -> None:
    """Record the kernel of PACKAGE, a linux-image of Debian for amd64."""
    with tempfile.TemporaryDirectory(prefix="record-") as folder:
        scratch = keep or Path(folder)
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            unpacked = guest.unpack(package, scratch / "package")
            with Image.open(unpacked.kernel) as image:
                events, sites = record(unpacked, image, scratch)
                for kind, name in KINDS.items():
                    write_trace(events, kind, image, Path(f"{out_prefix}-{name}.trace"))
            print_report(events, mark_names(events), sites)
        except CannotRecord as error:
            click.echo(f"record: {error}", err=True)
            sys.exit(2)


if __name__ == "__main__":
    main()
