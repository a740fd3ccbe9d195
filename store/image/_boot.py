# SPDX-License-Identifier: MIT
"""The headers of bootable kernels: which one a file has, and where its payload lies.

Sources: Linux's Documentation/arch/x86/boot.rst, arch/arm/boot/compressed/head.S and
vmlinux.lds.S, Documentation/arch/arm64/booting.rst, Documentation/arch/riscv/
boot-image-header.rst, drivers/firmware/efi/libstub/zboot-header.S.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pagestep.codecs.errors import BadImage

from ._payload import payload_format
from ._source import Source

HEAD_SIZE = 0x260
CANDIDATES_MAX = 256  # places in a zImage that are tried
ZIMAGE_SCAN = 16 << 20  # bytes of a zImage that are looked through: the payload starts early
VOTE_BYTES = 64 << 20  # of a raw kernel that are looked through for pointers
VOTES_MIN = 256

_BZIMAGE_PROTOCOL_MIN = 0x0208  # since then the header says where the payload lies (2008)
_ZIMAGE_MAGIC = 0x016F2818
_ZIMAGE_TABLE_MAGIC = 0x45454545
_ZIMAGE_TAG_MAGIC = 0x5A534C4B

# Where arm64 kernels are linked: with 39-bit addresses to Linux 5.3, to 6.4 and since;
# then the same with 48 bits. Up to 5.7 a text offset is added, which the header gives.
_ARM64_AREAS = (
    0xFFFFFF8008000000,
    0xFFFFFFC010000000,
    0xFFFFFFC008000000,
    0xFFFFFFC080000000,
    0xFFFF000008000000,
    0xFFFF800010000000,
    0xFFFF800008000000,
    0xFFFF800080000000,
)

# Magic numbers long enough to look for in a zImage, whose header does not say where the
# payload begins. It does not say how it is packed either.
_NEEDLES = (
    b"\x1f\x8b\x08\x00",
    b"\xfd7zXZ\x00\x00",
    b"\x02\x21\x4c\x18",
    b"\x04\x22\x4d\x18",
    b"\x28\xb5\x2f\xfd",
    b"BZh91AY&SY",
    b"\x89LZO\x00\r\n\x1a\n",
    b"\x5d\x00\x00\x00",
    b"\x5d\x00\x00\x80",
)


@dataclass(frozen=True, slots=True)
class Payload:
    """A stretch of a file that may be a compressed kernel.

    Attributes:
        format_name: How it is packed.
        offset: Of its first byte in the file.
        size: Bytes that it may take.
        decoded_size: What it must decode to, None where the header does not say.
    """

    format_name: str
    offset: int
    size: int
    decoded_size: int | None = None


@dataclass(frozen=True, slots=True)
class RawKernel:
    """What is known of a kernel that is its own memory image.

    Attributes:
        arch: See ``Image.arch``.
        byteorder: ``"little"`` or ``"big"``.
        bases: Where such kernels are linked, the likeliest last.
        word_size: Bytes of a pointer.
    """

    arch: str
    byteorder: str
    bases: tuple[int, ...]
    word_size: int


def boot_format(head: bytes) -> str | None:
    """Return what a file is by its first ``HEAD_SIZE`` bytes, None where that is unknown.

    One of ``"elf"``, ``"bzImage"``, ``"EFI zboot"``, ``"arm64 Image"``, ``"riscv Image"``,
    ``"zImage"``, ``"compressed"``.
    """
    if head.startswith(b"\x7fELF"):
        return "elf"
    if head[0x1FE:0x200] == b"\x55\xaa" and head[0x202:0x206] == b"HdrS":
        return "bzImage"
    if head.startswith(b"MZ") and head[4:8] == b"zimg":
        return "EFI zboot"
    if head[0x38:0x3C] == b"ARM\x64":
        return "arm64 Image"
    if head[0x38:0x3C] == b"RSC\x05":
        return "riscv Image"
    if head[0x24:0x28] == struct.pack("<I", _ZIMAGE_MAGIC):
        return "zImage"
    return "compressed" if payload_format(head) else None


def _field(head: bytes, code: str, offset: int) -> int:
    # A header that ends early is zeros from there on: it then fails the checks that follow.
    size = struct.calcsize(code)
    value: int = struct.unpack(code, head[offset : offset + size].ljust(size, b"\0"))[0]
    return value


def _known_payload(source: Source, what: str, offset: int, size: int) -> Payload:
    if not 0 < size <= source.size - offset:
        raise BadImage(
            f"{source.name}: this {what} puts {size} bytes of payload at offset {offset}, and the "
            f"file has {source.size}: it is cut off; fetch it again"
        )
    head = source.read(offset, 16)
    format_name = payload_format(head)
    if format_name is None:
        raise BadImage(
            f"{source.name}: the payload at offset {offset} of this {what} begins with "
            f"{head[:8].hex(' ')}, which is no known compression: unpack it yourself, and give "
            "the result"
        )
    return Payload(format_name, offset, size)


def bzimage_payload(source: Source) -> Payload:
    """Return an x86 bzImage's payload, an ELF file.

    Raises:
        BadImage: The header gives no payload inside the file, or one packed unknown ways.
    """
    head = source.read(0, HEAD_SIZE)
    protocol = _field(head, "<H", 0x206)
    if protocol < _BZIMAGE_PROTOCOL_MIN:
        raise BadImage(
            f"{source.name}: a bzImage of boot protocol {protocol >> 8}.{protocol & 255}, which "
            "does not say where its payload lies (2.8 does, since Linux 2.6.26): give its vmlinux"
        )
    setup_sectors = _field(head, "<B", 0x1F1) or 4
    size = (setup_sectors + 1) * 512 + 16 * _field(head, "<I", 0x1F4)
    if source.size + 15 < size:  # the last 16 bytes need not be whole
        raise BadImage(
            f"{source.name}: this bzImage claims {size} bytes, and the file has {source.size}: it "
            "is cut off; fetch it again"
        )
    start = (setup_sectors + 1) * 512 + _field(head, "<I", 0x248)
    payload = _known_payload(source, "bzImage", start, _field(head, "<I", 0x24C))
    if payload.format_name == "gzip":
        return payload
    # Behind all others the build appends the decoded size.
    trailer = _field(source.read(start + payload.size - 4, 4), "<I", 0)
    return Payload(payload.format_name, start, payload.size, trailer)


def zboot_payload(source: Source) -> Payload:
    """Return the payload of an EFI zboot image, an arm64, riscv or other Image.

    Raises:
        BadImage: As for ``bzimage_payload``.
    """
    head = source.read(0, HEAD_SIZE)
    return _known_payload(source, "EFI zboot image", _field(head, "<I", 8), _field(head, "<I", 12))


@dataclass(frozen=True, slots=True)
class ZImage:
    """An ARM zImage's header.

    Attributes:
        size: Bytes of the zImage; a device tree may follow in the file.
        byteorder: ``"little"`` or ``"big"``.
        text_offset: From the start of memory to the kernel.
        payload_end: Offset behind the payload, None where the header does not say.
        decoded_size: Of the payload, None where the header does not say.
    """

    size: int
    byteorder: str
    text_offset: int
    payload_end: int | None
    decoded_size: int | None


def read_zimage(source: Source) -> ZImage:
    """Read an ARM zImage's header.

    Raises:
        BadImage: The file is shorter than the header says.
    """
    head = source.read(0, HEAD_SIZE)
    start, end = _field(head, "<I", 0x28), _field(head, "<I", 0x2C)
    if not 0x40 < end - start <= source.size:
        raise BadImage(
            f"{source.name}: this zImage claims {end - start} bytes, and the file has "
            f"{source.size}: it is cut off; fetch it again"
        )
    size = end - start
    byteorder = "big" if _field(head, "<I", 0x30) == 0x01020304 else "little"
    plain = ZImage(size, byteorder, 0x8000, None, None)
    if _field(head, "<I", 0x34) != _ZIMAGE_TABLE_MAGIC:
        return plain
    # Since Linux 4.15: a table of tags; the first holds where the decoded size is kept.
    table = source.read(_field(head, "<I", 0x38), 20)
    if _field(table, "<I", 4) != _ZIMAGE_TAG_MAGIC:
        return plain
    at, text_offset = _field(table, "<I", 8), _field(table, "<I", 16)
    if at + 4 > size:
        return plain
    return ZImage(size, byteorder, text_offset, at + 4, _field(source.read(at, 4), "<I", 0))


def zimage_payloads(source: Source, header: ZImage) -> Iterator[Payload]:
    """Yield the places in a zImage where its payload may begin, in order of offset."""
    end = header.payload_end or header.size
    data = source.read(0, min(end, ZIMAGE_SCAN))
    found: list[int] = []
    for needle in _NEEDLES:
        at = data.find(needle)
        for _ in range(CANDIDATES_MAX):
            if at < 0:
                break
            found.append(at)
            at = data.find(needle, at + 1)
    for at in sorted(found)[:CANDIDATES_MAX]:
        format_name = payload_format(data[at : at + 16])
        if format_name:
            yield Payload(format_name, at, end - at, header.decoded_size)


def arm_kernel(header: ZImage) -> RawKernel:
    """Return what is known of a zImage's payload: TEXT_OFFSET above one of the usual splits."""
    splits = (0x40000000, 0x80000000, 0xB0000000, 0xC0000000)
    arch = "armeb" if header.byteorder == "big" else "arm"
    bases = tuple(split + header.text_offset for split in splits)
    return RawKernel(arch, header.byteorder, bases, 4)


