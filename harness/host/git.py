# SPDX-License-Identifier: GPL-2.0-only
"""The only way to call git: no command that a repository or a user's settings name is run, and nothing is fetched.

A repository's own configuration is read, because its object format and its
ignored files are in it, but it may also name programs. Three things keep them from
running. The commands below run no filter, driver, alias, editor or signature
program: `ls-files`, `ls-tree`, `cat-file`, `rev-parse`, `rev-list`, `merge-base`, `init`,
`apply`, `mailsplit`, `mailinfo`, and `diff-tree` with --no-ext-diff and
--no-textconv; another one must not be called. No transport
is allowed, so none of what serves a transport starts. What is left
is overridden by settings of the highest rank.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.host import process
from harness.model.errors import LaunchError

_TIMEOUT_S = 300
# The files of Linux 6.12 with mode and hash, as `git ls-tree` lists them, are 8 MiB.
OUTPUT_LIMIT = 64 << 20

_SETTINGS = (
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.attributesFile", "/dev/null"),
    ("core.alternateRefsCommand", "false"),
    ("core.untrackedCache", "false"),
    ("protocol.allow", "never"),
    ("credential.helper", ""),
    ("submodule.recurse", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
)
_VARIABLES = {
    "GIT_ALLOW_PROTOCOL": "none",  # Before any protocol.*.allow of a repository.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    # The name of a tree is the name of its content; a replacement has another content.
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ASKPASS": "false",
    "GIT_SSH_COMMAND": "false",
    "GIT_EDITOR": "false",
    "GIT_PAGER": "cat",
}


@dataclass(frozen=True)
class Answer:
    """What git said. output is bytes, because names need not be UTF-8; cut: there was more of it than the limit."""

    status: int
    output: bytes
    errors: str
    cut: bool = False

    @property
    def records(self) -> list[str]:
        """What a command with -z lists."""
        return [os.fsdecode(record) for record in self.output.split(b"\0") if record]

    @property
    def reason(self) -> str:
        """The first line of what git says is wrong."""
        if self.cut:
            return f"git listed more than {OUTPUT_LIMIT >> 20} MiB of names"
        return self.errors.strip().splitlines()[0] if self.errors.strip() else f"git ended with {self.status}"


def run(words: Sequence[str | Path], *, cwd: Path | None = None, stdin: bytes = b"", **extra: str) -> Answer:
    """Run git to its end, or to the limit of its output: a tree that names itself by many names has no end.

    extra: variables of its environment. Raises LaunchError when it takes too long.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        child = spawn(words, cwd=cwd, stdin=given, stderr=errors, **extra)
        with process.running(child):
            assert child.stdout is not None
            late = threading.Event()
            timer = threading.Timer(_TIMEOUT_S, _end, (child, late))
            timer.start()
            try:
                output = child.stdout.read(OUTPUT_LIMIT + 1)
                cut = len(output) > OUTPUT_LIMIT
                status = -1 if cut else child.wait()
            finally:
                timer.cancel()
            if late.is_set():
                raise LaunchError(f"git {words[0]}: not done after {_TIMEOUT_S} s (limit {_TIMEOUT_S} s)")
        errors.seek(0)
        return Answer(status, output, errors.read().decode("utf-8", errors="backslashreplace"), cut)


def spawn(
    words: Sequence[str | Path],
    *,
    stdin: int | IO[bytes],
    stderr: int | IO[bytes],
    cwd: Path | None = None,
    **extra: str,
) -> subprocess.Popen[bytes]:
    """Start git with its output in a pipe."""
    return process.spawn(["git", *words], cwd=cwd, env=_environment() | extra, stdin=stdin, stderr=stderr)


def _end(child: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """The environment of git: nothing of a `git bisect run` around us, and no setting that names a program."""
    settings = (*_SETTINGS, *_of_the_user())
    numbered = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        numbered |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return process.environment(**_VARIABLES, **numbered)


@functools.lru_cache(maxsize=1)
def _of_the_user() -> tuple[tuple[str, str], ...]:
    """The two settings of the user's own that count, and name no program: whom to trust, and what to ignore."""
    found: list[tuple[str, str]] = []
    for scope in ("--system", "--global"):
        words = ["git", "config", scope, "--includes", "-z", "--get-regexp", r"^(safe\.directory|core\.excludesfile)$"]
        env = process.environment(GIT_PAGER="cat")
        child = process.spawn(words, cwd=Path("/"), env=env)
        with process.running(child):
            try:
                output, _ = child.communicate(timeout=_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise LaunchError(f"git config: not done after {_TIMEOUT_S} s (limit {_TIMEOUT_S} s)") from None
        for record in os.fsdecode(output).split("\0"):
            key, newline, value = record.partition("\n")
            if newline:
                found.append((key, value))
    return tuple(found)
