# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import io
import subprocess
from pathlib import Path

import paramiko

from harness.guest.keys import KeyPair


def test_the_servers_key_is_the_one_that_dropbear_reads(tmp_path: Path):
    """What dropbearkey prints is the public key that we expect the guest to show."""
    server = KeyPair()
    (tmp_path / "host_key").write_bytes(server.dropbear)

    done = subprocess.run(
        ["dropbearkey", "-y", "-f", tmp_path / "host_key"], capture_output=True, text=True, check=True
    )

    assert server.public in done.stdout


def test_the_clients_key_is_the_one_that_paramiko_reads():
    client = KeyPair()

    assert paramiko.Ed25519Key.from_private_key(io.StringIO(client.openssh)).get_base64() in client.public


def test_no_two_pairs_are_the_same():
    assert KeyPair().public != KeyPair().public
