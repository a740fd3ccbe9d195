# SPDX-License-Identifier: MIT
"""What the builder stores and how; that what it writes can be read is shown for each image."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestep import (
    AbsentPage,
    Image,
    InvalidArgument,
    Level,
    Rom,
    RomImage,
    RomPlan,
    RomTooLarge,
    build_rom,
)
from pagestep.store.rom._encode import dictionary_size
from pagestep.store.trace import Block, generate

from .images import PAGE, branchy, elf_bytes, open_image


def read_back(image: Image, built: RomImage) -> None:
    """Every page that is stored is the image's, and nothing is wrong with the whole."""
    with Rom.open(built.data) as rom:
        assert rom.page_count == image.page_count
        assert rom.identity == image.identity
        absent = built.by_codec["absent"][0]
        for page_no, page in enumerate(image.pages()):
            try:
                assert rom.read(page_no) == page.tobytes()
            except AbsentPage:
                absent -= 1
        assert absent == 0
        assert rom.verify().is_good
        assert {name: each for name, each in rom.by_codec.items() if each[0]} == {
            name: each for name, each in built.by_codec.items() if each[0]
        }


@pytest.mark.parametrize("page_size", [512, 4096, 8192, 65536])
@pytest.mark.parametrize("codecs", [("raw",), ("lz4",), ("zstd",), ("lz4", "zstd")])
def test_every_page_size_and_set_of_codecs(page_size: int, codecs: tuple[str, ...]) -> None:
    with open_image(page_size=page_size) as image:
        built = build_rom(image, RomPlan(codecs=codecs))
        read_back(image, built)
        for name in {"lz4", "zstd"} - set(codecs):
            assert built.by_codec[name][0] == 0


def test_the_parts_are_the_whole() -> None:
    with open_image() as image:
        built = build_rom(image, RomPlan(align=4096))
        assert len(built.data) % 4096 == 0
        assert len(built.data) == (
            built.header_bytes
            + built.index_bytes
            + built.dictionary_bytes
            + built.padding_bytes
            + sum(size for _, size in built.by_codec.values())
        )
        assert sum(pages for pages, _ in built.by_codec.values()) == image.page_count


def test_the_same_bytes_on_any_number_of_threads() -> None:
    with open_image(400, 400) as image:
        first = build_rom(image, threads=1)
        assert first.dictionary_bytes > 0
        for threads in (2, 3, 8):
            assert build_rom(image, threads=threads).data == first.data


def test_a_branch_filter_is_for_code_alone() -> None:
    with open_image(64, 64, 8) as image:
        filtered = build_rom(image, RomPlan(codecs=("lz4",), dictionary="none"))
        read_back(image, filtered)
        file = bytearray(image.flat().tobytes())
    with Image.open(file, raw=True, page_size=PAGE, base=0x40000000) as plain:
        # Nothing says what it is, so it gets no filter, and calls stay unlike each other.
        without = build_rom(plain, RomPlan(codecs=("lz4",), dictionary="none"))
    assert len(filtered.data) < 0.95 * len(without.data)
    with Rom.open(filtered.data) as rom:
        codings = rom.codings
    assert {(each.codec_id, each.filter_id) for each in codings} >= {(2, 1), (2, 0)}


def test_equal_pages_are_stored_once_even_behind_a_filter() -> None:
    with open_image(20, 0, 0) as image:
        page = image.flat()[3]
        data = np.concatenate([image.flat(), page[None], page[None], image.flat()[:1]])
    with Image.open(data.tobytes(), raw=True, page_size=PAGE, arch="x86") as image:
        built = build_rom(image, RomPlan(codecs=("lz4",)))
        assert built.by_codec["duplicate"][0] == 3
        read_back(image, built)


