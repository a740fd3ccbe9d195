# SPDX-License-Identifier: MIT
"""docs/SWAP.md against the code: every offset in its tables, both ways."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = (ROOT / "docs/SWAP.md").read_text(encoding="utf-8")
LAYOUT = (ROOT / "csrc/store/blobs/swap_layout.h").read_text(encoding="ascii")


def in_document(heading: str) -> dict[str, int]:
    section = DOCUMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows: list[tuple[str, str]] = re.findall(r"^\| (\d+) \| \d+ \| `(\w+)` \|", section, re.M)
    return {name: int(offset) for offset, name in rows}


def in_code(prefix: str) -> dict[str, int]:
    return {name: int(at) for name, at in re.findall(rf"{prefix}_(\w+)_AT = (\d+)", LAYOUT)}


@pytest.mark.parametrize(("heading", "prefix"), [("Header block", "SWAP"), ("Records", "RECORD")])
def test_offsets(heading: str, prefix: str) -> None:
    assert in_document(heading) == in_code(prefix)
    assert len(in_code(prefix)) >= 6


@pytest.mark.parametrize("heading", ["Header block", "Records"])
def test_fields_follow_each_other(heading: str) -> None:
    section = DOCUMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows: list[tuple[str, str]] = re.findall(r"^\| (\d+) \| (\d+) \| `", section, re.M)
    end = 0
    for offset, size in rows:
        assert int(offset) == end
        end += int(size)
