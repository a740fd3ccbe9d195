# SPDX-License-Identifier: MIT
"""Which questions may be answered at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ._wire import DISCARD, GET, PRESENT, PUT, READ, Question

__all__ = ["Order"]

_CHANGES = (PUT, DISCARD)


@dataclass(eq=False)
class _Job:
    question: Question
    pages: frozenset[int] | range
    changes: bool
    expires: float
    started: float | None = None

    def conflicts(self, other: _Job) -> bool:
        """Whether one must wait for the other."""
        if not (self.changes or other.changes):
            return False
        few, many = sorted((self.pages, other.pages), key=len)
        if isinstance(few, range) and isinstance(many, range):
            return max(few.start, many.start) < min(few.stop, many.stop)
        return any(page in many for page in few)


class Order:
    """Answers questions in a few threads, those of the same page in the order they came.

    A put whose asker has given up may still be under way when the page is put anew: that must
    wait, else the older one might be the last to arrive.
    """

    def __init__(self, run: Callable[[Question, bool], None], threads: int) -> None:
        """Take what answers a question; its second argument says that it is too late."""
        self._run = run
        self._pool = ThreadPoolExecutor(threads, "pager")
        self._jobs: list[_Job] = []
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)

    def add(self, question: Question) -> None:
        """Have a question answered, when its turn comes."""
        job = _Job(
            question,
            _pages(question),
            question.op in _CHANGES,
            time.monotonic() + question.deadline_ms / 1000,
        )
        with self._lock:
            self._jobs.append(job)
            self._start_some()

    def _start_some(self) -> None:
        for at, job in enumerate(self._jobs):
            if job.started is None and not any(job.conflicts(before) for before in self._jobs[:at]):
                job.started = time.monotonic()
                self._pool.submit(self._answer, job)

    def _answer(self, job: _Job) -> None:
        try:
            job.started = now = time.monotonic()
            self._run(job.question, now > job.expires)
        finally:
            with self._lock:
                self._jobs.remove(job)
                self._start_some()
                self._idle.notify_all()

    def oldest_s(self) -> float:
        """Return for how many seconds the store has been at one question."""
        with self._lock:
            started = [job.started for job in self._jobs if job.started is not None]
            return time.monotonic() - min(started) if started else 0.0

    def wait(self, timeout_s: float) -> None:
        """Wait until all is answered."""
        with self._lock:
            self._idle.wait_for(lambda: not self._jobs, timeout_s)


def _pages(question: Question) -> frozenset[int] | range:
    if question.op in (GET, PUT):
        return frozenset(question.keys)
    if question.op in (DISCARD, PRESENT):
        return range(question.first, question.first + question.count)
    assert question.op >= DISCARD or question.op == READ
    return range(0)