def image_kernel(source: Source) -> RawKernel:
    """Return what the header of an arm64 or riscv Image says."""
    head = source.read(0, HEAD_SIZE)
    text_offset = _field(head, "<Q", 8)
    byteorder = "big" if _field(head, "<Q", 24) & 1 else "little"
    ending = "eb" if byteorder == "big" else ""
    if head[0x38:0x3C] == b"RSC\x05":
        # The header does not give the word size; the load offset differs: a large page.
        if text_offset == 0x400000:
            return RawKernel("riscv32" + ending, byteorder, (0xC0000000,), 4)
        return RawKernel("riscv64" + ending, byteorder, (0xFFFFFFFF80000000,), 8)
    offset = text_offset if text_offset < 1 << 21 else 0
    bases = tuple(area + offset for area in _ARM64_AREAS)
    return RawKernel("arm64" + ending, byteorder, bases, 8)


def find_base(source: Source, kernel: RawKernel) -> int:
    """Return the virtual address that a raw kernel is linked at.

    No header gives it. Each likely base gets a vote for every aligned word of the image
    that would point into the image; a kernel has many thousands of such words.

    Args:
        source: The kernel's bytes.
        kernel: What is known of it.

    Returns:
        The base with most votes, or the likeliest one where there are too few votes.
    """
    size = source.size
    order = "<" if kernel.byteorder == "little" else ">"
    count = min(size, VOTE_BYTES) // kernel.word_size
    words = source.view()[: count * kernel.word_size].view(f"{order}u{kernel.word_size}")
    best, most = kernel.bases[-1], VOTES_MIN
    for base in kernel.bases:
        votes = int(np.count_nonzero((words >= base) & (words < base + size)))
        if votes > most:
            best, most = base, votes
    return best
