# SPDX-License-Identifier: MIT
"""From the file as it is distributed to the bytes that run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pagestep.codecs.errors import BadImage

from ._boot import (
    HEAD_SIZE,
    Payload,
    RawKernel,
    arm_kernel,
    boot_format,
    bzimage_payload,
    image_kernel,
    read_zimage,
    zboot_payload,
    zimage_payloads,
)
from ._payload import decompress_payload, payload_format
from ._source import Source, Spool

LAYERS_MAX = 4  # a gzipped EFI zboot image of a compressed Image has three


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The innermost bytes, and how they were packed.

    Attributes:
        source: The bytes: the file itself, or an unlinked temporary one.
        kind: The outermost format that is not mere compression; ``"raw"`` where unknown.
        payload: How it was packed, outermost first, joined by ``+``; None if it was not.
        is_elf: The innermost bytes are an ELF file.
        kernel: What is known of a kernel that is not; None for unknown bytes.
    """

    source: Source
    kind: str
    payload: str | None
    is_elf: bool
    kernel: RawKernel | None


class _Unpacker:
    def __init__(self, source: Source, limit: int, scratch_dir: Path | None) -> None:
        self._limit = limit
        self._scratch_dir = scratch_dir
        self.source = source
        self.formats: list[str] = []

    def _replace(self, fill: Callable[[Spool], str]) -> None:
        """Go on with what ``fill`` writes to a spool; it returns the format's name."""
        spool = Spool(self.source.name, self._limit, self._scratch_dir)
        try:
            self.formats.append(fill(spool))
            if not spool.size:
                raise BadImage(f"{self.source.name}: its {self.formats[-1]} payload is empty")
            inner = spool.into_source()
        finally:
            spool.close()
        self.source.close()
        self.source = inner

    def file(self) -> None:
        """Decode a file that is compressed as a whole."""
        name = payload_format(self.source.read(0, HEAD_SIZE))

        def fill(spool: Spool) -> str:
            assert name is not None
            decompress_payload(self.source, spool, format_name=name, whole=True)
            return name

        self._replace(fill)

    def payload(self, payload: Payload) -> None:
        """Decode a payload that fills a known stretch, all but a trailing size."""

        def fill(spool: Spool) -> str:
            taken = decompress_payload(
                self.source,
                spool,
                format_name=payload.format_name,
                offset=payload.offset,
                size=payload.size,
            )
            self._check(payload, taken, spool.size)
            return payload.format_name

        self._replace(fill)

    def _check(self, payload: Payload, taken: int, size: int) -> None:
        behind = payload.size - taken
        wrong = payload.decoded_size is not None and payload.decoded_size != size & 0xFFFFFFFF
        if behind in (0, 4) and not (wrong and behind == 4):
            return
        stated = f", its header says {payload.decoded_size}" if wrong else ""
        raise BadImage(
            f"{self.source.name}: the {payload.format_name} payload at offset {payload.offset} "
            f"decodes to {size} bytes and leaves {behind} of {payload.size}{stated}: the file is "
            "damaged; fetch it again"
        )

    def _check_found(self, payload: Payload, taken: int, size: int) -> None:
        """Refuse what merely looked like a payload."""
        if payload.decoded_size is not None:
            self._check(payload, taken, size)
        elif payload.format_name != "gzip":
            # The header does not say where the payload ends, but behind all formats that
            # do not hold it the build appends the decoded size.
            trailer = self.source.read(payload.offset + taken, 4)
            if int.from_bytes(trailer, "little") != size & 0xFFFFFFFF:
                raise BadImage(f"{self.source.name}: no size behind offset {payload.offset}")

    def zimage(self) -> RawKernel:
        """Decode a zImage's payload, which has to be looked for."""
        header = read_zimage(self.source)

        def fill(spool: Spool) -> str:
            tried = 0
            for payload in zimage_payloads(self.source, header):
                tried += 1
                spool.restart()
                try:
                    taken = decompress_payload(
                        self.source,
                        spool,
                        format_name=payload.format_name,
                        offset=payload.offset,
                        size=payload.size,
                    )
                    self._check_found(payload, taken, spool.size)
                except BadImage:
                    continue
                return payload.format_name
            raise BadImage(
                f"{self.source.name}: none of the {tried} places in this zImage that look like a "
                "compressed kernel can be decoded: it is damaged, or packed in a way that is not "
                "known; give its uncompressed Image with base="
            )

        self._replace(fill)
        return arm_kernel(header)


def unpack(source: Source, *, max_payload: int, scratch_dir: Path | None) -> Unpacked:
    """Undo what wraps a kernel.

    Args:
        source: The file; it is closed when the result has another source.
        max_payload: The most bytes that one compressed layer may decode to.
        scratch_dir: Where the decoded bytes go, see ``Spool``.

    Raises:
        BadImage: A header or payload that is cut off, damaged or too large.
        StoreIOError: The decoded bytes cannot be written.
    """
    unpacker = _Unpacker(source, max_payload, scratch_dir)
    try:
        return _unpack(unpacker)
    except BaseException:
        unpacker.source.close()
        raise


def _unpack(unpacker: _Unpacker) -> Unpacked:
    kind = kernel = None
    found: str | None = None
    for _ in range(LAYERS_MAX + 1):
        found = boot_format(unpacker.source.read(0, HEAD_SIZE))
        if found == "compressed":
            unpacker.file()
            continue
        kind = kind or found
        if found == "bzImage":
            unpacker.payload(bzimage_payload(unpacker.source))
            _must_be_elf(unpacker.source)
            continue
        if found == "EFI zboot":
            unpacker.payload(zboot_payload(unpacker.source))
            continue
        if found == "zImage":
            kernel = unpacker.zimage()
        elif found in ("arm64 Image", "riscv Image"):
            kernel = image_kernel(unpacker.source)
        break
    else:
        raise BadImage(
            f"{unpacker.source.name}: more than {LAYERS_MAX} layers of compression: unpack it "
            "yourself, and give the result"
        )
    return Unpacked(
        source=unpacker.source,
        kind=kind or "raw",
        payload="+".join(unpacker.formats) or None,
        is_elf=found == "elf",
        kernel=kernel,
    )


def _must_be_elf(source: Source) -> None:
    head = source.read(0, 4)
    if head != b"\x7fELF":
        raise BadImage(
            f"{source.name}: the payload of this bzImage begins with {head.hex(' ')} and is no "
            "ELF file: the file is damaged; fetch it again"
        )
