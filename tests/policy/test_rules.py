# SPDX-License-Identifier: MIT
"""What a file of rules may say, and that what it may not is said with its line."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagestep import BadRules, Level, RuleSet, Tier
from pagestep.store.policy import CODEC_NAMES
from pagestep.store.policy._toml_lines import line_numbers

EVERYTHING = """\
# The kernel of a router.
[[rule]]
section = ".text"
level = "NORMAL"

[[rule]]
symbol = ["e1000_*", "ixgbe_?robe"]
section = ".init.*"
module = "e1000"
source = "drivers/net/*"
address = ["0xffffffff81000000", 0xffffffff82000000]
level = "STEP_ON_IT"
lifecycle = "once"
codec = "dense"
lowest_tier = "rom"

[check]
roots = ["do_fault", "irq_*"]
cuts = "panic*"

[[indirect]]
callers = "vfs_*"
targets = ["ext4_*"]
prototype = "file_operations.read"
"""


def test_everything_is_read() -> None:
    rules = RuleSet.parse(EVERYTHING, name="router.toml")
    first, second = rules.rules
    assert (first.place, first.section, first.level) == ("router.toml:2", (".text",), Level.NORMAL)
    assert (first.symbol, first.address, first.once, first.codec) == ((), None, None, None)
    assert second.line == 6
    assert second.symbol == ("e1000_*", "ixgbe_?robe")
    assert (second.module, second.source) == (("e1000",), ("drivers/net/*",))
    assert second.address == (0xFFFFFFFF81000000, 0xFFFFFFFF82000000)
    assert (second.level, second.once) == (Level.STEP_ON_IT, True)
    assert second.codec is not None
    assert (CODEC_NAMES[second.codec], second.lowest_tier) == ("dense", Tier.ROM)
    assert rules.roots == ("do_fault", "irq_*")
    assert rules.cuts == ("panic*",)
    [indirect] = rules.indirect
    assert (indirect.file, indirect.line) == ("router.toml", 21)
    assert (indirect.callers, indirect.targets) == (("vfs_*",), ("ext4_*",))
    assert indirect.prototype == "file_operations.read"
    assert RuleSet.parse("") == RuleSet()


RULE = '[[rule]]\nsymbol = "a"\n'

BAD: dict[str, tuple[str, int, *tuple[str, ...]]] = {
    "unknown key": (f'{RULE}levle = "NORMAL"', 3, "'levle'", "did you mean 'level'"),
    "unknown key, nothing near": (f"{RULE}zzz = 1", 3, "'zzz'", "it can be section, symbol"),
    "unknown table": (f'{RULE}level = "EAGER"\n[[rules]]\nx = 1', 4, "'rules'", "'rule'"),
    "unknown level": (f'{RULE}level = "NORMLA"', 3, "'NORMLA'", "did you mean 'NORMAL'"),
    "level in small letters": (f'{RULE}level = "eager"', 3, "'eager'", "did you mean 'EAGER'"),
    "level, no text": (f"{RULE}level = 3", 3, "level 3", "must be text"),
    "unknown lifecycle": (f'{RULE}lifecycle = "onec"', 3, "'onec'", "did you mean 'once'"),
    "unknown codec": (f'{RULE}codec = "densest"', 3, "'densest'", "did you mean 'dense'"),
    "unknown tier": (f'{RULE}lowest_tier = "dsk"', 3, "'dsk'", "did you mean 'disk'"),
    "no codec's own name": (f'{RULE}codec = "zstd"', 3, "'zstd'", "fast, balanced, dense"),
    "symbol, no text": ('[[rule]]\nsymbol = 7\nlevel = "EAGER"', 2, "symbol 7", "glob"),
    "symbols, none": ('[[rule]]\nsymbol = []\nlevel = "EAGER"', 2, "symbol []", "glob"),
    "symbols, one no text": ('[[rule]]\nsymbol = ["a", 1]\nlevel = "EAGER"', 2, "['a', 1]"),
    "a long wrong list": (f"{RULE}section = {list(range(99))}", 3, "section [0, 1, 2", "..."),
    "address, one": ('[[rule]]\naddress = [1]\nlevel = "EAGER"', 2, "[1]", "[from, to]"),
    "address, words": ('[[rule]]\naddress = ["a", "b"]\nlevel = "EAGER"', 2, "[from, to]"),
    "address, backwards": ('[[rule]]\naddress = [16, 16]\nlevel = "EAGER"', 2, "[16, 16]"),
    "address, too large": (f'[[rule]]\naddress = [0, {2**64 + 1}]\nlevel = "EAGER"', 2, "64 bits"),
    "address, truth": ('[[rule]]\naddress = [false, true]\nlevel = "EAGER"', 2, "[from, to]"),
    "no matcher": ('\n[[rule]]\nlevel = "EAGER"', 2, "matches nothing", "section, symbol, module"),
    "no effect": ('\n[[rule]]\nsymbol = "a"', 2, "without effect", "level, lifecycle"),
    "pinned and deep": (
        f'{RULE}level = "PINNED"\nlowest_tier = "rom"',
        4,
        "contradiction",
        "'rom'",
    ),
    "hot and eager": (f'{RULE}lowest_tier = "hot"\nlevel = "EAGER"', 3, "contradiction", "EAGER"),
    "rule, one table": ('[rule]\nsymbol = "a"', 1, "[[rule]]"),
    "rule, a number": ("rule = 3", 1, "[[rule]]"),
    "rule, a list of numbers": ("rule = [3]", 1, "must be a table"),
    "table in a rule": (f'{RULE}level = "EAGER"\n[rule.address]\nfrom = 1', 4, "[from, to]"),
    "include, a number": ("include = [3]", 1, "path of a file"),
    "check, a list": ("check = []", 1, "must be a table"),
    "check, unknown": ('[check]\nrots = "a"', 2, "'rots'", "'roots'"),
    "indirect without targets": ('\n[[indirect]]\ncallers = "a"', 2, "give it targets"),
    "indirect, unknown": ('[[indirect]]\ntarget = "a"', 2, "'target'", "'targets'"),
    "no TOML": ("[[rule]]\nsymbol 3", 2, "not TOML", "column"),
    "no TOML at the end": ('[[rule]]\nsymbol = "', 2, "not TOML"),
    "a key twice": (f'{RULE}symbol = "b"', 3, "not TOML"),
    "second of many": (f'{RULE}level = "EAGER"\n{RULE}level = "NO"', 6, "'NO'"),
    "in a list of inline tables": ('rule = [\n {symbol = "a", level = "NO"},\n]', 1, "'NO'"),
    "a dotted key": ("\ncheck.rots.x = 1", 2, "'rots'", "'roots'"),
    "a key in quotes": (f'{RULE}"lev el" = 3', 3, "'lev el'"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_rules_are_refused_with_file_and_line(what: str) -> None:
    text, line, *words = BAD[what]
    with pytest.raises(BadRules) as caught:
        RuleSet.parse(text, name="my.toml")
    said = str(caught.value)
    assert said.startswith(f"my.toml:{line}: ")
    assert "\n" not in said
    for word in words:
        assert word in said


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(BadRules, match="nested"):
        RuleSet.parse("a = " + "[" * 5000 + "]" * 5000)


def test_numbers_of_thousands_of_digits_are_refused() -> None:
    for number in ("1" * 5000, f"0x{'f' * 5000}"):
        with pytest.raises(BadRules) as caught:
            RuleSet.parse(f"[[rule]]\naddress = [0, {number}]\nlevel = {number}\n")
        assert len(str(caught.value)) < 20_000
        with pytest.raises(BadRules):
            RuleSet.parse(f"[[rule]]\nlevel = {number}\n")


_SNIPPETS = st.sampled_from(
    [*EVERYTHING.splitlines(keepends=True), *"\"[]={}#\n'\\", "1979-05-27", "nan", "0x", "'''"]
)


@given(st.lists(_SNIPPETS | st.text(max_size=5), max_size=30).map("".join))
def test_any_text_is_rules_or_refused_in_one_line(text: str) -> None:
    said = ""
    try:
        RuleSet.parse(text)
    except BadRules as error:
        said = str(error)
    assert "\n" not in said


# -- includes -----------------------------------------------------------------------------


def test_included_rules_come_first(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "main.toml").write_text(
        'include = ["deep/a.toml", "b.toml"]\n[[rule]]\nsymbol = "main"\nlevel = "EAGER"\n'
        '[check]\nroots = "m"\n'
    )
    (tmp_path / "deep/a.toml").write_text(
        'include = "../b.toml"\n[[rule]]\nsymbol = "a"\nlevel = "PINNED"\n[check]\nroots = "a"\n'
    )
    (tmp_path / "b.toml").write_text('[[rule]]\nsymbol = "b"\nlevel = "NORMAL"\n')
    rules = RuleSet.load(tmp_path / "main.toml")
    assert [rule.symbol for rule in rules.rules] == [("b",), ("a",), ("b",), ("main",)]
    assert [Path(rule.file).name for rule in rules.rules][1] == "a.toml"
    assert [rule.line for rule in rules.rules] == [1, 2, 1, 2]
    assert rules.roots == ("a", "m")
    text = (tmp_path / "main.toml").read_text()
    assert RuleSet.parse(text, folder=tmp_path).rules[1].symbol == ("a",)


def test_a_cycle_is_shown_whole(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / f"{name}.toml").write_text(f'# {name}\ninclude = ["{other}.toml"]\n')
    with pytest.raises(BadRules) as caught:
        RuleSet.load(tmp_path / "a.toml")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/c.toml:2: a cycle: ")
    names = [f"{tmp_path}/{name}.toml" for name in "abca"]
    assert " includes ".join(names) in said
    (tmp_path / "self.toml").write_text('include = ["self.toml"]')
    with pytest.raises(BadRules, match=r"self\.toml:1: a cycle: "):
        RuleSet.load(tmp_path / "self.toml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    main = tmp_path / "main.toml"
    main.write_text('\ninclude = ["gone.toml"]')
    with pytest.raises(BadRules, match=r"main\.toml:2: cannot read .*gone\.toml: No such file"):
        RuleSet.load(main)
    with pytest.raises(BadRules, match=r"missing\.toml: No such file"):
        RuleSet.load(tmp_path / "missing.toml")
    with pytest.raises(BadRules, match="directory"):
        RuleSet.load(tmp_path)
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    with pytest.raises(BadRules, match=r"cannot read .*loop\.toml"):
        RuleSet.load(tmp_path / "loop.toml")
    main.write_bytes(b"\xff\xfe[[rule]]")
    with pytest.raises(BadRules, match="not UTF-8"):
        RuleSet.load(main)


def test_includes_that_multiply_are_stopped(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.toml").write_text(f'include = ["{number + 1}.toml"]\n' * 1)
        both = f'include = ["{number + 1}.toml", "{number + 1}.toml"]'
        (tmp_path / f"{number}.toml").write_text(both)
    (tmp_path / "40.toml").write_text("")
    with pytest.raises(BadRules, match="more than 1000 files"):
        RuleSet.load(tmp_path / "0.toml")


# -- lines --------------------------------------------------------------------------------

_FILLERS = st.sampled_from(
    [
        "",
        "# [[rule]] level = 1",
        'symbol = [ # a list\n  "a", "]",\n  "[[rule]]", # level = 3\n]',
        'source = """\n[[rule]]\nlevel = "x"\n"""',
        "module = '''\n[[rule]]\n''' # ' \"",
        'section = "a \\" [[rule]] # no"',
        'source = """a \\""" b"""',
        'source = """a"""""',
        "x = { a = [1, 2], b = '}' }",
        "address = [\n  0x10,\n\n  0x20\n]",
        '"quoted key" = 1',
        "a.b = 2",
    ]
)


