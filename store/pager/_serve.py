# SPDX-License-Identifier: MIT
"""The pager's process: one store or file, served over the socket that it was started with.

``python -m pagestep.store.pager._serve FD``; docs/PAGER.md has the protocol. It ends when
whoever asks has gone.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from pagestep.codecs.errors import (
    BackingTimeout,
    InvalidArgument,
    StoreIOError,
    Unsupported,
    code_for,
)

from ._order import Order
from ._protocol import BackingStore, RemoteFile
from ._url import open_url
from ._wire import (
    CAPACITY,
    DISCARD,
    FLUSH,
    GET,
    PRESENT,
    PUT,
    READ,
    Question,
    answer,
    read_json,
    read_questions,
    write_json,
)

THREADS: Final = 8
# A store that hangs for so many deadlines is given up, and the process with it.
_HANGS_DEADLINES: Final = 10
_HANGS_S_MIN: Final = 30.0


class _Server:
    def __init__(self, sock: socket.socket, store: BackingStore | RemoteFile) -> None:
        self._sock = sock
        self._store = store
        self._sending = threading.Lock()

    def run(self, question: Question, late: bool) -> None:
        """Answer a question."""
        try:
            if late:
                raise BackingTimeout("the pager was busy until the deadline had passed")
            message = self._answer(question)
        except Exception as error:
            message = answer(question, status=code_for(error), text=_told(error))
        with self._sending, suppress(OSError):  # who asked has gone
            self._sock.sendall(message)

    def _answer(self, question: Question) -> bytes:
        store = self._store
        if question.op == READ:
            if not isinstance(store, RemoteFile):
                raise Unsupported("this pager has pages, and no file")
            ranges = zip(question.keys, question.sizes, strict=True)
            return _items(question, store.read(list(ranges)))
        if not isinstance(store, BackingStore):
            raise Unsupported("this pager has a file, and keeps no pages")
        if question.op == GET:
            return _items(question, store.get(question.keys))
        if question.op == PUT:
            pages = list(zip(question.keys, question.blobs, strict=True))
            return _items(question, store.put(pages))
        return answer(question, words=_whole(store, question))


def _whole(store: BackingStore, question: Question) -> Sequence[int]:
    """Do what is not about single blobs; return the answer's words."""
    if question.op == DISCARD:
        store.discard(question.first, question.count)
    elif question.op == FLUSH:
        store.flush()
    elif question.op == CAPACITY:
        return store.capacity()
    elif question.op == PRESENT:
        bits = sum(1 << at for at, is_there in enumerate(_flags(store, question)) if is_there)
        return [bits >> at & (1 << 64) - 1 for at in range(0, question.count, 64)]
    else:
        raise InvalidArgument(f"a pager knows no call {question.op}")
    return ()


def _flags(store: BackingStore, question: Question) -> Sequence[bool]:
    found = store.present(question.first, question.count)
    if len(found) != question.count:
        raise StoreIOError(
            f"the store said of {len(found)} pages if they are there, not of {question.count}"
        )
    return found


def _items(question: Question, found: Iterable[object]) -> bytes:
    """Return the answer that gives bytes, nothing or an error for each key."""
    results = list(found)
    if len(results) != len(question.keys):
        raise StoreIOError(
            f"the store answered for {len(results)} pages, and was asked for {len(question.keys)}"
        )
    statuses: list[int] = []
    blobs: list[bytes] = []
    texts: list[str] = []
    for wanted, result in zip(question.sizes, results, strict=True):
        blob = result if isinstance(result, bytes) else b""
        if not isinstance(result, bytes | BaseException | None):
            result = StoreIOError(f"the store gave a {type(result).__name__}, where bytes belong")
        if len(blob) > wanted or (question.op == READ and len(blob) < wanted and blob):
            result = StoreIOError(f"the store gave {len(blob)} bytes, and {wanted} were wanted")
            blob = b""
        error = result if isinstance(result, BaseException) else None
        statuses.append(0 if error is None else code_for(error))
        blobs.append(blob if question.op != PUT else b"")
        texts += [] if error is None else [_told(error)]
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return answer(question, statuses=statuses, blobs=blobs, text=texts[0] + more if texts else "")


def _told(error: BaseException) -> str:
    """Return an error in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (
        text
        if type(error).__module__.startswith("pagestep.")
        else (f"{type(error).__name__}: {text}")
    )


def _watch(order: Order, deadline_s: float) -> None:
    """End the process should the store hang: its owner then starts another."""
    limit_s = max(_HANGS_S_MIN, _HANGS_DEADLINES * deadline_s)
    while order.oldest_s() < limit_s:
        time.sleep(limit_s / 10)
    os._exit(os.EX_TEMPFAIL)


def main() -> None:
    """Serve until who asks has gone."""
    # It has a session of its own, and ends with who asks; a stray Ctrl-C is not for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=int(sys.argv[1]))
    wanted = read_json(sock)
    if wanted is None:
        return
    sys.path[:] = wanted["path"]
    deadline_s: float = wanted["deadline_s"]
    try:
        store = open_url(wanted["url"], deadline_s)
    except Exception as error:
        write_json(sock, {"code": code_for(error), "text": _told(error)})
        return
    said = {"code": 0, "lasting": True, "size": None}
    if isinstance(store, BackingStore):
        said["lasting"] = store.lasting
    else:
        said["size"] = store.size
    write_json(sock, said)
    order = Order(_Server(sock, store).run, THREADS)
    threading.Thread(target=_watch, args=(order, deadline_s), daemon=True).start()
    with suppress(OSError):
        for question in read_questions(sock):
            order.add(question)
    order.wait(deadline_s)
    with suppress(Exception):
        store.close()
    # Threads that the store has left hanging are not waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
