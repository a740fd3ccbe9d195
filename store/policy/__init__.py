# SPDX-License-Identifier: MIT
"""What becomes of each page: the scale, rules, tags, and why a page has its level."""

from ._decide import ForcedBy, PagePolicy, SharingCost, decide
from ._decisions import UnmatchedRule
from ._explanation import Decision, Explanation, OwnerOnPage, PageExplained, Wish
from ._level import CODEC_NAMES, LEVELS, ONCE, Level, LevelTraits, OnceTraits, Tier
from ._match import pages_matching
from ._rules import Indirect, Rule, RuleSet
from ._tags import Tag, fault_marks, include_folder, section_tags

__all__ = [
    "CODEC_NAMES",
    "LEVELS",
    "ONCE",
    "Decision",
    "Explanation",
    "ForcedBy",
    "Indirect",
    "Level",
    "LevelTraits",
    "OnceTraits",
    "OwnerOnPage",
    "PageExplained",
    "PagePolicy",
    "Rule",
    "RuleSet",
    "SharingCost",
    "Tag",
    "Tier",
    "UnmatchedRule",
    "Wish",
    "decide",
    "fault_marks",
    "include_folder",
    "pages_matching",
    "section_tags",
]
