# SPDX-License-Identifier: MIT
"""Why something has its level: what decided, what it beat, who else is on the page."""

from __future__ import annotations

import pytest

from pagestep import Image, InvalidArgument, NoSuchPage, RuleSet, decide
from pagestep.store.policy import Explanation

from .elves import BASE, PAGE, Named, image_of

RULES = """\
[[rule]]
section = ".text*"
level = "NORMAL"

[[rule]]
symbol = "e1000_*"
level = "STEP_ON_IT"
lifecycle = "once"
codec = "fast"

[[rule]]
symbol = "e1000_irq"
level = "PINNED"
lowest_tier = "hot"

[[rule]]
symbol = "careful"
lowest_tier = "hot"
"""
SYMBOLS = [
    Named("e1000_probe", 0, 100),
    Named("e1000_irq", 100, 60),
    Named("nameless", 160),
    Named("twice", 300, 20),
    Named("twice", 320, 40),
    Named("careful", PAGE, 40),
]


@pytest.fixture
def image() -> Image:
    return image_of(
        [(".text", 0, 2 * PAGE), (".data", 2 * PAGE, 20 * PAGE)], SYMBOLS, size=23 * PAGE
    )


def explained(image: Image, where: int | str) -> Explanation:
    return decide(image, RuleSet.parse(RULES, name="r.toml")).explain(where)


def wishes(found: Explanation, key: str) -> list[str]:
    [decision] = [each for each in found.decisions if each.key == key]
    return [str(decision.wish), *map(str, decision.beat)]


def test_the_decision_and_what_it_beat(image: Image) -> None:
    found = explained(image, "e1000_irq")
    assert (found.kind, found.owner, found.address, found.size) == (
        "symbol",
        "e1000_irq",
        BASE + 100,
        60,
    )
    assert wishes(found, "level") == [
        "PINNED by rule r.toml:11",
        "STEP_ON_IT by rule r.toml:5",
        "NORMAL by rule r.toml:1",
        "PINNED by default",
    ]
    assert wishes(found, "lifecycle") == ["once by rule r.toml:5", "always by default"]
    assert wishes(found, "codec") == ["fast by rule r.toml:5", "dense by level"]
    assert wishes(found, "lowest_tier") == ["hot by rule r.toml:11", "hot by level"]


def test_the_page_and_who_forces_it(image: Image) -> None:
    found = explained(image, "e1000_probe")
    assert wishes(found, "level")[0] == "STEP_ON_IT by rule r.toml:5"
    assert (found.first_page, found.page_count) == (0, 1)
    assert found.levels["PINNED"] == 1
    [page] = found.pages
    assert (page.level, page.lifecycle, page.forced_by) == ("PINNED", "always", "e1000_irq")
    assert (page.codec, page.lowest_tier) == ("fast", "hot")
    assert [(each.name, each.address - BASE, each.size) for each in page.owners] == [
        ("e1000_probe", 0, 100),
        ("e1000_irq", 100, 60),
        ("nameless", 160, 140),
        ("twice", 300, 20),
        ("twice", 320, 40),
        ("rest of .text", 360, PAGE - 360),
    ]
    assert page.owners[2].wish == "NORMAL by rule r.toml:1"


def test_a_lowest_tier_of_hot_is_told_as_the_levels_reason(image: Image) -> None:
    found = explained(image, "careful")
    assert wishes(found, "level")[:2] == ["PINNED by rule r.toml:16", "NORMAL by rule r.toml:1"]


@pytest.mark.parametrize(
    ("where", "kind", "address", "owner"),
    [
        (0, "page", 0, "e1000_irq"),
        ("1", "page", PAGE, "careful"),
        (BASE + 130, "address", 130, "e1000_irq"),
        (hex(BASE + 99), "address", 99, "e1000_probe"),
        ("e1000_irq+59", "address", 159, "e1000_irq"),
        ("nameless+0x10", "address", 176, "nameless"),
        (".data", "section", 2 * PAGE, ".data"),
        (".text", "section", 0, ".text"),
        ("0x40000200", "address", PAGE, "careful"),
        ("22", "page", 22 * PAGE, None),
        (hex(BASE + 22 * PAGE + 5), "address", 22 * PAGE + 5, None),
    ],
)
def test_where(image: Image, where: int | str, kind: str, address: int, owner: str | None) -> None:
    found = explained(image, where)
    assert (found.kind, found.address - BASE, found.owner) == (kind, address, owner)
    assert (found.decisions == ()) == (owner is None)
    assert found.where == str(where)


def test_sections_show_their_first_pages_and_count_all(image: Image) -> None:
    found = explained(image, ".data")
    assert (found.page_count, len(found.pages), found.levels["PINNED"]) == (20, 16, 20)


def test_notes(image: Image) -> None:
    [note] = explained(image, "nameless").notes
    assert "gives nameless no size" in note
    assert "140 bytes" in note
    [note] = explained(image, "twice").notes
    assert note == "2 symbols are called twice: this is the lowest"
    assert explained(image, "twice").address == BASE + 300


@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        ("23", NoSuchPage, "page 23 does not exist"),
        (-1, NoSuchPage, "-1"),
        ("0x10", NoSuchPage, "0x10"),
        ("0xzz", InvalidArgument, "'0xzz'"),
        ("e1000_irq+60", NoSuchPage, "e1000_irq has 60 bytes"),
        ("e1000_irq+x", InvalidArgument, "'x'"),
        ("e1000_irk", InvalidArgument, "did you mean 'e1000_irq'"),
        (".txt", InvalidArgument, "did you mean '.text'"),
        ("", InvalidArgument, "no symbol"),
    ],
)
def test_what_there_is_not(
    image: Image, where: int | str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words.replace("+", r"\+")):
        explained(image, where)


def test_an_image_without_symbols_says_how_to_get_them() -> None:
    with (
        image_of([(".text", 0, PAGE)]) as image,
        pytest.raises(InvalidArgument, match=r"no symbols: give --system-map.*one of \.text"),
    ):
        explained(image, "schedule")


def test_without_rules_the_default_is_told(image: Image) -> None:
    found = decide(image, None).explain("e1000_irq")
    assert wishes(found, "level") == ["NORMAL by default"]
    assert found.pages[0].level == "NORMAL"
    assert found.pages[0].forced_by is None


def test_facts_are_plain_values(image: Image) -> None:
    facts = explained(image, "e1000_irq").facts()
    assert facts["decisions"][0] == {
        "key": "level",
        "value": "PINNED",
        "by": "rule",
        "file": "r.toml",
        "line": 11,
        "tag": None,
        "beat": [
            {"value": value, "by": by, "file": file, "line": line, "tag": None}
            for value, by, file, line in (
                ("STEP_ON_IT", "rule", "r.toml", 5),
                ("NORMAL", "rule", "r.toml", 1),
                ("PINNED", "default", None, None),
            )
        ],
    }
    assert facts["pages"][0]["forced_by"] == "e1000_irq"
