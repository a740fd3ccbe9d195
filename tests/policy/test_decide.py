# SPDX-License-Identifier: MIT
"""Which level each page gets, against a decision made byte by byte."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep import Image, Level, PagePolicy, RuleSet, Tier, decide
from pagestep.store.policy import CODEC_NAMES, LEVELS, Rule

from ..image import builders
from .elves import BASE, PAGE, Named, image_of

P, L, R, N, E, S = Level


def policy_of(image: Image, text: str) -> PagePolicy:
    return decide(image, RuleSet.parse(text))


def rule(level: str = "", **matchers: str) -> str:
    lines = [f'{key} = "{value}"' for key, value in matchers.items()]
    return "[[rule]]\n" + "\n".join([*lines, *([f'level = "{level}"'] if level else [])]) + "\n"


# -- what there is without rules ----------------------------------------------------------


def test_without_rules_and_tags_every_page_is_normal() -> None:
    with image_of([(".text", 0, 4 * PAGE)]) as image:
        policy = decide(image, None)
        assert policy.is_plain
        assert policy.level.tolist() == [N] * 4
        assert policy.lowest_tier.tolist() == [Tier.DISK] * 4
        assert not policy.once.any()
        assert not policy.codec.any()
        assert policy.sharing.pages == 0


def test_with_rules_what_is_unmatched_is_pinned() -> None:
    with image_of([(".text", 0, PAGE), (".data", PAGE, PAGE)]) as image:
        assert decide(image, RuleSet()).level.tolist() == [P, P]
        policy = policy_of(image, rule("EAGER", section=".text"))
        assert not policy.is_plain
        assert policy.level.tolist() == [E, P]
        assert policy.lowest_tier.tolist() == [Tier.DISK, Tier.HOT]
        assert policy.pageable_pages == 1


def test_bytes_outside_any_section_are_pinned_and_holes_are_nobodys() -> None:
    fills = [(2 * PAGE + 100, b"\1")]
    with image_of([(".text", 0, PAGE)], size=4 * PAGE, fills=fills) as image:
        policy = policy_of(image, rule("EAGER", section=".text"))
        assert policy.level.tolist() == [E, N, P, N]
        assert policy.unowned_pages == 2
        assert policy.explain(2).owner == "bytes outside any section"
        assert policy.explain(1).owner is None


# -- pages of several owners --------------------------------------------------------------


def test_a_page_takes_the_most_careful_of_its_owners_key_by_key() -> None:
    symbols = [Named("a", 0, 100), Named("b", 100, PAGE - 100), Named("c", PAGE, PAGE)]
    text = (
        rule("EAGER", symbol="a", lifecycle="once", codec="dense", lowest_tier="rom")
        + rule("STEP_ON_IT", symbol="b", lifecycle="once")
        + rule("NORMAL", symbol="c", codec="fast")
    )
    with image_of([(".text", 0, 2 * PAGE)], symbols) as image:
        policy = policy_of(image, text)
        assert policy.level.tolist() == [E, N]
        assert policy.once.tolist() == [True, False]
        assert policy.lowest_tier.tolist() == [Tier.ROM, Tier.DISK]
        assert [CODEC_NAMES[code] for code in policy.codec] == ["dense", "fast"]
        cost = policy.sharing
        assert (cost.pages, cost.bytes, cost.pinned_pages) == (1, PAGE - 100, 0)
        [forced] = cost.forced_by
        assert (forced.owner, forced.level, forced.pages, forced.bytes) == ("a", E, 1, PAGE - 100)


def test_once_needs_every_owner_and_the_fastest_codec_wins() -> None:
    symbols = [Named("a", 0, 100), Named("b", 100, PAGE - 100)]
    text = rule("EAGER", symbol="a", lifecycle="once", codec="dense") + rule("NORMAL", symbol="b")
    with image_of([(".text", 0, PAGE)], symbols) as image:
        policy = policy_of(image, text)
        assert policy.once.tolist() == [False]
        # b is coded as its level says, which is faster than dense.
        assert [CODEC_NAMES[code] for code in policy.codec] == ["balanced"]


def test_what_may_not_leave_hot_is_pinned_whoever_says_so() -> None:
    with image_of([(".text", 0, PAGE), (".data", PAGE, PAGE)]) as image:
        text = (
            rule("EAGER", section=".*")
            + rule(section=".text", lowest_tier="hot")
            + rule(section=".data", lowest_tier="rom")
            + rule("PINNED", section=".data")
        )
        policy = policy_of(image, text)
        assert policy.level.tolist() == [P, P]
        assert policy.lowest_tier.tolist() == [Tier.HOT, Tier.HOT]


def test_a_lifecycle_can_be_taken_back() -> None:
    text = rule("EAGER", section=".text", lifecycle="once") + rule(symbol="b", lifecycle="always")
    symbols = [Named("a", 0, PAGE), Named("b", PAGE, PAGE)]
    with image_of([(".text", 0, 2 * PAGE)], symbols) as image:
        assert policy_of(image, text).once.tolist() == [True, False]


@pytest.mark.parametrize("name", ["first", "second"])
def test_two_names_of_one_address_without_sizes_are_equal(name: str) -> None:
    symbols = [Named("first", 0), Named("second", 0), Named("rest", PAGE)]
    with image_of([(".text", 0, 2 * PAGE)], symbols) as image:
        assert policy_of(image, rule("EAGER", symbol=name)).level.tolist() == [E, P]


# -- alignment fill -----------------------------------------------------------------------

TWO = [Named("a", 0, 100), Named("b", 112, PAGE - 112)]
MOST = rule("EAGER", symbol="[ab]")


@pytest.mark.parametrize(
    ("fill", "machine", "level"),
    [
        (bytes(12), builders.EM_X86_64, E),
        (b"\xcc" * 12, builders.EM_X86_64, E),
        (bytes.fromhex("66662e0f1f8400000000006690")[1:], builders.EM_X86_64, E),
        (bytes.fromhex("0f1f4000") * 3, builders.EM_X86_64, E),
        (b"\x90" * 11 + b"\xc3", builders.EM_X86_64, P),
        (bytes.fromhex("00f020e3") * 3, builders.EM_ARM, E),
        (bytes.fromhex("1f2003d5") * 3, builders.EM_AARCH64, E),
        (bytes.fromhex("0100") * 6, builders.EM_RISCV, E),
        (b"\x90" * 12, builders.EM_RISCV, P),
        (b"\x90" * 12, builders.EM_PPC, P),
        (bytes(12), builders.EM_PPC, E),
    ],
)
def test_fill_between_functions_is_nobodys(fill: bytes, machine: int, level: Level) -> None:
    with image_of([(".text", 0, PAGE)], TWO, fills=[(100, fill)], machine=machine) as image:
        assert policy_of(image, MOST).level.tolist() == [level]


def test_more_than_alignment_asks_for_is_no_fill() -> None:
    symbols = [Named("a", 0, 100), Named("b", 116, PAGE - 116)]
    with image_of([(".text", 0, PAGE)], symbols, fills=[(100, bytes(16))]) as image:
        assert policy_of(image, MOST).level.tolist() == [P], "116 is aligned to 4 bytes"


def test_no_operation_is_no_fill_in_data() -> None:
    with image_of([(".data", 0, PAGE)], TWO, fills=[(100, b"\x90" * 12)]) as image:
        assert policy_of(image, MOST).level.tolist() == [P]


# -- against byte by byte -----------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    sections: list[tuple[str, int, int]]
    symbols: list[Named]
    rules: list[Rule]


_NAMES = ["foo", "bar", "foo_a", "foo_b", "ba"]
_GLOBS = [*_NAMES, "foo*", "*", "?a*", "[fb]*o*", "nothing", "*_b"]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sections: list[tuple[str, int, int]] = []
    at = 0
    for name in draw(st.lists(st.sampled_from([".text", ".text.hot", ".data"]), min_size=1)):
        at += draw(st.sampled_from([0, 0, 3, 700]))
        size = draw(st.integers(1, 900))
        sections.append((name, at, size))
        at += size
    symbols: list[Named] = []
    for name in draw(st.lists(st.sampled_from(_NAMES), max_size=8)):
        _, start, size = draw(st.sampled_from(sections))
        first = draw(st.integers(0, size - 1))
        symbols.append(Named(name, start + first, draw(st.integers(0, size - first))))
    globs = st.lists(st.sampled_from(_GLOBS), max_size=2).map(tuple)
    rules = [
        Rule(
            file="r",
            line=number,
            section=draw(st.sampled_from([(), (".text",), (".text*",), (".d*", ".text.hot")])),
            symbol=draw(globs),
            address=draw(
                st.none()
                | st.tuples(st.integers(0, at), st.integers(1, at)).map(
                    lambda pair: (BASE + pair[0], BASE + pair[0] + pair[1])
                )
            ),
            level=draw(st.none() | st.sampled_from(Level)),
            once=draw(st.none() | st.booleans()),
            codec=draw(st.none() | st.integers(1, 3)),
            lowest_tier=draw(st.none() | st.sampled_from(Tier)),
        )
        for number in range(draw(st.integers(0, 5)))
    ]
    return Case(sections, symbols, rules)


def _matches(globs: tuple[str, ...], names: list[str]) -> bool:
    return not globs or any(fnmatch.fnmatchcase(n, glob) for n in names for glob in globs)


def _wish(case: Case, at: int) -> tuple[int, bool, int, int] | None:
    """Return level, once, codec and lowest tier that a byte's owner asks for; None: nobody's."""
    inside = [each for each in case.sections if each[1] <= at < each[1] + each[2]]
    if not inside:
        return None
    name, start, size = inside[0]
    names: list[str] = []
    for symbol in case.symbols:
        if start <= symbol.at < start + size:
            later = [s.at for s in case.symbols if symbol.at < s.at < start + size]
            end = symbol.at + symbol.size if symbol.size else min([*later, start + size])
            names += [symbol.name] if symbol.at <= at < end else []
    level, once, codec, tier = int(Level.PINNED), False, 0, -1
    for each in case.rules:
        address = each.address or (0, 1 << 64)
        hit = _matches(each.section, [name]) and _matches(each.symbol, names)
        if hit and address[0] <= BASE + at < address[1]:
            level = level if each.level is None else int(each.level)
            once = once if each.once is None else each.once
            codec = codec if each.codec is None else each.codec
            tier = tier if each.lowest_tier is None else int(each.lowest_tier)
    level = 0 if tier == Tier.HOT else level
    if tier < 0 or level == Level.PINNED:
        tier = int(LEVELS[Level(level)].lowest_tier)
    return level, once, codec, tier


@settings(deadline=None)
@given(cases())
def test_pages_get_what_their_bytes_ask_for(case: Case) -> None:
    with image_of(case.sections, case.symbols) as image:
        policy = decide(image, RuleSet(tuple(case.rules)))
        lost_pages, lost = 0, 0
        for page in range(image.page_count):
            wishes = [w for at in range(page * PAGE, (page + 1) * PAGE) if (w := _wish(case, at))]
            if not wishes:
                assert policy.level[page] == Level.NORMAL
                continue
            levels, onces, _, tiers = zip(*wishes, strict=True)
            codecs = {
                codec or CODEC_NAMES.index("dense" if once else LEVELS[Level(level)].rom_codec)
                for level, once, codec, _ in wishes
            }
            asked = any(codec for _, _, codec, _ in wishes)
            assert policy.level[page] == min(levels)
            assert policy.once[page] == all(onces)
            assert policy.lowest_tier[page] == min(tiers)
            assert policy.codec[page] == (min(codecs) if asked else 0)
            lost += sum(level > min(levels) for level in levels)
            lost_pages += max(levels) > min(levels)
        assert (policy.sharing.pages, policy.sharing.bytes) == (lost_pages, lost)
        assert sum(each.pages for each in policy.sharing.forced_by) == lost_pages
        assert sum(each.bytes for each in policy.sharing.forced_by) == lost


# -- rules that match nothing -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (rule("EAGER", section=".txt"), "no section is called '.txt'"),
        (rule("EAGER", symbol="nosuch*"), "no symbol is called 'nosuch*'"),
        (rule("EAGER", module="e1000"), "the image is no kernel module, not 'e1000'"),
        (rule("EAGER", source="drivers/*"), "no debug information"),
        (rule("EAGER", section=".data", symbol="a"), "by all its matchers together"),
        ('[[rule]]\naddress = [1, 2]\nlevel = "EAGER"\n', "no section from 0x1 to 0x2"),
    ],
)
def test_rules_that_match_nothing_are_reported(text: str, reason: str) -> None:
    with image_of([(".text", 0, PAGE), (".data", PAGE, PAGE)], [Named("a", 0, 100)]) as image:
        policy = policy_of(image, rule("NORMAL", section=".text") + text)
        [found] = policy.unmatched
        assert (found.rule.line, found.is_partial) == (4, False)
        assert reason in found.reason
        assert str(found).startswith("rules:4: ")
        assert policy.level.tolist() == [N, P]


def test_names_of_a_list_that_match_nothing_are_reported() -> None:
    with image_of([(".text", 0, PAGE)], [Named("a", 0, PAGE)]) as image:
        names = ", ".join(f'"gone{number}"' for number in range(5))
        text = f'[[rule]]\nsymbol = ["a", {names}]\nlevel = "EAGER"\n'
        [found] = policy_of(image, text).unmatched
        assert found.is_partial
        assert found.reason.startswith("5 of its 6 symbol globs match nothing: gone0, gone1")


def test_an_image_without_symbols_says_how_to_get_them() -> None:
    with image_of([(".text", 0, PAGE)]) as image:
        [found] = policy_of(image, rule("EAGER", symbol="a")).unmatched
        assert "--system-map" in found.reason


def test_a_kernel_module_is_matched_by_its_name() -> None:
    info = b"license=GPL\0name=snd_hda\0vermagic=6.1\0"
    module = builders.elf(
        sections=[
            builders.Section(".text", 0, 64, 6, load=None, data=b"U" * 64),
            builders.Section(".modinfo", 0, len(info), 2, load=None, data=info),
        ],
        symbols=[builders.Symbol("probe", 0, 64)],
        kind=builders.ET_REL,
    )
    with Image.open(module) as image:
        assert image.module_name == "snd_hda"
        assert policy_of(image, rule("EAGER", module="snd-*")).level.tolist() == [E]
        [found] = policy_of(image, rule("EAGER", module="e1000")).unmatched
        assert "the module snd_hda, not 'e1000'" in found.reason


# -- a real kernel ------------------------------------------------------------------------


@pytest.mark.kernel
def test_a_real_kernel_by_sections(x86_kernel: object) -> None:
    with Image.open(str(x86_kernel)) as image:
        text = rule("NORMAL", section=".text") + rule("EAGER", section=".init.*", lifecycle="once")
        policy = policy_of(image, text)
        [of_text] = [each for each in image.segments if each.name == ".text"]
        assert (policy.level[of_text.pages.start + 1 : of_text.pages.stop - 1] == N).all()
        [init] = [each for each in image.segments if each.name == ".init.text"]
        assert policy.once[init.pages.start + 1 : init.pages.stop - 1].all()
        assert policy.explain("0xffffffff81000000").decisions[0].wish.value == "NORMAL"
        assert np.count_nonzero(policy.level == P) > 1000
