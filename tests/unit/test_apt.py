# SPDX-License-Identifier: GPL-2.0-only
"""Debian's archive, asked through apt: a small one on the disk, signed with a key of the test's."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.kernel import apt, versions
from harness.kernel.source import fetch
from harness.model.errors import LaunchError, MachineError, UsageError
from harness.variants import catalogue
from tests.unit.conftest import TOY, Said

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("apt-get", "gpg", "dpkg-deb"))), reason="this host has no apt, gpg or dpkg-deb"
)


class Archive:
    """A mirror: suites with packages, and the key that signs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "gnupg"
        self.home.mkdir(parents=True, mode=0o700)
        self.keyring = folder / "keyring.gpg"
        self._gpg("--quick-generate-key", "--passphrase", "", "archive@example.org", "ed25519")
        self._gpg("--export", "--output", str(self.keyring))

    def close(self) -> None:
        """End the agent that gpg has started."""
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "all"], check=False)

    def _gpg(self, *words: str) -> None:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--pinentry-mode", "loopback", *words]
        subprocess.run(command, check=True, capture_output=True)

    def suite(self, codename: str, role: str, *packages: tuple[str, str]) -> None:
        """A suite with the packages of these series and versions."""
        place = self.folder / "mirror" / "dists" / codename
        text = "".join(self._package(series, version) for series, version in packages)
        lists = place / "main" / "binary-amd64" / "Packages"
        lists.parent.mkdir(parents=True)
        lists.write_text(text)
        release = (
            f"Origin: Debian\nLabel: Debian\nSuite: {role}\nCodename: {codename}\n"
            "Date: Sat, 28 Nov 2026 08:00:00 UTC\nArchitectures: amd64\nComponents: main\nSHA256:\n"
            f" {hashlib.sha256(lists.read_bytes()).hexdigest()} {lists.stat().st_size} main/binary-amd64/Packages\n"
        )
        (place / "Release").write_text(release)
        self._gpg("--clearsign", "--output", str(place / "InRelease"), str(place / "Release"))
        if role != codename:
            (place.parent / role).symlink_to(codename)

    def _package(self, series: str, version: str) -> str:
        name = f"linux-source-{series}"
        deb = self.deb(series, version)
        if not deb.exists():
            content = self.folder / "content" / f"{name}-{version}"
            (content / "DEBIAN").mkdir(parents=True)
            (content / "DEBIAN" / "control").write_text(
                f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
                "Maintainer: A <a@example.org>\nDescription: x\n"
            )
            (content / "usr" / "src").mkdir(parents=True)
            tarball = content / "usr" / "src" / f"{name}.tar.xz"
            subprocess.run(["tar", "-caf", tarball, "-C", TOY.parent, TOY.name], check=True)
            deb.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["dpkg-deb", "-Zgzip", "--build", content, deb], check=True, capture_output=True)
        return (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: x\n"
            f"Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\n"
            f"SHA256: {hashlib.sha256(deb.read_bytes()).hexdigest()}\n\n"
        )

    def deb(self, series: str, version: str) -> Path:
        """The file of a package."""
        return self.folder / "mirror" / "pool" / f"linux-source-{series}_{version}_all.deb"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two releases and the suites beside them, made once."""
    archive = Archive(tmp_path_factory.mktemp("archive"))
    archive.suite("bullfrog", "stable", ("2.1", "2.1.9-1"))
    archive.suite("bullfrog-backports", "stable-backports", ("2.1", "2.1.10-1~bpo1+1"), ("2.4", "2.4.3-1~bpo1+1"))
    archive.suite("toad", "testing", ("2.2", "2.2.1-1"))
    archive.suite("experimental", "experimental", ("2.5", "2.5~rc1-1~exp1"))
    archive.close()
    return archive.folder


@pytest.fixture
def archive(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror of the test's own, and the host's apt asks it."""
    mirror = Path(shutil.copytree(built / "mirror", tmp_path / "mirror", symlinks=True))
    monkeypatch.setattr(apt, "_place", lambda: (f"file:{mirror}", "", built / "keyring.gpg"))
    return mirror


def test_a_kernel_of_a_newer_suite_is_fetched_once(archive: Path, cache: Path, said: Said):
    """The newest package of the series counts, and the suites are asked by their names, not by their roles."""
    first = fetch("debian:2.4", cache, said)
    assert "fetching linux-source-2.4=2.4.3-1~bpo1+1" in said.lines
    assert first.lineage == "debian-2.4"

    with apt.fetched("2.4", cache).open("r+b") as file:
        file.write(b"x")
    assert fetch("debian:2.4", cache).id == first.id  # What is damaged in the cache is fetched again.

    shutil.rmtree(archive)
    again = Said()
    assert fetch("debian:2.4", cache, again).id == first.id
    assert again.lines == []
    assert [path.name for path in (cache / "tmp").iterdir()] == []


