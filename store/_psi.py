# SPDX-License-Identifier: MIT
"""Pressure stall information of Linux: which files tell of memory, what stands in them, waiting.

A file of this kind says how long tasks have stalled for want of memory. Where the kernel lets us,
it wakes us itself (a *trigger*); else the file is read again and again. What a process without
privilege may ask for is a trigger over a multiple of 2 s, so that is what everybody asks for
(Documentation/accounting/psi.rst).
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from pagestep.codecs.closing import Closing
from pagestep.codecs.errors import Unsupported

__all__ = ["Gauge", "PressureFile", "cgroup_folder", "default_files", "stalled_us"]

SYSTEM = Path("/proc/pressure/memory")
WINDOW_S = 2.0
_IN_CGROUP = "memory.pressure"
_FILE_BYTES_MAX = 4096
_TOTAL_US_END = 1 << 64
_SOME = re.compile(rb"some((?: avg\d+=\d+\.\d+)+) total=(\d{1,20})\n", re.ASCII)


def stalled_us(text: bytes) -> int | None:
    r"""Return for how many microseconds some task has stalled, since the kernel counts.

    Args:
        text: What stands in a file of pressure.

    Returns:
        The total of the line ``some``; None where the text is of another form.

    >>> stalled_us(b"some avg10=0.00 avg60=0.00 avg300=0.00 total=42\n")
    42
    """
    match = _SOME.match(text)
    total = int(match[2]) if match else _TOTAL_US_END
    return total if total < _TOTAL_US_END else None


def cgroup_folder(cgroup_text: str, mountinfo_text: str) -> Path | None:
    """Return where a process's cgroup of version 2 is mounted.

    Args:
        cgroup_text: Its /proc/PID/cgroup.
        mountinfo_text: Its /proc/PID/mountinfo.

    Returns:
        The folder; None where it is in none, or in the topmost one, which is the whole system.
    """
    found = re.search(r"^0::(/.+)$", cgroup_text, re.MULTILINE)
    if not found:
        return None
    for line in mountinfo_text.splitlines():
        mount, _, kind = line.partition(" - ")
        fields = mount.split()
        if not kind.startswith("cgroup2 ") or len(fields) < 5:
            continue
        root, place = (_unescaped(field).rstrip("/") for field in fields[3:5])
        path = found[1]
        if path == root or path.startswith(root + "/"):
            return Path(place + path[len(root) :])
    return None


def _unescaped(field: str) -> str:
    r"""Undo what mountinfo does to blanks: ``\040`` and the like."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda match: chr(int(match[1], 8)), field)


def default_files() -> list[Path]:
    """Return the files that tell of the whole system and of this process's cgroup."""
    files = [SYSTEM]
    with suppress(OSError):
        folder = cgroup_folder(
            Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()
        )
        if folder is not None:
            files.append(folder / _IN_CGROUP)
    return files


