# SPDX-License-Identifier: GPL-2.0-only
"""The command line. The only place that exits; exit codes are interface (README, "Exit codes")."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from harness import __version__
from harness.model.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.commands.shell import Visit
    from harness.run.pipeline import KernelRequest
    from harness.terminal import Terminal

INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """argparse whose usage errors exit with 129: its own 2 would read as *bad* to git bisect."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    # Said for SIGINT too: a shell without job control starts its background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        arguments = _parser().parse_args(argv)
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="harness", description="Does reclaim get along with this kernel's mmu notifiers?")
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    run = commands.add_parser("run", help="build, boot, press, judge: the main job")
    run.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help="a name, a YAML file, or all (default: the default set)"
    )
    _kernel_options(run)
    _machine_options(run)
    run.add_argument("--record", action="store_true", help="record each machine, for harness replay (TCG, one CPU)")
    run.set_defaults(command=_run)

    build = commands.add_parser("build", help="source + patch + config + module, no boot")
    _kernel_options(build)
    build.add_argument("--json", action="store_true", help="what was built, on standard output")
    build.set_defaults(command=_build)

    doctor = commands.add_parser("doctor", help="what this machine can do")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(command=_doctor)

    listing = commands.add_parser("list", help="what there is")
    listing.add_argument("what", choices=("scenarios", "configs", "patches", "oracles", "mutants"))
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(command=_list)

    shell = commands.add_parser(
        "shell", help="a guest, interactive or for one command: fresh, or where a scenario of a run stopped"
    )
    _kernel_options(shell)
    shell.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
    shell.add_argument("--gdb", action="store_true", help="let gdb in, and print the line that starts it")
    shell.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="[RUN[/SCENARIO]] [COMMAND …]",
        help="a run, for a guest in which its scenario was done again up to where it stopped (default: the first that "
        "did not pass); a command to run in the guest, whose status is ours",
    )
    shell.set_defaults(command=_shell)

    explore = commands.add_parser("explore", help="search for a scenario that fails, and shrink it")
    _kernel_options(explore)
    explore.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
    explore.add_argument("--seconds", type=_seconds, default=60.0, metavar="N", help="how long to search (default 60)")
    explore.add_argument("--seed", type=_seed, metavar="S", help="where to begin, to repeat a search")
    explore.add_argument("--jobs", type=_jobs, default=0, metavar="N", help="searchers at once, or auto (default)")
    explore.add_argument("--out", type=Path, metavar="DIR", help="where the run directory goes")
    explore.add_argument("--json", action="store_true", help="what was found, on standard output")
    explore.set_defaults(command=_explore)

    mutants = commands.add_parser("mutants", help="break the patch in every known way, and show which oracle sees it")
    mutants.add_argument(
        "names", nargs="*", metavar="NAME", help="a mutant, or a file of your own (default: all of ours)"
    )
    mutants.add_argument(
        "--whole", action="store_true", help="each on the whole default set, to see that no other oracle speaks"
    )
    _kernel_options(mutants)
    _machine_options(mutants)
    mutants.set_defaults(command=_mutants)

    replay = commands.add_parser("replay", help="repeat a recorded run, instruction for instruction")
    replay.add_argument("run", metavar="RUN", type=Path, help="the directory of a run with --record")
    replay.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help="some of it (default: what did not pass, or else all)"
    )
    replay.add_argument("--gdb", action="store_true", help="let gdb in, and print the line that starts it")
    replay.add_argument(
        "--at",
        type=_instruction,
        default=0,
        metavar="N",
        help="with --gdb: stop at the Nth instruction (default 0)",
    )
    replay.add_argument("--json", action="store_true", help="one object a line for each scenario")
    replay.set_defaults(command=_replay)

    judge = commands.add_parser("judge", help="judge runs that ended once more, without a machine")
    judge.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="a run directory")
    judge.add_argument("--json", action="store_true")
    judge.set_defaults(command=_judge)

    report = commands.add_parser("report", help="write the reports of runs that ended once more")
    report.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="a run directory")
    report.add_argument("--json", action="store_true")
    report.set_defaults(command=_judge)

    decode = commands.add_parser("decode", help="file and line for every function in a run's reports and post-mortems")
    decode.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="a run directory")
    decode.add_argument("--compiler", choices=("gcc", "clang"), default="gcc", help="what its kernel was built with")
    decode.set_defaults(command=_decode)

    console = commands.add_parser("console", help="the reports in any kernel console log")
    console.add_argument("files", nargs="+", metavar="FILE", type=Path, help="what a kernel wrote to its console")
    console.add_argument("--json", action="store_true", help="one object a line for each file")
    console.add_argument("--text", action="store_true", help="each report in full as well")
    console.add_argument(
        "--known-noise", type=Path, metavar="YAML", help="reports that are excused (default: our list)"
    )
    console.set_defaults(command=_console)

    gc = commands.add_parser("gc", help="bound the cache")
    gc.add_argument("--keep-gib", type=_positive, default=20, metavar="N", help="what may stay, in GiB (default 20)")
    gc.set_defaults(command=_gc)
    return parser


