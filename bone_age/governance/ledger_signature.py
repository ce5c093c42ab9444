"""Ed25519 signatures of ledger entries: who rewrites the chain without the private key is found with the public one."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from bone_age.errors import InputError

OF_OTHERS = 0o077


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read an unencrypted PEM.

    Raises:
        InputError: Absent, unreadable, encrypted, another kind of key, or readable by others; names the path.
    """
    key = _read(path, partial(load_pem_private_key, password=None))
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: is no private key of the kind Ed25519")
    if path.stat().st_mode & OF_OTHERS:
        raise InputError(f"{path}: others can read or write this private key; `chmod 600 {path}` keeps it yours")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read a PEM.

    Raises:
        InputError: Absent, unreadable, or another kind of key; names the path.
    """
    key = _read(path, load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path}: is no public key of the kind Ed25519")
    return key


def sign(key: Ed25519PrivateKey, digest: str) -> str:
    """Base64 of the signature over an entry's digest."""
    return base64.b64encode(key.sign(digest.encode())).decode()


def is_signed(key: Ed25519PublicKey, digest: str, signature: str) -> bool:
    """Was this digest signed with the private half of `key`?"""
    try:
        key.verify(base64.b64decode(signature, validate=True), digest.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def _read(path: Path, load: Callable[[bytes], object]) -> object:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: the key cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"{path}: holds no such key in PEM, unencrypted") from None
