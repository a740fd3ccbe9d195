# SPDX-License-Identifier: MIT
"""Tags in C, compiled and linked for several processors, and read back as levels."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pagestep import BadImage, Image, Level, RuleSet, decide, include_folder
from pagestep.store.policy import fault_marks

from ..image import builders
from ..rom.programs import tool
from .compilers import FRAGMENT, TOOLCHAINS, Toolchain

KINDS = {
    "last_resort": Level.LAST_RESORT,
    "reluctant": Level.RELUCTANT,
    "normal": Level.NORMAL,
    "eager": Level.EAGER,
    "step_on_it": Level.STEP_ON_IT,
    "once": Level.STEP_ON_IT,
}
# By what is between the tag's words: nothing for functions.
TAGS = {
    tag.format(kind): level
    for kind in ("", "_data", "_rodata")
    for tag, level in (
        ("__nonpageable{}", Level.PINNED),
        ("__pageable{}", Level.NORMAL),
        *((f"__pageable{{}}_{name}", level) for name, level in KINDS.items()),
    )
}

# Only one function calls each, so that a compiler that may inline it would.
SOURCE = """\
#include "pagestep/pageable.h"
volatile int sink = 1;
%s
static int plain(int a) { sink = a ^ 3; return sink; }
__may_fault(plain);
static int __nonpageable tick(int a) { sink = a + 5; return sink; }
__no_fault(tick);
int main(void);
int main(void)
{
    int a = plain(sink) + tick(sink);
%s
    return a;
}
void _start(void);
void _start(void) { sink = main(); for (;;) ; }
"""


def source_of_all_tags() -> str:
    things: list[str] = []
    uses: list[str] = []
    for tag in TAGS:
        name = tag.strip("_")
        if "rodata" in tag:
            things.append(f"static const int {tag} thing_{name}[5] = {{9, 8, 7, 6, 5}};")
            uses.append(f"    a += thing_{name}[sink];")
        elif "data" in tag:
            things.append(f"static int {tag} thing_{name} = 7;")
            uses.append(f"    thing_{name} += sink;")
        else:
            body = f"sink = a * {3 + len(things)}; return sink;"
            things.append(f"static int {tag} thing_{name}(int a) {{ {body} }}")
            uses.append(f"    a += thing_{name}(a);")
    return SOURCE % ("\n".join(things), "\n".join(uses))


@pytest.fixture(params=TOOLCHAINS)
def toolchain(request: pytest.FixtureRequest) -> Toolchain:
    return TOOLCHAINS[str(request.param)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "driver.c"
    path.write_text(source_of_all_tags())
    return path


def check_levels(image: Image, *, whole_pages: bool) -> None:
    policy = decide(image, None)
    assert not policy.is_plain
    for tag, level in TAGS.items():
        symbol = image.symbols.find(f"thing_{tag.strip('_')}")
        assert symbol is not None, tag
        explained = policy.explain(symbol.name)
        wish = explained.decisions[0].wish
        assert (wish.value, wish.by) == (level.name, "tag")
        full = tag if tag not in ("__pageable", "__pageable_data", "__pageable_rodata") else None
        assert wish.tag == (full or f"{tag}_normal")
        assert [each.wish.value for each in explained.decisions if each.key == "lifecycle"] == [
            "once" if tag.endswith("once") else "always"
        ]
        if whole_pages:
            page = image.page_of(symbol.address)
            assert policy.level[page] == level, tag
            assert policy.once[page] == tag.endswith("once")
    for name in ("main", "sink"):
        assert policy.explain(name).decisions[0].wish.by == "default"
        assert policy.explain(name).decisions[0].wish.value == "PINNED"


def check_marks(image: Image) -> None:
    may, no = fault_marks(image)
    for name, marked in (("plain", may), ("tick", no)):
        symbol = image.symbols.find(name)
        assert symbol is not None
        assert marked == {symbol.address}, name


@pytest.mark.parametrize("optimise", ["-O0", "-O2", "-Os"])
def test_tags_become_levels(
    toolchain: Toolchain, optimise: str, source: Path, tmp_path: Path
) -> None:
    compiled, program = tmp_path / "driver.o", tmp_path / "program"
    toolchain.compile(source, compiled, optimise)
    with Image.open(compiled) as image:
        check_levels(image, whole_pages=False)
        check_marks(image)
    toolchain.link([compiled], program, "-Wl,--gc-sections")
    with Image.open(program) as image:
        assert image.arch == toolchain.arch
        check_levels(image, whole_pages=True)
        check_marks(image)


def test_no_page_of_a_level_is_shared(toolchain: Toolchain, source: Path, tmp_path: Path) -> None:
    compiled, program = tmp_path / "driver.o", tmp_path / "program"
    toolchain.compile(source, compiled)
    toolchain.link([compiled], program)
    with Image.open(program) as image:
        assert decide(image, None).sharing.pages == 0
        tagged = [each for each in image.segments if each.name.startswith(".pageable")]
        assert len(tagged) == 21
        pages = [page for segment in tagged for page in segment.pages]
        assert len(set(pages)) == len(pages)
        others = [each for each in image.segments if not each.name.startswith(".pageable")]
        assert not set(pages) & {page for segment in others for page in segment.pages}


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_tags_in_cplusplus(compiler: str, tmp_path: Path) -> None:
    source, compiled = tmp_path / "driver.cpp", tmp_path / "driver.o"
    text = source_of_all_tags().replace("main(", "run(")
    source.write_text(f'extern "C" {{\n{text}\n}}\n')
    command = [tool(compiler, compiler.replace("clang++", "clang")), "-fno-pie", "-O2", "-c"]
    command += ["-Wall", "-Werror", f"-I{include_folder()}", str(source), "-o", str(compiled)]
    subprocess.run(command, check=True, timeout=60)
    with Image.open(compiled) as image:
        may, no = fault_marks(image)
        assert (len(may), len(no)) == (1, 1)
        tagged = [each.name for each in image.segments if each.name.startswith(".pageable")]
        assert len(tagged) == 21
        assert not decide(image, None).is_plain


def test_marks_move_with_their_image(source: Path, tmp_path: Path) -> None:
    compiled, program = tmp_path / "driver.o", tmp_path / "program"
    TOOLCHAINS["gcc-pie"].compile(source, compiled)
    TOOLCHAINS["gcc-pie"].link([compiled], program)
    for path in (compiled, program):
        with Image.open(path, base=0x7000_0000_0000) as image:
            check_marks(image)
            assert min(fault_marks(image)[0]) >= 0x7000_0000_0000


@pytest.mark.parametrize("name", ["gcc-pie", "clang-lld-pie"])
def test_a_hosted_program_has_no_segment_of_code_that_is_written(
    name: str, source: Path, tmp_path: Path
) -> None:
    toolchain = TOOLCHAINS[name]
    source.write_text(source.read_text().partition("void _start")[0])
    program = tmp_path / "program"
    # The linker warns of one, and run() takes no warning.
    flags = f"-O1 {toolchain.link_flags} -I{include_folder()} -Wl,-T,{FRAGMENT}"
    toolchain.run(*flags.split(), source, "-o", program)
    with Image.open(program) as image:
        check_levels(image, whole_pages=True)
        check_marks(image)


def test_page_size_of_the_fragment(source: Path, tmp_path: Path) -> None:
    toolchain = TOOLCHAINS["thumb"]
    compiled, program = tmp_path / "driver.o", tmp_path / "program"
    toolchain.compile(source, compiled)
    toolchain.link([compiled], program, "-Wl,--defsym=PAGESTEP_PAGE_SIZE=1024")
    with Image.open(program, page_size=1024) as image:
        check_levels(image, whole_pages=True)
        assert decide(image, None).sharing.pages == 0


def test_a_program_that_tags_nothing_is_plain(tmp_path: Path) -> None:
    toolchain = TOOLCHAINS["gcc"]
    source, compiled, program = (tmp_path / name for name in ("a.c", "a.o", "a"))
    source.write_text("int x = 3;\nvoid _start(void);\nvoid _start(void) { x = 4; }\n")
    toolchain.compile(source, compiled)
    toolchain.link([compiled], program)
    with Image.open(program) as image:
        assert decide(image, None).is_plain
        assert fault_marks(image) == (set(), set())
        assert not [each for each in image.segments if "page" in each.name]


def test_rules_go_before_tags(source: Path, tmp_path: Path) -> None:
    compiled = tmp_path / "driver.o"
    TOOLCHAINS["gcc"].compile(source, compiled)
    rules = RuleSet.parse('[[rule]]\nsymbol = "thing_pageable_e*"\nlevel = "RELUCTANT"\n')
    with Image.open(compiled) as image:
        policy = decide(image, rules)
        decision = policy.explain("thing_pageable_eager").decisions[0]
        assert str(decision.wish) == "RELUCTANT by rule rules:1"
        assert [str(wish) for wish in decision.beat] == [
            "EAGER by tag __pageable_eager",
            "PINNED by default",
        ]
        assert policy.explain("thing_pageable_once").decisions[0].wish.by == "tag"


# -- tags that cannot be ------------------------------------------------------------------


def built(tmp_path: Path, body: str) -> Image:
    source, compiled = tmp_path / "bad.c", tmp_path / "bad.o"
    source.write_text(f'#include "pagestep/pageable.h"\nvolatile int sink;\n{body}\n')
    TOOLCHAINS["gcc"].compile(source, compiled)
    return Image.open(compiled)


def test_contradictory_marks_are_refused(tmp_path: Path) -> None:
    body = "static void f(void) { sink = 1; }\n__no_fault(f);\n__may_fault(f);"
    with built(tmp_path, body) as image:
        with pytest.raises(BadImage, match=r"bad\.o: f is marked __may_fault and __no_fault"):
            fault_marks(image)
        decide(image, None)


def test_what_must_not_fault_cannot_be_pageable(tmp_path: Path) -> None:
    body = "static void __pageable_eager f(void) { sink = 1; }\n__no_fault(f);"
    with (
        built(tmp_path, body) as image,
        pytest.raises(BadImage, match="f is marked __no_fault and tagged __pageable_eager"),
    ):
        fault_marks(image)


def test_an_unknown_tag_is_refused(tmp_path: Path) -> None:
    body = 'void f(void);\nvoid __attribute__((section(".pageable.text.egaer"))) f(void) {}'
    with (
        built(tmp_path, body) as image,
        pytest.raises(BadImage, match=r"\.pageable\.text\.egaer .* did you mean 'eager'"),
    ):
        decide(image, None)


def test_a_function_in_two_levels_is_refused() -> None:
    names = (".pageable.text.eager", ".pageable.text.once")
    data = bytes(8192)
    elf = builders.elf(
        [builders.Load(0x1000, data)],
        [
            builders.Section(name, 0x1000 + 4096 * number, 4096, 6)
            for number, name in enumerate(names)
        ],
        [builders.Symbol("astride", 0x1F00, 0x200)],
    )
    with (
        Image.open(elf) as image,
        pytest.raises(
            BadImage, match="astride is tagged __pageable_eager and __pageable_once: it begins in"
        ),
    ):
        decide(image, None)


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\0" * 7])
def test_damaged_marks_are_refused(data: bytes) -> None:
    elf = builders.elf(
        [builders.Load(0x1000, bytes(64))],
        [
            builders.Section(".text", 0x1000, 64, 6),
            builders.Section(".pagestep.no_fault", 0, len(data), 0, load=None, data=data),
        ],
    )
    with Image.open(elf) as image, pytest.raises(BadImage, match=r"\.pagestep\.no_fault"):
        fault_marks(image)


def test_the_header_is_installed_beside_its_fragment() -> None:
    folder = include_folder() / "pagestep"
    assert (folder / "pageable.h").is_file()
    fragment = (folder / "pageable.ld").read_text()
    header = (folder / "pageable.h").read_text()
    for name in ("pinned", *KINDS):
        for kind in ("text", "data", "rodata"):
            assert fragment.count(f".pageable.{kind}.{name})") == 1
        assert header.count(f'("{name}")') == 3
