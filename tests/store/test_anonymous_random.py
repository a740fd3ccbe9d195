# SPDX-License-Identifier: MIT
"""Random trees of forks against arrays that are simply copied."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from pagestep import Anonymous, BackingFull, BudgetExceeded, PageStore

SIZE = 512
AMPLE = "16MiB"
PAGES = st.integers(0, 11)
BYTES = st.binary(min_size=1, max_size=SIZE)

Shadow = npt.NDArray[np.uint8]


class Forks(RuleBasedStateMachine):
    """Each memory has a shadow, which a fork copies whole."""

    memories: Bundle[Anonymous] = Bundle("memories")
    budgets = ("192KiB", "256KiB", "512KiB")

    def __init__(self) -> None:
        super().__init__()
        self.store = PageStore.open(ram=AMPLE, page_size=SIZE)
        self.shadows: dict[Anonymous, Shadow] = {}

    def teardown(self) -> None:
        for memory in self.shadows:
            memory.close()
        stats = self.store.stats()
        assert (stats.page_count, stats.hot_pages, stats.stored_bytes) == (0, 0, 0)
        self.store.close()

    @rule(target=memories, pages=st.integers(1, 300))
    def plant(self, pages: int) -> Anonymous:
        memory = self.made(pages)
        self.shadows[memory] = np.zeros((pages, SIZE), np.uint8)
        return memory

    def made(self, pages: int) -> Anonymous:
        return self.store.anonymous(pages)

    @rule(target=memories, memory=memories)
    def fork(self, memory: Anonymous) -> Anonymous:
        fork = memory.fork()
        self.shadows[fork] = self.shadows[memory].copy()
        return fork

    @rule(memory=memories, at=PAGES, data=BYTES, offset=st.integers(0, SIZE - 1))
    def write(self, memory: Anonymous, at: int, data: bytes, offset: int) -> None:
        at %= len(memory)
        data = data[: SIZE - offset]
        memory.write(at, data, offset=offset)
        self.shadows[memory][at, offset : offset + len(data)] = np.frombuffer(data, np.uint8)

    @rule(memory=memories, value=st.integers(0, 255))
    def write_all(self, memory: Anonymous, value: int) -> None:
        shadow = self.shadows[memory]
        shadow[:] = value
        shadow[:, ::7] = 1
        memory.write_from(range(len(memory)), shadow)

    @rule(memory=memories, first=PAGES, count=PAGES)
    def discard(self, memory: Anonymous, first: int, count: int) -> None:
        pages = range(min(first, len(memory)), min(first + count, len(memory)))
        memory.discard(pages)
        self.shadows[memory][pages.start : pages.stop] = 0

    @rule(memory=memories, pages=st.integers(1, 300))
    def resize(self, memory: Anonymous, pages: int) -> None:
        memory.resize(pages)
        shadow = np.zeros((pages, SIZE), np.uint8)
        kept = min(pages, len(self.shadows[memory]))
        shadow[:kept] = self.shadows[memory][:kept]
        self.shadows[memory] = shadow

    @rule(memory=memories)
    def page_out(self, memory: Anonymous) -> None:
        memory.page_out(range(len(memory)))

    @rule(memory=memories, at=PAGES)
    def view(self, memory: Anonymous, at: int) -> None:
        at %= len(memory)
        view = memory.view(at)
        memory.write(at, b"\x5a")
        self.shadows[memory][at, 0] = 0x5A
        assert bytes(view) == self.shadows[memory][at].tobytes()

    @rule(which=st.integers(0, 2))
    def press(self, which: int) -> None:
        """Have pages leave, as far as they can; what follows has room again."""
        with suppress(BudgetExceeded):
            self.store.set_ram(self.budgets[which])
        self.bytes_are_right()
        self.store.set_ram(AMPLE)

    @rule(memory=consumes(memories))
    def close(self, memory: Anonymous) -> None:
        memory.close()
        del self.shadows[memory]

    @invariant()
    def bytes_are_right(self) -> None:
        for memory, shadow in self.shadows.items():
            out = np.empty_like(shadow)
            memory.read_into(range(len(memory)), out)
            np.testing.assert_array_equal(out, shadow)

    @invariant()
    def statistics_add_up(self) -> None:
        stats = self.store.stats()
        ones = [memory.stats() for memory in self.shadows]
        assert stats.page_count == sum(one.page_count for one in ones)
        assert stats.absent_pages == sum(one.absent_pages for one in ones)
        assert stats.private_bytes == sum(one.private_bytes for one in ones)


TestForks = Forks.TestCase
TestForks.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


class SwappedForks(Forks):
    """The same where pages go elsewhere, though there is not room for all."""

    budgets = ("320KiB", "512KiB", "1MiB")

    def made(self, pages: int) -> Anonymous:
        swap = "ram:?buffer=4&ahead=4"
        return self.store.anonymous(pages, swap=swap, swap_pages=max(1, pages * 3 // 4))

    @rule(memory=Forks.memories)
    def flush(self, memory: Anonymous) -> None:
        """Have it elsewhere, and in RAM no more, as far as that goes."""
        with suppress(BackingFull):
            memory.flush()
        assert memory.swap_stats().error == ""


TestSwappedForks = SwappedForks.TestCase
TestSwappedForks.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
