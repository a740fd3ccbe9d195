# SPDX-License-Identifier: MIT
"""Join the ROM reader's files into one header, to be dropped into a firmware's tree.

    python tools/make_rom_header.py [--zstd] out/pagestep_rom.h

With --zstd it has rom_zstd.h as well, and its implementation needs libzstd.
The same sources make the same header, byte for byte.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CSRC = Path(__file__).resolve().parent.parent / "csrc"
FOLDERS = (CSRC / "rom", CSRC / "include")
ZSTD = CSRC / "rom" / "rom_zstd.c"

HEAD = """\
/* SPDX-License-Identifier: MIT
 *
 * pagestep's ROM reader as one file, made by tools/make_rom_header.py from
 * csrc/include/pagestep and csrc/rom. Include it wherever pages are read; in
 * one C file, which best has nothing else in it, write before that
 *
 *     #define PAGESTEP_ROM_IMPLEMENTATION
 *
 * It is C99 and needs <stddef.h> and <stdint.h> of the compiler, nothing else
 * where it is compiled with -ffreestanding; with rom_zstd.h, if that is in
 * here, it needs libzstd. A linker that is given
 * --gc-sections, and files compiled with -ffunction-sections and
 * -fdata-sections, leave out what is not used. C++ may include the
 * declarations; the implementation is C.
 */
#ifndef PAGESTEP_ROM_SINGLE_H
#define PAGESTEP_ROM_SINGLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
"""

MIDDLE = """
#ifdef __cplusplus
}
#endif

#endif /* PAGESTEP_ROM_SINGLE_H */

#if defined(PAGESTEP_ROM_IMPLEMENTATION) && !defined(PAGESTEP_ROM_IMPLEMENTED)
#define PAGESTEP_ROM_IMPLEMENTED

#ifdef __cplusplus
#error "the implementation of pagestep_rom.h is C99: give it a C file of its own"
#endif
"""

TAIL = """
#endif /* PAGESTEP_ROM_IMPLEMENTATION */
"""

_OURS = re.compile(r'#include "([^"]+)"')
_GUARD = re.compile(r"#ifndef (\w+_H)\n#define \1\n(.*)#endif\n\Z", re.DOTALL)
_LICENCE = re.compile(r"\A/\* SPDX-License-Identifier: MIT(?: \*/\n|\n \*\n)")
_COMPILERS = ("#include <stddef.h>", "#include <stdint.h>")


def expand(path: Path, seen: set[Path]) -> str:
    """Return a file's text with what it includes of ours in place, each file once.

    Args:
        path: A C file or header.
        seen: The files that are in the text already; this one and its own are added.
    """
    seen.add(path)
    source = path.read_text(encoding="ascii")
    licence = _LICENCE.match(source)
    if licence is None:
        raise ValueError(f"{path}: does not begin with its licence")
    # What follows the licence in the same comment stays.
    source = ("" if licence[0].endswith("*/\n") else "/*\n") + source[licence.end() :]
    source = _GUARD.sub(r"\2", source)
    lines: list[str] = []
    for line in source.splitlines():
        if match := _OURS.fullmatch(line):
            found = next(folder / match[1] for folder in FOLDERS if (folder / match[1]).is_file())
            if found not in seen:
                lines.append(expand(found, seen))
        elif line not in _COMPILERS:
            lines.append(line)
    text = "\n".join(lines).strip("\n")
    return re.sub(r"\n{3,}", "\n\n", f"\n/* {path.relative_to(CSRC)} */\n{text}\n")


def reader_sources(*, zstd: bool = False) -> list[Path]:
    """Return the reader's C files, with zstd that which needs libzstd as well."""
    return [path for path in sorted((CSRC / "rom").glob("*.c")) if zstd or path != ZSTD]


def make_header(*, zstd: bool = False) -> str:
    """Return the whole header's text, with zstd for who links libzstd."""
    seen: set[Path] = set()
    names = ("rom.h", "rom_zstd.h") if zstd else ("rom.h",)
    public = [CSRC / "include" / "pagestep" / name for name in names]
    # error.h promises pgs_error_text, which the store shares.
    sources = [*reader_sources(zstd=zstd), CSRC / "codec" / "error.c"]
    declared, implemented = ("".join(expand(path, seen) for path in of) for of in (public, sources))
    return HEAD + declared + MIDDLE + implemented + TAIL


def main() -> None:
    """Write the header to the path that is given."""
    zstd = sys.argv[1:2] == ["--zstd"]
    if len(sys.argv) != 2 + zstd:
        sys.exit("usage: make_rom_header.py [--zstd] PATH, such as out/pagestep_rom.h")
    target = Path(sys.argv[-1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(make_header(zstd=zstd), encoding="ascii")


if __name__ == "__main__":
    main()
