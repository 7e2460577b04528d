# SPDX-License-Identifier: GPL-2.0-only
"""Patch series by name or file, and what they make of a source; tried on copies of the touched files only."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host import below, git, given, workspace
from harness.host.below import Below, Refused
from harness.kernel import manifest as manifests
from harness.kernel.manifest import File
from harness.kernel.source import KernelSource
from harness.kernel.source import series as kernel_series
from harness.model.errors import PatchError, UsageError
from harness.model.strict_yaml import offer

_SUFFIXES = (".patch", ".diff", ".mbox", ".eml")
# The headers of a diff that name a file. Inside a hunk a removed "-- a/x" looks
# the same; that only costs the copy of one more file.
_TOUCHED = re.compile(rb"^(?:--- |\+\+\+ |rename from |rename to |copy from |copy to )([^\t\n]+)", re.MULTILINE)
_DIFF = re.compile(rb"^(?:diff --git |--- \S)", re.MULTILINE)
# A mail by itself: fields, one of them such as only mails have, and the empty line that ends them.
_MAIL = re.compile(
    rb"(?=(?:[^\n]*\n)*?(?:From|Date|Message-I[Dd]|MIME-Version|Content-Transfer-Encoding|Received): )"
    rb"(?:[A-Za-z0-9-]+:[^\n]*\n(?:[ \t][^\n]*\n)*+)++\r?\n"
)
_HEAD = 1 << 16
# What git writes for a byte in a quoted name.
_QUOTED = re.compile(rb"\\([0-3][0-7]{2}|.)", re.DOTALL)
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


class AlreadyThere(PatchError):
    """A source holds already what a patch would make of it."""


@dataclass(frozen=True)
class Patch:
    """One diff: where it came from, for messages, and its text; builtin: it is ours, and not the user's."""

    name: str
    text: bytes
    builtin: bool = False


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
    later ones, up to the next port's folder; the oldest port also earlier ones.
    """
    if any("\0" in spec for spec in specs):
        raise UsageError("--patch: a name has a NUL")
    if "none" in specs and len(specs) > 1:
        raise UsageError(f"--patch none beside {', '.join(spec for spec in specs if spec != 'none')}", "leave one out")
    found = [patch for spec in specs if spec != "none" for patch in _find(spec, version)]
    return PatchSeries(tuple(specs), tuple(found))


def own(specs: Sequence[str]) -> bool:
    """Whether `--patch` names something of the user's, beside `none` and our own series."""
    builtin = {folder.name for folder in workspace.data("patches").iterdir() if folder.is_dir()}
    return not {"none", *builtin}.issuperset(specs)


def ports(name: str) -> list[str]:
    """The kernel versions that a built-in patch was ported to, oldest first."""
    folders = (folder.name for folder in (workspace.data("patches") / name).iterdir() if folder.is_dir())
    return sorted(folders, key=kernel_series)


def port(name: str, version: str) -> str:
    """The newest port that is not newer than the kernel, else the oldest."""
    have = ports(name)
    return [have[0], *(port for port in have if kernel_series(port) <= kernel_series(version))][-1]


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
        with Below(scratch) as door:
            for patch in series.patches:
                fresh = sorted(path for path in touched(patch) - asked if not below.fault(path))
                asked.update(fresh)
                for path, pristine in source.origin.read(source.origin.some(fresh)):
                    before[path] = pristine
                    try:
                        manifests.write_file(door, path, pristine)
                    except Refused:
                        raise UsageError(
                            f"--patch {patch.name}: reaches out of the tree: "
                            f"{path} is behind a link or a file of an earlier patch"
                        ) from None
                _apply(patch, scratch, source)
            found = ((path, manifests.read_file(door, path)) for path in manifests.walk(scratch))
            after = {path: file for path, file in found if file is not None}
    files: dict[str, File | None] = {path: file for path, file in after.items() if before.get(path) != file}
    files |= {path: None for path in before if path not in after}
    said = (f"{path}\t{file.entry if file else 'deleted'}\n" for path, file in sorted(files.items()))
    return Patched(workspace.digest("".join(said)), files)


def _find(spec: str, version: str) -> Iterator[Patch]:
    builtin = workspace.data("patches")
    names = [folder.name for folder in builtin.iterdir() if folder.is_dir()]
    if spec in names:
        folder = port(spec, version)
        for path in sorted((builtin / spec / folder).glob("*.patch")):
            yield Patch(f"{spec}/{folder}/{path.name}", path.read_bytes(), builtin=True)
    elif given.is_folder(spec):
        members = _members(given.path(spec))
        if not members:
            raise UsageError(f"--patch {spec}: holds no *.patch file")
        for member in members:
            yield from _split(str(member), given.content("--patch", str(member)))
    elif spec == given.STANDARD_INPUT or "/" in spec or spec.endswith(_SUFFIXES) or given.exists(spec):
        yield from _split(spec, given.content("--patch", spec))
    else:
        raise UsageError(f"--patch {spec}: no such patch", offer(spec, ["none", *names]))


def _members(folder: Path) -> list[Path]:
    """The files of a series: as its `series` file lists them, or every patch by name."""
    listing = folder / "series"
    if not listing.is_file():
        return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    members = []
    for line in os.fsdecode(given.content("--patch", str(listing))).split("\n"):
        words = line.split("#")[0].split()
        if words:
            if words[1:] not in ([], ["-p1"]):
                raise UsageError(f"{listing}: {line.strip()!r}: only -p1 patches are taken")
            if wrong := below.fault(words[0]):
                raise UsageError(f"{listing}: {below.shown(words[0])}: {wrong}")
            if not (folder / words[0]).is_file():
                raise UsageError(f"{listing}: {words[0]}: no such file")
            members.append(folder / words[0])
    return members


