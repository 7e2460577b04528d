# SPDX-License-Identifier: GPL-2.0-only
"""Why the harness could not look: one exception tree, one exit code for each family.

::

    HarnessError(message, hint)                                  exit
     ├─ UsageError    bad YAML, unknown name, no such file        129
     ├─ CannotTest    PatchError, ConfigError, BuildError         125
     └─ MachineError  LaunchError, GuestLost, OutOfSpace, …       128

An exception says "we could not look". What was seen is a verdict, never an
exception: a kernel that crashed is not an error of the harness.
"""

from __future__ import annotations

import errno


class HarnessError(Exception):
    """Base of everything the harness reports in one line.

    message: what, where, the number and its limit. hint: the command to type next.
    """

    exit_code = 128

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(HarnessError):
    """The caller asked for something that does not exist or makes no sense."""

    exit_code = 129


class CannotTest(HarnessError):
    """This kernel cannot be judged; `git bisect` must skip it."""

    exit_code = 125


class PatchError(CannotTest):
    """A patch does not apply to this source."""


class ConfigError(CannotTest):
    """kconfig dropped an option that was asked for."""


class BuildError(CannotTest):
    """The kernel or the module does not compile."""


class MachineError(HarnessError):
    """The harness, or the machine under it, failed."""


class LaunchError(MachineError):
    """A program of the host is missing, or did not start."""


class GuestLost(MachineError):
    """The guest went away and left no evidence that its kernel is to blame."""


class OutOfSpace(MachineError):
    """The disk is full."""


class HarnessFault(MachineError):
    """An exception that nobody foresaw; harness.host.fault keeps its traceback."""


# A file that a user names wrongly has none of these.
_OF_THE_HOST = (errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE)


def unreadable(fault: Exception, message: str, hint: str = "") -> HarnessError:
    """The error for a file that cannot be read: the machine's when its disk or its memory failed, else the caller's."""
    if isinstance(fault, OSError) and fault.errno in _OF_THE_HOST:
        return MachineError(message)
    return UsageError(message, hint)
