# SPDX-License-Identifier: MIT
"""Write an image's pages to a file, and print the name of its branch filter.

python bench/flatten.py vmlinuz out.flat
"""

from __future__ import annotations

import sys
from pathlib import Path

from pagestep.codecs import filter_for
from pagestep.store.image import Image


def main(source: str, target: str) -> None:
    """Write the file."""
    with Image.open(source) as image:
        Path(target).write_bytes(image.flat().tobytes())
        print(filter_for(image.arch))


if __name__ == "__main__":
    main(*sys.argv[1:])
