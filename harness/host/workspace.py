# SPDX-License-Identifier: GPL-2.0-only
"""Every path the harness writes, the locks on them, and writes that are whole or absent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from harness.host import streams
from harness.host.progress import QUIET, Progress
from harness.model.errors import MachineError, OutOfSpace, UsageError

ROOT = Path(__file__).resolve().parents[2]

_FULL = (errno.ENOSPC, errno.EDQUOT)
# What make splits words and targets at, a shell acts on, or gcc's -Wp, splits at; and bytes that are not UTF-8.
_ODD = re.compile(r"[^\w/.+=@~-]")


def data(folder: str) -> Path:
    """A folder of variants (scenarios, patches, …): beside the package in a checkout, in it when installed."""
    inside = Path(__file__).resolve().parents[1] / "data" / folder
    return inside if inside.is_dir() else ROOT / folder


def cache_dir() -> Path:
    """Where sources, kernels, images and runs live: $HARNESS_CACHE, or the user's cache folder.

    Raises UsageError for a place where nothing can be built; there need not be anything yet.
    """
    chosen = os.environ.get("HARNESS_CACHE")
    # With a ~ in front that is no user's, it is a name like another.
    cache = Path(os.path.expanduser(chosen)).absolute() if chosen else platformdirs.user_cache_path("kernel-harness")  # noqa: PTH111
    where, hint = f"HARNESS_CACHE {cache}" if chosen else f"cache {cache}", "set HARNESS_CACHE to a folder of yours"
    if odd := _ODD.search(str(cache)):
        raise UsageError(
            f"{where}: make and gcc cannot build in a folder with {odd[0]!r} in its path",
            "set HARNESS_CACHE to a path of letters, digits and any of /._-+=@~",
        )
    place = cache
    try:
        while not _there(place):
            place = place.parent
        if not place.is_dir():
            raise UsageError(f"{where}: {place} is not a folder", hint)
        if not os.access(place, os.W_OK | os.X_OK):
            raise UsageError(f"{where}: {place} is not writable", hint)
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}", hint) from None
    return cache


def _there(path: Path) -> bool:
    """Whether there is something of this name, a link to nothing, too. Raises OSError for a name that cannot be."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def claim(out: Path) -> Path:
    """Take a folder that the user named, for this process alone and as long as it lives; it is new, or empty.

    The one door for --out. Raises UsageError for any other place, before
    anything is written; OutOfSpace for a full disk.
    """
    hint = "name a new folder with --out"
    out = Path(os.path.expanduser(out))  # noqa: PTH111 - as in cache_dir()
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK | os.X_OK):
            raise UsageError(f"--out {out}: is not writable", hint)
        # Left open: the kernel drops the lock when we die. Two that find the folder empty must not both write to it.
        fcntl.flock(os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = sorted(entry.name for entry in out.iterdir())
    except BlockingIOError:
        raise UsageError(f"--out {out}: another harness is writing there", hint) from None
    except FileExistsError:
        raise UsageError(f"--out {out}: is not a folder", hint) from None
    except OSError as error:
        if error.errno in _FULL:
            raise no_space(out) from error
        raise UsageError(f"--out {out}: {error.strerror}", hint) from None
    if held:
        what = "a run" if "verdict.json" in held else f"files that are not a run's ({held[0]}{', …' * (len(held) > 1)})"
        raise UsageError(f"--out {out}: holds {what} already", hint)
    return out


def digest(*parts: str | bytes) -> str:
    """A content key of 20 hex digits over length-prefixed parts."""
    state = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        state.update(len(raw).to_bytes(8, "little") + raw)
    return state.hexdigest()[:20]


def digest_file(path: Path) -> str:
    """A content key over a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:20]


def identity(program: Path) -> str:
    """A key that changes when a program is replaced; asking QEMU for its version would cost 40 ms each time."""
    status = program.resolve().stat()
    return f"{program} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


@contextlib.contextmanager
def lock(path: Path, progress: Progress = QUIET, what: str = "") -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel drops the lock when we die, kill -9 included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        waited = False
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waited:
                    progress.say(f"{what or path.name}: another harness is at work on it, waiting")
                    waited = True
                # flock(2) has no timeout; a signal must still get through.
                time.sleep(min(0.5, 0.02 + (time.monotonic() - began) / 10))
        yield


@contextlib.contextmanager
def space(path: Path) -> Iterator[None]:
    """Turn "no space left" inside this block into one clear error."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise no_space(path) from error
        raise


def fault(error: OSError) -> MachineError:
    """What the system refused us, as an error of the machine."""
    if error.errno in _FULL and error.filename not in (None, streams.OUTPUT):
        return no_space(Path(error.filename))
    return MachineError(f"{error.filename or 'the system'}: {error.strerror or error}")


def no_space(path: Path) -> OutOfSpace:
    """The error for a full disk, with the number and the command to type next."""
    place = path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return OutOfSpace(
        f"{path}: no space left ({free >> 20} MiB free)",
        "harness gc frees the cache; or set HARNESS_CACHE to another disk",
    )


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file that is whole or absent."""
    raw = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    with space(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(raw)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise


def link(source: Path, target: Path) -> None:
    """Give a file that nobody changes a second name: a hard link on the same file system, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with space(target):
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


@contextlib.contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """A fresh folder that becomes `target` when the block succeeds, and is removed when the block fails.

    Leftovers of a killed harness have the same prefix and are removed here, which
    is safe because callers hold the lock of `target`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(stale, ignore_errors=True)
    with space(target):
        fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield fresh
            fresh.chmod(0o755)
            if target.exists():
                raise MachineError(f"{target}: appeared while the harness was making it")
            fresh.rename(target)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
