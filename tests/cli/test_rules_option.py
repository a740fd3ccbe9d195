# SPDX-License-Identifier: MIT
"""What commands say of the rules that they are given, where these do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..discipline.programs import build
from .command import assert_refused, run

IDLE = '[[rule]]\nsection = ".gone"\nlevel = "NORMAL"\n'


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(IDLE)
    return path


@pytest.fixture(params=["inspect", "check", "replay", "rom build"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[object]:
    """A command that takes rules, with what else it must have."""
    name = str(request.param)
    elf = build(tmp_path, "x86_64")
    more: dict[str, list[object]] = {
        "check": ["--no-default-roots", "--root", "direct"],
        "rom build": ["-o", tmp_path / "out.rom"],
    }
    return [*name.split(), elf, *more.get(name, [])]


def test_rules_that_match_nothing_are_named(command: list[object], rules: Path) -> None:
    shown = run(*command, "--rules", rules)
    assert shown.exit_code == 0, shown.output
    assert f"{rules}:1: this rule matches nothing: " in shown.stdout
    rules.write_text(IDLE * 7)
    several = run(*command, "--rules", rules).stdout
    if command[0] == "inspect":
        assert several.count("this rule matches nothing") == 7
    else:
        assert several.count("this rule matches nothing") == 5
        assert "and 2 rules more: `pagestep inspect` lists them" in several


def test_a_file_without_rules_is_named(command: list[object], rules: Path) -> None:
    rules.write_text("")
    shown = run(*command, "--rules", rules)
    assert shown.exit_code == 0, shown.output
    assert f"{rules} has no rules: all is PINNED" in shown.stdout


def test_a_second_file_is_refused(command: list[object], rules: Path) -> None:
    refused = run(*command, "--rules", rules, "--rules", rules)
    assert_refused(refused, "--rules is given 2 times: give one file that includes the others")