def test_a_dictionary_pays_or_is_not_there() -> None:
    chance = np.random.default_rng(3)
    shared = chance.integers(0, 256, 256, np.uint8)
    pages = chance.integers(0, 256, (200, PAGE), np.uint8)
    with Image.open(pages.tobytes(), raw=True, page_size=PAGE) as noise:
        assert build_rom(noise).dictionary_bytes == 0
    pages[:, 100:356] = shared
    with Image.open(pages.tobytes(), raw=True, page_size=PAGE) as alike:
        built = build_rom(alike, RomPlan(codecs=("lz4",)))
        assert built.dictionary_bytes > 0
        read_back(alike, built)
        in_place = build_rom(alike, RomPlan(codecs=("lz4",), dictionary="in-place"))
        assert (in_place.ram_bytes, built.ram_bytes > 0) == (0, True)
        read_back(alike, in_place)
        none = build_rom(alike, RomPlan(codecs=("lz4",), dictionary="none"))
        assert none.dictionary_bytes == 0
        assert len(built.data) < len(none.data)
        small = build_rom(
            alike, RomPlan(codecs=("lz4",), dictionary_size=1024, dictionary="in-place")
        )
        assert 0 < small.dictionary_bytes <= 1024


# -- levels --------------------------------------------------------------------------------


def test_levels_choose_the_codec() -> None:
    def codecs_of(level: Level) -> set[str]:
        with open_image(data=0, init=0) as image:
            built = build_rom(image, RomPlan(levels={".text": level}))
            read_back(image, built)
            return {name for name, (pages, _) in built.by_codec.items() if pages}

    assert codecs_of(Level.LAST_RESORT) == {"lz4"}
    assert codecs_of(Level.RELUCTANT) == {"lz4"}
    for level in (Level.PINNED, Level.NORMAL, Level.EAGER):
        assert codecs_of(level) == {"zstd"}


def test_dense_takes_the_smallest_of_all() -> None:
    sizes: dict[str, int] = {}
    with open_image(data=60, init=0) as image:
        for name, plan in {
            "lz4": RomPlan(codecs=("lz4",)),
            "zstd": RomPlan(codecs=("zstd",)),
            "dense": RomPlan(levels={".text": Level.STEP_ON_IT, ".data": Level.STEP_ON_IT}),
        }.items():
            built = build_rom(image, dataclasses.replace(plan, dictionary="none"))
            sizes[name] = sum(size for _, size in built.by_codec.values())
    assert sizes["dense"] <= min(sizes["lz4"], sizes["zstd"])


def test_a_page_of_two_segments_has_the_more_careful_level() -> None:
    with open_image(data=0, init=0) as image:
        size = image.segments[0].size
        half = dataclasses.replace(image.segments[0], name="first", size=size - 100)
        rest = dataclasses.replace(
            image.segments[0], name="last", offset=size - 100, size=100, pages=range(39, 40)
        )
        image.segments = (half, rest)
        built = build_rom(image, RomPlan(levels={"last": Level.RELUCTANT}))
        assert built.by_codec["lz4"][0] == 1
        assert built.by_codec["zstd"][0] == 39
        eager = build_rom(
            image, RomPlan(levels={"last": Level.STEP_ON_IT, "first": Level.RELUCTANT})
        )
        assert eager.by_codec["lz4"][0] == 40


def test_levels_are_kept() -> None:
    with open_image() as image:
        built = build_rom(image, RomPlan(levels={".data": Level.EAGER}))
    with Rom.open(built.data) as rom:
        assert [segment.name for segment in rom.segments] == [".text", ".data", ".init.text"]
        assert rom.levels == (Level.NORMAL, Level.EAGER, Level.NORMAL)


@pytest.mark.parametrize(
    "plan",
    [
        RomPlan(levels={".init.txt": Level.EAGER}),
        RomPlan(in_place=[".init.txt"]),
        RomPlan(leave_out=[".init.txt"]),
    ],
)
def test_a_segment_that_is_not_there(plan: RomPlan) -> None:
    with (
        open_image() as image,
        pytest.raises(InvalidArgument, match=r"did you mean '\.init\.text'"),
    ):
        build_rom(image, plan)


# -- in place, left out ---------------------------------------------------------------------


def test_pages_in_place_are_raw_and_aligned() -> None:
    with open_image() as image:
        built = build_rom(image, RomPlan(in_place=[".data"]))
        read_back(image, built)
        segment = image.segments[1]
        flat = image.flat()
        assert built.by_codec["same"][0] == 0
        for page_no in segment.pages:
            page = flat[page_no].tobytes()
            places = [
                at for at in range(0, len(built.data), PAGE) if built.data[at : at + PAGE] == page
            ]
            assert places, page_no


