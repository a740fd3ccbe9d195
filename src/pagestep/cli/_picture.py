# SPDX-License-Identifier: MIT
# pyright: reportUnknownMemberType=false
# (matplotlib's stubs leave the types of **kwargs out)
"""A picture of a replay: where the bytes were, and which tier the faults came from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pagestep.codecs.errors import InvalidArgument, Unsupported
from pagestep.store.trace import Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision tell apart; a tier keeps its colour
# in both panels. Lightness differs too, for paper.
_BLUE, _SKY, _ORANGE, _GREEN, _VERMILION, _PURPLE, _GREY = (
    "#0072B2",
    "#56B4E9",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#7F7F7F",
)
_INK = "#333333"
_RESIDENT = (
    ("metadata_bytes", "metadata", _GREY),
    ("hot_bytes", "hot frames", _BLUE),
    ("pool_bytes", "compressed pool", _ORANGE),
)
_FAULT_COLOURS = {
    "zero": _GREEN,
    "same": _SKY,
    "compressed": _ORANGE,
    "rom": _PURPLE,
    "disk": _VERMILION,
    "swap": _INK,
}
_FAULT_BINS = 160
_WIDTH_INCHES, _HEIGHT_INCHES = 11.0, 6.6
_LEFT, _RIGHT, _BOTTOM = 0.09, 0.815, 0.085
_LABEL_ROWS_MAX = 6
_LABEL_ROW_POINTS = 12
_LABEL_LETTER = 0.0095  # a letter's width as a share of the axis


def draw_run(
    samples: Sequence[Sample],
    path: str | os.PathLike[str],
    *,
    marks: Sequence[tuple[int, str]] = (),
    title: str = "",
    clock: str = "instructions",
) -> None:
    """Draw resident bytes and faults over time.

    Args:
        samples: The run, at least two samples, in order of time.
        path: File to write; its suffix says the format (.png, .svg, .pdf).
        marks: (time, name) of each phase's begin.
        title: Line above the picture.
        clock: Unit of times.

    Raises:
        InvalidArgument: Too few samples, or not in order.
        Unsupported: matplotlib is not installed, or does not know the suffix.
        OSError: The file cannot be written.
    """
    times = np.array([sample.time for sample in samples], dtype=np.float64)
    if len(times) < 2 or times[0] == times[-1] or bool(np.any(times[1:] < times[:-1])):
        raise InvalidArgument("a picture needs two samples or more, in order of time")
    figure = _figure()
    suffix = os.path.splitext(path)[1].lstrip(".").lower()
    if suffix not in figure.canvas.get_supported_filetypes():
        raise Unsupported(f"cannot draw {os.fspath(path)}: end its name in .png, .svg or .pdf")

    scale, unit = _time_unit(float(times[-1] - times[0]), clock)
    at = (times - times[0]) / scale
    places = [((time - times[0]) / scale, name) for time, name in marks]
    labels = _label_rows([(time / at[-1], name) for time, name in places if 0 <= time <= at[-1]])
    rows = 1 + max((row for _, _, row in labels), default=-1)
    heading_points = (30 if title else 10) + _LABEL_ROW_POINTS * rows
    figure.subplots_adjust(
        left=_LEFT, right=_RIGHT, bottom=_BOTTOM, top=1 - heading_points / 72 / _HEIGHT_INCHES
    )
    top, bottom = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 2), "hspace": 0.09}
    )
    _draw_resident(top, at, samples)
    _draw_faults(bottom, at, samples, _amount(float(times[-1] - times[0]) / _FAULT_BINS, clock))
    bottom.set_xlabel(f"time ({unit})", color=_INK)
    bottom.set_xlim(0, at[-1])
    _draw_marks(top, bottom, labels)
    for axes in (top, bottom):
        _tidy(axes)
    figure.align_ylabels()
    figure.suptitle(title, x=_LEFT, y=0.985, va="top", ha="left", color=_INK, fontsize=13)
    figure.savefig(path, dpi=150)


def _figure() -> Figure:
    # Neither pyplot nor a display: this runs in servers and threads.
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unsupported("a picture needs matplotlib: pip install 'pagestep[plot]'") from error
    figure = Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES))
    FigureCanvasAgg(figure)
    return figure


def _time_unit(span: float, clock: str) -> tuple[float, str]:
    for factor, word in ((1e9, "billion "), (1e6, "million "), (1e3, "thousand ")):
        if span >= 2 * factor:
            return factor, word + clock
    return 1.0, clock


def _byte_unit(most: float) -> tuple[int, str]:
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if most >= 1 << shift:
            return 1 << shift, unit
    return 1, "bytes"


def _draw_resident(axes: Axes, at: npt.NDArray[np.float64], samples: Sequence[Sample]) -> None:
    budget = np.array([sample.budget_bytes for sample in samples], dtype=np.float64)
    layers = [
        np.array([getattr(sample, name) for sample in samples], dtype=np.float64)
        for name, _, _ in _RESIDENT
    ]
    most = max(float(budget.max()), float(np.sum(layers, axis=0).max()))
    size, unit = _byte_unit(most)
    axes.stackplot(
        at,
        [layer / size for layer in layers],
        labels=[label for _, label, _ in _RESIDENT],
        colors=[colour for _, _, colour in _RESIDENT],
        linewidth=0,
        alpha=0.9,
    )
    axes.plot(
        at, budget / size, color="black", linewidth=1.4, linestyle=(0, (5, 2)), label="budget"
    )
    axes.set_ylim(0, 1.06 * max(most, 1) / size)
    axes.set_ylabel(f"resident ({unit})", color=_INK)
    _legend(axes)


def _draw_faults(
    axes: Axes, at: npt.NDArray[np.float64], samples: Sequence[Sample], interval: str
) -> None:
    tiers = list(_FAULT_COLOURS)
    tiers += sorted({tier for sample in samples for tier in sample.faults_by_tier} - set(tiers))
    edges = np.arange(_FAULT_BINS + 1, dtype=np.float64) * (float(at[-1]) / _FAULT_BINS)
    most = 0.0
    for tier in tiers:
        faults = np.array([sample.faults_by_tier.get(tier, 0) for sample in samples])
        if not faults.any():
            continue
        heights = _spread(at, faults.astype(np.float64), edges)
        colour = _FAULT_COLOURS.get(tier, _BLUE)
        # Side by side, not stacked: heights on one another mean nothing on this scale.
        axes.stairs(heights, edges, fill=True, color=colour, alpha=0.22)
        axes.stairs(
            heights, edges, color=colour, linewidth=1.3, label=f"{tier}: {int(faults.sum()):,}"
        )
        most = max(most, float(heights.max()))
    # A start-up of thousands would flatten everything after it; up to ten it is linear.
    if most > 100:
        axes.set_yscale("symlog", linthresh=10, linscale=0.5)
        axes.set_yticks([0, *(10**power for power in range(1, 13) if 10**power <= most)])
    axes.set_ylim(0, 1.25 * max(1.0, most))
    axes.yaxis.set_major_formatter(_thousands)
    axes.set_ylabel(f"faults per\n{interval}", color=_INK)
    if most:
        _legend(axes, "faults from")


def _spread(
    at: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return counts per bin, each sample's spread evenly over the time since the one before."""
    heights: npt.NDArray[np.float64] = np.diff(np.interp(edges, at, np.cumsum(counts)))
    heights[0] += counts[0]  # the first sample has no time before it
    return heights


