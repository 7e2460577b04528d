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
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import platformdirs

from harness.host.progress import QUIET, Progress
from harness.model.errors import MachineError, OutOfSpace, UsageError

ROOT = Path(__file__).resolve().parents[2]

_FULL = (errno.ENOSPC, errno.EDQUOT)
# What make splits words and targets at, a shell acts on, or gcc's -Wp, splits at; and bytes that are not UTF-8.
_ODD = re.compile(r"[^\w/.+=@~-]")
# In each entry of the cache: what its files held when it was published.
DIGESTS = "digests"
_DIGEST = re.compile(r"([0-9a-f]{64})  (.+)")
# The size of the blocks in which a file is read for its digest.
_BLOCK = 1 << 16
# The errors that a rotten disk or file system gives for a file that should be there.
_ROTTEN = (errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EBADMSG, errno.EUCLEAN)


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
    if wrong := odd(str(cache)):
        raise UsageError(
            f"{where}: make and gcc cannot build in a folder with {wrong!r} in its path",
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


def odd(path: str) -> str:
    """The first character of a path that make and gcc cannot build with; empty for a good one."""
    found = _ODD.search(path)
    return found[0] if found else ""


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
    if str(out).startswith("~"):
        raise UsageError(f"--out {out}: there is no such user", "write ./~… for a folder of this name")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK | os.X_OK):
            raise UsageError(f"--out {out}: is not writable", hint)
        # Two that find the folder empty must not both write to it.
        _lock_folder(out)
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
        what = "a run" if "verdict.json" in held else f"other files ({held[0]}{', …' * (len(held) > 1)})"
        raise UsageError(f"--out {out}: already holds {what}", hint)
    return out


def hold(folder: Path, where: str) -> None:
    """Take a folder that is there as claim() takes one that is empty. Raises UsageError when another harness has it.

    where: the folder, for people.
    """
    status = folder.stat()
    if (status.st_dev, status.st_ino) not in _held:
        try:
            _lock_folder(folder)
        except BlockingIOError:
            raise UsageError(f"{where}: another harness is writing there", "wait for its end") from None


# The folders that this process has taken.
_held: set[tuple[int, int]] = set()


def _lock_folder(folder: Path) -> None:
    """Lock a folder. It stays open: the kernel drops the lock when we die."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    status = os.fstat(handle)
    _held.add((status.st_dev, status.st_ino))


def digest(*parts: str | bytes) -> str:
    """A content key of 20 hex digits over length-prefixed parts. A name in them need not be UTF-8."""
    state = hashlib.sha256()
    for part in parts:
        raw = part.encode(errors="surrogateescape") if isinstance(part, str) else part
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
        # The time of the last use, by which the cache is bounded.
        os.utime(stream.fileno())
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
    if error.errno in _FULL and error.filename:
        return no_space(Path(error.filename))
    return MachineError(f"{error.filename or 'the system'}: {error.strerror or error}")


def no_space(path: Path, need: str = "") -> OutOfSpace:
    """The error for a full disk, with the number, the limit if it is known, and the command to type next."""
    place = path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return OutOfSpace(
        f"{path}: no space left ({free >> 20} MiB free{need and '; '}{need})",
        "harness gc frees the cache; HARNESS_CACHE and --out may name other disks",
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
    # A copy would be written into the file that the name is of now.
    target.unlink(missing_ok=True)
    with space(target):
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


@contextlib.contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """A fresh folder that becomes `target` when the block succeeds, and is removed when the block fails.

    It replaces an entry that is not whole(). What its files hold is written
    down in it. Leftovers of a killed harness have the same prefix and are removed here, which
    is safe because callers hold the lock of `target`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(stale, ignore_errors=True)
    with space(target):
        fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield fresh
            write_atomic(fresh / DIGESTS, _rendered(_digests(fresh)))
            fresh.chmod(0o755)
            if target.exists():
                target.rename(target.parent / f".{target.name}.damaged")
            fresh.rename(target)
            use(target)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        shutil.rmtree(target.parent / f".{target.name}.damaged", ignore_errors=True)


class Damaged(MachineError):
    """An entry of the cache that is not what it was when it was made; asking for it again makes it again."""


class _Checked:
    """What this process knows of the cache: the entries that were whole when it looked, and the damage that it met."""

    def __init__(self) -> None:
        self.whole: dict[Path, object] = {}
        self.damaged: dict[Path, object] = {}
        self.said: list[str] = []


_checked = _Checked()


