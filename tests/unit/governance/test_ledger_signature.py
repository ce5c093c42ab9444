"""A key that others can read signs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bone_age.errors import InputError
from bone_age.governance.ledger_signature import read_private_key


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_private_key_that_others_can_reach_is_refused_with_what_mends_it(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "ledger.pem"
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(mode)
    with pytest.raises(InputError, match=f"{path}: others can .* `chmod 600 {path}`"):
        read_private_key(path)
    for own in (0o600, 0o400):
        path.chmod(own)
        assert read_private_key(path).private_bytes_raw() == key.private_bytes_raw()
