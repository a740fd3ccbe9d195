# SPDX-License-Identifier: MIT
"""The table of levels: it is the core's, the document's, and the ROM builder's."""

from __future__ import annotations

from level_table import DOCUMENT, level_table, with_table
from pagestep import Level, Tier
from pagestep.store.policy import CODEC_NAMES, LEVELS, ONCE


def test_the_document_has_the_codes_table() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == with_table(text), "run python tools/level_table.py"
    assert level_table().count("\n") == 2 + len(Level) + 1


def test_the_scale_goes_one_way() -> None:
    assert list(LEVELS) == list(Level)
    traits = list(LEVELS.values())
    weights = [level.weight for level in Level]
    assert weights == sorted(set(weights))
    assert weights[0] == 0
    assert [each.lowest_tier for each in traits] == sorted(each.lowest_tier for each in traits)
    pageable = [CODEC_NAMES.index(each.rom_codec) for each in traits[1:]]
    assert pageable == sorted(pageable)
    assert LEVELS[Level.PINNED].lowest_tier == Tier.HOT
    assert {each.rom_codec for each in traits} | {ONCE.rom_codec} == set(CODEC_NAMES[1:])
