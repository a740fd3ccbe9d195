# SPDX-License-Identifier: MIT
"""The Python in docs/MAPS.md runs as it stands there, as one program; what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pagestep
from pagestep import Mapping, map_support

from .document import Document

MAPS = Document("MAPS.md")


@pytest.mark.skipif(map_support().reason is not None, reason=f"no maps: {map_support().reason}")
def test_the_examples_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, support, calls, failing = MAPS.run_all(capsys)
    assert first.startswith("True MapStats(service='")
    assert first.endswith("41943 0 True\n")
    assert support.startswith("sigbus: ")
    assert calls == "8192\n"
    assert failing == "page 7 is damaged\n"


def test_the_exceptions_of_its_table_are_pagesteps() -> None:
    table = MAPS.text.split("## Errors\n")[1]
    names = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.+?) \|", table, re.MULTILINE)))
    ours = [name for name in names if name not in ("OSError", "EFAULT")]
    assert len(ours) >= 9
    for name in ours:
        assert issubclass(getattr(pagestep, name), pagestep.PageStepError)


def test_every_method_of_a_mapping_is_spoken_of() -> None:
    for name in vars(Mapping):
        if not name.startswith("_"):
            assert re.search(rf"\b{name}\b", MAPS.text), name
