# SPDX-License-Identifier: MIT
"""``pagestep explain``, and rules given to ``inspect`` and ``rom build``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pagestep import Level, Rom
from pagestep.cli._output import console

from ..image import builders
from ..tags.compilers import TOOLCHAINS
from .command import assert_documented, assert_refused, run, run_json

BASE = 0xFFFFFFFF81000000
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "rules"
RULES = """\
[[rule]]
section = ".text"
level = "NORMAL"

[[rule]]
symbol = ["irq_*", "no_such"]
level = "PINNED"
"""


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinux [1]"
    path.write_bytes(
        builders.elf(
            [builders.Load(BASE, b"\x55" * 3 * 4096, 0x1000000)],
            [builders.Section(".text", BASE, 3 * 4096, builders.A | builders.X)],
            [
                builders.Symbol("irq_entry", BASE + 16, 64),
                builders.Symbol("open_file", BASE + 80, 8192),
            ],
        )
    )
    return path


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def test_the_keys_are_those_of_the_document(elf: Path, rules: Path) -> None:
    found = run_json("explain", elf, "irq_entry", "--rules", rules)
    assert_documented("explain", found)
    level = found["decisions"][0]
    assert (level["value"], level["by"]) == ("PINNED", "rule")
    assert (level["file"], level["line"]) == (str(rules), 5)
    assert [beaten["value"] for beaten in level["beat"]] == ["NORMAL", "PINNED"]
    assert found["pages"][0]["forced_by"] == "irq_entry"
    for where in (".text", "0", "open_file+8", hex(BASE)):
        assert_documented("explain", run_json("explain", elf, where, "--rules", rules))
        assert_documented("explain", run_json("explain", elf, where))


def test_it_says_what_decided_and_what_it_beat(elf: Path, rules: Path) -> None:
    shown = run("explain", elf, "irq_entry", "--rules", rules)
    assert shown.exit_code == 0
    lines = [line.strip() for line in shown.stdout.splitlines()]
    assert f"level        PINNED by rule {rules}:5" in lines
    assert f"before NORMAL by rule {rules}:1" in lines
    assert "before PINNED by default" in lines
    assert "page 0: PINNED, which irq_entry forces; always, balanced in ROM, down to hot" in lines
    plain = run("explain", elf, "0").stdout
    assert "there are neither rules nor tags" in plain


def test_a_section_is_told_in_sum(elf: Path, rules: Path) -> None:
    found = run_json("explain", elf, ".text", "--rules", rules)
    level = found["decisions"][0]
    assert (found["owner"], level["value"], level["line"]) == (".text", "NORMAL", 1)
    normal, pinned = found["asked"]
    assert (normal["value"], normal["line"], normal["pages"]) == ("NORMAL", 1, 3)
    assert (normal["owners"], normal["bytes"]) == (2, 3 * 4096 - 64), "a symbol, and the rest"
    assert (pinned["value"], pinned["line"], pinned["pages"]) == ("PINNED", 5, 1)
    assert (pinned["owners"], pinned["bytes"]) == (1, 64)
    assert found["forced_pages"] == 1
    [forcing] = found["forcing"]
    assert (forcing["owner"], forcing["line"], forcing["pages"]) == ("irq_entry", 5, 1)
    shown = run("explain", elf, ".text", "--rules", rules).stdout
    assert "for .text, as most of its bytes ask:" in shown
    assert "pages that are more careful than NORMAL: 1" in shown
    [line] = [line for line in shown.splitlines() if line.startswith("irq_entry")]
    assert f"PINNED by rule {rules}:5" in line


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("where", [".text", "irq_entry"])
def test_a_narrow_terminal_cuts_no_place(
    elf: Path, monkeypatch: pytest.MonkeyPatch, where: str, width: int
) -> None:
    monkeypatch.chdir(elf.parent)
    name = "rules-of-a-kernel.toml"
    Path(name).write_text(RULES)
    monkeypatch.setattr(console, "_width", width)
    shown = run("explain", elf.name, where, "--rules", name).stdout
    # The decision with what it beat, and once in a table at least.
    assert shown.replace("\n", "").count(f"{name}:5") >= (1 if where == ".text" else 2)
    assert shown.replace("\n", "").count(f"{name}:1") >= 2
    assert hex(BASE + 16) in shown or where == ".text"


def test_inspect_with_rules(elf: Path, rules: Path) -> None:
    found = run_json("inspect", elf, "--rules", rules)
    assert_documented("inspect", found)
    assert found["levels"] == {**dict.fromkeys(Level.__members__, 0), "PINNED": 1, "NORMAL": 2}
    assert (found["pageable_pages"], found["unowned_pages"]) == (2, 0)
    assert (found["sharing_pages"], found["sharing_pinned_pages"]) == (1, 1)
    assert found["sharing_bytes"] == 4096 - 64
    [forced] = found["sharing_forced_by"]
    assert (forced["owner"], forced["level"], forced["pages"]) == ("irq_entry", "PINNED", 1)
    [unmatched] = found["unmatched_rules"]
    assert (unmatched["line"], unmatched["is_partial"]) == (5, True)
    shown = run("inspect", elf, "--rules", rules).stdout
    assert "pageable: 2 of 3 pages, 66.7%" in shown
    assert f"{rules}:5: this rule matches less than it says: 1 of its 2 symbol globs" in shown
    assert run_json("inspect", elf)["levels"]["NORMAL"] == 3
    assert "Levels" not in run("inspect", elf).stdout


def test_rom_build_with_rules(elf: Path, rules: Path, tmp_path: Path) -> None:
    out = tmp_path / "kernel.rom"
    rules.write_text('[[rule]]\nsection = ".text"\nlevel = "LAST_RESORT"\n')
    run_json("rom", "build", elf, "-o", out, "--rules", rules)
    with Rom.open(out) as rom:
        assert rom.levels == (Level.LAST_RESORT,)
    assert "most careful" in run("rom", "info", out).stdout, "a segment's pages may differ"
    refused = run("rom", "build", elf, "-o", out, "--rules", rules, "--level", ".text=EAGER")
    assert_refused(refused, "--level and --rules")
    assert_refused(run("rom", "build", elf, "-o", rules, "--rules", rules), "is read")


@pytest.mark.parametrize(
    "command", [["inspect"], ["explain"], ["rom", "build"]], ids=["inspect", "explain", "build"]
)
def test_bad_rules_are_one_line(elf: Path, rules: Path, tmp_path: Path, command: list[str]) -> None:
    more = {"explain": ["0"], "build": ["-o", str(tmp_path / "out.rom")]}.get(command[-1], [])
    arguments = [*command, elf, *more, "--rules", rules]
    rules.write_text('[[rule]]\nsymbol = "a"\nlevel = "NORMLA"\n')
    assert_refused(run(*arguments), f"{rules}:3: ", "'NORMLA'", "did you mean 'NORMAL'")
    rules.write_text(f'include = ["{rules.name}"]\n')
    assert_refused(run(*arguments), f"{rules}:1: a cycle")
    rules.unlink()
    assert_refused(run(*arguments), "rules.toml: No such file")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("99", ["page 99 does not exist"]),
        ("irq_entri", ["did you mean 'irq_entry'"]),
        ("0x10", ["0x10"]),
        ("irq_entry+64", ["irq_entry has 64 bytes"]),
    ],
)
def test_what_there_is_not_is_one_line(elf: Path, where: str, words: list[str]) -> None:
    assert_refused(run("explain", elf, where), *words)


def test_an_image_without_symbols_says_how_to_get_them(tmp_path: Path) -> None:
    path = tmp_path / "firmware"
    path.write_bytes(b"\x55" * 4096)
    assert_refused(run("explain", "--raw", path, "main"), "no symbols", "--system-map")


# -- the example of docs/RULES.md ---------------------------------------------------------


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    thumb = TOOLCHAINS["thumb"]
    compiled, program = tmp_path / "firmware.o", tmp_path / "firmware.elf"
    thumb.compile(EXAMPLES / "firmware.c", compiled, "-Os")
    thumb.link([compiled], program)
    return program


def test_the_examples_rules(firmware: Path) -> None:
    rules = EXAMPLES / "firmware.toml"
    found = run_json("inspect", firmware, "--rules", rules)
    assert found["unmatched_rules"] == []
    assert (found["levels"]["PINNED"], found["pageable_pages"]) == (3, 4)
    assert (found["sharing_pages"], found["once_pages"]) == (1, 2)
    usage = run_json("explain", firmware, "usage", "--rules", rules)["decisions"][0]
    assert (usage["value"], Path(usage["file"]).name) == ("STEP_ON_IT", "firmware.toml")
    assert usage["beat"][0]["tag"] == "__pageable_rodata_eager"
    gain = run_json("explain", firmware, "calibrate_gain", "--rules", rules)
    assert gain["decisions"][0]["value"] == "STEP_ON_IT"
    assert gain["pages"][0]["forced_by"] == "_start"
    assert run_json("explain", firmware, "tick")["decisions"][0]["tag"] == "__nonpageable"
    out = firmware.with_suffix(".rom")
    run_json("rom", "build", firmware, "-o", out)
    with Rom.open(out) as rom:
        levels = dict(zip((s.name for s in rom.segments), rom.levels, strict=True))
    assert levels[".pageable.text.eager"] == Level.EAGER, "tags hold without rules"
    assert levels[".text"] == Level.PINNED


def test_the_documents_check_passes(
    firmware: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(EXAMPLES)
    document = (EXAMPLES.parents[1] / "docs" / "RULES.md").read_text(encoding="utf-8")
    [line] = re.findall(r"^pagestep (check .*)$", document, re.MULTILINE)
    words = [str(firmware) if word == "/tmp/firmware.elf" else word for word in line.split()]
    assert "--no-default-roots" in words
    shown = run(*words)
    assert shown.exit_code == 0, shown.stdout
    assert run("check", firmware, "--rules", "firmware.toml").exit_code == 1, "_start reaches all"


def test_the_document_shows_what_is_printed(
    firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    shown = run("explain", firmware, "calibrate_gain", "--rules", "firmware.toml").stdout
    document = (EXAMPLES.parents[1] / "docs" / "RULES.md").read_text(encoding="utf-8")
    [block] = [part for part in document.split("```") if part.startswith("\nsymbol ")]
    # All but the compiler's own addresses and sizes.
    for text in (shown, block):
        assert "page 0: PINNED, which _start forces; always, balanced in ROM, down to hot" in text
    assert [line.strip() for line in block.splitlines() if " by " in line and "0x" not in line] == [
        line.strip() for line in shown.splitlines() if " by " in line and "0x" not in line
    ]
