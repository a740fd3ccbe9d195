# SPDX-License-Identifier: MIT
"""Read-only file systems with one compressed file, made, mounted, and read cold.

Making one needs its tool (squashfs-tools, erofs-utils, util-linux-extra), mounting it root. What
cannot be had raises ``NotHere``, whose text says why; what was mounted or set up is undone
whatever happens.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _harness import PAGE

CPUS = len(os.sched_getaffinity(0))
FILE = "image"  # what the one file is called
ZRAM_CONTROL = Path("/sys/class/zram-control")
# The names that mksquashfs has for branch filters.
BCJ = {"x86": "x86", "arm": "arm", "thumb": "armthumb"}

_libc: Any = ctypes.CDLL(None, use_errno=True)


class NotHere(Exception):
    """Something cannot be had on this machine; the text says why."""


@dataclass(frozen=True)
class Peer:
    """A file system that is compared.

    Attributes:
        name: As results call it.
        kind: As mount calls it.
        command: What makes it; ``{source}`` is a folder with the file, ``{target}`` the result.
        rom: Which ROM it is held against, ``"NORMAL"`` or ``"LZ4"``.
        mounts: What is added to the name, and the options of mount, for each way to mount it.
        ways: How its pages are read: ``"pread"``, ``"mapped"``.
        file_bytes_max: It takes no larger file; 0 for no limit that matters here.
    """

    name: str
    kind: str
    command: str
    rom: str = "NORMAL"
    mounts: tuple[tuple[str, str], ...] = (("", ""),)
    ways: tuple[str, ...] = ("pread",)
    file_bytes_max: int = 0


def peers(filter_name: str) -> list[Peer]:
    """Return all of them, for an image with that branch filter."""

    def squashfs(name: str, options: str, rom: str = "NORMAL") -> Peer:
        # Linux reads a page through pread by readahead, which takes the next block along with
        # it, needed or not. A page that is mapped comes alone: so both are shown.
        command = (
            f"mksquashfs {{source}} {{target}} -b {PAGE} {options} -noappend -no-xattrs "
            f"-no-exports -no-progress -quiet -processors {CPUS}"
        )
        return Peer(f"SquashFS {name}", "squashfs", command, rom, ways=("mapped", "pread"))

    def erofs(name: str, options: str, rom: str = "NORMAL") -> Peer:
        # Unless told otherwise it keeps the compressed bytes that it once read, beside those
        # on the device, for as long as there is RAM: not cold, and so a row of its own.
        command = f"mkfs.erofs {options} -C{PAGE} {{target}} {{source}}"
        mounts = (("", "cache_strategy=disabled"), (", compressed bytes cached", ""))
        return Peer(f"EROFS {name}", "erofs", command, rom, mounts)

    found = [squashfs("xz", "-comp xz")]
    if filter_name in BCJ:
        found.append(
            squashfs("xz, branch filter", f"-comp xz -Xbcj {BCJ[filter_name]}"),
        )
    return [
        *found,
        squashfs("zstd 22", "-comp zstd -Xcompression-level 22"),
        squashfs("lz4hc", "-comp lz4 -Xhc", rom="LZ4"),
        erofs("lz4hc 12", "-zlz4hc,12", rom="LZ4"),
        erofs("zstd 22", "-zzstd,22"),
        erofs("lzma 9", "-zlzma,9"),
        # mkfs.cramfs cuts larger files off, and says that all is well.
        Peer("cramfs", "cramfs", "mkfs.cramfs {source} {target}", file_bytes_max=(16 << 20) - 1),
    ]


def run(*command: object) -> str:
    """Run a command and return what it prints.

    Raises:
        NotHere: There is no such command, or it failed.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise NotHere(f"{words[0]}: {error.strerror}") from error
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise NotHere(f"{words[0]} failed: {said[0] if said else done.returncode}")
    return done.stdout