def test_what_is_used_in_place_lies_there_even_if_it_has_a_twin() -> None:
    with open_image(20, 0, 20) as image:
        flat = image.flat().copy()
        flat[30] = flat[2]
    with Image.open(elf_bytes(flat[:20], flat[:0], flat[20:]), page_size=PAGE) as image:
        built = build_rom(image, RomPlan(in_place=[".init.text"]))
        assert built.by_codec["raw"][0] == 20
        read_back(image, built)


def test_pages_left_out() -> None:
    with open_image() as image:
        whole = build_rom(image)
        built = build_rom(image, RomPlan(leave_out=[".data"]))
        assert built.by_codec["absent"][0] == len(image.segments[1].pages)
        assert len(built.data) < len(whole.data)
        read_back(image, built)
        with Rom.open(built.data) as rom, pytest.raises(AbsentPage, match="page 40"):
            rom.read(40)


def test_a_page_that_another_segment_needs_is_not_left_out() -> None:
    with open_image(data=0, init=0) as image:
        shared = dataclasses.replace(
            image.segments[0], name="other", size=PAGE // 2, pages=range(0, 1)
        )
        image.segments = (image.segments[0], shared)
        built = build_rom(image, RomPlan(leave_out=[".text"]))
        assert built.by_codec["absent"][0] == 39
        read_back(image, built)


# -- layout and size -------------------------------------------------------------------------


def trace_of(pages: list[int]) -> list[Block]:
    numbers = np.array(pages, np.uint32)
    return [
        Block(
            pages=numbers,
            kinds=np.zeros(len(pages), np.uint8),
            times=np.arange(len(pages), dtype=np.uint64),
            marks=[],
            first_event=0,
        )
    ]


def test_what_a_trace_touches_first_is_laid_out_first() -> None:
    with open_image(20, 0, 0) as image:
        built = build_rom(image, RomPlan(codecs=("raw",), trace=trace_of([7, 3, 7, 12])))
        read_back(image, built)
        flat = image.flat()
        offsets = [built.data.index(flat[page_no].tobytes()) for page_no in range(20)]
    first = sorted(range(20), key=offsets.__getitem__)
    assert first == [7, 3, 12, 0, 1, 2, *range(4, 7), *range(8, 12), *range(13, 20)]


def test_a_size_is_kept_and_used() -> None:
    with open_image(200, 200) as image:
        dense = build_rom(image, RomPlan(levels={s.name: Level.STEP_ON_IT for s in image.segments}))
        for size_max in range(len(dense.data), len(dense.data) * 3, 7777):
            built = build_rom(image, RomPlan(size_max=size_max))
            read_back(image, built)
            assert len(built.data) <= size_max
            assert built.time_us_bound is not None
            assert built.time_us >= built.time_us_bound - 1e-9
            # No more than the one page that the relaxed problem may cut is lost.
            assert built.time_us <= built.time_us_bound + 8.0 / (len(image.flat()) * 0.5)


def test_weight_goes_to_pages_that_the_trace_uses() -> None:
    hot = list(range(0, 40, 2))
    with open_image(40, 0, 0) as image:
        smallest = len(build_rom(image, RomPlan(codecs=("lz4",), dictionary="none")).data)
        plan = RomPlan(
            codecs=("lz4",),
            dictionary="none",
            size_max=smallest + 10 * PAGE,
            trace=trace_of(hot * 1000),
        )
        built = build_rom(image, plan)
        flat = image.flat()
        raw = [page_no for page_no in range(40) if flat[page_no].tobytes() in built.data]
    assert len(raw) >= 10
    assert set(raw) <= set(hot)


