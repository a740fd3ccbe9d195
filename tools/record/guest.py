# SPDX-License-Identifier: MIT
"""The recorded guest: its kernel package, its initial file system, and QEMU that runs it."""

from __future__ import annotations

import base64
import gzip
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
INIT = HERE / "init.sh"
MODULES = ("loop", "dummy", "squashfs", "zram", "lzo-rle")
MEMORY_MIB = 96
TIMEOUT_S = 3600
KERNEL_LINE = "console=ttyS0 nokaslr quiet panic=-1"
# Time is instructions, the clock and every seed are fixed: two runs are the same.
MACHINE = (
    "qemu-system-x86_64 -nodefaults -display none -no-reboot -machine pc -cpu qemu64 -smp 1 "
    "-accel tcg,thread=single -seed 1 -rtc base=2026-01-01T00:00:00,clock=vm"
)
COUNTED = "-icount shift=0,sleep=off,align=off"


class CannotRecord(Exception):
    """A recording cannot be made; the text says why."""


@dataclass(frozen=True)
class Package:
    """An unpacked kernel package: where its kernel and its modules are."""

    kernel: Path
    modules: Path


@dataclass(frozen=True)
class Recorder:
    """What QEMU is given to record with: ``-plugin``'s argument, and a library to preload."""

    plugin: str
    preload: Path


def unpack(package: Path, scratch: Path) -> Package:
    """Unpack Debian's kernel package into a scratch folder."""
    run(["dpkg-deb", "-x", str(package), str(scratch)])
    kernels = sorted(scratch.glob("boot/vmlinuz-*"))
    if len(kernels) != 1:
        raise CannotRecord(f"{package} holds {len(kernels)} boot/vmlinuz-*, not one: give another")
    version = kernels[0].name.removeprefix("vmlinuz-")
    for modules in (scratch / "lib/modules" / version, scratch / "usr/lib/modules" / version):
        if modules.is_dir():
            return Package(kernels[0], modules)
    raise CannotRecord(f"{package} has no modules of {version}: give the signed image's package")


def phase_names() -> list[str]:
    """Return the names of the workload's phases, in order."""
    return re.findall(r"^mark (\w+)$", INIT.read_text(), re.MULTILINE)


def initial_files(package: Package) -> bytes:
    """Return an initial file system with BusyBox, the modules, and our first process."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise CannotRecord("there is no busybox: install the package busybox-static")
    found = {path.stem: path for path in package.modules.rglob("*.ko")}
    wanted: dict[str, list[str]] = {}
    for name in MODULES:
        _with_needs(name, found, wanted)
    folder = f"lib/modules/{package.modules.name}"
    needs = "".join(
        f"{name}.ko: {' '.join(f'{need}.ko' for need in reversed(before))}\n"
        for name, before in wanted.items()
    )
    archive = _Archive()
    for parent in ("bin", "dev", "lib", "lib/modules", folder):
        archive.add(parent, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, Path(busybox).read_bytes())
    archive.add("init", stat.S_IFREG | 0o755, INIT.read_bytes())
    archive.add(f"{folder}/modules.dep", stat.S_IFREG | 0o644, needs.encode())
    for name in wanted:
        archive.add(f"{folder}/{name}.ko", stat.S_IFREG | 0o644, found[name].read_bytes())
    return archive.end()


def _with_needs(name: str, found: dict[str, Path], wanted: dict[str, list[str]]) -> list[str]:
    """Add a module and what it needs to ``wanted``; return all of it, what comes first first."""
    if name in wanted:
        return [*wanted[name], name]
    path = found.get(name) or found.get(name.replace("_", "-"))
    if path is None:
        raise CannotRecord(f"the package has no {name}.ko: change MODULES in {__file__}")
    depends = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
    needs: list[str] = []
    for need in (depends[1] if depends else b"").decode().split(","):
        if need:
            needs += [each for each in _with_needs(need, found, wanted) if each not in needs]
    wanted[path.stem] = needs
    return [*needs, path.stem]


class _Archive:
    """A cpio archive of the "newc" kind, as the kernel unpacks it; times and owners are 0."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def add(
        self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        self._count += 1
        path = name.encode() + b"\0"
        fields = (self._count, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (header + path, content):
            self._parts.append(part + bytes(-len(part) % 4))

    def end(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)


def boot(package: Package, files: Path, console: Path, recorder: Recorder | None = None) -> None:
    """Run the guest until it turns itself off.

    Args:
        package: The kernel.
        files: Its initial file system.
        console: Where its console's output goes.
        recorder: What records; None: only ask for the symbols.
    """
    command = [*MACHINE.split(), "-m", str(MEMORY_MIB), "-kernel", str(package.kernel)]
    command += ["-initrd", str(files), "-serial", f"file:{console}"]
    if recorder is None:
        run([*command, "-append", f"{KERNEL_LINE} record.symbols"])
    else:
        command += ["-append", KERNEL_LINE, *COUNTED.split(), "-plugin", recorder.plugin]
        run(command, {"LD_PRELOAD": str(recorder.preload)})


def read_symbols(console: Path) -> bytes:
    """Return /proc/kallsyms, which the guest wrote to its console."""
    found = re.search(rb"SYMBOLS BEGIN\s+(.*?)\s+SYMBOLS END", console.read_bytes(), re.DOTALL)
    if found is None:
        raise CannotRecord(f"the guest wrote no symbols: see {console}")
    return gzip.decompress(base64.b64decode(found[1]))


def run(command: list[str], more: Mapping[str, str] | None = None) -> None:
    """Run a command to its end, with ``more`` in its environment."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(more or {})},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotRecord(f"{command[0]}: {error}") from error
    if done.returncode:
        raise CannotRecord(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
