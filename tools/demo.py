# SPDX-License-Identifier: MIT
"""``make demo``: a real kernel runs out of 8 MiB, and becomes a ROM image.

Takes the first of these that can be read, and says which and why:

1. the file that ``KERNEL`` names (``make demo KERNEL=/boot/vmlinuz``); no other is tried then;
2. Debian's cloud kernel, fetched by package name into .cache/kernels;
3. the running machine's /boot/vmlinuz*;
4. the largest ELF file under /usr/lib and /opt that is not above 64 MiB.

The recorded trace in data/ is replayed where it was made on that very image, under the rules
for it in examples/rules, which are checked before; else a generated trace, with no rules. The
picture goes to out/demo.png, the ROM image to out/demo.rom.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fetch_kernel import CannotFetch, fetch
from pagestep import Image, PageStepError
from pagestep.cli import main as pagestep
from pagestep.store.trace import Trace

ROOT = Path(__file__).resolve().parent.parent
TRACE = ROOT / "data" / "x86-cloud-boot.trace"
RULES = ROOT / "examples" / "rules" / "debian-x86-seen.toml"
CONTEXTS = ("x86-cloud-interrupts.trace", "x86-cloud-faults.trace")
PICTURE = ROOT / "out" / "demo.png"
ROM = ROOT / "out" / "demo.rom"
RAM = 8 << 20
RAM_MIN = 2 << 20
RAM_SHARE = 4  # a smaller image gets a quarter of itself, else all of it would fit
ELF_FOLDERS = (Path("/usr/lib"), Path("/opt"))
ELF_SIZE_MAX = 64 << 20  # larger ones keep a newcomer waiting for a minute
ELF_TRIES = 5
SEARCH_SECONDS_MAX = 10.0


@dataclass(frozen=True)
class Candidate:
    """A file that may serve as the demo's image."""

    path: Path
    why: str


def candidates(skipped: list[str]) -> Iterator[Candidate]:
    """Yield what may be taken, best first; what cannot be had goes to ``skipped``."""
    given = os.environ.get("KERNEL")
    if given:
        yield Candidate(Path(given), "given by KERNEL")
        return
    try:
        yield Candidate(fetch("x86-cloud"), "Debian's cloud kernel, fetched by package name")
    except CannotFetch as error:
        skipped.append(str(error))
    running = Path(f"/boot/vmlinuz-{platform.release()}")
    kernels = sorted(Path("/boot").glob("vmlinuz*"), reverse=True)
    for path in sorted(kernels, key=lambda path: path != running):
        yield Candidate(path, "a kernel of this machine")
    for path in largest_elf_files():
        yield Candidate(path, f"the largest ELF file under {' and '.join(map(str, ELF_FOLDERS))}")


def largest_elf_files() -> list[Path]:
    """Return a few ELF files, the largest first; stops looking after some seconds."""
    deadline = time.monotonic() + SEARCH_SECONDS_MAX
    found: list[tuple[int, Path]] = []
    for top in ELF_FOLDERS:
        for folder, _, names in os.walk(top):
            if time.monotonic() > deadline:
                break
            for name in names:
                path = Path(folder, name)
                try:
                    size = path.stat().st_size
                except OSError:
                    continue
                if path.is_file() and not path.is_symlink() and size <= ELF_SIZE_MAX:
                    found.append((size, path))
    elves: list[Path] = []
    for _, path in sorted(found, reverse=True):
        if is_elf(path):
            elves.append(path)
            if len(elves) == ELF_TRIES:
                break
    return elves


def is_elf(path: Path) -> bool:
    """Say whether a file begins as ELF files do."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def choose() -> tuple[Candidate, list[str], int, str]:
    """Return the image, what could not be had before it, its bytes, and why no trace fits it.

    Raises:
        SystemExit: Nothing can be read.
    """
    skipped: list[str] = []
    for candidate in candidates(skipped):
        try:
            with Image.open(candidate.path) as image:
                return candidate, skipped, image.page_count * image.page_size, misfit(image)
        except (PageStepError, OSError) as error:
            skipped.append(" ".join(str(error).split()))
    print(f"demo: no image can be read: {'; '.join(skipped)}", file=sys.stderr)
    raise SystemExit(1)


def misfit(image: Image) -> str:
    """Return why the recorded trace is not of this image; empty where it is."""
    with Trace.open(TRACE) as trace:
        return trace.misfit(image)


def shown(path: Path) -> str:
    """Return a path as a reader in this folder would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def run(*words: str) -> None:
    """Run a command of pagestep; one that fails has said why, and ends the demo."""
    status = pagestep.main(list(words), prog_name="pagestep", standalone_mode=False)
    if status:
        raise SystemExit(status)


def main() -> None:
    """Choose an image, show and check it, replay a boot in little RAM, build a ROM image."""
    chosen, skipped, size, other = choose()
    print(f"image: {shown(chosen.path)} ({'; '.join([chosen.why, *skipped])})\n", flush=True)
    rules = [] if other else ["--rules", shown(RULES)]
    run("inspect", str(chosen.path), *rules)
    if rules:
        print(flush=True)
        seen = [shown(ROOT / "data" / name) for name in CONTEXTS]
        traces = [word for path in seen for word in ("--interrupt-trace", path)]
        run("check", str(chosen.path), *rules, *traces)

    ram = RAM if size >= RAM_SHARE * RAM else max(RAM_MIN, size // RAM_SHARE)
    words = ["replay", str(chosen.path), "--ram", str(ram), "--picture", shown(PICTURE)]
    if other:
        print(f"\nThe recorded trace is not of this image, so one is generated. ({other})")
    else:
        words += ["--trace", str(TRACE), *rules]
    PICTURE.parent.mkdir(exist_ok=True)
    print(flush=True)
    run(*words)
    print(flush=True)
    run("rom", "build", str(chosen.path), "-o", shown(ROM))
    run("rom", "verify", shown(ROM))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has had enough
    except KeyboardInterrupt:
        raise SystemExit(130) from None
