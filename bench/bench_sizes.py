# SPDX-License-Identifier: MIT
"""Total size of an image for codec, filter and dictionary, page by page, everything counted.

    python bench/bench_sizes.py x86-cloud=vmlinuz marvell=zImage

Counted: the dictionary as it is, every page's bytes, pages that do not shrink whole;
same-filled pages take none. Not counted: a table of where pages are, which formats differ in.
"""

from __future__ import annotations

from dataclasses import dataclass

from _harness import Kernel, arguments, kernels_of, save, show_table

from pagestep.codecs import Codec, train_dictionary

CASES = (("lz4", 0), ("lz4", 12), ("zstd", 3), ("zstd", 19), ("zstd", 22))
DICTIONARIES = {"lz4": (0, 65_535), "zstd": (0, 64 << 10, 256 << 10)}
# Measured in November 2026 on a two-core x86-64 virtual machine with Debian 12, in bytes, to
# ten thousand: (kernel, codec, level, filtered, dictionary size).
KNOWN = {
    ("x86-cloud", "lz4", 12, False, 0): 15_090_000,
    ("x86-cloud", "lz4", 12, True, 65_535): 13_150_000,
    ("x86-cloud", "zstd", 22, False, 0): 10_820_000,
    ("x86-cloud", "zstd", 22, True, 64 << 10): 9_900_000,
    ("marvell", "lz4", 12, False, 0): 5_330_000,
    ("marvell", "lz4", 12, True, 65_535): 4_310_000,
    ("marvell", "zstd", 22, False, 0): 3_970_000,
    ("marvell", "zstd", 22, True, 64 << 10): 3_530_000,
}


@dataclass(frozen=True)
class Row:
    """One total, in bytes.

    Attributes:
        kernel: The image.
        codec: Its name.
        level: Its level.
        filter: The branch filter.
        dictionary_bytes: Of the dictionary; counted in ``total_bytes``.
        raw_pages: Pages that did not shrink.
        total_bytes: All of it.
        image_bytes: Of the image, uncompressed.
        known_bytes: What was measured in November 2026; 0 where nothing was.
        ratio: ``total_bytes`` to ``known_bytes``; 0 where there is none.
    """

    kernel: str
    codec: str
    level: int
    filter: str
    dictionary_bytes: int
    raw_pages: int
    total_bytes: int
    image_bytes: int
    known_bytes: int
    ratio: float


def dictionary_of(kernel: Kernel, codec: str, size: int, filter_name: str) -> bytes:
    """Train a dictionary; zstd's begins with tables."""
    if not size:
        return b""
    return train_dictionary(
        kernel.matrix, size, filter=filter_name, address=kernel.base, tables=codec == "zstd"
    )


def total(
    kernel: Kernel, codec: str, level: int, filter_name: str, size: int, dictionary: bytes
) -> Row:
    """Encode every page that is not same-filled; ``size`` is what the dictionary may take."""
    sizes: list[int] = []
    with Codec(codec, level=level, filter=filter_name, dictionary=dictionary) as coder:
        for page_no in kernel.distinct.tolist():
            page = kernel.matrix[page_no]
            data = coder.encode(page, address=kernel.address(page_no))
            sizes.append(page.nbytes if data is None else len(data))
    total_bytes = sum(sizes) + len(dictionary)
    known = KNOWN.get((kernel.name, codec, level, filter_name != "none", size), 0)
    return Row(
        kernel=kernel.name,
        codec=codec,
        level=level,
        filter=filter_name,
        dictionary_bytes=len(dictionary),
        raw_pages=sizes.count(kernel.matrix.shape[1]),
        total_bytes=total_bytes,
        image_bytes=kernel.matrix.nbytes,
        known_bytes=known,
        ratio=total_bytes / known if known else 0,
    )


def main() -> None:
    """Run all of it."""
    parsed = arguments("Total sizes, everything counted.").parse_args()
    rows: list[Row] = []
    for kernel in kernels_of(parsed):
        for filter_name in dict.fromkeys(("none", kernel.filter)):
            dictionaries = {
                (codec, size): dictionary_of(kernel, codec, size, filter_name)
                for codec, wanted in DICTIONARIES.items()
                for size in wanted
            }
            for codec, level in CASES:
                rows += [
                    total(kernel, codec, level, filter_name, size, dictionaries[codec, size])
                    for size in DICTIONARIES[codec]
                ]
    for name in dict.fromkeys(row.kernel for row in rows):
        mine = [row for row in rows if row.kernel == name]
        show_table(
            f"Total size, {name}, {mine[0].image_bytes:,} bytes uncompressed",
            ("codec", "filter", "dictionary", "raw pages", "total", "known", "of known"),
            [
                (
                    f"{row.codec} {row.level}",
                    row.filter,
                    f"{row.dictionary_bytes:,}",
                    row.raw_pages,
                    f"{row.total_bytes:,}",
                    f"{row.known_bytes / 1e6:.2f} M" if row.known_bytes else "",
                    f"{row.ratio:.4f}" if row.known_bytes else "",
                )
                for row in mine
            ],
        )
    save(parsed.json, rows)


if __name__ == "__main__":
    main()
