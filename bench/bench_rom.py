# SPDX-License-Identifier: MIT
"""ROM images beside read-only file systems: sizes, cold random reads, time to build.

    python bench/bench_rom.py x86-cloud=vmlinuz marvell=zImage

The file systems hold one file, the flat image. All of them, and the ROMs, lie in RAM. What this
machine cannot make or mount is named and left out. Wants root, for mounts.
"""

from __future__ import annotations

import filecmp
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from _harness import (
    BATCH,
    PAGE,
    SEED,
    Arm,
    Kernel,
    Pages,
    Row,
    arguments,
    compare,
    kernels_of,
    save,
    show_rows,
    show_table,
)
from _peers import DEVICES, FILE, ColdFile, NotHere, Peer, make, mounted, opened, peers, run

from pagestep import Image, Rom, RomPlan, build_rom

RAM = Path("/dev/shm")
# What the command is told for each ROM; NORMAL is what it builds unless told otherwise.
ROMS: dict[str, tuple[str, ...]] = {"NORMAL": (), "LZ4": ("--codecs", "lz4")}
PLANS = {"NORMAL": RomPlan(), "LZ4": RomPlan(codecs=("lz4",))}
SIZE_TARGETS = {
    ("x86-cloud", "NORMAL"): 9_950_000,
    ("x86-cloud", "LZ4"): 13_300_000,
    ("marvell", "NORMAL"): 3_560_000,
    ("marvell", "LZ4"): 4_360_000,
}
READ_TARGETS = {"NORMAL": "SquashFS zstd at least 4", "LZ4": "EROFS at least 5"}
BUILT_AGAINST = ("SquashFS xz", "SquashFS xz, branch filter")
COLD_SHARE_MIN = 0.95

T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    """One total.

    Attributes:
        kernel: The image.
        arm: Who made it.
        total_bytes: Of the file, everything counted.
        image_bytes: Of the image, uncompressed.
        target_bytes: What the total has to be at most; 0 where none is set.
    """

    kernel: str
    arm: str
    total_bytes: int
    image_bytes: int
    target_bytes: int


def left_out(what: str, why: object) -> None:
    """Say so, and go on."""
    print(f"left out: {what}: {why}", flush=True)


def had(name: str, action: Callable[[T], object], what: T) -> bool:
    """Do it to ``what``, or say why it is left out."""
    try:
        action(what)
    except NotHere as reason:
        left_out(name, reason)
        return False
    return True


class Made:
    """What one kernel's comparisons work on, in a folder that lies in RAM."""

    def __init__(self, kernel: Kernel, place: Path) -> None:
        """Make every file system and ROM that can be had."""
        self.kernel = kernel
        self.place = place
        self.source = place / "source"
        self.source.mkdir()
        kernel.matrix.tofile(self.source / FILE)
        for which in ROMS:
            self.build(which)
        self.peers = [peer for peer in peers(kernel.filter) if had(peer.name, self.make, peer)]

    def build(self, which: str) -> None:
        """Build a ROM by the library, from the bootable file."""
        with Image.open(self.kernel.path, page_size=PAGE) as image:
            self.rom(which).write_bytes(build_rom(image, PLANS[which]).data)

    def command(self, which: str) -> None:
        """Build a ROM by the command.

        Raises:
            NotHere: The command failed.
            RuntimeError: It does not write what the library builds.
        """
        rom = self.place / "command.rom"
        command = Path(sys.executable).with_name("pagestep")
        run(command, "rom", "build", self.kernel.path, "-o", rom, *ROMS[which])
        if not filecmp.cmp(rom, self.rom(which), shallow=False):
            raise RuntimeError(f"the command and the library build two different ROMs {which}")

    def make(self, peer: Peer) -> None:
        """Make a file system.

        Raises:
            NotHere: It cannot be made here.
        """
        make(peer, self.source, self.file_system(peer))

    def rom(self, which: str) -> Path:
        """Return where a ROM lies."""
        return self.place / f"{which}.rom"

    def file_system(self, peer: Peer) -> Path:
        """Return where a file system lies."""
        return self.place / f"{peer.name}.image".replace(" ", "-")

    def sizes(self) -> list[Size]:
        """Return all totals, the ROMs first."""
        kernel = self.kernel
        files = {f"ROM {which}": self.rom(which) for which in ROMS}
        files |= {peer.name: self.file_system(peer) for peer in self.peers}
        targets = {f"ROM {rom}": size for (name, rom), size in SIZE_TARGETS.items()
                   if name == kernel.name}  # fmt: skip
        return [
            Size(kernel.name, arm, path.stat().st_size, kernel.matrix.nbytes, targets.get(arm, 0))
            for arm, path in files.items()
        ]


