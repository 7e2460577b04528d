# SPDX-License-Identifier: GPL-2.0-only
"""The command line: the only place that exits. Exit codes are part of the interface (README, "Exit codes")."""

from __future__ import annotations

import _thread
import argparse
import importlib
import os
import re
import resource
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from harness import __version__
from harness.host import streams
from harness.model.errors import HarnessError, UsageError

# As a shell tells them: 128 + SIGINT, 128 + SIGTERM.
INTERRUPTED, TERMINATED = 130, 143
# Enough for numpy with one thread; what QEMU needs, QEMU tells.
_ADDRESS_SPACE_MIB = 192
# How argparse says that a word is none of those that are known, and that it knows no such option.
_CHOICE = re.compile(
    r"argument (?P<argument>.*?): invalid choice: (?P<wrong>'.*'|\".*\") \(choose from (?P<right>.*)\)", re.DOTALL
)
_QUOTED = re.compile(r"'?([^', ]+)'?")
_STRANGER = re.compile(r"unrecognized arguments: (--[\w-]+)")
# More choices than these are not told one by one.
_FEW = 8
_EMPTY_OPTION = re.compile("--[a-z-]+=")

# What the latest signal asked for, and what ended a thread.
_interrupted = INTERRUPTED
_faults: list[BaseException] = []

# `harness X` is harness/commands/X.py, which is loaded only when the command is called.
COMMANDS: Mapping[str, str] = {
    "run": "build, boot, press, judge: the main job",
    "build": "source + patch + config + module, no boot",
    "doctor": "what this machine can do",
    "list": "list scenarios, configs, patches, oracles, mutants, sources or runs",
    "show": "one scenario, configuration, patch, oracle or mutant in full; or why a scenario of a run failed",
    "shell": "a guest, interactive or for one command: fresh, or where a scenario of a run stopped",
    "explore": "search for a scenario that fails, and shrink it",
    "bisect": "which commit, patch or option makes a kernel fail",
    "matrix": "many runs as one, from a plan: kernels, patches, contracts, configurations, scenarios",
    "merge": "several shards and runs as one: verdict, JUnit and report",
    "mutants": "break the patch in every known way, and show which oracle sees it",
    "replay": "repeat a recorded run, instruction for instruction",
    "judge": "judge finished runs again, without a machine",
    "report": "write the reports of finished runs again, compare two, write a trace, or a page of the history",
    "history": "what is new, fixed, flaky, slower or exercised less since a time",
    "decode": "file and line for every function in a run's reports and post-mortems",
    "console": "the reports in any kernel console log",
    "init": "a scenario, a test and a workflow to begin with, in a tree of one's own",
    "completion": "the script by which bash, zsh or fish completes our words",
    "gc": "limit the size of the cache",
}


class _Parser(argparse.ArgumentParser):
    """argparse whose usage errors exit with 129: its own 2 would read as *bad* to git bisect."""

    # The options of the command that is asked for; the parser that refuses one does not know them.
    known: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        hint = f"{self.prog} --help"
        if choice := _CHOICE.fullmatch(message):
            right = _QUOTED.findall(choice["right"])
            wrong = choice["wrong"][1:-1]
            hint = _nearest(wrong, right) or (hint if len(right) > _FEW else f"one of {', '.join(right)}")
            message = f"{choice['argument']}: there is no {wrong!r}"
        elif stranger := _STRANGER.match(message):
            hint = _nearest(stranger[1], self.known) or hint
        raise UsageError(message, hint)


