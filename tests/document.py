# SPDX-License-Identifier: MIT
"""Documents whose Python is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


class Document:
    """A document of docs/.

    Attributes:
        text: All of it.
        blocks: The Python in it.
    """

    def __init__(self, name: str) -> None:
        self._path = DOCS / name
        self.text = self._path.read_text(encoding="utf-8")
        self.blocks: list[str] = re.findall(
            r"^```python\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL
        )

    def run(self, block: str, names: dict[str, object]) -> None:
        """Run a block, which sees and gives names."""
        exec(compile(block, str(self._path), "exec"), names)

    def run_all(self, capsys: pytest.CaptureFixture[str]) -> list[str]:
        """Run all blocks as one program; return what each showed."""
        names: dict[str, object] = {}
        shown: list[str] = []
        for block in self.blocks:
            self.run(block, names)
            shown.append(capsys.readouterr().out)
        return shown