def test_latest_is_the_newest_that_is_released(archive: Path, cache: Path, said: Said):
    """A release candidate has to be asked for by number; what nobody has is the user's mistake."""
    assert archive.is_dir()
    assert fetch("debian:latest", cache, said).lineage == "debian-2.4"
    assert "debian:latest is debian:2.4" in said.lines
    with pytest.raises(UsageError, match=r"has no linux-source-2\.3; it has 2\.1, 2\.2, 2\.4, 2\.5"):
        fetch("debian:2.3", cache)


def test_a_package_that_is_not_the_signed_one_is_not_taken(archive: Path, cache: Path):
    """One byte, and the size is the same."""
    deb = next((archive / "pool").glob("linux-source-2.4*"))
    raw = bytearray(deb.read_bytes())
    raw[-20] ^= 1
    deb.write_bytes(raw)

    with pytest.raises(LaunchError, match=r"linux-source-2\.4=.*cannot be fetched"):
        fetch("debian:2.4", cache)
    assert not apt.fetched("2.4", cache).exists()


def test_lists_that_are_not_signed_by_debian_are_not_read(archive: Path, cache: Path, tmp_path: Path, monkeypatch):
    """Neither lists that were changed, nor a mirror that signs with another key."""
    for lists in archive.glob("dists/*/main/binary-amd64/Packages"):
        lists.write_text(lists.read_text().replace("linux-source-2.4", "linux-source-6.6"))
    for path in archive.glob("dists/*/InRelease"):
        path.unlink()
    with pytest.raises(LaunchError, match="Debian's archive cannot be asked: "):
        fetch("debian:6.6", cache)

    stranger = tmp_path / "stranger.gpg"
    stranger.write_bytes(b"")
    monkeypatch.setattr(apt, "_place", lambda: (f"file:{archive}", "", stranger))
    with pytest.raises(LaunchError, match="Debian's archive cannot be asked: "):
        fetch("debian:2.4", cache)


@pytest.mark.parametrize(
    "name", ["../passwd", "-o=Debug::x=1", "2.4=1", "2.4/sid", "99999.1", "2.4\n", "\u0662.\u0664"]
)
def test_what_is_no_series_never_reaches_apt(name: str, cache: Path, monkeypatch):
    monkeypatch.setattr(apt, "_place", lambda: pytest.fail("apt was asked"))
    with pytest.raises(UsageError, match="no kernel series"):
        fetch(f"debian:{name}", cache)


def test_a_host_without_debians_keyring_is_told_so(cache: Path, monkeypatch):
    monkeypatch.setattr(apt, "KEYRINGS", (Path("/nonexistent/keyring.pgp"),))
    with pytest.raises(LaunchError, match=r"keyring\.pgp is missing") as caught:
        fetch("debian:2.4", cache)
    assert caught.value.hint == "apt-get install debian-archive-keyring"


def test_sources_are_listed_with_what_the_archive_has(archive: Path, cache: Path, said: Said):
    """The default first, then from the newest; what nobody has tried says so. What it had stays known."""
    entries = {entry["name"]: entry["summary"] for entry in catalogue.sources(cache, said)}

    assert next(iter(entries)) == versions.DEFAULT
    assert {f"debian:{name}" for name in versions.served()} < set(entries)
    assert entries["debian:2.4"].startswith("never tried here; the nearest that was is 6.1; ")
    assert entries["debian:2.4"].endswith("Debian's archive has 2.4.3-1~bpo1+1")

    os.utime(cache / "sources" / "seen" / "debian", (0, 0))
    shutil.rmtree(archive)
    assert {entry["name"]: entry["summary"] for entry in catalogue.sources(cache, said)} == entries
    assert "what it had on 1970-01-01 is taken" in said.lines[-1]


def test_a_package_without_the_tarball_is_an_error(cache: Path, monkeypatch):
    """Or one that does not unpack at all."""
    (cache / "tmp").mkdir(parents=True)
    asked = apt._Apt(cache, {"2.4": "1"}, Said())
    (cache / "configuration").touch()
    monkeypatch.setattr("harness.host.process.run", lambda *_, **__: type("Done", (), {"status": 0})())
    (cache / "x.deb").write_bytes(b"not one")

    with pytest.raises(MachineError, match=r"x\.deb"):
        asked.download("2.4", cache / "linux-source-2.4.tar.xz")
