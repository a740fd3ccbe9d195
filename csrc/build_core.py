# SPDX-License-Identifier: MIT
"""Describe the cffi extension ``pagestep._core``.

Run by the build through ``cffi-gen-src exec-python``. The public headers are
the only place where a C signature is written: they, minus their preprocessor
lines, are the cdef. Keep them to plain declarations and enums, so that this
stays true.
"""

from pathlib import Path

from cffi import FFI

_PARTS = (
    "error.h",
    "ids.h",
    "codec.h",
    "rom.h",
    "store.h",
    "blobs.h",
    "pager.h",
    "map.h",
    "discipline.h",
    "heap.h",
    "rom_reader.h",
)
_INCLUDE = Path(__file__).with_name("include") / "pagestep"


def _declarations(part: str) -> str:
    lines = (_INCLUDE / part).read_text(encoding="ascii").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


ffibuilder = FFI()
ffibuilder.cdef("\n".join(_declarations(part) for part in _PARTS))
ffibuilder.set_source("pagestep._core", '#include "pagestep.h"')
