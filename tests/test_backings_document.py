# SPDX-License-Identifier: MIT
"""Each block of Python in docs/BACKINGS.md runs as it stands there, by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagestep import Anonymous

from .document import Document
from .image import builders

BACKINGS = Document("BACKINGS.md")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go where there is an image."""
    (tmp_path / "vmlinuz").write_bytes(builders.small_elf(bytes(32 * 4096)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: str, folder: Path) -> dict[str, object]:
    """Run a block, with its files in a folder of the test's."""
    names: dict[str, object] = {}
    BACKINGS.run(block.replace("/var/tmp/", f"{folder}/"), names)
    return names


def test_an_image_over_a_swap_file(folder: Path) -> None:
    image, _ = BACKINGS.blocks
    run(image, folder)
    assert (folder / "pages.swap").stat().st_size == 64 << 20


def test_anonymous_memory_and_its_fork(folder: Path) -> None:
    _, anonymous = BACKINGS.blocks
    names = run(anonymous, folder)
    assert isinstance(names["fork"], Anonymous)
    assert [path.name for path in folder.iterdir()] == ["vmlinuz"]
