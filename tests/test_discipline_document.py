# SPDX-License-Identifier: MIT
"""The Python in docs/DISCIPLINE.md runs as it stands there, as one program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/DISCIPLINE.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_examples_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shown: list[str] = []
    for block in BLOCKS:
        exec(compile(block, str(DOCUMENT), "exec"), names)
        shown.append(capsys.readouterr().out)
    assert all(shown)
    [pools] = [text for text, block in zip(shown, BLOCKS, strict=True) if "nonpaged" in block]
    assert re.findall(r"^\w+(?=:)", pools, re.MULTILINE) == [
        "PoolExhausted",
        "PoolOverrun",
        "DoubleFree",
    ]
    assert pools.endswith(" 0\n"), "the pages of what was freed are gone"


def test_every_section_that_the_table_names_is_there() -> None:
    table, _, sections = TEXT.partition("## ")
    names = {
        name.lower().replace(" ", "-") for name in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    }
    links = set(re.findall(r"\(#([\w-]+)\)", table))
    assert links <= names
    assert len(links) == 9
    assert sections
