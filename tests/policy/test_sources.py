# SPDX-License-Identifier: MIT
"""Rules by source file, on programs with debug information."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pagestep import BadImage, Image, Level, RuleSet, decide

from ..rom.programs import tool

FILES = {
    "drivers/net/e1000.c": "int e1000_probe(int a) { return a * 3; }\n"
    "int e1000_remove(int a) { return a * 5; }\n",
    "drivers/usb/hub.c": "int hub_probe(int a) { return a * 7; }\n",
    "kernel/start.c": "int e1000_probe(int); int hub_probe(int); int e1000_remove(int);\n"
    "void _start(void) { e1000_probe(hub_probe(e1000_remove(1))); }\n",
}
NAMES = {"e1000_probe": "net", "e1000_remove": "net", "hub_probe": "usb", "_start": "kernel"}


def build(folder: Path, flags: str, compiler: str = "gcc") -> Path:
    gcc = tool(compiler, compiler)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    command = f"{gcc} {flags} -Os -ffreestanding -nostdlib -static -no-pie -fno-pie -o vmlinux"
    subprocess.run([*command.split(), *FILES], cwd=folder, check=True, timeout=60)
    return folder / "vmlinux"


def levels(image: Image, glob: str) -> dict[str, str]:
    rules = RuleSet.parse(f'[[rule]]\nsource = "{glob}"\nlevel = "EAGER"\n')
    policy = decide(image, rules)
    return {name: policy.explain(name).decisions[0].wish.value for name in NAMES}


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize(
    "flags",
    [
        f"-g -gdwarf-{version}{more}"
        for version in (4, 5)
        for more in ("", " -ffunction-sections", " -ffunction-sections -Wl,-Ttext=0x800000")
    ],
)
def test_code_is_matched_by_its_source(tmp_path: Path, flags: str, compiler: str) -> None:
    with Image.open(build(tmp_path, flags, compiler)) as image:
        for glob, part in (
            ("drivers/net/*", "net"),
            ("drivers/*/e1000.c", "net"),
            (f"{tmp_path}/kernel/*", "kernel"),
            ("*/usb/*", "usb"),
        ):
            assert levels(image, glob) == {
                name: "EAGER" if of == part else "PINNED" for name, of in NAMES.items()
            }
        policy = decide(image, RuleSet.parse('[[rule]]\nsource = "fs/*"\nlevel = "EAGER"\n'))
        assert "no source is called 'fs/*'" in policy.unmatched[0].reason


ASSEMBLY = """\
    .text
    .globl _start, far, other
_start: .skip 4, 0x90
other: .skip 4, 0x90
far: .skip 4, 0x90
    .size _start, 4
    .size other, 4
    .size far, 4
    .section .debug_abbrev
    .byte 1, 0x11, 0, 0x03, 0x08, 0x11, 0x01, 0x55, 0x17, 0, 0, 0
    .section .debug_info
    .long end - begin
begin: .short 4
    .long 0
    .byte 8, 1
    .asciz "drivers/net/entry.S"
    .quad _start
    .long 0
end:
    .section .debug_ranges
    .quad 0, 4          /* from the unit's own address */
    .quad -1, far       /* a new base */
    .quad 0, 4
    .quad 0, 0
"""


def test_ranges_from_a_base(tmp_path: Path) -> None:
    (tmp_path / "entry.S").write_text(ASSEMBLY)
    command = [tool("gcc", "gcc"), *["-nostdlib", "-static", "-no-pie", "-o", "entry", "entry.S"]]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    with Image.open(tmp_path / "entry") as image:
        text = '[[rule]]\nsource = "drivers/net/*"\nlevel = "EAGER"\n'
        policy = decide(image, RuleSet.parse(text))
        found = {
            name: policy.explain(name).decisions[0].wish.value
            for name in ("_start", "other", "far")
        }
        assert found == {"_start": "EAGER", "other": "PINNED", "far": "EAGER"}


def test_source_and_symbol_together(tmp_path: Path) -> None:
    with Image.open(build(tmp_path, "-g")) as image:
        text = '[[rule]]\nsource = "drivers/net/*"\nsymbol = "*_probe"\nlevel = "EAGER"\n'
        policy = decide(image, RuleSet.parse(text))
        found = {name: policy.explain(name).decisions[0].wish.value for name in NAMES}
        assert found == {name: "EAGER" if name == "e1000_probe" else "PINNED" for name in NAMES}


def test_debug_information_in_a_file_of_its_own(tmp_path: Path) -> None:
    whole = build(tmp_path, "-g")
    stripped = tmp_path / "stripped"
    subprocess.run([tool("strip", "binutils"), "-o", stripped, whole], check=True, timeout=60)
    with Image.open(stripped, system_map=whole) as image:
        assert levels(image, "drivers/net/*")["e1000_probe"] == Level.EAGER.name
    with Image.open(stripped) as image:
        assert image.source_ranges() == ()


def test_damaged_debug_information_is_one_clear_error(tmp_path: Path) -> None:
    whole = build(tmp_path, "-g")
    data = bytearray(whole.read_bytes())
    listed = subprocess.run(
        [tool("readelf", "binutils"), "-SW", whole], capture_output=True, text=True, check=True
    )
    [row] = [line for line in listed.stdout.splitlines() if " .debug_info " in line]
    start, size = (int(word, 16) for word in row.split("PROGBITS")[1].split()[1:3])
    said: list[str] = []
    for at in range(start, start + size):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        with Image.open(bytes(broken)) as image:
            try:
                image.source_ranges()
            except BadImage as error:
                said.append(str(error))
    assert len(said) > 5
    assert not [each for each in said if "\n" in each or "debug information" not in each]
