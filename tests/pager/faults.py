# SPDX-License-Identifier: MIT
"""A store with faults by name, in front of a real one.

``python:faults:faulty?control=FILE`` runs it in a pager: FILE holds the name of
the fault that is in force, and after a space how many milliseconds it is slow. It keeps its
pages in a folder beside FILE, so that it is there again when its process has died.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from pagestep.codecs.errors import BackingFull, PageStepError
from pagestep.store.pager import BackingStore


class FolderStore:
    """Each page a file: the plainest store that outlasts its process."""

    lasting = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def get(self, page_nos: Sequence[int]) -> list[bytes | PageStepError | None]:
        paths = [self._folder / str(page_no) for page_no in page_nos]
        return [path.read_bytes() if path.exists() else None for path in paths]

    def put(self, pages: Sequence[tuple[int, bytes]]) -> list[PageStepError | None]:
        for page_no, blob in pages:
            beside = self._folder / f".{page_no}"
            beside.write_bytes(blob)
            beside.replace(self._folder / str(page_no))
        return [None] * len(pages)

    def discard(self, first: int, count: int) -> None:
        for page_no in self._page_nos():
            if first <= page_no < first + count:
                (self._folder / str(page_no)).unlink()

    def _page_nos(self) -> list[int]:
        return [int(path.name) for path in self._folder.iterdir()]

    def flush(self) -> None:
        os.sync()

    def capacity(self) -> tuple[int, int]:
        return 1 << 30, sum(path.stat().st_size for path in self._folder.iterdir())

    def present(self, first: int, count: int) -> list[bool]:
        have = set(self._page_nos())
        return [page_no in have for page_no in range(first, first + count)]

    def close(self) -> None:
        pass


class FaultyStore(FolderStore):
    """Does as its control file says."""

    def __init__(self, control: Path) -> None:
        super().__init__(control.parent / "pages")
        self._control = control

    def _fault(self) -> str:
        name, _, ms = (self._control.read_text() if self._control.exists() else "").partition(" ")
        if name == "slow":
            time.sleep(int(ms) / 1000)
        elif name == "hangs":
            time.sleep(3600)
        elif name == "dies":
            os._exit(1)
        elif name == "raises":
            raise ZeroDivisionError("a fault of the store's own")
        return name

    def get(self, page_nos: Sequence[int]) -> list[bytes | PageStepError | None]:
        name = self._fault()
        if name == "wrong_page":
            page_nos = [page_no + 1 for page_no in page_nos]
        found = super().get(page_nos)
        if name == "wrong_bytes":
            return [bytes([b[0] ^ 1]) + b[1:] if isinstance(b, bytes) else b for b in found]
        return found

    def put(self, pages: Sequence[tuple[int, bytes]]) -> list[PageStepError | None]:
        name = self._fault()
        if name == "full":
            half = len(pages) // 2
            done = super().put(pages[:half])
            return [*done, *(BackingFull(f"page {page_no}: full") for page_no, _ in pages[half:])]
        if name == "loses":
            return [None] * len(pages)
        if name == "torn":
            super().put([(page_no, blob[: len(blob) // 2]) for page_no, blob in pages])
            os._exit(1)
        return super().put(pages)


def faulty(control: str) -> BackingStore:
    return FaultyStore(Path(control))


def not_a_store() -> object:
    return object()


class _TooFew(FolderStore):
    def get(self, page_nos: Sequence[int]) -> list[bytes | PageStepError | None]:
        return super().get(page_nos)[1:]


def too_few(folder: str) -> BackingStore:
    return _TooFew(Path(folder))
