# SPDX-License-Identifier: GPL-2.0-only
"""Any exception as an error that a person can read; the traceback of one that nobody foresaw is kept in a file."""

from __future__ import annotations

import errno
import os
import time
import traceback
from pathlib import Path

from harness.host import workspace
from harness.host.below import COMPONENT_LIMIT
from harness.model.errors import HarnessError, HarnessFault, MachineError, UsageError

# Linux, PATH_MAX with its zero.
_PATH_LIMIT = 4095


def explained(error: BaseException, folder: Path) -> HarnessError:
    """The error to tell. folder: where the traceback of a fault of ours goes."""
    if isinstance(error, HarnessError):
        return error
    if isinstance(error, OSError):
        return _from_os(error)
    # The machine has no more memory or processes, which is no fault of ours.
    if isinstance(error, MemoryError):
        return MachineError("no memory left for the harness itself", "ulimit -v and free -m tell what there is")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return MachineError("no new thread can be started", "ulimit -u and ulimit -v tell what is allowed")
    return _keep(error, folder)


def _from_os(error: OSError) -> HarnessError:
    place = str(error.filename or "the system")
    if error.errno == errno.ENAMETOOLONG:
        longest, shown = max(map(len, os.fsencode(place).split(b"/"))), f"{place[:80]}{'…' * (len(place) > 80)}"
        if longest <= COMPONENT_LIMIT:
            return UsageError(f"{shown}: a path of {len(os.fsencode(place))} bytes is too long (limit {_PATH_LIMIT})")
        return UsageError(f"{shown}: a name of {longest} bytes is too long (limit {COMPONENT_LIMIT})")
    return workspace.fault(error)


def _keep(error: BaseException, folder: Path) -> HarnessFault:
    text = "".join(traceback.format_exception(error))
    what = traceback.format_exception_only(error)[-1].strip() or type(error).__name__
    path = folder / f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except (OSError, ValueError):
        return HarnessFault(f"a fault of the harness, not of a kernel: {what}: {_place(error)}")
    return HarnessFault(
        f"a fault of the harness, not of a kernel: {what}", f"send {path}, with the command that you gave"
    )


def _place(error: BaseException) -> str:
    """Where an exception was raised, for a fault whose traceback cannot be kept."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
