# SPDX-License-Identifier: MIT
"""What memory that faults in this process can have, and why not."""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, dataclass
from typing import Any

from ._binding import ffi, lib

__all__ = ["MapSupport", "map_support", "why_not"]

_REFUSED = {
    errno.ENOSYS: (
        "this kernel has no userfaultfd, or a seccomp filter hides it; use a kernel with "
        "CONFIG_USERFAULTFD, and in a container a seccomp profile that allows userfaultfd"
    ),
    errno.EPERM: (
        "userfaultfd is not permitted; in a container its seccomp profile must allow it "
        "(vm.unprivileged_userfaultfd may stay 0)"
    ),
    errno.EINVAL: "userfaultfd of this kernel cannot be had without privilege; Linux 5.11 has that",
}


@dataclass(frozen=True)
class MapSupport:
    """What maps this process can have.

    Attributes:
        sigbus: The touching thread can bring its pages itself.
        sigbus_writes: Also those of a writable map.
        thread: A thread of the map's can bring them.
        system_calls: Then pages that a system call touches are brought as well.
        notes_writes: The kernel can note what is written; else a first write is a fault.
        reason: Why there can be no map at all, and what to do; None where there can.
    """

    sigbus: bool
    sigbus_writes: bool
    thread: bool
    system_calls: bool
    notes_writes: bool
    reason: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, ready for JSON."""
        return asdict(self)


def map_support() -> MapSupport:
    """Find out what maps this process can have; nothing is left open."""
    found = ffi.new("struct pgs_map_support *")
    lib.pgs_map_probe(found)
    return MapSupport(
        sigbus=bool(found.by_sigbus),
        sigbus_writes=bool(found.by_sigbus_for_writes),
        thread=bool(found.by_thread),
        system_calls=bool(found.in_system_calls),
        notes_writes=bool(found.notes_writes),
        reason=_reason(int(found.system_error), found.missing),
    )


def _reason(system_error: int, missing: Any) -> str | None:
    if system_error:
        said = os.strerror(system_error)
        return f"{_REFUSED.get(system_error, 'userfaultfd(2) does not work')} ({said})"
    if missing != ffi.NULL:
        return f"this kernel is too old: its userfaultfd lacks {ffi.string(missing).decode()}"
    return None


def why_not(service: str, writable: bool) -> str:
    """Say why a map that was asked for cannot be had.

    Args:
        service: Which was asked for.
        writable: Whether it was to be written to.
    """
    found = map_support()
    if found.reason is not None:
        return found.reason
    if service == "sigbus" and not (found.sigbus_writes if writable else found.sigbus):
        lacks = "does not say which touches are writes" if found.sigbus else "lacks it"
        return f'this system {lacks}, as service="sigbus" needs; use service="thread"'
    return (
        "one more was refused: a process has at most 256 maps, and as many open files and threads "
        "as its limits (RLIMIT_NOFILE, RLIMIT_NPROC) say; close some"
    )
