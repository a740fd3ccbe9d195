# SPDX-License-Identifier: MIT
"""Debian's kernels, whole, against flattenings that share no code with ours."""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
import struct
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pagestep.store.image import Image

# From the project's measurements: version, bytes, pages filled with one byte.
KNOWN_X86 = {"6.1.0-50": (36_356_096, 2590), "6.1.0-56": (36_376_576, 2576)}
KNOWN_ARM = {"6.1.0-50": (7_929_856, 105)}

pytestmark = pytest.mark.kernel


def same_filled(flat: np.ndarray[Any, Any]) -> int:
    return int((flat == flat[:, :1]).all(axis=1).sum())


def version_of(kernel: Path) -> str:
    match = re.search(r"\d+\.\d+\.\d+-\d+", kernel.name)
    return match[0] if match else ""


def vmlinux_of(kernel: Path) -> bytes:
    """Unpack a bzImage's LZ4 legacy payload, block by block."""
    block: Any = import_module("lz4.block")
    data = kernel.read_bytes()
    offset, size = struct.unpack_from("<II", data, 0x248)
    offset += (data[0x1F1] + 1) * 512
    payload = data[offset : offset + size]
    assert payload[:4] == b"\x02\x21\x4c\x18"
    out, at = b"", 4
    while at < len(payload) - 4:
        coded = int.from_bytes(payload[at : at + 4], "little")
        out += block.decompress(payload[at + 4 : at + 4 + coded], uncompressed_size=8 << 20)
        at += 4 + coded
    return out


def test_x86_is_the_flat_kernel_up_to_its_bss(x86_kernel: Path, tmp_path: Path) -> None:
    vmlinux = vmlinux_of(x86_kernel)
    phoff, phnum = struct.unpack_from("<Q", vmlinux, 32)[0], vmlinux[56]
    memory = bytearray(64 << 20)
    for at in range(phoff, phoff + phnum * 56, 56):
        kind, _, offset, _, paddr, size = struct.unpack_from("<IIQQQQ", vmlinux, at)
        if kind == 1:
            memory[paddr - 0x1000000 : paddr - 0x1000000 + size] = vmlinux[offset : offset + size]
    with Image.open(x86_kernel) as image:
        assert (image.kind, image.payload, image.arch) == ("bzImage", "lz4-legacy", "x86_64")
        assert image.base == 0xFFFFFFFF81000000
        flat = image.flat()
        size = image.page_count * 4096
        assert flat.tobytes() == memory[:size]
        assert not any(memory[size:]), "what is left out must be zero"
        assert image.identity == hashlib.sha256(memory[:size]).hexdigest()
        names = [segment.name for segment in image.segments]
        assert names[0] == ".text"
        assert {".data..percpu", ".init.text"} <= set(names)
        assert ".bss" not in names
        known = KNOWN_X86.get(version_of(x86_kernel))
        if known:
            assert (size, same_filled(flat)) == known
    if shutil.which("objcopy"):
        (tmp_path / "vmlinux").write_bytes(vmlinux)
        command = "objcopy -O binary -R .init.scratch vmlinux flat"
        subprocess.run(command.split(), cwd=tmp_path, check=True)
        assert size == (tmp_path / "flat").stat().st_size


def test_x86_sections_are_where_readers_of_the_elf_find_them(x86_kernel: Path) -> None:
    import io

    from elftools.elf.elffile import ELFFile

    elf: Any = ELFFile(io.BytesIO(vmlinux_of(x86_kernel)))
    with Image.open(x86_kernel) as image:
        flat = image.flat().reshape(-1)
        for segment in image.segments:
            section = elf.get_section_by_name(segment.name)
            assert segment.address == section["sh_addr"]
            data = flat[segment.offset : segment.offset + segment.size].tobytes()
            assert data == section.data()[: segment.size]
            assert image.page_of(segment.address) == segment.pages[0]
            assert image.page_of(segment.address + segment.size - 1) == segment.pages[-1]
            expected = "x" if section["sh_flags"] & 4 else "-"
            assert segment.flags[2] == expected


def test_x86_per_cpu_data_keeps_its_own_addresses(x86_kernel: Path) -> None:
    with Image.open(x86_kernel) as image:
        percpu = next(s for s in image.segments if s.name == ".data..percpu")
        assert percpu.address == 0
        assert image.page_of(0x1234) == percpu.pages[0] + 1
        assert image.address_of(percpu.pages[0]) == 0
        assert image.page_of(0xFFFFFFFF81000000) == 0


def test_x86_every_page_has_an_address_that_leads_back(x86_kernel: Path) -> None:
    with Image.open(x86_kernel) as image:
        addresses = np.array([image.address_of(n) for n in range(image.page_count)], np.uint64)
        assert (image.pages_of(addresses) == np.arange(image.page_count)).all()


def test_x86_extents_rebuild_the_image_from_the_file(x86_kernel: Path) -> None:
    import os

    with Image.open(x86_kernel) as image:
        assert image.file is not None
        rebuilt = bytearray(image.page_count * image.page_size)
        for extent in image.extents:
            data = os.pread(image.file, extent.size, extent.file_offset)
            rebuilt[extent.image_offset : extent.image_offset + extent.size] = data
        assert hashlib.sha256(rebuilt).hexdigest() == image.identity


@pytest.mark.parametrize("page_size", [512, 16384, 65536])
def test_x86_page_sizes_hold_the_same_bytes(x86_kernel: Path, page_size: int) -> None:
    with Image.open(x86_kernel) as small, Image.open(x86_kernel, page_size=page_size) as image:
        flat = image.flat().reshape(-1)
        size = min(len(flat), small.page_count * 4096)
        assert (flat[:size] == small.flat().reshape(-1)[:size]).all()
        assert image.base == small.base
        numbers = range(0, image.page_count, 7)
        assert [image.page_of(image.address_of(n)) for n in numbers] == list(numbers)


def test_arm_is_the_unpacked_kernel(arm_kernel: Path) -> None:
    data = arm_kernel.read_bytes()
    kernel = b""
    for match in re.finditer(rb"\xfd7zXZ\0", data):
        try:
            kernel = lzma.LZMADecompressor().decompress(data[match.start() :])
        except lzma.LZMAError:
            continue
    assert kernel
    kernel += bytes(-len(kernel) % 4096)
    with Image.open(arm_kernel) as image:
        assert (image.kind, image.payload, image.arch) == ("zImage", "xz", "arm")
        assert image.base == 0xC0008000
        flat = image.flat()
        assert flat.tobytes() == kernel
        assert image.identity == hashlib.sha256(kernel).hexdigest()
        assert [s.name for s in image.segments] == ["image"]
        known = KNOWN_ARM.get(version_of(arm_kernel))
        if known:
            assert (flat.size, same_filled(flat)) == known


def test_arm_is_a_view_of_its_file(arm_kernel: Path) -> None:
    with Image.open(arm_kernel) as image:
        assert image.page(3).base is not None
        assert np.shares_memory(image.page(3), image.page(3))


@pytest.mark.parametrize("cut", [0.2, 0.6, 0.9, 0.999])
def test_a_kernel_cut_short_is_one_clear_line(
    x86_kernel: Path, arm_kernel: Path, cut: float
) -> None:
    from pagestep.codecs.errors import BadImage

    for kernel in (x86_kernel, arm_kernel):
        data = kernel.read_bytes()
        with pytest.raises(BadImage) as caught:
            Image.open(data[: int(len(data) * cut)])
        assert "\n" not in str(caught.value)
        assert "fetch it again" in str(caught.value)