def _kernel_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        default="debian:6.12",
        help="debian:6.12 (default), debian:6.1, a directory, a tarball, git:PATH@REV",
    )
    parser.add_argument(
        "--patch",
        action="append",
        metavar="PATCH",
        help="mayfail (default), none, a .patch/.diff/.mbox file, a directory with a series",
    )
    parser.add_argument(
        "--config", action="append", metavar="FRAGMENT", help="a fragment of kernel-configs/ by name, or a file"
    )
    parser.add_argument("--compiler", choices=("gcc", "clang"), default="gcc")


def _machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
    parser.add_argument("--jobs", type=_jobs, default=0, metavar="N", help="machines at once, or auto (default)")
    parser.add_argument("--repeat", type=_positive, default=1, metavar="N", help="rounds")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=0.0,
        metavar="S",
        help="the longest a scenario may take on a host without slow-down, in seconds",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the run directory goes")
    parser.add_argument("--json", action="store_true", help="the verdict document on standard output")


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 100000")
    return int(text)


def _instruction(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {(1 << 63) - 1}")
    return int(text)


def _jobs(text: str) -> int:
    return 0 if text == "auto" else _positive(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0 and up to 86400")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {(1 << 32) - 1}")
    return int(text)


def _request(arguments: argparse.Namespace) -> KernelRequest:
    from harness.run.pipeline import KernelRequest

    return KernelRequest(
        arguments.source, tuple(arguments.patch or ("mayfail",)), tuple(arguments.config or ()), arguments.compiler
    )


def _run(arguments: argparse.Namespace) -> int:
    from harness.host.workspace import cache_dir
    from harness.report.write import render
    from harness.run import pipeline
    from harness.terminal import Terminal
    from harness.variants import catalogue

    if arguments.record and arguments.accel == "kvm":
        raise UsageError("--record and --accel kvm: QEMU records no guest on KVM", "leave out --accel, or --record")
    request = pipeline.RunRequest(
        kernel=_request(arguments),
        scenarios=catalogue.choose(arguments.scenarios),
        accel="tcg" if arguments.record else arguments.accel,
        jobs=arguments.jobs,
        repeat=arguments.repeat,
        timeout_s=arguments.timeout,
        out=arguments.out,
        record=arguments.record,
    )
    with Terminal() as terminal:
        verdict, folder = pipeline.run(request, cache_dir(), terminal, terminal.result)
    terminal.summary(verdict, str(folder))
    if arguments.json:
        print(render(verdict), end="")
    return verdict.outcome.exit_code


def _mutants(arguments: argparse.Namespace) -> int:
    from harness.commands import mutants
    from harness.host.workspace import cache_dir
    from harness.run import pipeline
    from harness.terminal import Terminal

    request = pipeline.RunRequest(
        kernel=_request(arguments),
        scenarios=(),
        accel=arguments.accel,
        jobs=arguments.jobs,
        repeat=arguments.repeat,
        timeout_s=arguments.timeout,
        out=arguments.out,
    )
    with Terminal() as terminal:
        done = mutants.run(request, arguments.names, cache_dir(), terminal, terminal.trial, whole=arguments.whole)
    terminal.matrix(done)
    if arguments.json:
        print(json.dumps(done.document()))
    return done.exit_code


def _build(arguments: argparse.Namespace) -> int:
    from harness.host.workspace import cache_dir
    from harness.run import pipeline
    from harness.terminal import Terminal

    clock = pipeline.Clock()
    with Terminal() as terminal:
        prepared = pipeline.prepare(_request(arguments), cache_dir(), terminal, clock)
    kernel = prepared.kernel
    spent = ", ".join(f"{name} {value:.1f} s" for name, value in clock.seconds.items())
    print(f"built        {kernel.release}, {'from the store' if kernel.cached else 'new'}; {spent}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({
            "release": kernel.release, "build_id": kernel.build_id, "cached": kernel.cached,
            "vmlinux": str(kernel.vmlinux), "config": str(kernel.config), "log": str(kernel.log),
            "module": str(prepared.module),
            "seconds": {name: round(value, 2) for name, value in clock.seconds.items()},
        }))  # fmt: skip
    else:
        print(kernel.vmlinux)
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from harness.commands import doctor
    from harness.host.workspace import cache_dir
    from harness.terminal import Terminal

    with Terminal() as terminal:
        document = doctor.examine(cache_dir(), terminal)
    if arguments.json:
        print(json.dumps(document))
    else:
        print("\n".join(doctor.lines(document)))
    return 0 if not document["missing"] else 128


def _list(arguments: argparse.Namespace) -> int:
    from harness.variants import catalogue

    entries = catalogue.listing(arguments.what)
    if arguments.json:
        print(json.dumps(entries))
    else:
        width = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            print(f"{entry['name']:{width}}  {entry['summary']}")
    return 0