def spread_order(kernel: Kernel) -> Pages:
    """Return page numbers in chunks of ``BATCH``, random, each page once at most.

    The pages of a chunk lie far apart: what a file system decodes with one of them and keeps, such
    as the rest of its cluster, is none that the chunk reads.
    """
    generator = np.random.default_rng(SEED)
    stride = len(kernel.distinct) // BATCH
    chunks = [
        generator.permutation(kernel.distinct[first::stride][:BATCH])
        for first in generator.permutation(stride)
    ]
    return np.concatenate(chunks)


def single_reads(order: Pages, read: Callable[[int], object]) -> Callable[[int, int, int], None]:
    """Return what reads one page after the other."""
    numbers: list[int] = order.tolist()

    def run(first: int, count: int, thread_no: int) -> None:
        for page_no in numbers[first : first + count]:
            read(page_no)

    return run


def check_cold(name: str, file: ColdFile, way: str, kernel: Kernel, order: Pages) -> None:
    """Compare every page of the order with the image, and see that reads are cold.

    Raises:
        RuntimeError: A page differs, or too many of them were in the page cache.
    """
    read, cold = file.way(way), 0
    for at, page_no in enumerate(order.tolist()):
        if at % BATCH == 0:
            file.drop()
        cold += not file.resident(page_no, 1)
        read(page_no)
        if bytes(file.buffer) != kernel.matrix[page_no].tobytes():
            raise RuntimeError(f"{name} gives other bytes for page {page_no}")
    if cold < COLD_SHARE_MIN * len(order):
        raise RuntimeError(f"{name}: only {cold} of {len(order)} reads were cold")


def peer_arms(made: Made, peer: Peer, order: Pages, stack: ExitStack) -> list[Arm]:
    """Mount a file system in every way, for as long as the stack lives, and check it."""
    arms: list[Arm] = []
    for device_name, device_of in DEVICES.items():
        for suffix, options in peer.mounts:
            name = f"{peer.name}{suffix}, {device_name}"
            try:
                device = stack.enter_context(device_of(made.file_system(peer)))
                place = made.place / f"mount-{device.name}"
                file = stack.enter_context(mounted(peer, options, device, place))
            except NotHere as reason:
                left_out(f"reads from {name}", reason)
                continue
            for way in peer.ways:
                check_cold(f"{name}, {way}", file, way, made.kernel, order)
                arms.append(
                    Arm(f"{name}, {way}", single_reads(order, file.way(way)), before=file.drop)
                )
    return arms


def rom_arms(made: Made, which: str, order: Pages, stack: ExitStack) -> list[Arm]:
    """Open a ROM for as long as the stack lives, and compare its pages with the image."""
    kernel = made.kernel
    rom = stack.enter_context(Rom.open(made.rom(which)))
    pages = np.empty_like(kernel.matrix)
    rom.read_into(np.arange(kernel.page_count, dtype=np.uint64), pages)
    if not np.array_equal(pages, kernel.matrix):
        raise RuntimeError(f"the {which} ROM gives other bytes than the image")
    out = np.empty((BATCH, PAGE), dtype=np.uint8)

    def batch(first: int, count: int, thread_no: int) -> None:
        for at in range(first, first + count, BATCH):
            rom.read_into(order[at : at + BATCH], out)

    return [
        Arm(f"ROM {which}, read", single_reads(order, rom.read)),
        Arm(f"ROM {which}, read_into, {BATCH}", batch),
    ]