def _nearest(wrong: str, right: Sequence[str]) -> str:
    """A hint that names the nearest of some words; empty when none is near."""
    import difflib

    near = difflib.get_close_matches(wrong, right, n=1)
    return f"did you mean {near[0]}?" if near else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code, whatever happens. argv: None for the process's own arguments."""
    if argv is None:
        streams.prepare()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        # SIGINT as well: a shell without job control starts its background jobs with SIGINT ignored.
        signal.signal(number, _interrupt)
    hook, threading.excepthook = threading.excepthook, _thread_failed
    try:
        status = _status(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        if _faults:
            return _ended(_faults[0])
    except BaseException as error:  # noqa: BLE001 - Python's own exit status, 1, would read as *bad* to git bisect
        return _ended(error)
    finally:
        threading.excepthook = hook
    return status


def _status(argv: Sequence[str]) -> int:
    _demand_memory()
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    try:
        arguments = parse(argv)
    except SystemExit as ended:
        # --help and --version; nothing else ends so.
        if ended.code:
            raise
        return 0
    if getattr(arguments, "sandbox", False):
        from harness.host import sandbox

        sandbox.demand()
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def _complete() -> NoReturn:
    """Offer the shell what the word at its cursor may become, and exit (see harness completion)."""
    import argcomplete
    from argcomplete.lexers import split_line

    line, point = os.environ.get("COMP_LINE", ""), os.environ.get("COMP_POINT", "0")
    *_, words, _ = split_line(line, int(point) if point.isdecimal() else 0)
    asked = next((word for word in words[1:] if not word.startswith("-")), "")
    argcomplete.autocomplete(_parser(asked, completes=True), always_complete_options="long")
    raise UsageError("_ARGCOMPLETE is set, but no shell asks", "unset _ARGCOMPLETE")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line, with the command's main() as `command`. Raises UsageError."""
    asked = next((word for word in argv if not word.startswith("-")), "")
    # A command for a guest may have empty words.
    if asked != "shell" and any(not word or _EMPTY_OPTION.fullmatch(word) for word in argv):
        raise UsageError("an argument is empty", "a variable of the shell that is not set?")
    paths: list[str] = []
    if asked == "bisect" and "--" in argv:
        # As in git; argparse would take them for scenarios.
        cut = list(argv).index("--")
        argv, paths = argv[:cut], list(argv[cut + 1 :])
    arguments = _parser(asked).parse_args(argv)
    arguments.paths = paths
    return arguments


def _parser(asked: str, *, completes: bool = False) -> argparse.ArgumentParser:
    """The parser of all commands; of the one that is asked for, with its options. completes: and without its main()."""
    parser = _Parser(prog="harness", description="Does reclaim get along with this kernel's mmu notifiers?")
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == asked and completes:
            from harness.commands import _slow

            if (options := _slow.OPTIONS.get(name)) is not None:
                options(command)
                continue
        if name == asked:
            module = importlib.import_module(f"harness.commands.{name}")
            module.options(command)
            command.set_defaults(command=module.main)
            parser.known = [word for action in command._actions for word in action.option_strings]
    return parser


def _ended(error: BaseException) -> int:
    """Say why a command did not come to its end; returns the exit code."""
    try:
        from harness.host import process

        process.end_all()
        if isinstance(fault := streams.output_fault(), BrokenPipeError):
            # The reader went away, as `| head` does, and wants to hear no more.
            return 128
        if isinstance(error, KeyboardInterrupt) and not _faults:
            print("harness: interrupted; no process is left", file=sys.stderr)
            return _interrupted
        told = _explained(_faults[0] if _faults else error)
        if fault is not None:
            told = HarnessError(f"standard output: {fault.strerror}")
        _tell(told)
        return told.exit_code
    except BaseException as another:  # noqa: BLE001 - see main()
        # There is no memory or no standard output, or a second signal came.
        return _interrupted if isinstance(another, KeyboardInterrupt) else 128


def _explained(error: BaseException) -> HarnessError:
    """Any exception as one of ours."""
    import tempfile
    from pathlib import Path

    from harness.host import fault
    from harness.host.workspace import cache_dir

    try:
        folder = cache_dir() / "faults"
    except HarnessError:
        folder = Path(tempfile.gettempdir())
    return fault.explained(error, folder)


def _interrupt(number: int, _frame: object) -> None:
    global _interrupted  # noqa: PLW0603 - a signal handler has no other way to tell
    _interrupted = INTERRUPTED if number == signal.SIGINT else TERMINATED
    raise KeyboardInterrupt


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """A thread ended by what nobody foresaw: no verdict can be trusted, the main thread ends as if it had failed."""
    if isinstance(failed.exc_value, HarnessError | OSError):
        _tell(_explained(failed.exc_value))
    elif failed.exc_value is not None:
        _faults.append(failed.exc_value)
        _thread.interrupt_main()


def _demand_memory() -> None:
    """Libraries end the process with status 1 where they find no memory, so a low limit is told before they load."""
    # numpy's OpenBLAS would take memory for one thread per CPU, and calculates nothing for us.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _ADDRESS_SPACE_MIB << 20:
        from harness.model.errors import MachineError

        raise MachineError(
            f"ulimit -v allows {limit >> 20} MiB of address space, the harness needs {_ADDRESS_SPACE_MIB} MiB",
            "ulimit -v unlimited",
        )


def _tell(error: HarnessError) -> None:
    from harness.report.text import one_line

    print(f"harness: {one_line(error.message, 2000)}", file=sys.stderr)
    if error.hint:
        print(f"  try: {one_line(error.hint, 500)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
