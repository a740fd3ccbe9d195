# SPDX-License-Identifier: MIT
"""The choice of codecs under a size, against every choice there is."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagestep.store.rom._choose import choose


def best(
    sizes: npt.NDArray[np.int64], times: npt.NDArray[np.float64], size_max: int
) -> float | None:
    """Return the least time of all choices that fit."""
    rows = np.arange(len(sizes))
    fitting = [
        float(times[rows, options].sum())
        for options in itertools.product(range(sizes.shape[1]), repeat=len(sizes))
        if sizes[rows, options].sum() <= size_max
    ]
    return min(fitting, default=None)


@given(st.integers(0, 2**32), st.integers(1, 6), st.floats(0, 1), st.booleans())
def test_the_choice_lies_between_the_best_and_one_step_more(
    seed: int, pages: int, tightness: float, ties: bool
) -> None:
    chance = np.random.default_rng(seed)
    sizes = chance.integers(1, 50, (pages, 3))
    times: npt.NDArray[np.float64] = chance.random((pages, 3)) * 10
    if ties:  # many steps are worth the same, but for rounding
        sizes = 4096 - 13 * chance.integers(0, 4, (pages, 3))
        costs = np.array(chance.permuted([0.3, 1.5, 8.0]), np.float64)
        times = chance.integers(1, 9, (pages, 1)).astype(np.float64) * costs
    low, high = int(sizes.min(axis=1).sum()), int(sizes.max(axis=1).sum())
    size_max = low - 2 + int(tightness * (high - low + 4))
    found, optimum = choose(sizes, times, size_max), best(sizes, times, size_max)
    assert (found is None) == (optimum is None)
    if found is None or optimum is None:
        return
    rows = np.arange(pages)
    assert found.size == sizes[rows, found.option].sum() <= size_max
    assert found.time == pytest.approx(times[rows, found.option].sum())
    assert found.time_bound - 1e-9 <= optimum <= found.time + 1e-9
    step = float((times.max(axis=1) - times.min(axis=1)).max())
    assert found.time <= found.time_bound + step + 1e-9


def test_with_room_for_all_each_page_has_its_quickest() -> None:
    sizes = np.array([[4096, 2000, 1500], [4096, 4096, 4000]])
    times = np.array([[0.3, 1.5, 8.0], [0.3, 1.5, 8.0]])
    found = choose(sizes, times, 10_000)
    assert found is not None
    assert found.option.tolist() == [0, 0]
    assert found.time == found.time_bound


def test_the_page_that_gains_most_for_its_bytes_comes_first() -> None:
    sizes = np.array([[4096, 1000], [4096, 3000]])
    times = np.array([[0.0, 8.0], [0.0, 8.0]])
    found = choose(sizes, times, 4096 + 1000)
    assert found is not None
    assert found.option.tolist() == [1, 0]
    assert found.time_bound == found.time


def test_no_pages() -> None:
    found = choose(np.empty((0, 2), np.int64), np.empty((0, 2)), 0)
    assert found is not None
    assert (found.size, found.time) == (0, 0)


def test_steps_that_rounding_puts_in_the_wrong_order() -> None:
    sizes = np.array([[4019, 4084, 4096]])
    times = 7 * np.array([[8.0, 1.5, 0.3]])
    for size_max in range(4019, 4097):
        found = choose(sizes, times, size_max)
        assert found is not None
        assert found.size == sizes[0, found.option[0]] <= size_max