def _shell(arguments: argparse.Namespace) -> int:
    from harness.commands import shell
    from harness.terminal import Terminal

    named, words = _named(arguments.words)
    if words:
        with Terminal() as terminal:
            done = shell.execute(_visit(arguments, named, terminal), words)
        _pass_on(done.stdout, sys.stdout)
        _pass_on(done.stderr, sys.stderr)
        # As a shell does for a command that a signal ended.
        return done.status if done.status < 256 else 128 + done.status - 256
    if not sys.stdin.isatty():
        raise UsageError("harness shell needs a terminal on standard input", "harness shell COMMAND needs none")
    with Terminal() as terminal:
        interact = shell.prepare(_visit(arguments, named, terminal))
    return interact()


def _named(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The run that the first word names, or "", and the command behind it."""
    from harness.run import earlier

    return (words[0], words[1:]) if words and earlier.named(words[0]) else ("", words)


def _visit(arguments: argparse.Namespace, named: str, terminal: Terminal) -> Visit:
    """A fresh guest, or one like that of an earlier run."""
    from harness.commands import shell
    from harness.run import earlier
    from harness.run.session import Session

    if not named:
        return shell.Visit(Session(_request(arguments), arguments.accel, terminal), terminal, gdb=arguments.gdb)
    folder, scenario = earlier.named(named) or (Path(named), "")
    run = earlier.read(folder, arguments.compiler)
    session = Session(run.request, arguments.accel, terminal)
    run.verify(session.lab.kernel)
    name = scenario or run.scenario()
    return shell.Visit(session, terminal, shell.scene(folder / name, name), arguments.gdb)


def _pass_on(said: bytes, stream: TextIO) -> None:
    """What the guest said, as it is; a terminal gets no control characters of it."""
    from harness.guest.console import clean

    stream.flush()
    stream.buffer.write(clean(said).encode() if stream.isatty() else said)
    stream.flush()


def _explore(arguments: argparse.Namespace) -> int:
    from harness.commands import explore
    from harness.model.shape import MachineShape
    from harness.run import pipeline
    from harness.run.session import Session
    from harness.terminal import Terminal

    with Terminal() as terminal:
        session = Session(_request(arguments), arguments.accel, terminal, arguments.out)
        jobs = arguments.jobs or pipeline.auto_jobs(MachineShape().memory_mib)
        hunt = explore.explore(session.lab, session.folder, arguments.seconds, arguments.seed, terminal, jobs=jobs)
    print("\n".join(explore.lines(hunt)), file=sys.stderr)
    if arguments.json:
        print(json.dumps(explore.document(hunt)))
    return explore.outcome(hunt).exit_code


def _replay(arguments: argparse.Namespace) -> int:
    from harness.commands import replay
    from harness.terminal import Terminal

    names = replay.choose(arguments.run, arguments.scenarios)
    if arguments.gdb:
        if len(names) > 1:
            raise UsageError(f"--gdb takes one scenario, not {len(names)}", f"name one of {', '.join(names)}")
        with Terminal() as terminal:
            replay.debug(arguments.run, names[0], arguments.at, terminal)
        return 0
    exact = True
    with Terminal() as terminal:
        for name in names:
            done = replay.repeat(arguments.run, name, terminal)
            terminal.say(done.line())
            if arguments.json:
                print(json.dumps(done.document()))
            exact = exact and not done.difference
    return 0 if exact else 128


def _judge(arguments: argparse.Namespace) -> int:
    from harness.commands import judge
    from harness.model.verdict import worst
    from harness.report.write import render
    from harness.terminal import Terminal

    verdicts = []
    with Terminal() as terminal:
        for folder in arguments.runs:
            verdict = judge.judge(folder)
            for result in verdict.scenarios:
                terminal.result(result)
            terminal.summary(verdict, str(folder))
            if arguments.json:
                print(render(verdict), end="")
            verdicts.append(verdict.outcome)
    return worst(verdicts).exit_code


def _decode(arguments: argparse.Namespace) -> int:
    from harness.commands import decode
    from harness.host.workspace import cache_dir
    from harness.terminal import Terminal

    with Terminal() as terminal:
        made = [
            path for run in arguments.runs for path in decode.decode(run, arguments.compiler, cache_dir(), terminal)
        ]
    for path in made:
        print(path)
    return 0


def _console(arguments: argparse.Namespace) -> int:
    from harness.commands import console
    from harness.console import noise

    return console.run(
        arguments.files,
        as_json=arguments.json,
        text=arguments.text,
        known_noise=arguments.known_noise or noise.DEFAULT,
        say=print,
        note=lambda line: print(line, file=sys.stderr),
    )


def _gc(arguments: argparse.Namespace) -> int:
    from harness.host import collect
    from harness.host.workspace import cache_dir

    freed, left = collect.bound(cache_dir(), arguments.keep_gib << 30)
    print(f"freed {freed >> 20} MiB, {left >> 20} MiB left (limit {arguments.keep_gib} GiB) in {cache_dir()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
