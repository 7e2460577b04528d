# SPDX-License-Identifier: GPL-2.0-only
"""The command line: the only place that exits. Exit codes are part of the interface (README, "Exit codes")."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from harness import __version__
from harness.model.errors import HarnessError, UsageError

INTERRUPTED = 130

# `harness X` is harness/commands/X.py, which is loaded only when the command is called.
COMMANDS: Mapping[str, str] = {
    "run": "build, boot, press, judge: the main job",
    "build": "source + patch + config + module, no boot",
    "doctor": "what this machine can do",
    "list": "list scenarios, configs, patches, oracles, mutants or sources",
    "shell": "a guest, interactive or for one command: fresh, or where a scenario of a run stopped",
    "explore": "search for a scenario that fails, and shrink it",
    "mutants": "break the patch in every known way, and show which oracle sees it",
    "replay": "repeat a recorded run, instruction for instruction",
    "judge": "judge finished runs again, without a machine",
    "report": "write the reports of finished runs again",
    "decode": "file and line for every function in a run's reports and post-mortems",
    "console": "the reports in any kernel console log",
    "gc": "limit the size of the cache",
}


class _Parser(argparse.ArgumentParser):
    """argparse whose usage errors exit with 129: its own 2 would read as *bad* to git bisect."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    # SIGINT as well: a shell without job control starts its background jobs with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except HarnessError as error:
        _tell(error)
        return error.exit_code
    except KeyboardInterrupt:
        from harness.host import process

        process.end_all()
        print("harness: interrupted; no process is left", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128
    except OSError as error:
        _tell(_from_os(error))
        return 128
    except Exception:  # noqa: BLE001 - Python's own exit status, 1, would read as *bad* to git bisect
        import traceback

        traceback.print_exc()
        print("harness: this is a fault of the harness, not of a kernel", file=sys.stderr)
        return 128


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line, with the command's main() as `command`. Raises UsageError."""
    parser = _Parser(prog="harness", description="Does reclaim get along with this kernel's mmu notifiers?")
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    asked = next((word for word in argv if not word.startswith("-")), "")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == asked:
            module = importlib.import_module(f"harness.commands.{name}")
            module.options(command)
            command.set_defaults(command=module.main)
    return parser.parse_args(argv)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _tell(error: HarnessError) -> None:
    from harness.report.text import one_line

    print(f"harness: {one_line(error.message, 2000)}", file=sys.stderr)
    if error.hint:
        print(f"  try: {one_line(error.hint, 500)}", file=sys.stderr)


def _from_os(error: OSError) -> HarnessError:
    import errno

    from harness.host.workspace import no_space
    from harness.model.errors import MachineError

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(Path(error.filename or "."))
    return MachineError(f"{error.filename or 'the system'}: {error.strerror or error}")


if __name__ == "__main__":
    sys.exit(main())
