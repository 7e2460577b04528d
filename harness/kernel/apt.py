# SPDX-License-Identifier: GPL-2.0-only
"""Debian's packages linux-source-VERSION, also those of newer suites than the host's, fetched by apt into the cache.

Mirrors and proxies are those of the host's own sources; only the suites are
ours, and only Debian's own keyring is believed. Nothing of the host changes:
apt works in a folder of its own.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.host import process, workspace
from harness.host.progress import Progress
from harness.kernel.source import series
from harness.model.errors import LaunchError, MachineError, UsageError

# The roles of Debian's releases; the archive says which names they have now, and only a name's folder is always fresh.
ROLES = ("testing", "stable", "oldstable")
# What a release has beside itself, and the suites that never become one.
PARTS = ("", "-backports")
OTHERS = ("sid", "experimental")
# Its package is on every Debian system; its name changed with Debian 13.
KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{suffix}") for suffix in ("pgp", "gpg"))
# The archive changes four times a day, its newest kernel every few.
FRESH_S = 24 * 3600.0

_PACKAGE = re.compile(r"linux-source-([0-9]{1,3}\.[0-9]{1,4})")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~-]{0,80}")  # Debian's policy, 5.6.12.
_CODENAME = re.compile(r"^Codename: ([a-z]{1,40})$", re.MULTILINE)
_TIMEOUT_S = 900
# Read after the host's own configuration: its hooks are not run, and nothing makes apt believe what is not signed.
_CONFIG = """\
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets;
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
APT::Get::AllowUnauthenticated "false";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""
_PACKAGES = """\
Acquire::IndexTargets::deb::Packages {
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
  ShortDescription "Packages";
  Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
};
"""


@dataclass(frozen=True)
class Offers:
    """The kernel series that Debian's archive has, each with the newest version of its package; when that was read."""

    versions: Mapping[str, str]
    read_s: float

    @property
    def series(self) -> list[str]:
        """The newest first."""
        return sorted(self.versions, key=series, reverse=True)

    @property
    def latest(self) -> str | None:
        """The newest series that is released."""
        return next((name for name in self.series if "~rc" not in self.versions[name]), None)


def known(cache: Path) -> Offers | None:
    """What the archive had when it was last asked."""
    path = cache / "sources" / "seen" / "debian"
    raw = workspace.recall(path)
    return None if raw is None else Offers(json.loads(raw), path.stat().st_mtime)


def offers(cache: Path, progress: Progress) -> Offers:
    """What the archive has, at most a day old. Raises LaunchError when it cannot be asked and never was."""
    before = known(cache)
    if before and 0 <= time.time() - before.read_s < FRESH_S:
        return before
    try:
        with _archive(cache, progress):
            pass
    except LaunchError as error:
        if before is None:
            raise
        progress.say(f"{error}; what it had on {time.strftime('%F', time.localtime(before.read_s))} is taken")
        return before
    after = known(cache)
    assert after is not None
    return after


def installed(version: str) -> Path:
    """Where the host's own package puts a series' tarball, whether it is there or not."""
    return Path(f"/usr/src/linux-source-{version}.tar.xz")


def fetched(version: str, cache: Path) -> Path:
    """Where the cache has a series' tarball, whether it is there or not."""
    return cache / "sources" / f"debian-{version}" / f"linux-source-{version}.tar.xz"


def fetch(spec: str, version: str, cache: Path, progress: Progress) -> Path:
    """The tarball in Debian's newest package of a series, from the cache or from the archive.

    Raises UsageError for a series that the archive does not have, LaunchError
    when it cannot be asked.
    """
    path = fetched(version, cache)
    if workspace.whole(path.parent, progress, path.name):
        return path
    with workspace.lock(cache / "locks" / f"debian-{version}.fetch.lock", progress, path.name):
        if workspace.whole(path.parent, progress, path.name):
            return path
        with _archive(cache, progress) as apt:
            if version not in apt.packages:
                have = ", ".join(sorted(apt.packages, key=series))
                raise UsageError(
                    f"--source {spec}: Debian's archive has no linux-source-{version}; it has {have}",
                    "harness list sources",
                )
            with workspace.publishing(path.parent) as fresh:
                apt.download(version, fresh / path.name)
    return path


@dataclass(frozen=True)
class _Apt:
    """apt in a folder of its own, with lists that are fresh and verified. packages: series → version of its package."""

    folder: Path
    packages: Mapping[str, str]
    progress: Progress

    def download(self, version: str, target: Path) -> None:
        """Write the tarball in a package to a file. apt compares the package with its signed digest."""
        package = f"linux-source-{version}={self.packages[version]}"
        self.progress.say(f"fetching {package}")
        argv: list[str | Path] = ["apt-get", "-c", self.folder / "configuration", "-q", "download", package]
        done = process.run(argv, timeout_s=_TIMEOUT_S, cwd=self.folder)
        debs = list(self.folder.glob("*.deb"))
        if done.status or len(debs) != 1:
            raise LaunchError(f"{package}: cannot be fetched: {_reason(done.stdout + done.stderr)}", "apt-get update")
        with tempfile.TemporaryFile() as errors:
            child = process.spawn(["dpkg-deb", "--fsys-tarfile", debs[0]], stderr=errors)
            with process.running(child):
                assert child.stdout is not None
                try:
                    found = _member(child.stdout, f"./usr/src/{target.name}", target)
                except tarfile.TarError as error:
                    raise MachineError(f"{debs[0].name}: does not unpack: {error}") from error
        if not found:
            raise MachineError(f"{debs[0].name}: has no /usr/src/{target.name}")


