# SPDX-License-Identifier: MIT
"""Join the ROM reader's files into one header, to be dropped into a firmware's tree.

    python tools/make_rom_header.py out/pagestep_rom.h

The same sources make the same header, byte for byte.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CSRC = Path(__file__).resolve().parent.parent / "csrc"
FOLDERS = (CSRC / "rom", CSRC / "include")

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
 * where it is compiled with -ffreestanding. A linker that is given
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


def make_header() -> str:
    """Return the whole header's text."""
    seen: set[Path] = set()
    public = expand(CSRC / "include" / "pagestep" / "rom.h", seen)
    # error.h promises pgs_error_text, which the store shares.
    sources = [*sorted((CSRC / "rom").glob("*.c")), CSRC / "codec" / "error.c"]
    return HEAD + public + MIDDLE + "".join(expand(path, seen) for path in sources) + TAIL


def main() -> None:
    """Write the header to the path that is given."""
    if len(sys.argv) != 2:
        sys.exit("usage: make_rom_header.py PATH, such as out/pagestep_rom.h")
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(make_header(), encoding="ascii")


if __name__ == "__main__":
    main()
