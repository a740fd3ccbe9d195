# SPDX-License-Identifier: MIT
"""The Python in docs/DISCIPLINE.md runs as it stands there, as one program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .document import Document

DISCIPLINE = Document("DISCIPLINE.md")


def test_the_examples_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = DISCIPLINE.run_all(capsys)
    assert all(shown)
    [pools] = [
        text for text, block in zip(shown, DISCIPLINE.blocks, strict=True) if "nonpaged" in block
    ]
    assert re.findall(r"^\w+(?=:)", pools, re.MULTILINE) == [
        "PoolExhausted",
        "PoolOverrun",
        "DoubleFree",
    ]
    assert pools.endswith(" 0\n"), "the pages of what was freed are gone"


def test_every_section_that_the_table_names_is_there() -> None:
    table, _, sections = DISCIPLINE.text.partition("## ")
    names = {
        name.lower().replace(" ", "-")
        for name in re.findall(r"^## (.+)$", DISCIPLINE.text, re.MULTILINE)
    }
    links = set(re.findall(r"\(#([\w-]+)\)", table))
    assert links <= names
    assert len(links) == 9
    assert sections
