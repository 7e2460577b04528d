# SPDX-License-Identifier: GPL-2.0-only
"""Which lines of a patched source are the user's: those that patches of the user's own added, where they lie now."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.kernel import patches
from harness.kernel.manifest import File
from harness.kernel.patches import PatchSeries
from harness.kernel.source import KernelSource
from harness.model.errors import UsageError

# Other files make no code of the kernel.
_SUFFIXES = (".c", ".h", ".S")
# The longest source file of Linux 6.12 that is no table of registers has 16,000 lines.
LINES_LIMIT = 50_000
# So many files may differ from an earlier state: more are not one change.
FILES_LIMIT = 300


@dataclass(frozen=True)
class Changed:
    """Line numbers of a file, from 1. added: lines of the user's; cut: lines before which only something was deleted.

    refused: why the file was not looked at.
    """

    added: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class _Text:
    """A file's lines; of each, whether it is the user's, and whether the user deleted what was before it."""

    lines: Sequence[bytes] = ()
    added: Sequence[bool] = ()
    cut: Sequence[bool] = ()

    @classmethod
    def pristine(cls, content: bytes) -> _Text:
        lines = content.split(b"\n")
        return cls(lines, [False] * len(lines), [False] * len(lines))

    def becomes(self, content: bytes, *, own: bool) -> _Text:
        """The text after a patch."""
        lines = content.split(b"\n")
        added, cut = [own] * len(lines), [False] * len(lines)
        for kind, start, end, begins, ends in difflib.SequenceMatcher(None, self.lines, lines).get_opcodes():
            if kind == "equal":
                added[begins:ends] = self.added[start:end]
                cut[begins:ends] = [one or two for one, two in zip(self.cut[start:end], cut[begins:ends], strict=True)]
            elif kind == "delete" and own and begins < len(lines):
                cut[begins] = True
        return _Text(lines, added, cut)


def own(series: PatchSeries) -> bool:
    """Whether a patch of the series is the user's: none of ours."""
    return any(not patch.builtin for patch in series.patches)


def changed(
    series: PatchSeries, source: KernelSource, cache: Path, since: KernelSource | None = None
) -> dict[str, Changed]:
    """File → the lines that the user's patches changed, as the whole series leaves them; no file without any.

    A line that moved on is followed, whoever moved it; one that was taken away again is nobody's.
    since: an earlier state of the source; what has changed from there is the user's, too.
    """
    files: Mapping[str, File | None] = {}
    texts: dict[str, _Text] = {}
    pristine: dict[str, bytes] = {}
    refused: dict[str, Changed] = {}
    if since is not None:
        old, new = (
            dict(_read(one, paths, refused)) for paths in [_differing(since, source)] for one in (since, source)
        )
        pristine = dict(new)
        for path, content in new.items():
            if path not in refused:
                texts[path] = _Text.pristine(old.get(path, b"")).becomes(content, own=True)
    for end, mine in _parts(series):
        files = patches.apply(dataclasses.replace(series, patches=series.patches[:end]), source, cache).files
        fresh = [path for path in files if path.endswith(_SUFFIXES) and path not in texts]
        found = dict(_read(source, fresh, refused))
        pristine |= {path: found.get(path, b"") for path in fresh}
        texts |= {path: _Text.pristine(pristine[path]) for path in fresh}
        for path, text in texts.items():
            if path in refused:
                continue
            content = _content(files[path]) if path in files else pristine[path]
            if (length := max(len(text.lines), content.count(b"\n"))) > LINES_LIMIT:
                refused[path] = Changed(refused=f"has {length:,} lines (limit {LINES_LIMIT:,})")
            else:
                texts[path] = text.becomes(content, own=mine)
    known = {path: Changed(tuple(_numbers(text.added)), tuple(_numbers(text.cut))) for path, text in texts.items()}
    left = {path: lines for path, lines in {**known, **refused}.items() if files.get(path, path) is not None}
    return {path: lines for path, lines in sorted(left.items()) if lines != Changed()}


def _differing(old: KernelSource, new: KernelSource) -> list[str]:
    """The source files of a state that another state has not, or has otherwise. UsageError for too many."""
    before = old.origin.manifest()
    found = [
        path for path, entry in new.origin.manifest().items() if path.endswith(_SUFFIXES) and before.get(path) != entry
    ]
    if len(found) > FILES_LIMIT:
        raise UsageError(
            f"--changed-since {old.spec}: {len(found):,} source files of {new.spec} differ (limit {FILES_LIMIT})",
            "name a later state",
        )
    return found


def _read(source: KernelSource, paths: list[str], refused: dict[str, Changed]) -> Iterator[tuple[str, bytes]]:
    """The content of files; refused takes those that are too long, or are no longer what the source lists."""
    entries = source.origin.some(paths)
    for path, file in source.origin.read(entries):
        if (length := file.content.count(b"\n")) > LINES_LIMIT:
            refused[path] = Changed(refused=f"has {length:,} lines (limit {LINES_LIMIT:,})")
        elif file.entry_like(entries[path]) != entries[path]:
            refused[path] = Changed(refused="was edited since its kernel was built")
        yield path, file.content


def _parts(series: PatchSeries) -> Iterator[tuple[int, bool]]:
    """How many patches of a series are applied after each part of it, and whether the part is the user's."""
    end = 0
    for builtin, part in itertools.groupby(series.patches, lambda patch: patch.builtin):
        end += len(list(part))
        yield end, not builtin


def _content(file: File | None) -> bytes:
    return file.content if file is not None else b""


def _numbers(flags: Sequence[bool]) -> Iterator[int]:
    return (number for number, flag in enumerate(flags, 1) if flag)
