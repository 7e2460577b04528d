# SPDX-License-Identifier: GPL-2.0-only
"""Debian's packages, unpacked for a test and never installed, whatever this system's package lists hold."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.host import process
from harness.model.errors import LaunchError

# 71 MB over a slow line.
_LIMIT_S = 600
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def is_debian() -> bool:
    """Whether this host's package sources have Debian's packages."""
    try:
        return platform.freedesktop_os_release()["ID"] == "debian"
    except OSError:
        return False


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    """What a program printed. Raises LaunchError when it failed."""
    done = process.run([process.which(str(argv[0])), *argv[1:]], timeout_s=_LIMIT_S, cwd=cwd)
    if done.status:
        raise LaunchError(f"{done.command}: status {done.status}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Shelf:
    """Our own package lists in a folder, and apt's options for them."""

    folder: Path
    options: Sequence[str]

    def depends(self, package: str) -> str:
        """What a package needs, as apt-cache prints it."""
        return run("apt-cache", *self.options, "depends", "--important", package)

    def unpack(self, *packages: str) -> Path:
        """The files of packages, in a folder. Raises LaunchError for a package that cannot be had."""
        run("apt-get", *self.options, "download", *packages, cwd=self.folder)
        return self._extract(self.folder)

    def unpack_all(self, package: str) -> Path:
        """The files of a package and of all that it depends on, the C library too, in a folder."""
        none = self.folder / "status"
        none.touch()
        options = (*self.options, "-o", f"Dir::State::Status={none}", "-o", "APT::Install-Recommends=false")
        run("apt-get", *options, "--yes", "--download-only", "install", package)
        return self._extract(self.folder / "archives")

    def _extract(self, folder: Path) -> Path:
        root = self.folder / "root"
        for package in sorted(folder.glob("*.deb")):
            run("dpkg-deb", "--extract", package, root)
            package.unlink()
        return root


@contextmanager
def shelf(place: Path, suite: str = "") -> Iterator[Shelf]:
    """A shelf below a folder, until the block ends.

    suite: a suite of Debian, such as "trixie-backports"; empty for the system's suites. The lists are our own and new,
    fetched from the system's sources: the system's lists may be missing or old, and know no other suite.
    """
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "archives" / "partial").mkdir(parents=True)
        options = ["-o", f"Dir::State::Lists={folder / 'lists'}", "-o", f"Dir::Cache={folder}"]
        options += ["-o", "APT::Sandbox::User=root"]
        run("apt-get", *options, "update")
        if suite:
            release = platform.freedesktop_os_release()["VERSION_CODENAME"]
            wanted = ("Created-By: Packages", f"Codename: {release}")
            mirrors = run("apt-get", *options, "indextargets", "--format", "$(REPO_URI)", *wanted).split()
            if not mirrors:
                raise LaunchError(f"apt-get indextargets: this system has no mirror of {release}")
            sources = folder / "sources.list"
            # What a package of the backports depends on is in the release that they are for.
            suites = dict.fromkeys((suite, suite.removesuffix("-backports")))
            lines = (f"deb [signed-by={_KEYRING}] {mirrors[0]} {name} main\n" for name in suites)
            sources.write_text("".join(lines), encoding="ascii")
            options += ["-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=/dev/null"]
            # The system's preferences are about its own suites.
            options += ["-o", "Dir::Etc::Preferences=/dev/null", "-o", "Dir::Etc::PreferencesParts=/dev/null"]
            options += ["-o", f"APT::Default-Release={suite}"]
            run("apt-get", *options, "update")
        yield Shelf(folder, options)
