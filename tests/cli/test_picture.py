# SPDX-License-Identifier: MIT
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagestep.cli import _picture  # pyright: ignore[reportPrivateUsage]
from pagestep.cli._picture import draw_run
from pagestep.codecs.errors import InvalidArgument, Unsupported
from pagestep.store.trace import Sample

BUDGET = 8 << 20


def sample(time: int, **faults: int) -> Sample:
    return Sample(time, time // 10, 4 << 20, 2 << 20, 300_000, BUDGET, faults)


RUN = [sample(time, compressed=time % 7, disk=time % 3) for time in range(0, 1000, 10)]


@pytest.mark.parametrize(
    ("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_the_suffix_says_the_format(tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = tmp_path / f"run.{suffix}"
    draw_run(RUN, path, marks=[(0, "boot"), (500, "idle")], title="A run")
    assert path.read_bytes().startswith(magic)


def test_the_picture_names_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")  # text stays text
    path = tmp_path / "run.svg"
    marks = [(0, "boot"), (1, "early"), (500, "idle"), (5000, "beyond")]
    draw_run(RUN, path, marks=marks, title="A run", clock="ticks")
    text = path.read_text()
    compressed = sum(s.faults_by_tier["compressed"] for s in RUN)
    for words in (
        "A run",
        "boot",
        "early",
        "idle",
        "budget",
        "hot frames",
        "compressed pool",
        "metadata",
        "resident (MiB)",
        "time (ticks)",
        f"compressed: {compressed}",
        "disk: ",
    ):
        assert words in text, words
    assert "beyond" not in text
    assert "rom: " not in text


def test_few_or_odd_samples_are_drawn(tmp_path: Path) -> None:
    draw_run([sample(5), sample(6)], tmp_path / "quiet.png")
    draw_run([sample(0, attic=1), sample(3, attic=10_000)], tmp_path / "other-tier.png")
    draw_run([Sample(t, 0, 0, 0, 0, 0, {}) for t in (0, 0, 1)], tmp_path / "empty.png")


@pytest.mark.parametrize("samples", [[], [sample(1)], [sample(2), sample(2)], RUN[::-1]])
def test_samples_that_make_no_picture(tmp_path: Path, samples: list[Sample]) -> None:
    with pytest.raises(InvalidArgument, match="two samples"):
        draw_run(samples, tmp_path / "run.png")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    for name in ("run.docx", "run"):
        with pytest.raises(Unsupported, match=r"end its name in \.png"):
            draw_run(RUN, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(Unsupported, match=r"pagestep\[plot\]"):
        draw_run(RUN, tmp_path / "run.png")


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), min_size=2, max_size=30))
def test_no_fault_is_lost_between_the_bars(steps: list[tuple[int, int]]) -> None:
    at = np.cumsum([0.0, *(step + 0.5 for step, _ in steps[1:])])
    counts = np.array([float(count) for _, count in steps])
    edges = np.arange(17, dtype=np.float64) * (float(at[-1]) / 16)
    heights = _picture._spread(at, counts, edges)  # pyright: ignore[reportPrivateUsage]
    assert float(heights.sum()) == pytest.approx(float(counts.sum()))
    assert float(heights.min()) >= 0


@given(
    st.lists(st.tuples(st.floats(0, 1), st.text("abcdefgh_", min_size=1, max_size=20)), max_size=30)
)
def test_no_name_overlaps_another_or_is_crossed(marks: list[tuple[float, str]]) -> None:
    placed = _picture._label_rows(marks)  # pyright: ignore[reportPrivateUsage]
    assert sorted((place, name) for place, name, _ in placed) == sorted(marks)
    shown = [
        (place, place + _picture._LABEL_LETTER * (len(name) + 1), row)  # pyright: ignore[reportPrivateUsage]
        for place, name, row in placed
        if row >= 0
    ]
    for index, (begin, end, row) in enumerate(shown):
        for other_begin, other_end, other_row in shown[:index]:
            if other_row == row:
                assert end <= other_begin or other_end <= begin
            # A leader reaches from the axis up to its own row.
            assert not (begin < other_begin < end and other_row > row)
