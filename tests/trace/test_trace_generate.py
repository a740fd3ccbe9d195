# SPDX-License-Identifier: MIT
from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagestep.codecs.errors import InvalidArgument
from pagestep.store.trace import (
    KIND_FETCH,
    KIND_WRITE,
    Block,
    Trace,
    TraceShape,
    TraceWriter,
    between,
    generate,
)


def whole(page_count: int, *, events: int, seed: int = 1, phases: int = 8) -> Block:
    file = io.BytesIO()
    with TraceWriter(file, page_size=4096, page_count=page_count) as writer:
        for block in generate(page_count, events=events, seed=seed, phases=phases):
            for _, name in block.marks:
                writer.mark(name)
            writer.events(block.pages, block.kinds, block.times)
    file.seek(0)
    return Trace.open(file).read_all()


@given(st.integers(1, 300), st.integers(0, 500), st.integers(0, 1 << 70), st.integers(1, 12))
def test_any_image_gets_a_valid_trace(page_count: int, events: int, seed: int, phases: int) -> None:
    trace = whole(page_count, events=events, seed=seed, phases=phases)
    assert len(trace) == events
    assert [name for _, name in trace.marks] == [
        "startup",
        *(f"phase-{phase}" for phase in range(1, phases + 1)),
    ]


def test_the_same_seed_gives_the_same_trace() -> None:
    one, same, other = (whole(500, events=150_000, seed=seed) for seed in (4, 4, 5))
    for column in ("pages", "kinds", "times"):
        assert np.array_equal(getattr(one, column), getattr(same, column))
    assert not np.array_equal(one.pages, other.pages)
    # The first numbers are kept: a change of the generator changes what a seed means.
    assert one.pages[:8].tolist() == FIRST_PAGES


def test_the_shape_is_the_recorded_one() -> None:
    pages = 8881
    shape = TraceShape()
    trace = whole(pages, events=2_000_000)
    kinds = np.bincount(trace.kinds, minlength=3) / len(trace)
    assert kinds[KIND_FETCH] == pytest.approx(0.72, abs=0.06)
    assert kinds[KIND_WRITE] == pytest.approx(0.018, abs=0.008)
    steps = np.diff(trace.pages.astype(np.int64))
    assert float((steps == 1).mean()) == pytest.approx(shape.sequential, abs=0.012)
    assert int(trace.times[-1]) / len(trace) == pytest.approx(145, rel=0.1)

    names = [name for _, name in trace.marks]
    sets = [
        set(between(trace, name, following).pages.tolist())
        for name, following in zip(names, [*names[1:], None], strict=True)
    ]
    later = set[int]().union(*sets[1:])
    assert len(sets[0] - later) / pages == pytest.approx(shape.startup_pages, rel=0.1)
    assert shape.phase_pages < len(later) / pages < shape.working_pages
    overlaps: list[float] = []
    for before, phase in pairwise(sets[1:]):
        assert len(phase) / pages == pytest.approx(shape.phase_pages, rel=0.2)
        assert phase != before
        overlaps.append(len(phase & before) / len(phase))
    assert float(np.mean(overlaps)) == pytest.approx(shape.overlap, abs=0.06)


@pytest.mark.parametrize(
    ("page_count", "options"),
    [
        (0, {"events": 1, "seed": 0}),
        ((1 << 30) + 1, {"events": 1, "seed": 0}),
        (1, {"events": -1, "seed": 0}),
        (1, {"events": 1, "seed": -1}),
        (1, {"events": 1, "seed": 0, "phases": 0}),
    ],
)
def test_wrong_arguments_are_refused_at_once(page_count: int, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        generate(page_count, **options)


FIRST_PAGES = [467, 271, 181, 271, 467, 271, 271, 467]