def make(peer: Peer, source: Path, target: Path) -> None:
    """Make the file system.

    Args:
        peer: Which.
        source: A folder that holds ``FILE``.
        target: Written anew.

    Raises:
        NotHere: Its tool is not here, or does not know this compressor or so large a file.
    """
    size = (source / FILE).stat().st_size
    if 0 < peer.file_bytes_max < size:
        raise NotHere(f"it takes no file of more than {peer.file_bytes_max:,} bytes")
    run(*(word.format(source=source, target=target) for word in peer.command.split()))


@contextmanager
def loop_device(file_system: Path) -> Generator[Path]:
    """Give a file as a block device: a kernel thread of its own reads for whoever reads."""
    device = Path(run("losetup", "--find", "--show", "--read-only", file_system).strip())
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextmanager
def zram_device(file_system: Path) -> Generator[Path]:
    """Give a file's bytes as a block device that the reader's own thread copies from.

    zram keeps a page that hardly shrinks as it is, and these are compressed already.
    """
    try:
        number = (ZRAM_CONTROL / "hot_add").read_text().strip()
    except OSError as error:
        raise NotHere(f"zram: {error.strerror}") from error
    settings, device = Path(f"/sys/block/zram{number}"), Path(f"/dev/zram{number}")
    try:
        content = file_system.read_bytes()
        content += bytes(-len(content) % PAGE)
        (settings / "disksize").write_text(str(len(content)))
        with device.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        yield device
    finally:
        (settings / "reset").write_text("1")
        (ZRAM_CONTROL / "hot_remove").write_text(number)


DEVICES = {"loop": loop_device, "zram": zram_device}


@contextmanager
def mounted(peer: Peer, options: str, device: Path, place: Path) -> Generator[ColdFile]:
    """Mount a file system on ``place``, which is made, and open its file.

    Raises:
        NotHere: This system does not mount it.
    """
    place.mkdir()
    try:
        run("mount", "-t", peer.kind, "-o", f"ro,{options}".rstrip(","), device, place)
        try:
            with opened(place / FILE) as file:
                yield file
        finally:
            run("umount", place)
    finally:
        place.rmdir()


class ColdFile:
    """A file of whole pages, read a page at a time without readahead of the system's."""

    def __init__(self, fd: int, memory: mmap.mmap, view: memoryview) -> None:
        """Take what ``opened`` opened."""
        self.buffer = bytearray(PAGE)
        self._fd = fd
        self._memory = memory
        self._view = view
        self._address = np.frombuffer(memory, dtype=np.uint8).ctypes.data
        self._resident: npt.NDArray[np.uint8] = np.empty(len(view) // PAGE, dtype=np.uint8)

    def pread(self, page_no: int) -> None:
        """Read a page into the buffer."""
        os.preadv(self._fd, [self.buffer], page_no * PAGE)

    def mapped(self, page_no: int) -> None:
        """Copy a page into the buffer from where the file is mapped."""
        self.buffer[:] = self._view[page_no * PAGE : (page_no + 1) * PAGE]

    def way(self, name: str) -> Callable[[int], None]:
        """Return ``pread`` or ``mapped``."""
        return {"pread": self.pread, "mapped": self.mapped}[name]

    def resident(self, page_no: int = 0, page_count: int | None = None) -> int:
        """Return how many of those pages the system has in its page cache."""
        count = len(self._resident) - page_no if page_count is None else page_count
        start, size = self._address + page_no * PAGE, count * PAGE
        answer = ctypes.c_void_p(self._resident.ctypes.data)
        if _libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), answer):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int((self._resident[:count] & 1).sum())

    def drop(self) -> None:
        """Have the system forget the file's pages.

        Raises:
            RuntimeError: It did not.
        """
        self._memory.madvise(mmap.MADV_DONTNEED)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if left := self.resident():
            raise RuntimeError(f"{left} pages stayed in the page cache: reads would not be cold")


@contextmanager
def opened(path: Path) -> Generator[ColdFile]:
    """Open a file of whole pages for random reads."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as memory, memoryview(memory) as view:
            memory.madvise(mmap.MADV_RANDOM)
            yield ColdFile(fd, memory, view)
    finally:
        os.close(fd)
