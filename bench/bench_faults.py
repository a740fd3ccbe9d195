# SPDX-License-Identifier: MIT
"""Faults of a store's map against swap-in from zram, and the system's other faults.

    python bench/bench_faults.py x86-cloud=vmlinuz

The measuring is bench/c/bench_faults.c; here it gets its image and its swap, and is run as
root and as a user without privilege. Swapping to zram needs root; without it there are times,
but nothing to hold them against. ``vm.page-cluster`` stays as it is: from zram Linux reads no
neighbours along with a page that only one process has.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _harness import PAGE, Kernel, arguments, kernels_of, save, show_table
from _peers import ZRAM_CONTROL, NotHere, run

BINARY = Path(__file__).resolve().parent.parent / "build/bench/bench/c/bench_faults"
PAGE_CLUSTER = Path("/proc/sys/vm/page-cluster")
NOBODY = 65534
SWAP_PRIORITY = 32767
TRIES = 50  # to take a device away that the system has not quite let go of
# What a median may be at most, as a ratio to zram's: single touches, 1,024 pages in their order,
# and the whole image in its order.
LIMITS = {"random": 1.25, "run": 0.45, "scan": 0.45}


@dataclass(frozen=True)
class FaultRow:
    """One result.

    Attributes:
        kernel: The image.
        user: ``"root"``, or whoever runs this, or ``"nobody"``.
        group: Which pattern of touches.
        arm: Who served them.
        samples: Touches, or runs, that were timed.
        p50_ns: Nanoseconds of a touch, or per page of a run, the median.
        p90_ns: Nine in ten took at most that.
        p99_ns: 99 in a hundred did.
        ratio: To zram's in the same pattern, the median over rounds of medians; 0 where there
            is no zram. What finds its page in RAM is held against zram's random swap-in.
        page_cluster: ``vm.page-cluster`` meanwhile.
    """

    kernel: str
    user: str
    group: str
    arm: str
    samples: int
    p50_ns: float
    p90_ns: float
    p99_ns: float
    ratio: float
    page_cluster: int


@contextmanager
def zram_swap(size_bytes: int) -> Generator[None]:
    """Have the system swap to a zram device of its own, lz4, before it swaps to anything else.

    Raises:
        NotHere: It cannot be done here; the text says why.
    """
    try:
        number = (ZRAM_CONTROL / "hot_add").read_text().strip()
    except OSError as error:
        raise NotHere(f"zram: {error.strerror}") from error
    settings, device = Path(f"/sys/block/zram{number}"), Path(f"/dev/zram{number}")
    try:
        try:
            (settings / "comp_algorithm").write_text("lz4")
            (settings / "disksize").write_text(str(size_bytes))
        except OSError as error:
            raise NotHere(f"zram with lz4: {error.strerror}") from error
        run("mkswap", device)
        run("swapon", "--priority", SWAP_PRIORITY, device)
        try:
            yield
        finally:
            run("swapoff", device)
    finally:
        _remove(settings, number)


def _remove(settings: Path, number: str) -> None:
    for left in reversed(range(TRIES)):
        try:
            (settings / "reset").write_text("1")
            (ZRAM_CONTROL / "hot_remove").write_text(number)
        except OSError:
            if not left:
                raise
            time.sleep(0.1)
        else:
            return


@contextmanager
def as_anybody_can(kernel: Kernel, binary: Path) -> Generator[tuple[Path, Path]]:
    """Give copies of the program and of the image's pages that every user may read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        program, flat = folder / binary.name, folder / "image"
        shutil.copy(binary, program)
        program.chmod(0o755)
        flat.write_bytes(kernel.matrix.tobytes())
        flat.chmod(0o644)
        yield program, flat


def measure(kernel: Kernel, binary: Path, rounds: int, *, swap: bool) -> list[FaultRow]:
    """Run the program as each user there is, one after the other."""
    rows: list[FaultRow] = []
    ours = "root" if os.geteuid() == 0 else "a user"
    others: dict[str, dict[str, Any]] = {ours: {}}
    if ours == "root":
        others["nobody"] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    cluster = int(PAGE_CLUSTER.read_text())
    with as_anybody_can(kernel, binary) as (program, flat):
        for user, how in others.items():
            options = ["--rounds", str(rounds), *(["--swap"] if swap else [])]
            command = [str(program), *options, str(flat)]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=False, cwd="/", **how
            )
            if done.returncode:
                sys.exit(f"bench_faults as {user} ended with {done.returncode}")
            found: list[dict[str, Any]] = json.loads(done.stdout)
            rows += [FaultRow(kernel.name, user, page_cluster=cluster, **row) for row in found]
    return rows


def show(rows: list[FaultRow]) -> None:
    """Print a table for each kernel, user and pattern."""
    for kernel, user, group in dict.fromkeys((row.kernel, row.user, row.group) for row in rows):
        mine = [r for r in rows if (r.kernel, r.user, r.group) == (kernel, user, group)]
        limit = f" (limit {LIMITS[group]})" if group in LIMITS else ""
        show_table(
            f"Faults, {group}{limit}, {kernel}, as {user}",
            ("", "samples", "p50, µs", "p90, µs", "p99, µs", "of zram's"),
            [
                (
                    row.arm,
                    f"{row.samples:,}",
                    *(f"{ns / 1000:.2f}" for ns in (row.p50_ns, row.p90_ns, row.p99_ns)),
                    f"{row.ratio:.3f}" if row.ratio else "",
                )
                for row in sorted(mine, key=lambda row: not row.arm.startswith("zram"))
            ],
        )


def _end(number: int, frame: object) -> None:
    sys.exit(f"bench_faults: ended by {signal.Signals(number).name}")


def main() -> None:
    """Run all of it."""
    parser = arguments("Faults of a store's map against swap-in from zram.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--binary", type=Path, default=BINARY, help="bench_faults, built")
    parsed = parser.parse_args()
    if not parsed.binary.exists():
        sys.exit(f"{parsed.binary} is not there: meson compile -C build/bench bench_faults")
    # What was set up is taken down as well when somebody ends this.
    signal.signal(signal.SIGTERM, _end)
    kernels = kernels_of(parsed)
    rows: list[FaultRow] = []
    largest = max(kernel.page_count for kernel in kernels) * PAGE
    try:
        with zram_swap(4 * largest):
            for kernel in kernels:
                rows += measure(kernel, parsed.binary, parsed.rounds, swap=True)
    except NotHere as error:
        print(f"bench_faults: goes on without zram: {error}", file=sys.stderr)
        for kernel in kernels:
            rows += measure(kernel, parsed.binary, parsed.rounds, swap=False)
    show(rows)
    save(parsed.json, rows)


if __name__ == "__main__":
    main()
