# SPDX-License-Identifier: MIT
"""Write the table of levels in docs/LEVELS.md, between its markers, from the code's."""

from __future__ import annotations

from pathlib import Path

from pagestep.store.policy import LEVELS, ONCE

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "LEVELS.md"
BEGIN, END = "<!-- made by tools/level_table.py -->\n", "<!-- end -->\n"
COLUMNS = (
    *("level", "weight", "codec in RAM", "codec in ROM", "expected reads"),
    *("lowest tier", "when it is cold"),
)


def level_table() -> str:
    """Return the table in Markdown."""
    rows: list[tuple[str, ...]] = [COLUMNS, ("---",) * len(COLUMNS)]
    for level, traits in LEVELS.items():
        rows.append(
            (
                f"`{level.name}`",
                str(level.weight) if level.weight else "no candidate",
                traits.ram_codec or "none",
                traits.rom_codec,
                f"{traits.expected_reads:g}",
                traits.lowest_tier.name.lower(),
                traits.cold,
            )
        )
    rows.append(
        (
            "`once`, beside any level",
            "the level's",
            "the level's",
            ONCE.rom_codec,
            "the level's",
            "the level's",
            ONCE.cold,
        )
    )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_table(document: str) -> str:
    """Return a document with the table between its markers."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{level_table()}{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