def reads(made: Made, which: str, rounds: int) -> list[Row]:
    """Compare a ROM's reads with those of its peers, all mounted at once."""
    kernel, order = made.kernel, spread_order(made.kernel)
    with ExitStack() as stack:
        arms = rom_arms(made, which, order, stack)
        bare = stack.enter_context(opened(made.source / FILE))
        arms.append(Arm("uncompressed, in the page cache, pread", single_reads(order, bare.pread)))
        for peer in made.peers:
            if peer.rom == which:
                arms += peer_arms(made, peer, order, stack)
        group = f"Cold random reads, ROM {which} and peers (target: {READ_TARGETS[which]})"
        return compare(kernel.name, group, arms, chunk=BATCH, rounds=rounds, order_size=len(order))


def builds(made: Made, rounds: int) -> list[Row]:
    """Compare the time to build a ROM with that of a file system, whole commands."""
    kernel = made.kernel

    def arm(name: str, action: Callable[[T], None], what: T) -> Arm:
        return Arm(name, lambda first, count, thread_no: action(what))

    arms = [arm(peer.name, made.make, peer) for peer in made.peers if peer.name in BUILT_AGAINST]
    for which in ROMS:
        arms.append(arm(f"ROM {which}, library", made.build, which))
        if had(f"ROM {which}, command", made.command, which):
            arms.append(arm(f"ROM {which}, command", made.command, which))
    # The chunk is the whole image.
    pages = kernel.page_count
    return compare(kernel.name, "Time to build", arms, chunk=pages, rounds=rounds, order_size=pages)


def show_sizes(kernel: Kernel, sizes: Sequence[Size]) -> None:
    """Print a table."""
    show_table(
        f"ROM images and peers, {kernel.name}, {kernel.matrix.nbytes:,} bytes uncompressed",
        ("", "total", "of the image", "target"),
        [
            (
                size.arm,
                f"{size.total_bytes:,}",
                f"{size.total_bytes / size.image_bytes:.3f}",
                f"{size.target_bytes:,}" if size.target_bytes else "",
            )
            for size in sizes
        ],
    )


def show_builds(kernel: Kernel, rows: Sequence[Row]) -> None:
    """Print a table, in seconds for the image."""
    show_table(
        f"Time to build, {kernel.name} (target: a ROM NORMAL below 1)",
        ("", "seconds", "ratio"),
        [(row.arm, f"{row.us * kernel.page_count / 1e6:.2f}", f"{row.ratio:.3f}") for row in rows],
    )


def main() -> None:
    """Run all of it."""
    parser = arguments("ROM images beside read-only file systems.")
    parser.add_argument("--rounds", type=int, default=60, help="of reads")
    parser.add_argument("--builds", type=int, default=3, help="rounds of building")
    parsed = parser.parse_args()
    # So that mounts are undone then, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    results: list[Size | Row] = []
    for kernel in kernels_of(parsed):
        ram = RAM if RAM.is_dir() else None
        if ram is None:
            print(f"there is no {RAM}: files lie in {tempfile.gettempdir()}, perhaps not in RAM")
        place = Path(tempfile.mkdtemp(prefix="pagestep-rom-", dir=ram))
        try:
            made = Made(kernel, place)
            sizes = made.sizes()
            show_sizes(kernel, sizes)
            read = [row for which in ROMS for row in reads(made, which, parsed.rounds)]
            show_rows(read)
            built = builds(made, parsed.builds)
            show_builds(kernel, built)
        finally:
            shutil.rmtree(place)
        results += [*sizes, *read, *built]
    save(parsed.json, results)


if __name__ == "__main__":
    main()
