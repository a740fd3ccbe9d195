# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from pagestep.codecs import CODECS, FILTERS, Codec, filter_for
from pagestep.codecs.errors import InvalidArgument, Unsupported


def test_ids_never_change() -> None:
    # They are in ROM images. Whoever changes a number breaks them.
    assert {info.name: info.id for info in CODECS.values()} == {
        "raw": 0,
        "same": 1,
        "lz4": 2,
        "zstd": 3,
    }
    assert dict(FILTERS) == {"none": 0, "x86": 1, "arm": 2, "thumb": 3, "arm64": 4, "riscv": 5}


@pytest.mark.parametrize("name", sorted(CODECS))
def test_what_the_registry_says_is_what_the_core_does(name: str) -> None:
    info = CODECS[name]
    assert Codec(name).level == info.level_default
    for level in (info.level_min, info.level_max):
        assert Codec(info.id, level=level).level == level
    for level in (info.level_min - 1, info.level_max + 1):
        with pytest.raises(InvalidArgument):
            Codec(name, level=level)
    if info.takes_dictionary:
        assert Codec(name, dictionary=b"dictionary").name == name
    else:
        with pytest.raises(Unsupported):
            Codec(name, dictionary=b"dictionary")


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CODECS["lz4"] = CODECS["raw"]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


def test_filter_for() -> None:
    archs = ["x86", "x86_64", "arm", "thumb", "arm64", "riscv32", "riscv64", "mips", ""]
    wanted = ["x86", "x86", "arm", "thumb", "arm64", "riscv", "riscv", "none", "none"]
    assert [filter_for(arch) for arch in archs] == wanted
