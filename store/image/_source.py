# SPDX-License-Identifier: MIT
"""Where an image's bytes come from: an open file, or a buffer of the caller's."""

from __future__ import annotations

import importlib
import mmap
import os
import stat
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from pagestep.codecs.errors import BadImage, PageStepError, StoreIOError, Unsupported
from pagestep.store._size import show_size
from pagestep.store.pager import Pager

if TYPE_CHECKING:
    from typing_extensions import Buffer

    # Under Python 3.11 numpy's arrays do not say to type checkers that they are buffers.
    AnyBuffer = Buffer | NDArray[Any]

Bytes = NDArray[np.uint8]

_REMOTE_DEADLINE_S: Final = 10.0
_REMOTE_PIECE: Final = 128 << 10


def bytes_of(buffer: AnyBuffer) -> memoryview:
    """Return a buffer's bytes, not copied.

    Raises:
        TypeError: It is no buffer, or not one contiguous run of bytes.
    """
    return memoryview(cast("Buffer", buffer)).cast("B")


class Source(ABC):
    """Bytes that can be read at any offset, by any thread.

    Attributes:
        name: What to call it in messages.
        size: Bytes in it.
        fd: The open file they are in, or None for a buffer.
        pager: The pager that reads them, or None where they are here.
    """

    name: str
    size: int
    fd: int | None
    pager: Pager | None = None

    @abstractmethod
    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill a buffer with the bytes at an offset.

        Raises:
            StoreIOError: The file has become shorter, or cannot be read.
        """

    @abstractmethod
    def view(self) -> Bytes:
        """Return all bytes as a read-only array, shape (size,), dtype uint8, not a copy."""

    @abstractmethod
    def close(self) -> None:
        """Let the file go; arrays from ``view`` stay valid."""

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes at an offset, fewer only where the source ends."""
        size = max(0, min(size, self.size - offset))
        out = bytearray(size)
        self.read_into(offset, memoryview(out))
        return bytes(out)


class BufferSource(Source):
    """A buffer of the caller's; it is not copied, and must not change."""

    def __init__(self, buffer: AnyBuffer, name: str) -> None:
        """Hold on to a C-contiguous buffer."""
        self.name = name
        self.fd = None
        try:
            self._bytes = bytes_of(buffer)
        except (TypeError, ValueError) as error:
            raise BadImage(f"{name}: not one contiguous run of bytes: {error}") from error
        self.size = self._bytes.nbytes

    def read_into(self, offset: int, out: memoryview) -> None:
        """See ``Source.read_into``."""
        out[:] = self._bytes[offset : offset + out.nbytes]

    def view(self) -> Bytes:
        """See ``Source.view``."""
        return np.frombuffer(self._bytes.toreadonly(), np.uint8)

    def close(self) -> None:
        """See ``Source.close``."""
        self._bytes = memoryview(b"")


class FileSource(Source):
    """An open file. Reads are ``pread``: a file that shrinks is an error, not a SIGBUS."""

    def __init__(self, fd: int, name: str) -> None:
        """Own an open file descriptor."""
        self.name = name
        self.fd: int | None = fd
        self._map: Bytes | None = None
        self.size = os.lseek(fd, 0, os.SEEK_END)

    def read_into(self, offset: int, out: memoryview) -> None:
        """See ``Source.read_into``."""
        if self.fd is None:
            raise StoreIOError(f"{self.name}: the file is closed")
        done = 0
        while done < out.nbytes:
            try:
                count = os.preadv(self.fd, [out[done:]], offset + done)
            except OSError as error:
                raise StoreIOError(
                    f"{self.name}: cannot read at offset {offset + done}: {error.strerror}"
                ) from error
            if count == 0:
                raise StoreIOError(
                    f"{self.name}: ends at offset {offset + done}, and had {self.size} bytes "
                    "when it was opened: do not change an image that is in use"
                )
            done += count

    def view(self) -> Bytes:
        """See ``Source.view``. The file is mapped at the first call."""
        if self._map is None:
            if self.fd is None:
                raise StoreIOError(f"{self.name}: the file is closed")
            now = os.fstat(self.fd)
            if stat.S_ISREG(now.st_mode) and now.st_size < self.size:
                raise StoreIOError(
                    f"{self.name}: the file has become shorter: do not change an image in use"
                )
            mapping = mmap.mmap(self.fd, self.size, prot=mmap.PROT_READ)
            self._map = np.frombuffer(mapping, np.uint8)
        return self._map

    def close(self) -> None:
        """See ``Source.close``."""
        fd, self.fd, self._map = self.fd, None, None
        if fd is not None:
            os.close(fd)