def _amount(value: float, clock: str) -> str:
    scale, unit = _time_unit(value, clock)
    return f"{value / scale:,.0f} {unit}" if value >= 10 * scale else f"{value / scale:.2g} {unit}"


def _thousands(value: float, _: float) -> str:
    return f"{value:,.0f}"


def _legend(axes: Axes, title: str = "") -> None:
    handles, labels = axes.get_legend_handles_labels()
    # As they lie on one another: what is on top comes first.
    axes.legend(
        handles[::-1],
        labels[::-1],
        title=title or None,
        loc="upper left",
        bbox_to_anchor=(1.005, 1.02),
        frameon=False,
        fontsize=9,
        title_fontsize=9,
        labelcolor=_INK,
        alignment="left",
    )


def _tidy(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _label_rows(marks: Sequence[tuple[float, str]]) -> list[tuple[float, str, int]]:
    """Return (place, name, row) of each mark; row 0 is next to the axis, -1 has no room.

    A name stands to the right of a leader that comes up from its mark. From right to left each
    goes one row above all whose leaders it spans, so that no name is crossed.
    """
    placed: list[tuple[float, str, int]] = []
    for place, name in sorted(marks, reverse=True):
        end = place + _LABEL_LETTER * (len(name) + 1.5)
        spanned = [row for other, _, row in placed if other < end]
        row = 1 + max(spanned, default=-1)
        placed.append((place, name, row if row < _LABEL_ROWS_MAX else -1))
    return placed


def _draw_marks(top: Axes, bottom: Axes, labels: Sequence[tuple[float, str, int]]) -> None:
    """Draw a line at each mark through both panels, and up to its name."""
    for place, name, row in labels:
        for axes in (top, bottom):
            axes.plot(
                [place, place],
                [0, 1],
                transform=axes.transAxes,
                color="black",
                linewidth=0.6,
                alpha=0.45,
            )
        if row < 0:
            continue
        top.annotate(
            name,
            xy=(place, 1.0),
            xycoords="axes fraction",
            xytext=(3, 3 + _LABEL_ROW_POINTS * row),
            textcoords="offset points",
            fontsize=8.5,
            color=_INK,
            annotation_clip=False,
        )
        top.annotate(
            "",
            xy=(place, 1.0),
            xycoords="axes fraction",
            xytext=(0, 11 + _LABEL_ROW_POINTS * row),
            textcoords="offset points",
            arrowprops={
                "arrowstyle": "-",
                "color": "black",
                "linewidth": 0.6,
                "alpha": 0.45,
                "shrinkA": 0,
                "shrinkB": 0,
            },
            annotation_clip=False,
        )
