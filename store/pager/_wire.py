# SPDX-License-Identifier: MIT
"""The pager's messages (docs/PAGER.md), as its process reads and writes them."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = [
    "CAPACITY",
    "DISCARD",
    "FLUSH",
    "GET",
    "PRESENT",
    "PUT",
    "READ",
    "Question",
    "answer",
    "read_json",
    "read_questions",
    "write_json",
]

GET, PUT, DISCARD, FLUSH, CAPACITY, PRESENT, READ = range(1, 8)
_WITH_ITEMS: Final = (GET, PUT, READ)
_HEADER = struct.Struct("<IHHQII")
_ANSWER_HEADER = struct.Struct("<IHHQiI")
_ANSWER: Final = 1
_ITEM = struct.Struct("<QII")
_ANSWER_ITEM = struct.Struct("<QiI")
_RUN = struct.Struct("<QQ")
_LENGTH = struct.Struct("<I")
_TEXT_MAX: Final = 1024
_JSON_MAX: Final = 1 << 20


@dataclass
class Question:
    """What was asked.

    Attributes:
        op: Which call.
        id: By which the answer is known.
        deadline_ms: How long who asked will wait.
        keys: Page numbers, or offsets of a READ.
        sizes: For each key, how many bytes are wanted, or were sent.
        blobs: What a PUT sent.
        first: The first page of a run.
        count: How many pages the run has.
    """

    op: int
    id: int
    deadline_ms: int
    keys: list[int] = field(default_factory=list[int])
    sizes: list[int] = field(default_factory=list[int])
    blobs: list[bytes] = field(default_factory=list[bytes])
    first: int = 0
    count: int = 0


def read_exactly(sock: socket.socket, size: int) -> bytes | None:
    """Return so many bytes, or None where the other end has gone."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = sock.recv_into(view)
        if count == 0:
            return None
        view = view[count:]
    return bytes(data)


def write_json(sock: socket.socket, message: dict[str, Any]) -> None:
    """Send what is said once, before any question."""
    data = json.dumps(message).encode()
    sock.sendall(_LENGTH.pack(len(data)) + data)


def read_json(sock: socket.socket) -> dict[str, Any] | None:
    """Return what is said once, or None where the other end has gone."""
    head = read_exactly(sock, _LENGTH.size)
    if head is None:
        return None
    [size] = _LENGTH.unpack(head)
    data = read_exactly(sock, size) if size <= _JSON_MAX else None
    found: object = json.loads(data) if data is not None else None
    return found if isinstance(found, dict) else None  # pyright: ignore[reportUnknownVariableType]


def read_questions(sock: socket.socket) -> Iterator[Question]:
    """Yield questions until who asks has gone."""
    while (head := read_exactly(sock, _HEADER.size)) is not None:
        size, op, _, number, deadline_ms, _ = _HEADER.unpack(head)
        body = read_exactly(sock, size)
        if body is None:
            return
        yield _question(op, number, deadline_ms, body)


def _question(op: int, number: int, deadline_ms: int, body: bytes) -> Question:
    found = Question(op, number, deadline_ms)
    if op in (DISCARD, PRESENT):
        found.first, found.count = _RUN.unpack(body)
    if op not in _WITH_ITEMS:
        return found
    at = 0
    end = len(body)
    while at < end:
        key, size, _ = _ITEM.unpack_from(body, at)
        at += _ITEM.size
        end -= size if op == PUT else 0
        found.keys.append(key)
        found.sizes.append(size)
    for size in found.sizes if op == PUT else ():
        found.blobs.append(body[at : at + size])
        at += size
    return found


def answer(
    question: Question,
    *,
    status: int = 0,
    statuses: Sequence[int] = (),
    blobs: Sequence[bytes] = (),
    words: Sequence[int] = (),
    text: str = "",
) -> bytes:
    """Return an answer's bytes.

    Args:
        question: What was asked.
        status: 0, or what is wrong with the whole; there is nothing but ``text`` then.
        statuses: For each key 0 or what is wrong with it.
        blobs: For each key its bytes, of a GET and a READ.
        words: Of CAPACITY and PRESENT.
        text: What to tell of an error.
    """
    said = text.encode()[:_TEXT_MAX]
    pieces: list[bytes] = []
    if not status and question.op in _WITH_ITEMS:
        kept = blobs or [b""] * len(question.keys)
        for key, its, blob in zip(question.keys, statuses, kept, strict=True):
            pieces.append(_ANSWER_ITEM.pack(key, its, len(blob)))
        pieces += kept
    elif not status:
        pieces += [word.to_bytes(8, "little") for word in words]
    size = sum(map(len, pieces)) + len(said)
    head = _ANSWER_HEADER.pack(size, question.op, _ANSWER, question.id, status, len(said))
    return b"".join([head, *pieces, said])
