# SPDX-License-Identifier: GPL-2.0-only
"""--sandbox: what a tree under test makes us run sees no network, no home, and only what it builds with.

Its Makefiles and scripts run on the host, with all rights of the user. Here
they run in namespaces of their own: of the host's files only the system's
programs and the source tree can be read, and only the folders that are built in
can be written.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.host import packages, process
from harness.model.errors import BuildError, LaunchError, UsageError

# Set by --sandbox; all that the harness starts inherits it.
VARIABLE = "HARNESS_SANDBOX"
_TOOLS = ("bwrap", "unshare")
# Compilers, their libraries, and how the loader finds them. /etc has secrets, too.
_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
)
_DEVICES = ("null", "zero", "full", "random", "urandom")
# What root, even without capabilities, could change of the host through a /proc of its own (bwrap 0.8 covers it from
# others only: core_pattern, which names a program that the kernel runs outside, could be written).
_PROC = ("sys", "sysrq-trigger", "irq", "bus")
HOME = "/tmp"  # noqa: S108 - an empty one of its own
_TRIAL_LIMIT_S = 30.0
# Folders of every system that nothing here needs; the new root is mounted on one.
_SPARE = ("/mnt", "/media", "/srv", "/opt")
# As bwrap does it, for a host without it. Words: where the new root goes, the folder to begin in, then KIND PATH
# [TARGET] for each place, then -- and the command. A bind mount becomes read-only only when it is mounted again.
_SCRIPT = f"""\
set -eu
top=$1; cd=$2; shift 2
mount -t tmpfs -o mode=755,nosuid tmpfs "$top"
bind() {{
    if [ -d "$1" ]; then mkdir -p "$top$1"; else mkdir -p "$top${{1%/*}}"; : >"$top$1"; fi
    mount --bind "$1" "$top$1"
    [ -z "$2" ] || mount -o "remount,bind,$2" "$top$1"
}}
mkdir -p "$top/proc" "$top/dev" "$top{HOME}"
mount -t proc -o nosuid,nodev,noexec proc "$top/proc"
for name in {" ".join(_PROC)}; do
    [ -e "$top/proc/$name" ] || continue
    mount --bind "$top/proc/$name" "$top/proc/$name"; mount -o remount,bind,ro,nosuid,nodev,noexec "$top/proc/$name"
done
for name in {" ".join(_DEVICES)}; do bind "/dev/$name" ""; done
ln -s /proc/self/fd "$top/dev/fd"
for fd in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${{fd%:*}}" "$top/dev/${{fd#*:}}"; done
while [ "$1" != -- ]; do
    case $1 in
        link) mkdir -p "$top${{2%/*}}"; ln -s "$3" "$top$2"; shift ;;
        read) bind "$2" ro,nosuid,nodev ;;
        write) bind "$2" nosuid,nodev ;;
    esac
    shift 2
done
shift
cd "$top"; pivot_root . .; umount -l .; cd "$cd"
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs -- "$@"
"""


def demand() -> None:
    """From now on, for this process and its children."""
    os.environ[VARIABLE] = "1"


def demanded() -> bool:
    """Whether what a tree makes us run is run in a sandbox."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def apart(name: str) -> str:
    """The name of a folder for what was made in a sandbox: who made it might have planted what runs without one."""
    return f"{name}-sandbox" if demanded() else name


@functools.cache
def tool() -> str:
    """The program that makes sandboxes here, tried. Raises LaunchError when there is none, or it may not."""
    found = next((name for name in _TOOLS if shutil.which(name)), "")
    if not found:
        hint = "; ".join(packages.commands(["bwrap"])) or "install bubblewrap"
        raise LaunchError(f"--sandbox: neither {' nor '.join(_TOOLS)} is in PATH", hint)
    done = process.run(_words(found, ["true"], [], [], Path("/")), timeout_s=_TRIAL_LIMIT_S)
    if done.status:
        said = next(iter(reversed(done.stderr.splitlines())), f"status {done.status}")
        hint = "install bubblewrap" if found != "bwrap" else "sysctl kernel.unprivileged_userns_clone=1, or as root"
        raise LaunchError(f"--sandbox: {found} can make none here: {said}", hint)
    return found


def name() -> str:
    """What a verdict says of it: the program; empty without a sandbox."""
    return tool() if demanded() else ""


def check(programs: Sequence[str]) -> None:
    """Raise UsageError for a program that a sandbox would not see."""
    for program in programs:
        path = process.which(program)
        if not any(path.resolve().is_relative_to(top) for top in _SYSTEM):
            raise UsageError(
                f"--sandbox: {program} is {path}, and only the system's programs are seen there",
                "install it there, or put the system's first in PATH",
            )


def inside(
    argv: Sequence[str | os.PathLike[str]], *, reads: Sequence[Path], writes: Sequence[Path], cwd: Path | None = None
) -> list[str]:
    """A command that sees these folders, the system's programs, and nothing else."""
    return _words(tool(), [os.fspath(word) for word in argv], reads, writes, cwd or Path("/"))


def _words(program: str, argv: Sequence[str], reads: Sequence[Path], writes: Sequence[Path], cwd: Path) -> list[str]:
    places = [*_system(), *(("read", str(path)) for path in reads), *(("write", str(path)) for path in writes)]
    if program == "bwrap":
        words = ["bwrap", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
        for name in _PROC:
            words += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
        words += ["--tmpfs", HOME]
        for kind, path, *target in places:
            match kind:
                case "link":
                    words += ["--symlink", *target, path]
                case "read":
                    words += ["--ro-bind", path, path]
                case _:
                    words += ["--bind", path, path]
        return [*words, "--chdir", str(cwd), "--", *argv]
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork"]
    flat = [word for place in places for word in place]
    top = next((top for top in _SPARE if Path(top).is_dir() and not any(w.startswith(f"{top}/") for w in flat)), "/mnt")
    return [*unshare, "--kill-child", "--", "sh", "-c", _SCRIPT, "sandbox", top, str(cwd), *flat, "--", *argv]


def _system() -> Iterator[tuple[str, ...]]:
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            yield "link", str(path), str(path.readlink())
        elif path.exists():
            yield "read", str(path)


def sweep(folder: Path, known: Sequence[Path]) -> None:
    """Look at what a sandbox left before anybody follows it: raise BuildError for what would lead out of it.

    known: further folders that links may lead to.
    """
    tops = [folder.resolve(), *(path.resolve() for path in known)]
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                target = path.resolve()
                if any(target.is_relative_to(top) for top in tops):
                    continue
                what = f"is a link to {target}, outside of what it was built in"
            elif not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                what = "is no file"
            elif stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                what = "has a user's rights (set-user-ID)"
            else:
                continue
            raise BuildError(f"--sandbox: the build made {path}, which {what}", "the tree, or a patch, is hostile")
