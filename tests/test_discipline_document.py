# SPDX-License-Identifier: MIT
"""The Python in docs/DISCIPLINE.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/DISCIPLINE.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(DOCUMENT), "exec"), {})


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_block_runs(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(BLOCKS[number], tmp_path, monkeypatch)
    assert capsys.readouterr().out


def test_pools_show_their_exceptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = [block for block in BLOCKS if "nonpaged_pool" in block]
    run(block, tmp_path, monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        "PoolExhausted",
        "PoolOverrun",
        "DoubleFree",
    ]
    assert lines[-1].endswith(" 0"), "the pages of what was freed are gone"
