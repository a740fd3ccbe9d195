# SPDX-License-Identifier: MIT
"""Show what bench_codec --json wrote as tables.

python bench/show_core.py results.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from _harness import show_table


def main(path: str) -> None:
    """Print a table for each group."""
    rows: list[dict[str, Any]] = json.loads(Path(path).read_text())
    codecs = [row for row in rows if row["group"] == "codec" and row["arm"].startswith("pgs_")]
    if codecs:
        show_table(
            "pgs_encode and pgs_decode against the bare library",
            ("", "what", "µs a page", "ratio", "coded, %"),
            [
                (row["setting"], row["arm"], f"{row['ns_per_page'] / 1000:.2f}",
                 f"{row['ratio']:.3f}", f"{row['size_percent']:.1f}")
                for row in codecs
            ],
        )  # fmt: skip
    stores = [row for row in rows if row["group"] == "store"]
    for setting in dict.fromkeys(row["setting"] for row in stores):
        show_table(
            f"pgs_read, {setting}",
            ("", "threads", "ns a page", "ratio", "over the first, ns"),
            [
                (row["arm"], row["threads"], f"{row['ns_per_page']:.0f}", f"{row['ratio']:.3f}",
                 f"{row['extra_ns']:+.0f}")
                for row in stores
                if row["setting"] == setting
            ],
        )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
