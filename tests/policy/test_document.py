# SPDX-License-Identifier: MIT
"""docs/RULES.md: its tables are the code's, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pagestep import Level, RuleSet
from pagestep.store.policy._rules_check import _MATCHERS, _SETS  # pyright: ignore[reportPrivateUsage]

from ..image import builders

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "RULES.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")


def rows_of(heading: str) -> dict[str, str]:
    """Return the first two columns of the table with such a heading."""
    table = TEXT.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE))


def test_matchers_and_settings_are_the_codes() -> None:
    assert list(rows_of("matcher")) == list(_MATCHERS)
    settings = rows_of("setting")
    assert list(settings) == list(_SETS)
    for key, text in settings.items():
        values = re.findall(r'`"(\w+)"`', text)
        for value in values:
            _SETS[key](value)
    assert set(re.findall(r'"(\w+)"', settings["level"])) == set(Level.__members__)


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules, check = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    [code] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("common.toml").write_text("")
    Path("rules.toml").write_text(rules + check)
    loaded = RuleSet.load("rules.toml")
    assert (len(loaded.rules), len(loaded.indirect)) == (3, 1)
    Path("vmlinux").write_bytes(
        builders.elf(
            [builders.Load(0x1000, b"\x55" * 8192)],
            [builders.Section(".text", 0x1000, 8192, builders.A | builders.X)],
            [builders.Symbol("schedule", 0x1010, 64)],
        )
    )
    exec(compile(code, "RULES.md", "exec"), {})
    assert "NORMAL by rule rules.toml:3" in capsys.readouterr().out