def whole(entry: Path, progress: Progress = QUIET, what: str = "") -> bool:
    """Whether an entry of the cache is there and each byte is as it was published; damage is said, and kept.

    Every byte is read, because a rotten block changes no time; once in a
    process, unless a file's facts change. what: the entry, for people.
    """
    try:
        facts = _facts(entry)
        if not facts or _checked.whole.get(entry) == facts:
            return bool(facts) and use(entry)
        now = _digests(entry)
        # An entry of an older harness has no digests. It is adopted as it is: to make it again would cost minutes of
        # CPU for each kernel, and nothing can tell any more what it was.
        adopted = not (entry / DIGESTS).exists()
        said = now if adopted else _parsed((entry / DIGESTS).read_text(encoding="utf-8", errors="replace"))
        wrong = sorted(name for name in {*now, *said} if now.get(name) != said.get(name))
    except OSError as error:
        if error.errno not in _ROTTEN:
            raise
        facts, now, adopted, wrong = {}, {}, False, [Path(error.filename or entry).name]
    if wrong:
        # A caller looks again when it holds the lock, which is no news.
        if _checked.damaged.get(entry) != facts:
            _checked.damaged[entry] = facts
            _checked.said.append(f"{what or entry.parent.name}: {', '.join(wrong)} in the cache is damaged")
            progress.say(f"{_checked.said[-1]}; making it again")
        return False
    if adopted:
        write_atomic(entry / DIGESTS, _rendered(now))
        facts = _facts(entry)
    _checked.whole[entry] = facts
    return use(entry)


# What this process uses: entry → a handle whose lock the kernel drops when we die. A campaign uses ever more.
_used: dict[Path, int] = {}
_using = threading.Lock()
_MOST_USED = 64


def use(entry: Path) -> bool:
    """Keep an entry of the cache from being collected while we live, and note its use; False when it is gone."""
    try:
        handle = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    with _using:
        _used[entry], before = handle, _used.pop(entry, None)
        for old in (before, _used.pop(next(iter(_used))) if len(_used) > _MOST_USED else None):
            if old is not None:
                os.close(old)
        # A file system without locks, or an entry of another user: it is young enough for now.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.utime(handle)
        # Whoever collects has it locked until it has another name.
        try:
            return os.path.samestat(os.fstat(handle), entry.stat())
        except FileNotFoundError:
            return False


def condemn(entry: Path, file: str) -> Damaged:
    """The error for damage that was met in an entry's inner folders; from now on the entry is not whole()."""
    write_atomic(entry / DIGESTS, "")
    _checked.damaged[entry] = _facts(entry)
    _checked.said.append(f"{entry.name}: {file} in the cache is damaged")
    return Damaged(_checked.said[-1], "run it again; it is made again")


def damage() -> list[str]:
    """The damage to the cache that this process has met so far, a line for each entry."""
    return list(_checked.said)


def _names(entry: Path) -> list[str]:
    """The files of an entry that have digests: not those that killed harnesses left, nor what is in folders."""
    with os.scandir(entry) as found:
        return sorted(
            item.name
            for item in found
            if item.name != DIGESTS and not item.name.startswith(".") and not item.is_dir(follow_symlinks=False)
        )


def _facts(entry: Path) -> Mapping[str, tuple[int, ...]]:
    """What changes when somebody writes to the files of an entry; nothing when there is no entry."""
    if not entry.is_dir():
        return {}
    stats = ((name, (entry / name).stat()) for name in [DIGESTS, *_names(entry)] if (entry / name).exists())
    return {name: (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats}


def _digests(entry: Path) -> dict[str, str]:
    return {name: digest_sparse(entry / name) for name in _names(entry)}


def _rendered(digests: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def _parsed(text: str) -> dict[str, str]:
    matches = (_DIGEST.fullmatch(line) for line in text.splitlines())
    return {match[2]: match[1] for match in matches if match}


def digest_sparse(path: Path) -> str:
    """The digest of what is not zero in a file, and where: holes are not read.

    Of a guest's RAM 60 of 512 MiB are read, in 0.05 s; and on tmpfs a clone that
    reads a hole makes zeros of it.
    """
    state = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        at = 0
        while at < size:
            try:
                at = os.lseek(stream.fileno(), at, os.SEEK_DATA) // _BLOCK * _BLOCK
            except OSError as error:
                if error.errno == errno.ENXIO:  # a hole up to the end
                    break
                raise
            block = os.pread(stream.fileno(), _BLOCK, at)
            if block != bytes(len(block)):
                state.update(f"{at}:".encode())
                state.update(block)
            at += _BLOCK
    state.update(str(size).encode())
    return state.hexdigest()


def remember(path: Path, content: str | bytes) -> None:
    """Write a small file that saves work, so that recall() believes it only as long as it is what was written."""
    raw = content.encode() if isinstance(content, str) else content
    write_atomic(path, _seal(raw) + raw)


def recall(path: Path) -> bytes | None:
    """What remember() wrote; None when it is not there, is damaged, or comes from a harness that wrote no seal."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        if error.errno not in _ROTTEN:
            raise
        return None
    seal, newline, content = raw.partition(b"\n")
    return content if seal + newline == _seal(content) else None


def _seal(content: bytes) -> bytes:
    return f"sha256 {hashlib.sha256(content).hexdigest()}\n".encode()
