# SPDX-License-Identifier: MIT
"""Each block of Python in docs/BACKINGS.md runs as it stands there, by itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pagestep import Anonymous

from .image import builders

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/BACKINGS.md"
BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go where there is an image."""
    (tmp_path / "vmlinuz").write_bytes(builders.small_elf(bytes(32 * 4096)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: str, folder: Path) -> dict[str, object]:
    """Run a block, with its files in a folder of the test's."""
    names: dict[str, object] = {}
    exec(compile(block.replace("/var/tmp/", f"{folder}/"), str(DOCUMENT), "exec"), names)
    return names


def test_an_image_over_a_swap_file(folder: Path) -> None:
    image, _ = BLOCKS
    run(image, folder)
    assert (folder / "pages.swap").stat().st_size == 64 << 20


def test_anonymous_memory_and_its_fork(folder: Path) -> None:
    _, anonymous = BLOCKS
    names = run(anonymous, folder)
    assert isinstance(names["fork"], Anonymous)
    assert [path.name for path in folder.iterdir()] == ["vmlinuz"]