class RemoteSource(Source):
    """A file elsewhere, read piece by piece by a pager's process."""

    def __init__(self, url: str) -> None:
        """Open it.

        Raises:
            StoreIOError: It is not there, or cannot be reached.
            Unsupported: A package that its protocol needs is not installed.
        """
        self.fd = None
        self.pager = Pager(f"fsspec+{url}", deadline_s=_REMOTE_DEADLINE_S)
        self.name = self.pager.name.removeprefix("fsspec+")
        self.size = self.pager.size
        self._copy: FileSource | None = None

    def read_into(self, offset: int, out: memoryview) -> None:
        """See ``Source.read_into``."""
        if self.pager is None:
            raise StoreIOError(f"{self.name}: the file is closed")
        for at in range(0, out.nbytes, _REMOTE_PIECE):
            piece = out[at : at + _REMOTE_PIECE]
            [found] = self.pager.read([(offset + at, piece.nbytes)])
            if isinstance(found, PageStepError):
                raise found
            piece[:] = found

    def view(self) -> Bytes:
        """See ``Source.view``. At the first call the whole file is fetched, onto disk."""
        if self._copy is None:
            spool = Spool(self.name, self.size, None)
            try:
                for at in range(0, self.size, _REMOTE_PIECE):
                    spool.write(self.read(at, _REMOTE_PIECE))
                self._copy = spool.into_source()
            finally:
                spool.close()
        return self._copy.view()

    def close(self) -> None:
        """See ``Source.close``."""
        pager, self.pager = self.pager, None
        if pager is not None:
            pager.close()
        if self._copy is not None:
            self._copy.close()


class Spool:
    """An unlinked temporary file that takes a payload's bytes, up to a limit.

    A decoded kernel goes to a file, not to memory: it is the disk tier, and RAM is
    what this project saves.
    """

    def __init__(self, name: str, limit: int, scratch_dir: Path | None) -> None:
        """Create the file.

        Args:
            name: What to call the bytes in messages.
            limit: The most bytes that ``write`` takes over the spool's life.
            scratch_dir: A folder on disk; None means /var/tmp, which unlike /tmp is
                never a file system in RAM, or the system's own choice without it.

        Raises:
            StoreIOError: The file cannot be created.
        """
        if scratch_dir is None:
            lasting = Path("/var/tmp")
            scratch_dir = lasting if os.access(lasting, os.W_OK | os.X_OK) else None
        self.name = name
        self.size = 0
        self._limit = self._left = limit
        try:
            # Closed by close(), which the spool's user calls.
            self._file = tempfile.TemporaryFile(dir=scratch_dir, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise StoreIOError(
                f"{name}: no temporary file in {scratch_dir or tempfile.gettempdir()}: "
                f"{error.strerror}; give another folder with scratch_dir="
            ) from error

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            BadImage: The limit is passed.
            StoreIOError: The disk is full.
        """
        if len(data) > self._left:
            raise BadImage(
                f"{self.name}: the payload decodes to more than {show_size(self._limit)}: "
                "if that is right, raise max_payload="
            )
        self._left -= len(data)
        self.size += len(data)
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise StoreIOError(
                f"{self.name}: cannot write {show_size(self.size)} of payload: {error.strerror}; "
                "free space, or give another folder with scratch_dir="
            ) from error

    def restart(self) -> None:
        """Throw the bytes away; what they took of the limit stays taken."""
        self._file.seek(0)
        self._file.truncate()
        self.size = 0

    def into_source(self) -> FileSource:
        """Return the bytes as a source, and end the spool."""
        fd = os.dup(self._file.fileno())
        self.close()
        return FileSource(fd, self.name)

    def close(self) -> None:
        """Give the file up."""
        self._file.close()


def open_source(path_or_buffer: str | os.PathLike[str] | AnyBuffer) -> Source:
    """Return the bytes of a file by its path or URL, or of a buffer.

    Raises:
        StoreIOError: The file cannot be opened.
        BadImage: It is no file, it is empty, or the buffer is not contiguous.
    """
    if not isinstance(path_or_buffer, (str, os.PathLike)):
        source: Source = BufferSource(path_or_buffer, "buffer")
    else:
        name = os.fspath(path_or_buffer)
        elsewhere = _open_url(name) if isinstance(path_or_buffer, str) and "://" in name else name
        if isinstance(elsewhere, Source):
            return elsewhere
        name = elsewhere
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise StoreIOError(f"{name}: cannot open: {reason}") from error
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            os.close(fd)
            raise BadImage(f"{name}: not a file: give the path of a kernel or firmware image")
        source = FileSource(fd, name)
    if source.size == 0:
        source.close()
        raise BadImage(f"{source.name}: empty: an image has at least one byte")
    return source


def _open_url(url: str) -> Source | str:
    """Return the bytes that a URL names; of a file that is here, its path."""
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        return unquote(rest.removeprefix("localhost"))
    if scheme == "memory":
        # Such files are this process's own: no other could read them.
        try:
            memory: Any = importlib.import_module("fsspec").filesystem("memory")
            return BufferSource(memory.cat_file(rest), url)
        except ModuleNotFoundError:
            raise Unsupported(
                f"{url}: needs fsspec: install it with `pip install 'pagestep[fsspec]'`"
            ) from None
        except OSError:
            raise StoreIOError(f"{url}: cannot open: there is no such file") from None
    source = RemoteSource(url)
    if source.size == 0:
        source.close()
        raise BadImage(f"{url}: empty: an image has at least one byte")
    return source
