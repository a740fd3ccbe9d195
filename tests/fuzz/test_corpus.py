# SPDX-License-Identifier: MIT
"""Every input that a fuzzer found, and its seeds, once more; without a fuzzer."""

from __future__ import annotations

import pytest

from .fuzz_image import CORPUS, TARGETS, corpus, seeds, targets


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_what_once_failed(target: str) -> None:
    run = targets()[target]
    for data in seeds(target) + corpus(target):
        run(data)


def test_each_folder_of_the_corpus_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.glob("*")} <= set(TARGETS) == set(targets())
