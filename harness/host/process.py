# SPDX-License-Identifier: GPL-2.0-only
"""The only way to start subprocesses: explicit argv and environment, deadlines, no process left behind."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.model.errors import LaunchError

# setpriv(1) arms PR_SET_PDEATHSIG: the kernel sends the signal when the thread that
# started the child is gone, kill -9 included. The kernel does not send it for a harness
# that was gone before, so the shell checks that the harness is its parent ($0: our pid).
_ORPHAN = '[ "$PPID" = "$0" ] || exit 1; '

# Where the host, or a memory cgroup, runs out of memory, the kernel kills what has most of it: that may be the harness,
# and nobody would be left to tell. Everybody may raise a score of their own (proc(5), oom_score_adj).
_EXPENDABLE = "{ echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null; "

# A process group that ends with us: at the signal the shell kills the whole group,
# make's compilers included. A shell gives background jobs /dev/null as standard
# input, so the real input comes through descriptor 9.
_SUPERVISOR = f'trap "trap - TERM; kill -KILL 0" TERM; {_ORPHAN}exec 9<&0; "$@" <&9 9<&- & exec 9<&-; wait "$!"'

# Every child that has not been reaped, so that an interrupt can end them all.
_live: set[subprocess.Popen[bytes]] = set()
_live_guard = threading.Lock()


@dataclass(frozen=True)
class Completed:
    """A command that ended. Output is text; bytes that are not UTF-8 are escaped."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def command(self) -> str:
        """The command as a line to paste into a shell."""
        return shlex.join(self.argv)


def which(program: str) -> Path:
    """Find a program, or say which one is missing.

    sbin is searched too: Debian's dropbear is there, and a user's PATH does not contain it.
    """
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if found is None:
        raise LaunchError(f"{program}: not found in PATH", "make run installs what is missing")
    return Path(found)


def environment(**extra: str) -> dict[str, str]:
    """The environment of every child: what tools need, in the C locale, and `extra`."""
    keep = ("PATH", "HOME", "TERM", "TMPDIR", "USER", "LOGNAME")
    env = {name: os.environ[name] for name in keep if name in os.environ}
    return env | {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"} | extra


def supervised(argv: Sequence[str | os.PathLike[str]]) -> list[str]:
    """`argv` under a supervisor that kills the process group when the harness dies."""
    return [
        "setpriv", "--pdeathsig=TERM", "--",
        "sh", "-c", _SUPERVISOR, str(os.getpid()), *(os.fspath(word) for word in argv),
    ]  # fmt: skip


def tied(
    argv: Sequence[str | os.PathLike[str]], privileges: Sequence[str] = (), *, expendable: bool = False
) -> list[str]:
    """`argv` for one process without children of its own, killed when the harness dies.

    privileges: more words for setpriv(1). It arms the signal last, as a change of the user would disarm it.
    expendable: for lack of memory, it is killed before all others.
    """
    first = _EXPENDABLE if expendable else ""
    return [
        "setpriv", *privileges, "--pdeathsig=KILL", "--",
        "sh", "-c", f'{_ORPHAN}{first}exec "$@"', str(os.getpid()), *(os.fspath(word) for word in argv),
    ]  # fmt: skip


def spawn(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
    wrap: Callable[[Sequence[str | os.PathLike[str]]], list[str]] = supervised,
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; it does not outlive the calling thread."""
    which(os.fspath(argv[0]))
    try:
        child = subprocess.Popen(
            wrap(argv),
            cwd=cwd,
            env=dict(env) if env is not None else environment(),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except OSError as error:
        raise LaunchError(f"{argv[0]}: could not be started: {error.strerror}") from error
    with _live_guard:
        _live.add(child)
    return child


def end_all() -> None:
    """Kill every child that still runs, from any thread; threads that wait for a child see it end."""
    with _live_guard:
        children = list(_live)
    for child in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill a child and its whole process group, and reap the child."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    with _live_guard:
        _live.discard(child)


@contextlib.contextmanager
def running(child: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is killed, with its process group, however the block is left."""
    try:
        yield child
    finally:
        kill_group(child)
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                # What its standard input did not take is lost with it.
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Run a command to its end and return its output, whatever its status.

    on_line receives each line of standard output as it comes; standard error
    is then merged into it. Raises LaunchError when the command cannot be
    started or is not done after timeout_s seconds.
    """
    words = tuple(os.fspath(word) for word in argv)
    child = spawn(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if on_line else subprocess.PIPE,
    )
    with running(child):
        if on_line is None:
            try:
                out, err = child.communicate(stdin or None, timeout=timeout_s)
            except subprocess.TimeoutExpired:
                raise _late(words, timeout_s) from None
            return Completed(words, child.returncode, _text(out), _text(err))
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)

        timer = threading.Timer(timeout_s, expire)
        timer.daemon = True
        timer.start()
        lines: list[str] = []
        try:
            assert child.stdout is not None
            for raw in child.stdout:
                lines.append(_text(raw))
                on_line(lines[-1].rstrip("\n"))
            child.wait()
        finally:
            timer.cancel()
        if expired.is_set():
            raise _late(words, timeout_s)
        return Completed(words, child.returncode, "".join(lines), "")


def _late(words: tuple[str, ...], timeout_s: float) -> LaunchError:
    return LaunchError(f"{shlex.join(words)[:200]}: not done after {timeout_s:g} s (limit {timeout_s:g} s)")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="backslashreplace")
