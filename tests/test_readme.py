# SPDX-License-Identifier: MIT
"""The README's Python runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pagestep import _core

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_block_runs(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Any ELF file of some sixteen pages will do for the kernel.
    (tmp_path / "vmlinuz").symlink_to(_core.__file__)
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"README.md, Python block {number}", "exec"), {})
    assert capsys.readouterr().out


def test_readme_has_examples() -> None:
    assert len(BLOCKS) == 4
