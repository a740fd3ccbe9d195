# SPDX-License-Identifier: MIT
"""Files that appear under their name whole, or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO


class WrittenBeside:
    """A file written under another name in the same folder, and renamed when it is whole.

    A write that fails or is killed leaves what stood there; a kill leaves the other file too,
    ``.pagestep-`` and eight hex digits. The file gets the permissions of the one that it replaces,
    or those of any new file. A symbolic link stays, and what it points at is replaced. What is no
    regular file, such as a pipe or ``/dev/stdout``, cannot be replaced and is written to directly.

    It does not outlast a power cut: nothing is flushed to the disk.

    Attributes:
        file: Open for writing, until ``keep`` or ``discard``.

    Raises:
        OSError: The folder takes no new file, or the path is a folder.

    >>> with WrittenBeside("/dev/null") as file:
    ...     file.write(b"nothing to see")
    14
    """

    file: BinaryIO

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the other file."""
        self._path = Path(os.path.realpath(path))
        self._beside: Path | None = None
        try:
            old = os.stat(path)
        except FileNotFoundError:
            old = None
        if old is not None and not stat.S_ISREG(old.st_mode):
            self.file = open(path, "wb")  # noqa: SIM115 - keep() and discard() close it
            return
        self._beside = self._path.with_name(f".pagestep-{secrets.token_hex(4)}")
        try:
            self.file = open(self._beside, "xb")  # noqa: SIM115
        except OSError as error:
            error.filename = os.fspath(path)  # the other name says nothing to anybody
            raise
        if old is not None:
            try:
                os.fchmod(self.file.fileno(), stat.S_IMODE(old.st_mode) & 0o777)
            except BaseException:
                self.discard()
                raise

    def keep(self) -> None:
        """Give the file its name; where that fails, it is discarded. Again is no error.

        Raises:
            OSError: The last bytes cannot be written, or the file not renamed.
        """
        beside, self._beside = self._beside, None
        try:
            self.file.close()
            if beside is not None:
                beside.replace(self._path)
        except BaseException:
            self._beside = beside
            self.discard()
            raise

    def discard(self) -> None:
        """Remove the file; what stood under its name stays. Again is no error."""
        beside, self._beside = self._beside, None
        try:
            self.file.close()
        except OSError:
            pass  # the bytes that it could not write are not wanted
        finally:
            if beside is not None:
                beside.unlink(missing_ok=True)

    def __enter__(self) -> BinaryIO:
        """Return the file."""
        return self.file

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Keep the file, or discard it where the block ends by an exception."""
        if exc_type is None:
            self.keep()
            return
        if isinstance(exc, OSError) and exc.filename is None:
            exc.filename = str(self._path)  # a write does not know what it writes to
        self.discard()