class PressureFile(Closing):
    """One open file of pressure.

    Attributes:
        path: Which.
        triggers: Whether the kernel wakes who polls it.
    """

    def __init__(self, path: Path, threshold: float) -> None:
        """Open it, and ask for a trigger where the kernel grants one.

        Args:
            path: The file, or a cgroup's folder.
            threshold: The share of a window in which some task stalled, from which on to wake.

        Raises:
            OSError: It cannot be read.
            Unsupported: It holds something else.
        """
        self.path = path / _IN_CGROUP if path.is_dir() else path
        self.triggers = False
        self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._total_us = self._read()
            self._read_at = time.monotonic()
            # A file that has text and no size is the kernel's own: no other must be written to.
            if os.fstat(self._fd).st_size == 0:
                self._ask(threshold)
        except BaseException:
            self.close()
            raise

    def _ask(self, threshold: float) -> None:
        trigger = f"some {round(threshold * WINDOW_S * 1e6)} {round(WINDOW_S * 1e6)}\0"
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # read-only to us, as a cgroup's file is to most: it is read at intervals
        try:
            os.write(fd, trigger.encode())
        except OSError:
            os.close(fd)
            return
        os.close(self._fd)
        self._fd, self.triggers = fd, True

    def _read(self) -> int:
        text = os.pread(self._fd, _FILE_BYTES_MAX, 0)
        total = stalled_us(text)
        if total is None:
            raise Unsupported(
                f"{self.path}: begins with {text[:40]!r}, which is not what /proc/pressure/memory "
                "looks like: name a file of pressure, or a cgroup's folder"
            )
        return total

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._fd

    def share(self) -> float:
        """Return which share of the time since this was last asked some task stalled, 0 to 1.

        Raises:
            OSError: It cannot be read any more.
            Unsupported: It holds something else now.
        """
        total, now = self._read(), time.monotonic()
        stalled_s, passed_s = (total - self._total_us) / 1e6, now - self._read_at
        self._total_us, self._read_at = total, now
        return min(1.0, max(0.0, stalled_s / passed_s)) if passed_s > 0 else 0.0

    def close(self) -> None:
        """Close it, and take the trigger back. Again is no error."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass(frozen=True)
class Reading:
    """What a look at all files showed.

    Attributes:
        share: The greatest share of the time that some task stalled, 0 to 1.
        path: Which file said so; None where none is left that can be read.
        pressed: Whether that is pressure: by the kernel's word, or, of a file for which it wakes
            nobody, by the share.
        lost: Files that could be read before, and cannot be now; they are not looked at again.
    """

    share: float
    path: Path | None
    pressed: bool
    lost: tuple[Path, ...]


class Gauge(Closing):
    """Several files of pressure, waited for together."""

    def __init__(self, paths: Iterable[Path], threshold: float) -> None:
        """Open those that can be opened.

        Raises:
            Unsupported: None of them can, and why.
        """
        self._threshold = threshold
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._files: list[PressureFile] = []
        refused: list[str] = []
        with ExitStack() as undo:
            undo.callback(self.close)
            for path in paths:
                try:
                    self._files.append(PressureFile(path, threshold))
                except OSError as error:
                    refused.append(f"{error.filename or path}: {error.strerror}")
            if not self._files:
                raise Unsupported(
                    f"no memory pressure can be read ({'; '.join(refused) or 'no files'}): the "
                    "kernel needs CONFIG_PSI, and psi=1 where that is off by default; a cgroup "
                    "must be of version 2"
                )
            undo.pop_all()

    @property
    def files(self) -> Sequence[PressureFile]:
        """Those that are being watched."""
        return tuple(self._files)

    def wait(self, interval_s: float) -> Reading | None:
        """Wait for a trigger or until the interval is over, and look.

        Returns:
            What was found; None after ``stop``.
        """
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        for file in self._files:
            if file.triggers:
                poll.register(file, select.POLLPRI)
        woken = dict(poll.poll(interval_s * 1000))
        if self._stop in woken:
            return None
        best, path, lost = 0.0, None, list[PressureFile]()
        pressed = False
        for file in self._files:
            event = woken.get(file.fileno(), 0)
            try:
                share = file.share()
            except (OSError, Unsupported):
                lost.append(file)
                continue
            if event & select.POLLERR:  # the cgroup is gone
                lost.append(file)
                continue
            # What two readings 2 s apart show is the stalls of 0 to 4 s: where the kernel
            # itself tells, its word goes.
            told = bool(event & select.POLLPRI) if file.triggers else share >= self._threshold
            if path is None or (told, share) > (pressed, best):
                best, path, pressed = share, file.path, told
        for file in lost:
            self._files.remove(file)
            file.close()
        return Reading(best, path, pressed, tuple(file.path for file in lost))

    def pause(self, seconds: float) -> bool:
        """Wait for nothing but ``stop``; return whether it came."""
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def stop(self) -> None:
        """Have ``wait`` return, now and ever after. From any thread."""
        if self._stop >= 0:
            os.eventfd_write(self._stop, 1)

    def close(self) -> None:
        """Close all files. Nobody may be waiting."""
        for file in self._files:
            file.close()
        self._files.clear()
        fd, self._stop = self._stop, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        """Close what is open, should nobody have."""
        if hasattr(self, "_files"):
            self.close()
