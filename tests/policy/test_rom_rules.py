# SPDX-License-Identifier: MIT
"""ROM images by rules: each page is coded as its policy says."""

from __future__ import annotations

import pytest

from pagestep import (
    Image,
    InvalidArgument,
    Level,
    PagePolicy,
    Rom,
    RomImage,
    RomPlan,
    RuleSet,
    build_rom,
    decide,
)
from pagestep.store.trace import generate

from ..rom.images import open_image

RULES = """\
[[rule]]
section = ".text"
level = "RELUCTANT"

[[rule]]
section = ".data"
level = "NORMAL"

[[rule]]
section = ".init.text"
level = "EAGER"
lifecycle = "once"
"""


def codecs_of(built: RomImage) -> dict[str, int]:
    return {name: pages for name, (pages, _) in built.by_codec.items() if pages}


def test_rules_and_levels_of_sections_build_the_same_image() -> None:
    with open_image() as image:
        levels = {".text": Level.RELUCTANT, ".init.text": Level.STEP_ON_IT}
        by_levels = build_rom(image, RomPlan(levels=levels)).data
        text = RULES.replace('"EAGER"\nlifecycle = "once"', '"STEP_ON_IT"')
        rules = RuleSet.parse(text)
        assert build_rom(image, RomPlan(levels=rules)).data == by_levels
        assert build_rom(image, RomPlan(levels=decide(image, rules))).data == by_levels


def test_segments_have_the_most_careful_level_of_their_pages() -> None:
    text = RULES + '[[rule]]\naddress = ["0x40000600", "0x40000601"]\nlevel = "LAST_RESORT"\n'
    with (
        open_image() as image,
        Rom.open(build_rom(image, RomPlan(levels=RuleSet.parse(text))).data) as rom,
    ):
        names = [segment.name for segment in rom.segments]
        assert dict(zip(names, rom.levels, strict=True)) == {
            ".text": Level.LAST_RESORT,
            ".data": Level.NORMAL,
            ".init.text": Level.EAGER,
        }
        assert [rom.read(page) for page in range(image.page_count)] == [
            page.tobytes() for page in image.pages()
        ]
        assert rom.verify().is_good


@pytest.mark.parametrize(("codec", "absent"), [("fast", "zstd"), ("balanced", "lz4")])
def test_a_rules_codec_goes_before_the_levels(codec: str, absent: str) -> None:
    text = f'[[rule]]\nsection = "*"\nlevel = "EAGER"\ncodec = "{codec}"\n'
    with open_image() as image:
        built = build_rom(image, RomPlan(levels=RuleSet.parse(text)))
        assert absent not in codecs_of(built)


def test_once_is_dense_whatever_its_level() -> None:
    with open_image() as image:
        dense, once, eager = (
            build_rom(
                image,
                RomPlan(levels=RuleSet.parse(f'[[rule]]\nsection = "*"\nlevel = {more}\n')),
            )
            for more in (
                '"EAGER"\ncodec = "dense"',
                '"EAGER"\nlifecycle = "once"',
                '"EAGER"',
            )
        )
        assert once.data == dense.data
        assert once.data != eager.data


def test_equal_pages_are_coded_as_the_fastest_of_them_asks() -> None:
    with open_image(40, 8, 8) as image:
        twice = Image.open(
            b"".join(page.tobytes() for page in image.pages()) * 2,
            raw=True,
            arch=image.arch,
            page_size=image.page_size,
        )
    half = twice.page_count // 2 * twice.page_size
    text = (
        '[[rule]]\nsection = "*"\nlevel = "STEP_ON_IT"\n'
        f'[[rule]]\naddress = [{half}, {2 * half}]\nlevel = "RELUCTANT"\n'
    )
    with twice:
        built = build_rom(twice, RomPlan(levels=RuleSet.parse(text)))
        assert "zstd" not in codecs_of(built)


def test_rules_go_with_a_trace_and_with_a_limit() -> None:
    with open_image() as image:
        trace = list(generate(image.page_count, events=50_000, seed=1))
        free = build_rom(image, RomPlan(levels=RuleSet.parse(RULES)))
        for size_max in (None, len(free.data) + 4096):
            plan = RomPlan(levels=RuleSet.parse(RULES), trace=trace, size_max=size_max)
            with Rom.open(build_rom(image, plan).data) as rom:
                assert rom.verify().is_good
                assert rom.levels[0] == Level.RELUCTANT


def test_a_policy_of_another_image_is_refused() -> None:
    with open_image() as image, open_image(seed=2) as other, open_image() as same:
        policy: PagePolicy = decide(other, RuleSet.parse(RULES))
        with pytest.raises(InvalidArgument, match="another image"):
            build_rom(image, RomPlan(levels=policy))
        build_rom(same, RomPlan(levels=decide(image, None)))
