# SPDX-License-Identifier: GPL-2.0-only
"""Patch series by name or file, and what they make of a source; tried on copies of the touched files only."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host import process, workspace
from harness.kernel import manifest as manifests
from harness.kernel.manifest import File
from harness.kernel.source import KernelSource
from harness.kernel.source import series as kernel_series
from harness.model.errors import PatchError, UsageError
from harness.model.strict_yaml import offer

_TIMEOUT_S = 120
_SUFFIXES = (".patch", ".diff", ".mbox", ".eml")
# The headers of a diff that name a file. Inside a hunk a removed "-- a/x" looks
# the same; that only costs the copy of one more file.
_TOUCHED = re.compile(
    rb'^(?:--- |\+\+\+ |rename from |rename to |copy from |copy to )"?(?:[ab]/)?([^\t\n"]+)', re.MULTILINE
)
_DIFF = re.compile(rb"^(?:diff --git |--- \S)", re.MULTILINE)


@dataclass(frozen=True)
class Patch:
    """One diff: where it came from, for messages, and its text."""

    name: str
    text: bytes


@dataclass(frozen=True)
class PatchSeries:
    """What `--patch` asked for, in order."""

    names: tuple[str, ...] = ()
    patches: tuple[Patch, ...] = ()


@dataclass(frozen=True)
class Patched:
    """What a series makes of a source: path → new file, None for a deleted one. id names that result, not the text."""

    id: str
    files: Mapping[str, File | None]


def load(specs: Sequence[str], version: str) -> PatchSeries:
    """Find patches by name, file or folder. `none` is no patch at all and stands alone.

    version: of the kernel, for built-in names: a port serves its version and
    later ones, up to the next port's folder.
    """
    if "none" in specs and len(specs) > 1:
        raise UsageError(f"--patch none beside {', '.join(spec for spec in specs if spec != 'none')}", "leave one out")
    found = [patch for spec in specs if spec != "none" for patch in _find(spec, version)]
    return PatchSeries(tuple(specs), tuple(found))


def ports(name: str) -> list[str]:
    """The kernel versions that a built-in patch was ported to, oldest first."""
    folders = (folder.name for folder in (workspace.data("patches") / name).iterdir() if folder.is_dir())
    return sorted(folders, key=kernel_series)


def apply(series: PatchSeries, source: KernelSource, cache: Path) -> Patched:
    """Try a series on a source. Nothing of the source changes, whatever happens.

    Raises PatchError, which names patch, file and line, for a hunk that does
    not fit, and UsageError for what is not a patch or reaches out of the tree.
    """
    if not series.patches:
        return Patched("none", {})
    scratches = cache / "tmp"
    scratches.mkdir(parents=True, exist_ok=True)
    with workspace.space(scratches), tempfile.TemporaryDirectory(dir=scratches, prefix="patch-") as folder:
        scratch = Path(folder).resolve()
        before: dict[str, File] = {}
        asked: set[str] = set()
        for patch in series.patches:
            fresh = sorted(path for path in _touched(patch) - asked if not _outside(path))
            asked.update(fresh)
            for path, pristine in source.origin.read(source.origin.some(fresh)):
                before[path] = pristine
                manifests.write_file(scratch / path, pristine)
            _apply(patch, scratch, source)
        after = {path: file for path in manifests.walk(scratch) if (file := manifests.read_file(scratch / path))}
    files: dict[str, File | None] = {path: file for path, file in after.items() if before.get(path) != file}
    files |= {path: None for path in before if path not in after}
    said = (f"{path}\t{file.entry if file else 'deleted'}\n" for path, file in sorted(files.items()))
    return Patched(workspace.digest("".join(said)), files)


def _find(spec: str, version: str) -> Iterator[Patch]:
    builtin = workspace.data("patches")
    if "/" not in spec and (builtin / spec).is_dir():
        port = _port(spec, version)
        for path in sorted((builtin / spec / port).glob("*.patch")):
            yield Patch(f"{spec}/{port}/{path.name}", path.read_bytes())
        return
    path = Path(spec).expanduser()
    if path.is_dir():
        members = _members(path)
        if not members:
            raise UsageError(f"--patch {spec}: holds no *.patch file")
        for member in members:
            yield from _split(str(member), member.read_bytes())
    elif path.is_file():
        yield from _split(spec, path.read_bytes())
    elif "/" in spec or spec.endswith(_SUFFIXES):
        raise UsageError(f"--patch {spec}: no such file or directory")
    else:
        known = ["none", *(folder.name for folder in builtin.iterdir() if folder.is_dir())]
        raise UsageError(f"--patch {spec}: no such patch", offer(spec, known))


def _port(name: str, version: str) -> str:
    """The newest port that is not newer than the kernel."""
    have = ports(name)
    fitting = [port for port in have if kernel_series(port) <= kernel_series(version)]
    if not fitting:
        raise PatchError(
            f"--patch {name}: no port to {version}; the nearest is {name}/{have[0]}", "--patch none goes without"
        )
    return fitting[-1]


def _members(folder: Path) -> list[Path]:
    """The files of a series: as its `series` file lists them, or every patch by name."""
    listing = folder / "series"
    if not listing.is_file():
        return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    members = []
    for line in listing.read_text(encoding="utf-8").splitlines():
        words = line.split("#")[0].split()
        if words:
            if words[1:] not in ([], ["-p1"]):
                raise UsageError(f"{listing}: {line.strip()!r}: only -p1 patches are taken")
            if not (folder / words[0]).is_file():
                raise UsageError(f"{listing}: {words[0]}: no such file")
            members.append(folder / words[0])
    return members


def _split(name: str, text: bytes) -> Iterator[Patch]:
    """The diffs in a file: the mails of a mailbox one by one, anything else whole."""
    if not text.startswith(b"From "):
        if not _DIFF.search(text):
            raise UsageError(f"--patch {name}: holds no diff")
        yield Patch(name, text)
        return
    with tempfile.TemporaryDirectory(prefix="harness-mbox-") as folder:
        mails = Path(folder)
        _git(mails, ["git", "mailsplit", "--keep-cr", f"-o{mails}"], text)
        found = 0
        for mail in sorted(mails.iterdir()):
            # Decodes base64 and quoted-printable, and drops what is not the diff.
            _git(mails, ["git", "mailinfo", "-k", mails / "said", mails / "diff"], mail.read_bytes())
            diff = (mails / "diff").read_bytes()
            if _DIFF.search(diff):
                found += 1
                yield Patch(name if len(list(mails.glob("0*"))) == 1 else f"{name}#{mail.name.lstrip('0')}", diff)
        if not found:
            raise UsageError(f"--patch {name}: no mail in it holds a diff")


def _touched(patch: Patch) -> set[str]:
    """Every path that a patch names, and so may change."""
    found = {os.fsdecode(match[1]) for match in _TOUCHED.finditer(patch.text)}
    for line in re.findall(rb"^diff --git (.+)$", patch.text, re.MULTILINE):
        # Mode changes, empty files and binary ones are named nowhere else.
        middle = len(line) // 2
        if line[middle : middle + 1] == b" ":
            found.add(os.fsdecode(line[2:middle]))
    return found - {"/dev/null", "dev/null"}


def _outside(path: str) -> bool:
    """Whether a path leaves the tree."""
    return path.startswith("/") or ".." in path.split("/")


def _apply(patch: Patch, scratch: Path, source: KernelSource) -> None:
    """Apply one patch in the scratch folder: whole, or with the error that says where it does not fit."""
    done = _git(scratch, ["git", "apply", "--verbose", "--whitespace=nowarn", "-"], patch.text)
    if not done.status:
        return
    said = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
    if any("beyond a symbolic link" in line for line in said) or any(_outside(path) for path in _touched(patch)):
        raise UsageError(f"--patch {patch.name}: reaches out of the tree: {said[0]}")
    if any("corrupt patch" in line or "patch fragment without header" in line or "No valid" in line for line in said):
        raise UsageError(
            f"--patch {patch.name}: is damaged: {said[0]}", "mail programs wrap lines and turn tabs into spaces"
        )
    place = f"{source.spec} ({source.version})"
    if not _git(scratch, ["git", "apply", "--reverse", "--check", "-"], patch.text).status:
        raise PatchError(f"--patch {patch.name}: is already in this source, {place}", "--patch none runs it as it is")
    raise PatchError(
        f"--patch {patch.name}: does not apply to {place}: {_first_reason(patch, said)}", _nearest(patch, source)
    )


def _first_reason(patch: Patch, said: list[str]) -> str:
    """What did not fit, with its file and, for a hunk, its line in the source."""
    for line in said:
        if found := re.fullmatch(r"patch failed: (.+):(\d+)", line):
            path, start = found[1], int(found[2])
            number = _hunk_number(patch, path, start)
            return f"hunk {number} of {path} is not found at line {start} or anywhere else"
    for line in said:
        if "No such file" in line:
            return f"{line.split(':')[0]} is not in this source"
        if "already exists" in line:
            return f"{line.split(':')[0]} is in this source already"
    return said[0] if said else "git apply gave no reason"


def _hunk_number(patch: Patch, path: str, start: int) -> int:
    """Which hunk of a file begins at a line, counted from 1."""
    _, _, rest = patch.text.partition(b"\n--- a/" + os.fsencode(path))
    rest = re.split(rb"^diff --git ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    starts = [int(found) for found in re.findall(rb"^@@ -(\d+)", rest, re.MULTILINE)]
    return starts.index(start) + 1 if start in starts else 1


def _nearest(patch: Patch, source: KernelSource) -> str:
    """The hint: which port is nearest to this version, or what else can be done."""
    name = patch.name.split("/", maxsplit=1)[0]
    if not name or not (workspace.data("patches") / name).is_dir():
        builtin = ", ".join(sorted(folder.name for folder in workspace.data("patches").iterdir() if folder.is_dir()))
        return f"--patch none goes without; built-in patches: {builtin}"
    nearest = f"{name}/{_port(name, source.version)}"
    return f"{name} is ported to {', '.join(ports(name))}; the nearest to {source.version} is {nearest}"


def _git(folder: Path, argv: Sequence[str | os.PathLike[str]], stdin: bytes) -> process.Completed:
    """Run git outside any repository: one that encloses the folder, and the user's settings, must not matter."""
    env = process.environment(
        GIT_CEILING_DIRECTORIES=os.fspath(folder.parent), GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1"
    )
    return process.run(argv, timeout_s=_TIMEOUT_S, cwd=folder, env=env, stdin=stdin)
