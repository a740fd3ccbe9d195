# SPDX-License-Identifier: MIT
"""Convert a recording of a booting kernel, made by a QEMU plugin, into a pagestep trace.

The recording is zstd of a numpy ``savez``: ``dt`` uint32 (instructions since the event before),
``page_lo`` uint8 and ``page_hi`` uint16 (page number in 4 KiB from the kernel's ``_text``) and
``kind`` uint8 (0 fetch, 1 read, 2 write); beside it a text file of phases, a line each of
instruction count, event index and name.

Pages beyond the image (bss, modules) have no bytes in it that a replay could verify: their events
are dropped, and their number is printed. Their time goes to the next event.
"""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import zstandard

from pagestep import Image
from pagestep.store.trace import TraceWriter

PAGE_SIZE = 4096
RECORDING_SIZE_MAX = 1 << 30


def read_recording(
    path: Path,
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
    """Return the pages, kinds and absolute times of a recording."""
    with path.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as plain:
        raw = plain.read(RECORDING_SIZE_MAX)
    arrays = np.load(io.BytesIO(raw))
    pages = arrays["page_lo"].astype(np.uint32) | arrays["page_hi"].astype(np.uint32) << 8
    return pages, arrays["kind"], np.cumsum(arrays["dt"], dtype=np.uint64)


def read_phases(path: Path) -> list[tuple[int, str]]:
    """Return (event index, name) of every phase."""
    lines = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    return [(int(event), name) for _, event, name in lines]


@click.command()
@click.argument("recording", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--phases", type=click.Path(exists=True, path_type=Path), required=True)
@click.option(
    "--image",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="The kernel that was recorded, as distributed.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True)
@click.option("--after", default=None, help="Begin at this phase.")
@click.option("--events", type=int, default=None, help="Stop after so many events of the image.")
@click.option("--level", default=22, show_default=True, help="zstd level.")
def main(
    recording: Path,
    phases: Path,
    image: Path,
    out: Path,
    after: str | None,
    events: int | None,
    level: int,
) -> None:
    """Convert RECORDING into a trace for the image that it was made on."""
    with Image.open(image) as opened:
        page_count, identity = opened.page_count, bytes.fromhex(opened.identity)
    pages, kinds, times = read_recording(recording)
    marks = read_phases(phases)
    begin = 0 if after is None else {name: event for event, name in marks}[after]

    (kept,) = np.nonzero(pages < page_count)
    dropped = len(pages) - len(kept)
    kept = kept[kept >= begin][:events]
    end = len(pages) if events is None else int(kept[-1]) + 1
    pages, kinds, times = pages[kept], kinds[kept], times[kept]
    with TraceWriter(
        out,
        page_size=PAGE_SIZE,
        page_count=page_count,
        identity=identity,
        level=level,
    ) as writer:
        done = 0
        for event, name in marks:
            if begin <= event < end:
                until = int(np.searchsorted(kept, event))
                writer.events(pages[done:until], kinds[done:until], times[done:until])
                writer.mark(name)
                done = until
        writer.events(pages[done:], kinds[done:], times[done:])
    click.echo(
        f"{out}: {len(kept)} events, {out.stat().st_size} bytes; image of {page_count} pages; "
        f"the recording has {dropped} events on pages beyond it"
    )


if __name__ == "__main__":
    main()
