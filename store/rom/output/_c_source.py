# SPDX-License-Identifier: MIT
"""C99 source of a ROM image."""

from __future__ import annotations

import numpy as np

from ._options import Options

_ROW_BYTES = 16
_ROWS_AT_ONCE = 1 << 16
# The text of each value of a byte, five characters: "0x00," to "0xff,".
_TEXTS = np.frombuffer(b"".join(b"0x%02x," % value for value in range(256)), np.uint8).reshape(
    -1, 5
)

_HEAD = """\
/* A ROM image, made by pagestep. Who uses it, or the ELF object of it, declares: */
extern const unsigned char {name}[];
extern const unsigned long {name}_size;

/* Where the compiler knows neither, see to {align} bytes when you link. */
#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define {name}_ALIGNED _Alignas({align})
#elif defined(__GNUC__)
#define {name}_ALIGNED __attribute__((aligned({align})))
#else
#define {name}_ALIGNED
#endif

{name}_ALIGNED const unsigned char {name}[{size}] = {{
"""
_TAIL = """\
}};

const unsigned long {name}_size = {size};
"""


def c_source(rom: memoryview, options: Options) -> bytes:
    """Return C source that defines what the ELF object defines, except start and end.

    C has no name for the place behind an array that could be declared as in the ELF object.
    """
    words = {"name": options.symbol(), "size": f"{len(rom)}UL", "align": options.alignment()}
    data = np.frombuffer(rom, np.uint8)
    full = len(data) - len(data) % _ROW_BYTES
    step = _ROWS_AT_ONCE * _ROW_BYTES
    pieces = [_rows(data[at : min(at + step, full)], _ROW_BYTES) for at in range(0, full, step)]
    if full < len(data):
        pieces.append(_rows(data[full:], len(data) - full))
    return b"".join(
        [_HEAD.format(**words).encode("ascii"), *pieces, _TAIL.format(**words).encode("ascii")]
    )


def _rows(data: np.ndarray[tuple[int], np.dtype[np.uint8]], row_bytes: int) -> bytes:
    """Return lines of ``row_bytes`` values each, which ``data`` must fill."""
    texts = _TEXTS[data].reshape(-1, row_bytes * _TEXTS.shape[1])
    return np.pad(texts, ((0, 0), (0, 1)), constant_values=ord("\n")).tobytes()
