# SPDX-License-Identifier: MIT
"""Ed25519 signatures of a ROM image's header block (RFC 8032)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pagestep.codecs.errors import BadSignature, InvalidArgument, Unsupported

from ._format import KEY_SIZE, SIGNATURE_SIZE

if TYPE_CHECKING:
    import os

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def read_private_key(path: str | os.PathLike[str]) -> Ed25519PrivateKey:
    """Return the private key in a PEM file, as ``openssl genpkey -algorithm ed25519`` makes it.

    Raises:
        InvalidArgument: It holds no unencrypted Ed25519 key.
        Unsupported: The package cryptography is not installed.
        OSError: It cannot be read.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(Path(path).read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise InvalidArgument(f"{path}: no unencrypted private key in PEM: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidArgument(f"{path}: not an Ed25519 key: make one with openssl genpkey")
    return key


def read_public_key(path: str | os.PathLike[str]) -> bytes:
    """Return the 32 bytes of the public key in a PEM file, or of a private key's.

    Raises:
        InvalidArgument: It holds no Ed25519 key.
        Unsupported: The package cryptography is not installed.
        OSError: It cannot be read.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = Path(path).read_bytes()
    if b"PRIVATE KEY" in data:
        return read_private_key(path).public_key().public_bytes_raw()
    try:
        key = load_pem_public_key(data)
    except ValueError as error:
        raise InvalidArgument(f"{path}: no public key in PEM: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidArgument(f"{path}: not an Ed25519 key")
    return key.public_bytes_raw()


def sign(block: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return public key and signature of a header block, checksum included."""
    return key.public_key().public_bytes_raw() + key.sign(block)


def check_signature(block: bytes, signature: bytes, trusted: bytes | None = None) -> None:
    """Check a signature, and, where a trusted public key is given, that it is that key's.

    Args:
        block: The header block and its checksum.
        signature: The bytes of the signature's table.
        trusted: 32 bytes; None takes the key that the image names.

    Raises:
        InvalidArgument: ``trusted`` is no public key.
        BadSignature: There is none, it is somebody else's, or it does not hold.
        Unsupported: The package cryptography is not installed.
    """
    if trusted is not None and len(trusted) != KEY_SIZE:
        raise InvalidArgument(
            f"a public key has {KEY_SIZE} bytes, not {len(trusted)}: read_public_key gets it "
            "from a PEM file"
        )
    if len(signature) != SIGNATURE_SIZE:
        raise BadSignature("the ROM image is not signed" if not signature else "no signature")
    if trusted is not None and signature[:KEY_SIZE] != trusted:
        raise BadSignature(
            f"signed with key {signature[:KEY_SIZE].hex()}, not with the trusted {trusted.hex()}"
        )
    _require_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(signature[:KEY_SIZE]).verify(signature[KEY_SIZE:], block)
    except (InvalidSignature, ValueError):
        raise BadSignature("the signature is not that of this header: it was changed") from None


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise Unsupported(
            "signatures need the package cryptography: pip install 'pagestep[sign]'"
        ) from None