def _split(name: str, text: bytes) -> Iterator[Patch]:
    """The diffs in a file: the mails of a mailbox one by one, anything else whole."""
    if not text.startswith(b"From "):
        if _MAIL.match(text[:_HEAD]):
            # A mail that was saved as it came may end its lines as the network does.
            plain = text.replace(b"\r\n", b"\n") if text.split(b"\n", 1)[0].endswith(b"\r") else text
            with tempfile.TemporaryDirectory(prefix="harness-mail-") as folder:
                decoded = _decoded(plain, Path(folder))
            text = decoded if _DIFF.search(decoded) else plain
        if not _DIFF.search(text):
            raise UsageError(f"--patch {name}: holds no diff")
        yield Patch(name, text)
        return
    with tempfile.TemporaryDirectory(prefix="harness-mbox-") as folder:
        mails = Path(folder)
        if (split := _git(mails, ["mailsplit", "--keep-cr", f"-o{mails}"], text)).status:
            raise UsageError(f"--patch {name}: is damaged: {split.reason}")
        found = 0
        for mail in sorted(mails.iterdir()):
            diff = _decoded(mail.read_bytes(), mails)
            if _DIFF.search(diff):
                found += 1
                yield Patch(name if len(list(mails.glob("0*"))) == 1 else f"{name}#{mail.name.lstrip('0')}", diff)
        if not found:
            raise UsageError(f"--patch {name}: no mail in it holds a diff")


def _decoded(mail: bytes, folder: Path) -> bytes:
    """The diff in a mail: base64 and quoted-printable undone, and without what is not the diff."""
    diff = folder / "diff"
    _git(folder, ["mailinfo", "-k", folder / "said", diff], mail)
    return diff.read_bytes() if diff.exists() else b""


def touched(patch: Patch) -> set[str]:
    """Every path that a patch names, and so may change."""
    named = [match[1] for match in _TOUCHED.finditer(patch.text)]
    for line in re.findall(rb"^diff --git (.+)$", patch.text, re.MULTILINE):
        # Mode changes, empty files and binary ones are named nowhere else.
        middle = len(line) // 2
        if line[middle : middle + 1] == b" ":
            named.append(line[:middle])
    whole = {os.fsdecode(_unquoted(name)) for name in named}
    # Renames are named without the a/ of the other headers. A path that is none costs a look.
    return {path for name in whole for path in (name, name.partition("/")[2]) if path and name != "/dev/null"}


def _unquoted(name: bytes) -> bytes:
    """A name in a diff; git quotes one with bytes that are not ASCII."""
    if not name.startswith(b'"'):
        return name

    def plain(found: re.Match[bytes]) -> bytes:
        code = found[1]
        return bytes([int(code, 8)]) if len(code) == 3 else _ESCAPES.get(code, code)

    return _QUOTED.sub(plain, name.strip(b'"'))


def _outside(patch: Patch) -> bool:
    """Whether a patch names a path that leaves the tree."""
    return any(path.startswith("/") or not {"..", ".git"}.isdisjoint(path.split("/")) for path in touched(patch))


def _apply(patch: Patch, scratch: Path, source: KernelSource) -> None:
    """Apply one patch in the scratch folder: whole, or with the error that says where it does not fit."""
    done = _git(scratch, ["apply", "--verbose", "--whitespace=nowarn", "-"], patch.text)
    if not done.status:
        return
    said = [line.removeprefix("error: ") for line in done.errors.splitlines() if line.startswith("error: ")]
    if any("beyond a symbolic link" in line for line in said) or _outside(patch):
        raise UsageError(f"--patch {patch.name}: reaches out of the tree: {said[0] if said else done.reason}")
    if any("corrupt patch" in line or "patch fragment without header" in line or "No valid" in line for line in said):
        raise UsageError(
            f"--patch {patch.name}: is damaged: {said[0]}", "mail programs wrap lines and turn tabs into spaces"
        )
    place = f"{source.spec} ({source.version})"
    if not _git(scratch, ["apply", "--reverse", "--check", "-"], patch.text).status:
        raise AlreadyThere(f"--patch {patch.name}: is already in this source, {place}", "--patch none runs it as it is")
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
    starts = [int(found) for found in re.findall(rb"^@@ -(\d{1,18})\b", rest, re.MULTILINE)]
    return starts.index(start) + 1 if start in starts else 1


def _nearest(patch: Patch, source: KernelSource) -> str:
    """The hint: which port is nearest to this version, or what else can be done."""
    name = patch.name.split("/", maxsplit=1)[0]
    if not name or not (workspace.data("patches") / name).is_dir():
        builtin = ", ".join(sorted(folder.name for folder in workspace.data("patches").iterdir() if folder.is_dir()))
        return f"--patch none goes without; built-in patches: {builtin}"
    nearest = f"{name}/{port(name, source.version)}"
    return f"{name} is ported to {', '.join(ports(name))}; the nearest to {source.version} is {nearest}"


def _git(folder: Path, words: Sequence[str | Path], stdin: bytes) -> git.Answer:
    """Run git outside any repository: one that encloses the folder must not matter."""
    return git.run(words, cwd=folder, stdin=stdin, GIT_CEILING_DIRECTORIES=os.fspath(folder.parent))
