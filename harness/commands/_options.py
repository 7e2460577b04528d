# SPDX-License-Identifier: GPL-2.0-only
"""Options that several commands share, and what their values may be."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import _names
from harness.kernel import versions
from harness.model.contract import AUTO, CHOICES
from harness.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.model.scenario import Scenario
    from harness.run.pipeline import KernelRequest, RunRequest

ACCELERATORS = ("auto", "kvm", "tcg")
_UNITS_S = {"h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(r"([0-9]{1,6})([hdw])")


def scenarios(parser: argparse.ArgumentParser) -> None:
    """Add the scenarios to run."""
    named = parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help="a name, a YAML file, or all (default: the default set)"
    )
    _names.complete(named, "scenarios", "all")


def runs(
    parser: argparse.ArgumentParser, nargs: str = "+", which: str = "a run directory, its name in the cache, or last"
) -> None:
    """Add the runs to look at. nargs: how many, as argparse has it."""
    named = parser.add_argument("runs", nargs=nargs, metavar="RUN", type=run, help=which)
    _names.complete(named, "runs")


def kernel(parser: argparse.ArgumentParser) -> None:
    """The options of every command that needs a kernel."""
    default, *others = versions.sources()
    source = parser.add_argument(
        "--source",
        default=default,
        help=f"{default} (default), {', '.join(others)}, debian:VERSION for any other that Debian's archive has, "
        "debian:latest, a directory, a tarball, git:PATH@REV; harness list sources",
    )
    _names.complete(source, "sources")
    parser.add_argument(
        "--built",
        metavar="DIR",
        help="in place of a source: a tree that you have built (vmlinux, .config, Module.symvers), which is only read",
    )
    patch = parser.add_argument(
        "--patch",
        action="append",
        metavar="PATCH",
        help=f"{versions.PATCH} (default, but not under --contract stock), none, a .patch/.diff/.mbox file, "
        "a directory with a series",
    )
    _names.complete(patch, "patches", "none")
    config = parser.add_argument(
        "--config", action="append", metavar="FRAGMENT", help="a fragment of kernel-configs/ by name, or a file"
    )
    _names.complete(config, "configs")
    parser.add_argument(
        "--base-config",
        metavar="FILE",
        help="a whole .config of yours in the place of ours: a distribution's, a defconfig, that of a bug report",
    )
    parser.add_argument(
        "--contract",
        choices=CHOICES,
        default=AUTO,
        help="the rules that the kernel is judged by: mayfail, those of the patch; stock, those of Linux as it is; "
        "auto (default), by the patches: stock where only patches of yours are named, and none has the flag",
    )
    parser.add_argument(
        "--compiler", choices=("gcc", "clang"), default="gcc", help="what the kernel is built with (default gcc)"
    )
    sandbox(parser)


def sandbox(parser: argparse.ArgumentParser) -> None:
    """Add --sandbox, which main() of cli.py demands: all that the process starts inherits it."""
    parser.add_argument(
        "--sandbox",
        action="store_true",
        help="what the tree makes this machine run while it is built sees no network, no home, and writes only where "
        "it is built (bwrap, or else unshare); HARNESS_SANDBOX=1 does the same",
    )


def kernel_request(arguments: argparse.Namespace) -> KernelRequest:
    """The kernel that the options of kernel() ask for.

    Raises UsageError for some that exclude each other, and for names that lead to no patch and no configuration.
    """
    from harness.kernel import config, patches
    from harness.run.pipeline import KernelRequest

    if arguments.built is not None:
        return built_request(
            arguments.built,
            {
                "--source": arguments.source != versions.DEFAULT,
                "--patch": arguments.patch,
                "--config": arguments.config,
                "--base-config": arguments.base_config,
                "--compiler": arguments.compiler != "gcc",
            },
            arguments.contract,
        )
    request = KernelRequest(
        arguments.source,
        tuple(arguments.patch or versions.patch(arguments.contract)),
        tuple(arguments.config or ()),
        arguments.compiler,
        arguments.contract,
        base_config=arguments.base_config or "",
    )
    # A name that is mistyped is told before a source is fetched.
    patches.load(request.patches, versions.DEFAULT.partition(":")[2])
    config.load(request.configs, request.base_config)
    return request


def built_request(folder: str, others: Mapping[str, object], contract: str, option: str = "--built") -> KernelRequest:
    """A kernel that its owner has built. others: the options that would make one, and what they were given."""
    from harness.model.run import BUILT
    from harness.run.pipeline import KernelRequest

    if excluded := [name for name, value in others.items() if value]:
        raise UsageError(
            f"{option} {folder} beside {', '.join(excluded)}: a kernel that is built already is taken as it is",
            f"leave out {', '.join(excluded)}, or {option}",
        )
    return KernelRequest(f"{BUILT}{folder}", (), contract=contract)


def print_script(text: str) -> None:
    """Write a script on standard output as it is; a terminal gets none of its control characters."""
    from harness.guest.console import clean

    raw = text.encode(errors="surrogateescape")
    sys.stdout.flush()
    sys.stdout.buffer.write(clean(raw).encode() if sys.stdout.isatty() else raw)
    sys.stdout.flush()


def accel(parser: argparse.ArgumentParser) -> None:
    """Add --accel."""
    parser.add_argument(
        "--accel", choices=ACCELERATORS, default="auto", help="kvm, tcg, or auto (default): kvm where it works"
    )


def out(parser: argparse.ArgumentParser) -> None:
    """Add --out."""
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the run directory goes")


def machines(parser: argparse.ArgumentParser) -> None:
    """The options of every command that judges scenarios on many machines."""
    accel(parser)
    parser.add_argument("--jobs", type=jobs, default=0, metavar="N", help="machines at once, or auto (default)")
    parser.add_argument("--repeat", type=positive, default=1, metavar="N", help="how many rounds to run")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=0.0,
        metavar="S",
        help="the longest a scenario may take on a host without slow-down, in seconds; "
        "multiplied by the slow-down that is measured: 10 under TCG, more on a busy host",
    )
    out(parser)
    parser.add_argument("--json", action="store_true", help="the verdict document on standard output")


def since(parser: argparse.ArgumentParser) -> None:
    """Add --since."""
    parser.add_argument(
        "--since",
        type=moment,
        metavar="TIME",
        help="from when on: 36h, 7d, 2w, 2026-11-30 or '2026-11-30 18:00' (default 1d)",
    )


def moment(text: str) -> Callable[[float], float]:
    """A time, as a function of the present one; both in seconds since 1970."""
    if ago := _AGO.fullmatch(text):
        span_s = int(ago[1]) * _UNITS_S[ago[2]]
        return lambda now_s: max(0.0, now_s - span_s)
    with contextlib.suppress(ValueError, OverflowError, OSError):
        at_s = max(0.0, datetime.datetime.fromisoformat(text).timestamp())
        return lambda _: at_s
    raise argparse.ArgumentTypeError(f"{text!r} is not a time: 36h, 7d, 2w, 2026-11-30 or '2026-11-30 18:00'")


def run(word: str) -> Path:
    """A run as the user names it; see harness/run/runs.py. For argparse, whose own errors it does not raise."""
    from harness.host.workspace import cache_dir
    from harness.run import runs

    return runs.find(word, cache_dir())


def run_request(
    arguments: argparse.Namespace,
    scenarios: Sequence[Scenario],
    *,
    record: bool = False,
    maxfail: int = 0,
    sorts: bool = False,
    coverage: float | None = 0.0,
    changed_since: str = "",
) -> RunRequest:
    """What the options of kernel() and machines() ask for. record: machines are recorded, which QEMU can under TCG.

    maxfail: findings of so many different causes end the run; 0: none does.
    sorts: what is likely to fail may be run first.
    coverage: percent of the user's changed lines that must be executed; None: they are not watched.
    changed_since: what has changed in the source from that state is the user's, too.
    """
    from harness.run.pipeline import RunRequest
    from harness.variants import instruments

    return RunRequest(
        kernel=kernel_request(arguments),
        instrument=instruments.NOTIFIER_HOLD,
        scenarios=scenarios,
        accel="tcg" if record else arguments.accel,
        jobs=arguments.jobs,
        repeat=arguments.repeat,
        timeout_s=arguments.timeout,
        out=arguments.out,
        record=record,
        maxfail=maxfail,
        sorts=sorts,
        coverage=coverage,
        changed_since=changed_since,
    )


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100000")
    return int(text)


def below(limit: int, text: str) -> int:
    """A whole number from 0 up to but not including a limit."""
    if not text.isdecimal() or int(text) >= limit:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {limit - 1}")
    return int(text)


def percent(text: str) -> float:
    """A number from 0 to 100."""
    return between(text, 0, 100, "a number")


def jobs(text: str) -> int:
    """How many at once; 0 stands for auto."""
    return 0 if text == "auto" else positive(text)


def seconds(text: str) -> float:
    """A time in seconds, from a tenth to a day: in less, no guest does anything, and that is no fault of its kernel."""
    return between(text, 0.1, 86400, "a number of seconds")


def between(text: str, least: float, most: float, what: str) -> float:
    """A number within its limits; what: how the error calls it."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {least:g} to {most:g}")
    return value