@contextlib.contextmanager
def _archive(cache: Path, progress: Progress) -> Iterator[_Apt]:
    """Ask Debian's archive what it has, and remember that."""
    main, security, keyring = _place()
    progress.say(f"asking Debian's archive which kernels it has: {main}")
    scratches = cache / "tmp"
    scratches.mkdir(parents=True, exist_ok=True)
    with workspace.space(scratches), tempfile.TemporaryDirectory(dir=scratches, prefix="apt-") as name:
        folder = Path(name).resolve()
        for part in ("state/lists/partial", "cache/archives/partial", "sources"):
            (folder / part).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "configuration").write_text(_CONFIG.format(folder=folder), encoding="utf-8")
        _sources(folder, keyring, {main: ROLES})
        said = _update(folder)
        releases = _codenames(folder)
        suites = [f"{release}{part}" for release in releases for part in PARTS] + list(OTHERS)
        _sources(folder, keyring, {main: suites, security: [f"{release}-security" for release in releases]})
        with (folder / "configuration").open("a", encoding="utf-8") as stream:
            stream.write(_PACKAGES)
        said += _update(folder)  # A suite that a mirror lacks is no reason to do without the others.
        packages = _packages(folder)
        if not packages:
            raise LaunchError(f"Debian's archive cannot be asked: {_reason(said)}", "apt-get update")
        workspace.remember(cache / "sources" / "seen" / "debian", json.dumps(packages))
        yield _Apt(folder, packages, progress)


def _place() -> tuple[str, str, Path]:
    """The host's mirror of Debian, that of its security updates or an empty name, and Debian's keyring."""
    cannot = "Debian's archive cannot be asked"
    if not shutil.which("apt-get"):
        raise LaunchError(f"{cannot}: this host has no apt", "--source TARBALL goes without")
    keyring = next((path for path in KEYRINGS if path.is_file()), None)
    if keyring is None:
        raise LaunchError(f"{cannot}: {KEYRINGS[0]} is missing", "apt-get install debian-archive-keyring")
    said = process.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)\t$(RELEASE)\t$(REPO_URI)", "Created-By: Packages"],
        timeout_s=_TIMEOUT_S,
    )
    # A host that never asked its sources does not know their origin; then the signature tells.
    rows = [row for line in said.stdout.splitlines() if len(row := line.split("\t")) == 3]
    rows = [row for row in rows if row[0] in ("Debian", "$(ORIGIN)", "") and not re.search(r"[\s\[\]#]", row[2])]
    main = [uri for _, release, uri in rows if "security" not in release]
    security = [uri for _, release, uri in rows if "security" in release]
    if not main:
        raise LaunchError(f"{cannot}: none of this host's apt sources is Debian's", "apt-get indextargets")
    return main[0], security[0] if security else "", keyring


def _sources(folder: Path, keyring: Path, suites: Mapping[str, Sequence[str]]) -> None:
    """Say which suites of which mirrors are asked."""
    text = [
        f"Types: deb\nURIs: {uri}\nSuites: {' '.join(names)}\nComponents: main\nSigned-By: {keyring}\n"
        for uri, names in suites.items()
        if uri and names
    ]
    (folder / "sources" / "debian.sources").write_text("\n".join(text), encoding="utf-8")


def _update(folder: Path) -> str:
    done = process.run(["apt-get", "-c", folder / "configuration", "-q", "update"], timeout_s=_TIMEOUT_S)
    return done.stdout + done.stderr


def _codenames(folder: Path) -> list[str]:
    """What releases are called, from the files that apt has verified."""
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in (folder / "state/lists").glob("*Release"))
    return sorted({found[1] for text in texts if (found := _CODENAME.search(text))})


def _packages(folder: Path) -> dict[str, str]:
    """Series → newest version, of each linux-source package in the lists."""
    apt_cache: list[str | Path] = ["apt-cache", "-c", folder / "configuration"]
    said = process.run([*apt_cache, "search", "--names-only", "^linux-source-[0-9]"], timeout_s=_TIMEOUT_S).stdout
    names = sorted({line.partition(" ")[0] for line in said.splitlines()})
    names = [name for name in names if _PACKAGE.fullmatch(name)]
    if not names:
        return {}
    found: dict[str, str] = {}
    # A line for each version and place, a package's newest first.
    for line in process.run([*apt_cache, "madison", *names], timeout_s=_TIMEOUT_S).stdout.splitlines():
        row = [word.strip() for word in line.split("|")]
        name = _PACKAGE.fullmatch(row[0])
        if len(row) == 3 and name and _VERSION.fullmatch(row[1]):
            found.setdefault(name[1], row[1])
    return found


def _member(stream: IO[bytes], name: str, target: Path) -> bool:
    """Write the one member of a tarball that has this name."""
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.name == name and member.isreg():
                source = tar.extractfile(member)
                assert source is not None
                with target.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                return True
    return False


def _reason(said: str) -> str:
    """The first complaint of apt."""
    lines = [line for line in said.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    return lines[0][:300] if lines else "apt-get update found no package of a kernel"
