# SPDX-License-Identifier: MIT
"""Fetch the kernels that tests and the demo work on, with apt, without root.

    python tools/fetch_kernel.py x86-cloud marvell

prints the path of each kernel. What is fetched stays in .cache/kernels, with the
package lists: the system's sources are used, its state is not touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "kernels"
TIMEOUT_S = 600


class CannotFetch(Exception):
    """A kernel cannot be fetched here; the text says why."""


@dataclass(frozen=True)
class Kernel:
    """A kernel by the name of the Debian package that depends on its newest version."""

    package: str
    architecture: str


KERNELS = {
    "x86-cloud": Kernel("linux-image-cloud-amd64", "amd64"),
    "marvell": Kernel("linux-image-marvell", "armel"),
}


def fetch(name: str, cache: Path = CACHE) -> Path:
    """Return the path of a kernel, fetched unless the cache has it.

    Args:
        name: One of ``KERNELS``.
        cache: The folder that keeps kernels and package lists.

    Returns:
        The path of ``boot/vmlinuz-*`` as Debian ships it.

    Raises:
        CannotFetch: There is no apt, no network, or no such package.
    """
    if name not in KERNELS:
        raise CannotFetch(f"no kernel is called {name!r}: there are {', '.join(KERNELS)}")
    place = cache / name
    if not place.is_dir():
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise CannotFetch(f"{name}: needs {tool} of Debian, which is not here")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=cache) as scratch:
            unpacked = _download(KERNELS[name], cache / "apt", Path(scratch))
            try:
                unpacked.rename(place)  # whole or not at all
            except OSError:
                if not place.is_dir():  # else another process was first
                    raise
    found = sorted(place.glob("boot/vmlinuz-*"))
    if not found:
        raise CannotFetch(f"{place} holds no boot/vmlinuz-*: delete it, and fetch again")
    return found[-1]


def _download(kernel: Kernel, apt: Path, scratch: Path) -> Path:
    options = _apt_options(kernel.architecture, apt / kernel.architecture)
    # An index that this architecture lacks makes update fail, and is no matter.
    update = _run(["apt-get", *options, "update"], check=False)
    package = _newest(kernel, options)
    if package is None:
        raise CannotFetch(
            f"apt finds no {kernel.package} for {kernel.architecture}: no network, or the system's "
            f"sources have no Debian with it: {_last_line(update)}"
        )
    _run(["apt-get", *options, "download", f"{package}:{kernel.architecture}"], cwd=scratch)
    archives = list(scratch.glob("*.deb"))
    if len(archives) != 1:
        raise CannotFetch(f"apt-get download {package} left {len(archives)} files, not one")
    unpacked = scratch / "unpacked"
    _run(["dpkg-deb", "-x", str(archives[0]), str(unpacked)])
    for path in unpacked.iterdir():
        if path.name != "boot":
            shutil.rmtree(path)  # modules and documents, four fifths of it
    return unpacked


def _apt_options(architecture: str, state: Path) -> list[str]:
    lists, archives = state / "lists", state / "archives"
    for folder in (lists, archives):
        (folder / "partial").mkdir(parents=True, exist_ok=True)
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Get::List-Cleanup": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "30",
        "Acquire::https::Timeout": "30",
        "Dir::State::Lists": str(lists),
        "Dir::State::status": "/dev/null",
        "Dir::Cache": str(state),
        "APT::Sandbox::User": "",  # as root, apt would hand the folders to its own user
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _newest(kernel: Kernel, options: list[str]) -> str | None:
    shown = _run(["apt-cache", *options, "depends", kernel.package], check=False)
    match = re.search(r"^\s*Depends: (linux-image-\d\S*)$", shown.stdout, re.MULTILINE)
    return match[1] if match else None


def _run(
    command: list[str], *, cwd: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotFetch(f"{command[0]}: {error}") from error
    if check and done.returncode:
        raise CannotFetch(f"{command[0]} {command[-1]} failed: {_last_line(done)}")
    return done


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"it ended with {done.returncode} and said nothing"


def main(names: list[str]) -> int:
    """Print the path of each kernel named, of all without names; 1 where one is missing."""
    status = 0
    for name in names or list(KERNELS):
        try:
            print(fetch(name))
        except CannotFetch as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