def test_too_small_a_size_says_what_would_fit() -> None:
    with open_image(200, 400) as image:
        smallest = len(
            build_rom(
                image, RomPlan(levels={s.name: Level.STEP_ON_IT for s in image.segments})
            ).data
        )
        with pytest.raises(RomTooLarge) as caught:
            build_rom(image, RomPlan(size_max=smallest - 20_000, levels={".text": Level.EAGER}))
        message = str(caught.value)
        assert "leave out .text" in message
        assert "more than" in message
        without = build_rom(image, RomPlan(size_max=smallest - 10_000, leave_out=[".data"]))
        assert len(without.data) <= smallest - 10_000


def test_an_image_of_one_piece_has_nothing_to_leave_out() -> None:
    image = Image.open(bytes(range(256)) * 64, raw=True)
    with image, pytest.raises(RomTooLarge, match="nothing can be left out"):
        build_rom(image, RomPlan(size_max=300))


# -- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"codecs": ("lzma",)}, "lzma"),
        ({"codecs": ()}, "codec"),
        ({"dictionary": "yes"}, "in-place"),
        ({"align": 3}, "power of two"),
        ({"align": 0}, "power of two"),
        ({"align": "many"}, "align"),
        ({"erased_value": 256}, "255"),
        ({"dictionary_size": "2MiB"}, "1 MiB"),
    ],
)
def test_a_plan_that_cannot_be(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        RomPlan(**arguments)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_padding_is_erased_flash() -> None:
    with open_image() as image:
        for value in (0xFF, 0x00, 0x5A):
            built = build_rom(image, RomPlan(align=65536, erased_value=value))
            assert built.data[-1000:] == bytes([value]) * 1000
            read_back(image, built)


@settings(max_examples=25, deadline=None)
@given(
    text=st.integers(0, 30),
    data=st.integers(0, 30),
    init=st.integers(0, 5),
    seed=st.integers(0, 1000),
    codecs=st.sampled_from([("lz4",), ("zstd",), ("raw", "lz4", "zstd")]),
    levels=st.dictionaries(st.sampled_from([".text", ".data"]), st.sampled_from(Level), max_size=2),
    dictionary=st.sampled_from(["compressed", "in-place", "none"]),
    in_place=st.booleans(),
)
def test_any_image_and_plan_can_be_read(
    text: int,
    data: int,
    init: int,
    seed: int,
    codecs: tuple[str, ...],
    levels: dict[str, Level],
    dictionary: str,
    in_place: bool,
) -> None:
    with open_image(text + 1, data + 1, init + 1, seed=seed) as image:
        plan = RomPlan(
            codecs=codecs,
            levels=levels,
            dictionary=dictionary,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            in_place=[".init.text"] if in_place else [],
        )
        read_back(image, build_rom(image, plan))


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("codecs", "x86_max", "arm_max"),
    [
        (("lz4",), 13_300_000, 4_360_000),
        (("lz4", "zstd"), 9_950_000, 3_560_000),
    ],
)
def test_real_kernels(
    x86_kernel: Path, arm_kernel: Path, codecs: tuple[str, ...], x86_max: int, arm_max: int
) -> None:
    for path, most in ((x86_kernel, x86_max), (arm_kernel, arm_max)):
        with Image.open(path) as image:
            built = build_rom(image, RomPlan(codecs=codecs))
            assert len(built.data) <= most
            index_per_page = (built.index_bytes - 4 * image.page_count) / image.page_count
            assert index_per_page <= 4
            with Rom.open(built.data) as rom:
                pages = np.empty((image.page_count, image.page_size), np.uint8)
                rom.read_into(range(image.page_count), pages)
                assert hashlib.sha256(pages.tobytes()).hexdigest() == image.identity
                assert rom.verify().is_good


def test_a_generated_trace_will_do() -> None:
    with open_image() as image:
        events = generate(image.page_count, events=50_000, seed=1)
        read_back(image, build_rom(image, RomPlan(trace=events, size_max="1MiB")))


# -- few pages, where dictionaries may not pay --------------------------------------------------


