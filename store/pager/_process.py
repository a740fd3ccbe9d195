# SPDX-License-Identifier: MIT
"""Starting a pager's process, and hearing what it has opened."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, Any

from pagestep.codecs.errors import BackingLost, BackingTimeout, error_for

from ._wire import read_json, write_json

__all__ = ["PagerProcess", "start_pager"]

_SERVE = "pagestep.store.pager._serve"


@dataclass
class PagerProcess:
    """A pager that has opened its store.

    Attributes:
        process: To be waited for.
        sock: Where it is asked.
        lasting: See ``BackingStore.lasting``.
        size: Bytes of its file; None where it keeps pages.
    """

    process: subprocess.Popen[bytes]
    sock: socket.socket
    lasting: bool
    size: int | None


def start_pager(url: str, *, deadline_s: float, start_s: float) -> PagerProcess:
    """Start a process that opens a URL.

    It has no other descriptor of ours, and a session of its own, so that a Ctrl-C for us does
    not end it; it ends when its socket is closed. The URL, which may hold a password, goes over
    the socket, not where others see a process's arguments.

    Args:
        url: See ``open_url``.
        deadline_s: Within how many seconds each call of the store must end.
        start_s: Within how many seconds it must have opened.

    Raises:
        BackingTimeout: It had not opened in time.
        BackingLost: The process ended.
        PageStepError: What the URL names could not be opened there.
    """
    ours, theirs = socket.socketpair()
    with theirs, tempfile.TemporaryFile() as last_words:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _SERVE, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=last_words,
            start_new_session=True,
        )
        theirs.close()
        try:
            ours.settimeout(start_s)
            said = _hello(ours, url, deadline_s, start_s)
            if said is None:
                raise BackingLost(_how_it_ended(process, last_words))
            if said["code"]:
                process.wait(start_s)
                raise error_for(said["code"], said["text"])
        except BaseException:
            ours.close()
            process.kill()
            process.wait()
            raise
    ours.settimeout(None)
    return PagerProcess(process, ours, said["lasting"], said["size"])


def _hello(
    sock: socket.socket, url: str, deadline_s: float, start_s: float
) -> dict[str, Any] | None:
    try:
        write_json(sock, {"url": url, "deadline_s": deadline_s, "path": sys.path})
        return read_json(sock)
    except TimeoutError:
        raise BackingTimeout(
            f"the pager had not opened its store after {start_s:g} s: is that reachable?"
        ) from None
    except OSError:
        return None


def _how_it_ended(process: subprocess.Popen[bytes], last_words: IO[bytes]) -> str:
    try:
        status: int | None = process.wait(1)
    except subprocess.TimeoutExpired:
        status = None
    last_words.seek(0)
    lines = last_words.read(1 << 16).decode(errors="replace").strip().splitlines()
    return f"the pager's process ended with status {status}: {lines[-1] if lines else 'silently'}"
