# SPDX-License-Identifier: MIT
"""Fuzz the readers of images, ELF and boot headers, symbols, BTF, every payload; and of rules.

    PYTHONPATH=src python -m tests.fuzz.fuzz_image elf --seconds 60

runs one target for a minute (atheris, in the dependency group ``fuzz``); ``all`` runs each
for that long. An input may be read or refused with one of our errors: any other
exception, more than 512 MiB, or ten seconds for one input is a failure, whose input is
left in the working folder. Put it in tests/fuzz/corpus/TARGET: tests/fuzz/test_corpus.py
replays what is there for ever.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).resolve().parent / "corpus"
INPUT_MAX = 16 << 10
TARGETS = (
    *("elf", "boot", "system-map", "kallsyms", "btf", "rules"),
    *("gzip", "xz", "lzma", "lz4", "lz4-legacy", "zstd", "bzip2", "lzo"),
)


def _decoder(format_name: str) -> Callable[[bytes], None]:
    """Return a target that decodes a payload of one format, whatever it begins with."""
    from pagestep.codecs.errors import PageStepError
    from pagestep.store.image._payload import MAGICS, decompress_payload
    from pagestep.store.image._source import BufferSource, Spool

    magic = next(magic for magic, name in MAGICS if name == format_name)

    def run(data: bytes) -> None:
        spool = Spool("fuzz", 1 << 20, None)
        source = BufferSource(magic + data[len(magic) :], "fuzz")
        with contextlib.suppress(PageStepError):
            taken = decompress_payload(source, spool, format_name=format_name, whole=True)
            assert 0 <= taken <= source.size
        assert spool.size <= 1 << 20
        spool.close()

    return run


def _system_map(data: bytes) -> None:
    from pagestep.codecs.errors import PageStepError
    from pagestep.store.image._source import BufferSource
    from pagestep.store.image._symbols import map_symbols

    with contextlib.suppress(PageStepError):
        symbols = map_symbols(BufferSource(data or b"\n", "fuzz"))
        for symbol in symbols:
            symbols.symbol_at(symbol.address)
            assert symbols.find(symbol.name)


def _kallsyms(data: bytes) -> None:
    import numpy as np

    from pagestep.store.image import Segment
    from pagestep.store.image._kallsyms import kallsyms_symbols

    size = max(1, len(data))
    segment = Segment(".rodata", 0xC0008000, size, 0, range(1), "r-x", "text")
    for byteorder in ("little", "big"):
        symbols = kallsyms_symbols(
            np.frombuffer(data, np.uint8),
            byteorder=byteorder,
            bits=None,
            base=segment.address,
            segments=[segment],
        )
        for symbol in symbols:
            assert symbol.name.isprintable()
            assert symbol.address + symbol.size <= 1 << 64


def _btf(data: bytes) -> None:
    from pagestep.codecs.errors import PageStepError
    from pagestep.store.image import Btf

    with contextlib.suppress(PageStepError):
        types = Btf(data)
        for prototypes in types.functions().values():
            assert all(len(prototype) <= 1024 for prototype in prototypes)
        for wanted in ("ops.call", "handler_t", "."):
            assert len(types.prototype(wanted)) <= len(types)


def _rules(data: bytes) -> None:
    from pagestep.codecs.errors import BadRules
    from pagestep.store.policy import RuleSet

    with contextlib.suppress(BadRules):
        rules = RuleSet.parse(data.decode("utf-8", "replace"), folder="/nowhere")
        for rule in rules.rules:
            assert rule.line >= 1
            assert rule.section or rule.symbol or rule.module or rule.source or rule.address


def targets() -> dict[str, Callable[[bytes], None]]:
    """Return each target by its name.

    What they call is imported here and not above, so that atheris can instrument it.
    """
    from pagestep.store.image._payload import MAGICS
    from tests.image.exercise import open_or_refuse

    def image(data: bytes) -> None:
        open_or_refuse(data or b"\0")

    def elf(data: bytes) -> None:
        image(b"\x7fELF" + data[4:])

    others = {"kallsyms": _kallsyms, "btf": _btf, "rules": _rules}
    decoders = {name: _decoder(name) for _, name in MAGICS}
    return {"elf": elf, "boot": image, "system-map": _system_map, **others, **decoders}


def seeds(target: str) -> list[bytes]:
    """Return inputs to start from: small good ones."""
    from tests.image import builders as b
    from tests.image.test_hostile import SEEDS

    if target == "kallsyms":
        return _small_kallsyms()
    if target == "btf":
        from tests.image.test_btf import SMALL

        return SMALL
    if target == "rules":
        folder = CORPUS.parents[2] / "examples" / "rules"
        return [(folder / name).read_bytes() for name in ("firmware.toml", "common.toml")]
    text = bytes(range(64)) * 4
    if target == "elf":
        return [seed for seed in SEEDS if seed.startswith(b"\x7fELF")]
    if target == "boot":
        return [seed for seed in SEEDS if not seed.startswith(b"\x7fELF")]
    if target == "system-map":
        return [b"ffffffff81000000 T _text\nffffffff81000010 d data\n0 A absolute\n"]
    pack = b.COMPRESSORS[target]
    return [pack(text), pack(text) + pack(text[:9]), pack(b"")]


def _small_kallsyms() -> list[bytes]:
    from tests.image.kallsyms import BASE, Entry, Table, blob

    entries = [Entry(BASE[32] + n, "T", "_text" if n == 0 else f"f{n}") for n in range(520)]
    tables = [Table(bits=32), Table(bits=32, layout="6.4"), Table(bits=32, relative=False)]
    return [blob(entries, table) for table in tables]


def corpus(target: str) -> list[bytes]:
    """Return the inputs that once failed."""
    return [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]


def _fuzz(target: str, seconds: int) -> None:
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=["pagestep.store", "elftools", "tomllib"]):
        import_module("pagestep.store.image")
        import_module("pagestep.store.policy")
    run = targets()[target]
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds(target) + corpus(target)):
            (Path(folder) / str(number)).write_bytes(data)
        limits = [f"-max_total_time={seconds}", f"-max_len={INPUT_MAX}", "-timeout=10"]
        atheris.Setup(
            [sys.argv[0], *limits, "-rss_limit_mb=512", "-print_final_stats=1", folder], run
        )
        atheris.Fuzz()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of images.")
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    chosen = parser.parse_args()
    if chosen.target != "all":
        _fuzz(chosen.target, chosen.seconds)
        return 0
    failed: list[str] = []
    for target in TARGETS:
        command = [sys.executable, "-m", __spec__.name, target, "--seconds", str(chosen.seconds)]
        if subprocess.run(command, check=False).returncode:
            failed.append(target)
    print("failed:", ", ".join(failed) if failed else "none")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