def test_under_a_limit_the_quicker_of_with_and_without_a_dictionary() -> None:
    with open_image(4, 60, 1, page_size=4096, seed=2) as image:
        dense = {segment.name: Level.STEP_ON_IT for segment in image.segments}
        smallest = len(build_rom(image, RomPlan(levels=dense)).data)
        has_dictionary: set[bool] = set()
        times: list[float] = []
        for size_max in range(smallest, smallest + 60_000, 2500):
            built = build_rom(image, RomPlan(size_max=size_max))
            assert len(built.data) <= size_max
            read_back(image, built)
            has_dictionary.add(built.dictionary_bytes > 0)
            times.append(built.time_us)
            try:
                without = build_rom(image, RomPlan(size_max=size_max, dictionary="none"))
            except RomTooLarge:
                continue
            assert built.time_us <= without.time_us
            assert not built.dictionary_bytes or built.time_us < without.time_us
        assert True in has_dictionary
        assert times == sorted(times, reverse=True)  # more room, and no slower


def test_the_smallest_size_that_is_said_is_one_that_fits() -> None:
    with open_image(30, 30, 0) as image:
        with pytest.raises(RomTooLarge) as caught:
            build_rom(image, RomPlan(size_max=1000))
        smallest = int(re.search(r"has ([\d,]+) bytes", str(caught.value))[1].replace(",", ""))  # type: ignore[index]  # pyright: ignore[reportOptionalSubscript]
        assert len(build_rom(image, RomPlan(size_max=smallest)).data) == smallest
        with pytest.raises(RomTooLarge):
            build_rom(image, RomPlan(size_max=smallest - 1))


def test_equal_pages_have_the_most_careful_level_of_them() -> None:
    with open_image(20, 0, 20) as image:
        flat = image.flat().copy()
    flat[30] = flat[2]
    levels = {".text": Level.NORMAL, ".init.text": Level.LAST_RESORT}
    with Image.open(elf_bytes(flat[:20], flat[:0], flat[20:]), page_size=PAGE) as image:
        built = build_rom(image, RomPlan(levels=levels, dictionary="none"))
        assert built.by_codec["duplicate"][0] == 1
        assert built.by_codec["lz4"][0] == 20  # 19 and the one that .text shares
        # Touched second as page 30, it is laid out second as page 2.
        plan = RomPlan(codecs=("raw",), trace=trace_of([25, 30, 4]))
        built = build_rom(image, plan)
        offsets = [built.data.index(flat[number].tobytes()) for number in (25, 2, 4)]
        assert offsets == sorted(offsets)


def test_words_of_pages_left_out_are_not_kept() -> None:
    pages = np.concatenate([branchy(8), np.full((2, PAGE), 0xA5, np.uint8)])
    with Image.open(elf_bytes(pages[:8], pages[8:], pages[:0]), page_size=PAGE) as image:
        built = build_rom(image, RomPlan(leave_out=[".data"]))
        assert built.by_codec["same"] == (0, 0)
        assert bytes([0xA5] * 8) not in built.data


def test_a_dictionary_for_nothing() -> None:
    with open_image(40, 0, 0) as image:
        plan = RomPlan(in_place=[".text"], dictionary_size=16384)
        assert build_rom(image, plan).dictionary_bytes == 0
    with pytest.raises(InvalidArgument, match="give one"):
        RomPlan(dictionary="none", dictionary_size=4096)
    with open_image(400, 400) as image:
        in_place = build_rom(image, RomPlan(dictionary="in-place"))
        assert in_place.dictionary_bytes > 0
        assert in_place.ram_bytes == 0
    assert dictionary_size(1 << 24, "compressed", ["raw", "lz4"], 1 << 20) == 65536
    assert dictionary_size(1 << 24, "compressed", ["lz4", "zstd"], 1 << 20) == 1 << 20


def test_bytes_behind_the_image_are_no_part_of_it() -> None:
    with Image.open(bytes(range(250)) * 20, raw=True, page_size=PAGE) as image:
        built = build_rom(image)
        assert built.image_bytes == 5000
    with Rom.open(built.data) as rom:
        assert rom.extract() == bytes(range(250)) * 20


def test_an_instruction_set_that_no_header_holds() -> None:
    for arch in ("é", "a" * 17):
        with (
            Image.open(bytes(5000), raw=True, arch=arch) as image,
            pytest.raises(InvalidArgument, match="16 ASCII"),
        ):
            build_rom(image)