@given(st.lists(st.lists(_FILLERS, max_size=4), max_size=5))
def test_lines_are_those_of_the_text(tables: list[list[str]]) -> None:
    text = ""
    expected: dict[tuple[str | int, ...], int] = {}
    for number, fillers in enumerate(tables):
        expected["rule", number] = text.count("\n") + 1
        text += "[[rule]] # [[rule]]\n"
        for index, filler in enumerate(dict.fromkeys(fillers)):
            key = filler.partition("=")[0].strip()
            if filler and not filler.startswith(("#", '"', "a.b")):
                filler = f"k{index}{filler}"
                expected["rule", number, f"k{index}{key}"] = text.count("\n") + 1
            text += f"{filler}\n"
        expected["rule", number, "level"] = text.count("\n") + 1
        text += '  level="NORMAL"\n'
    tomllib.loads(text)
    found = line_numbers(text)
    assert {path: line for path, line in found.items() if path in expected} == expected
    known = {"quoted key", "b"}
    extra = [path for path in found if path not in expected and path != ("rule",)]
    assert all(path[-1] in known for path in extra)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("[5, 2]", "[5, 2]: from must be below to"),
        ("[5, 5]", "[5, 5]: from must be below to"),
        ("[-5, 10]", "[-5, 10]: an address is not negative"),
        ('[0, "0x10000000000000001"]', "an address has at most 64 bits"),
        ('["0x10000000000000000", "0x10000000000000000"]', "an address has at most 64 bits"),
    ],
)
def test_each_mistake_in_addresses_is_named(pair: str, words: str) -> None:
    with pytest.raises(BadRules, match="rules:2: address ") as caught:
        RuleSet.parse(f'[[rule]]\naddress = {pair}\nlevel = "NORMAL"\n')
    assert words in str(caught.value)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[rule]]\nsymbol = "a"\nlevel = "EAGER"\n', encoding="utf-8-sig")
    assert [(rule.line, rule.level) for rule in RuleSet.load(path).rules] == [(1, Level.EAGER)]


def test_what_never_ends_is_no_file_of_rules(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(BadRules, match="a device or a pipe: give a file of rules"):
            RuleSet.load(path)
    huge = tmp_path / "huge.toml"
    with huge.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(BadRules, match="more than 64 MiB"):
        RuleSet.load(huge)


def test_includes_that_are_too_deep_are_refused(tmp_path: Path) -> None:
    for depth in range(64):
        (tmp_path / f"{depth}.toml").write_text(f'include = "{depth + 1}.toml"\n')
    last = tmp_path / "64.toml"
    last.write_text("")
    assert RuleSet.load(tmp_path / "1.toml").rules == ()
    with pytest.raises(BadRules, match=r"63\.toml:1: files include each other 64 deep"):
        RuleSet.load(tmp_path / "0.toml")
