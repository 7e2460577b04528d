# SPDX-License-Identifier: GPL-2.0-only
"""What a failed make means: a kernel that does not compile, a tool that is missing, or a full disk."""

from __future__ import annotations

import re
from pathlib import Path

from harness.host import workspace
from harness.model.errors import BuildError, HarnessError, LaunchError, MachineError

# A kernel that does not compile is the kernel's fault, and bisect skips it; these
# are the machine's fault, and skipping a whole history for them would be a lie.
_MISSING = (
    re.compile(r"(?:sh|bash|make)(?:\[\d+\])?: (?:line )?\d*:? ?([\w./+-]+): (?:command )?not found"),
    re.compile(r"fatal error: ((?:gelf|libelf|elf|dwarf|ncurses|openssl/\w+)\.h): No such file"),
    re.compile(r"make(?:\[\d+\])?: ([\w./+-]+): No such file or directory"),
)
_KILLED = re.compile(
    r"Killed signal terminated program|internal compiler error: Killed|\bKilled\b.*Error 137"
    r"|make(?:\[\d+\])?: \*\*\* \[.*\] (?:Terminated|Killed|Hangup|Interrupt)"
)
_COMPILER = re.compile(r"^(\S+?):(\d+):(?:\d+:)? (?:fatal )?error: (.+)$", re.MULTILINE)
_OTHERS = (
    re.compile(r"^(.*undefined reference to .+)$", re.MULTILINE),
    re.compile(r"^(ld(?:\.lld)?: error: .+)$", re.MULTILINE),
    re.compile(r"^(ERROR: modpost: .+)$", re.MULTILINE),
    re.compile(r"^([\w./-]+:\d+: .*(?:syntax error|Error:).*)$", re.MULTILINE),
    re.compile(r"^(.*(?:error|Error): .+)$", re.MULTILINE),
    re.compile(r"^(make.*\*\*\* .+)$", re.MULTILINE),
)


def failure(output: str, tree: Path, cache: Path, what: str, log: Path | None) -> HarnessError:
    """The error for a make that failed, from what it printed."""
    place = f"; the whole output is in {log}" if log else ""
    if "No space left on device" in output:
        return workspace.no_space(cache)
    for pattern in _MISSING:
        if found := pattern.search(output):
            return LaunchError(
                f"{what}: {found[1]} is missing on this machine{place}", "make run installs what is missing"
            )
    if _KILLED.search(output):
        return MachineError(f"{what}: a compiler was killed: by the kernel for lack of memory, or by a user{place}")
    return BuildError(f"{what} does not compile: {first_error(output, tree)}{place}")


def first_error(output: str, tree: Path) -> str:
    """The first error of a compiler, or else of a linker or make: later errors mostly follow from it."""
    if found := _COMPILER.search(output):
        return f"{_inside(found[1], tree)}:{found[2]}: {found[3]}"
    for pattern in _OTHERS:
        if found := pattern.search(output):
            return found[1].replace(f"{tree}/", "").strip()
    # make's own "  CC      mm/rmap.o" is no error, however late it comes.
    said = [line for line in output.splitlines() if line.strip() and not line.startswith("  ")]
    return said[-1] if said else "make named no error"


def _inside(path: str, tree: Path) -> str:
    """A path relative to the top of the source tree; ccache makes paths relative to the object tree."""
    return re.sub(rf"^(?:\.\./)+{re.escape(tree.name)}/", "", path.removeprefix(f"{tree}/"))
