# SPDX-License-Identifier: MIT
"""A store or a file in a process of its own, asked from C with a deadline."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from pagestep.codecs.closing import Closing
from pagestep.codecs.errors import Closed, PageStepError, StoreIOError, error_for
from pagestep.store._binding import ffi, lib

from ._process import PagerProcess, start_pager
from ._url import parse_url

__all__ = ["Pager"]

_TEXT_MAX: Final = lib.PGS_PAGER_TEXT_MAX
_WAIT_S_MIN, _WAIT_S_MAX = 0.05, 2.0


class Pager(Closing):
    """A process that keeps pages, or reads a file, and is started again when it dies.

    It is a ``BackingStore`` and a ``RemoteFile`` itself, for whoever calls it from Python. A
    store takes ``blobs``, or ``handle``, and asks from C: no Python of this process is needed
    for an answer. A thread of this object only waits for the process to end.

    Attributes:
        name: What it has opened: the URL without a password.
        deadline_s: Within how many seconds every call ends.
        max_blob: The most bytes of a blob that ``get`` takes.
        lasting: See ``BackingStore.lasting``: else it is not started again.
        size: Bytes of the file; 0 where it keeps pages.
        restarts: How many times it was started again.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_s: float = 5.0,
        start_s: float = 30.0,
        max_blob: int = (64 << 10) + 32,
        restart: bool = True,
    ) -> None:
        """Start the process, and wait until it has opened its store.

        Args:
            url: See ``open_url``.
            deadline_s: Within how many seconds every call ends.
            start_s: Within how many seconds it must have opened.
            max_blob: The most bytes of a blob that ``get`` takes.
            restart: Start it again when it dies, if its store is lasting.

        Raises:
            PageStepError: What the URL names cannot be opened.
        """
        self._url = url
        self.name = parse_url(url, deadline_s).shown
        self.deadline_s = deadline_s
        self.max_blob = max_blob
        self.restarts = 0
        self._start_s = start_s
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._trouble = ""
        started = start_pager(url, deadline_s=deadline_s, start_s=start_s)
        self.lasting = started.lasting
        self.size = started.size or 0
        self._is_file = started.size is not None
        self._process = started.process
        self._restarts = restart and started.lasting
        try:
            self._handle: Any = self._open(started)
            # Calls that are under way have one reference more: it goes with the last of them.
            self._blobs: Any = ffi.gc(self.blobs(), _close_blobs)
        finally:
            started.sock.close()
        self._watcher = threading.Thread(target=self._watch, name="pager-watch", daemon=True)
        self._watcher.start()

    def _open(self, started: PagerProcess) -> Any:
        params = ffi.new("struct pgs_pager_params *")
        params.struct_size = ffi.sizeof("struct pgs_pager_params")
        params.deadline_ms = max(1, int(self.deadline_s * 1000))
        params.flags = lib.PGS_PAGER_READ_ONLY if self._is_file else 0
        handle = ffi.new("pgs_pager **")
        code = lib.pgs_pager_open(started.sock.fileno(), params, handle)
        if code:
            started.process.kill()
            started.process.wait()
            raise error_for(
                code, f"the pager's socket cannot be used, deadline_s={self.deadline_s}"
            )
        return handle[0]

    # -- life ---------------------------------------------------------------------------

    def _watch(self) -> None:
        """Wait for the process's end, again and again."""
        while True:
            status = self._process.wait()
            if self._ends.is_set():
                return
            self._trouble = f"the pager's process ended with status {status}"
            if not self._restarts or not self._start_again():
                return

    def _start_again(self) -> bool:
        """Try until it runs; return False where nobody wants it any more."""
        wait_s = _WAIT_S_MIN
        while not self._ends.wait(wait_s):
            wait_s = min(wait_s * 2, _WAIT_S_MAX)
            try:
                started = start_pager(self._url, deadline_s=self.deadline_s, start_s=self._start_s)
            except (PageStepError, OSError) as error:
                self._trouble = f"the pager cannot be started again: {error}"
                continue
            with started.sock, self._lock:
                self._process = started.process
                if self._ends.is_set() or (started.size or 0) != self.size:
                    self._trouble = f"the file had {self.size} bytes, and now has {started.size}"
                    break
                lib.pgs_pager_reconnect(self._handle, started.sock.fileno())
                self.restarts += 1
                self._trouble = ""
                return True
        self._process.wait()
        return False

    @property
    def handle(self) -> Any:
        """The ``pgs_pager *``, for ``pgs_backing_pager``, which keeps what it needs of it."""
        if self._handle is None:
            raise Closed(f"the pager of {self.name} is closed: open it again")
        return self._handle

    def blobs(self) -> Any:
        """Return a new ``struct pgs_blobs *``, whose ``close`` is to be called."""
        found = ffi.new("struct pgs_blobs *")
        lib.pgs_pager_blobs(self.handle, found)
        return found

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def is_connected(self) -> bool:
        """Whether there is a process that answers."""
        return bool(lib.pgs_pager_is_connected(ffi.cast("pgs_pager *", self._opened().ctx)))

    @property
    def last_error(self) -> str:
        """What the pager said last of an error, or of itself; empty where it said nothing."""
        blobs = self._blobs
        if self._trouble or blobs is None:
            return self._trouble
        text = ffi.new("char[]", _TEXT_MAX)
        size = ffi.new("size_t *")
        lib.pgs_pager_text(ffi.cast("pgs_pager *", blobs.ctx), text, _TEXT_MAX, size)
        return bytes(ffi.buffer(text, size[0])).decode(errors="replace")

    def close(self) -> None:
        """End the process. Stores over it get errors from now on. Again is no error."""
        with self._lock:
            if self._handle is None:
                return
            self._ends.set()
            handle, self._handle = self._handle, None
            lib.pgs_pager_close(handle)
            self._blobs = None
        self._watcher.join(2 * self.deadline_s)
        if self._watcher.is_alive():
            with suppress(OSError):
                self._process.kill()
            self._watcher.join(self._start_s)

    # -- calls --------------------------------------------------------------------------

    def _error(self, code: int, what: str) -> PageStepError:
        reason = ffi.string(lib.pgs_error_text(code)).decode()
        said = self.last_error
        return error_for(code, f"{what}: {reason}{f': {said}' if said else ''}")

    def _whole(self, code: int, what: str) -> None:
        if code:
            raise self._error(code, what)

    def _opened(self) -> Any:
        blobs = self._blobs
        if blobs is None:
            raise Closed(f"the pager of {self.name} is closed: open it again")
        return blobs

    def _ask(
        self, rows: Sequence[tuple[int, Any, int]], function: Any, subject: Any, name: str
    ) -> tuple[Any, Any]:
        """Fill in blobs, call, and return them with their errors."""
        blobs = ffi.new("struct pgs_blob[]", max(1, len(rows)))
        statuses = ffi.new("int32_t[]", max(1, len(rows)))
        for blob, (key, data, size) in zip(blobs, rows, strict=False):
            blob.page_no, blob.bytes, blob.size, blob.capacity = key, data, size, size
        function(subject, blobs, len(rows), statuses)
        return blobs, [
            self._error(status, f"{name} {row[0]}") if status else None
            for status, row in zip(statuses, rows, strict=False)
        ]

    def _fetch(
        self, wanted: Sequence[tuple[int, int]], function: Any, subject: Any, name: str
    ) -> list[bytes | PageStepError]:
        rooms = [ffi.new("unsigned char[]", size) for _, size in wanted]
        rows = [(key, room, size) for (key, size), room in zip(wanted, rooms, strict=True)]
        blobs, errors = self._ask(rows, function, subject, name)
        return [
            bytes(ffi.buffer(room, blob.size)) if error is None else error
            for blob, room, error in zip(blobs, rooms, errors, strict=False)
        ]

    def get(self, page_nos: Sequence[int]) -> list[bytes | PageStepError | None]:
        """See ``BackingStore.get``."""
        blobs = self._opened()
        wanted = [(page_no, self.max_blob) for page_no in page_nos]
        found = self._fetch(wanted, blobs.get, blobs.ctx, "page")
        return [each or None if isinstance(each, bytes) else each for each in found]

    def put(self, pages: Sequence[tuple[int, bytes]]) -> list[PageStepError | None]:
        """See ``BackingStore.put``."""
        blobs = self._opened()
        if not blobs.put:
            raise StoreIOError(f"{self.name}: a file elsewhere is only read")
        rows = [(page_no, ffi.from_buffer(blob), len(blob)) for page_no, blob in pages]
        errors: list[PageStepError | None] = self._ask(rows, blobs.put, blobs.ctx, "page")[1]
        return errors

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes | PageStepError]:
        """See ``RemoteFile.read``."""
        blobs = self._opened()
        subject = ffi.cast("pgs_pager *", blobs.ctx)
        return self._fetch(ranges, lib.pgs_pager_read, subject, "the bytes at")

    def discard(self, first: int, count: int) -> None:
        """See ``BackingStore.discard``."""
        blobs = self._opened()
        what = f"pages {first} to {first + count - 1} cannot be discarded"
        self._whole(blobs.discard(blobs.ctx, first, count), what)

    def flush(self) -> None:
        """See ``BackingStore.flush``."""
        blobs = self._opened()
        self._whole(blobs.flush(blobs.ctx), "what was put cannot be made to last")

    def capacity(self) -> tuple[int, int]:
        """See ``BackingStore.capacity``."""
        blobs = self._opened()
        sizes = ffi.new("uint64_t[2]")
        self._whole(blobs.capacity(blobs.ctx, sizes, sizes + 1), "the store's size is not known")
        return int(sizes[0]), int(sizes[1])

    def present(self, first: int, count: int) -> list[bool]:
        """See ``BackingStore.present``."""
        blobs = self._opened()
        words = ffi.new("uint64_t[]", max(1, -(-count // 64)))
        what = f"pages {first} to {first + count - 1} cannot be asked for"
        self._whole(blobs.present(blobs.ctx, first, count, words), what)
        return [bool(words[at // 64] >> at % 64 & 1) for at in range(count)]

    def __repr__(self) -> str:
        """Say which process it is."""
        state = "closed" if self._handle is None else f"process {self.pid}"
        return f"<Pager: {state}>"


def _close_blobs(blobs: Any) -> None:
    blobs.close(blobs.ctx)
