# SPDX-License-Identifier: GPL-2.0-only
"""harness run: the main job."""

from __future__ import annotations

import argparse

from harness.commands import _options
from harness.model.errors import UsageError


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help="a name, a YAML file, or all (default: the default set)"
    )
    _options.kernel(parser)
    _options.machines(parser)
    stop = parser.add_mutually_exclusive_group()
    stop.add_argument(
        "--maxfail", type=_options.positive, default=0, metavar="N", help="stop after findings of N different causes"
    )
    stop.add_argument("-x", dest="maxfail", action="store_const", const=1, help="stop after the first finding")
    parser.add_argument(
        "--changed-since",
        default="",
        metavar="SOURCE",
        help="an earlier state of the source, as for --source: lines that changed from there are yours, too",
    )
    lines = parser.add_mutually_exclusive_group()
    lines.add_argument(
        "--require-patch-coverage",
        type=_options.percent,
        default=0.0,
        metavar="PERCENT",
        help="inconclusive when fewer of the lines that your patches change were executed",
    )
    lines.add_argument(
        "--no-patch-coverage",
        dest="require_patch_coverage",
        action="store_const",
        const=None,
        help="set no probes on the lines that your patches change",
    )
    parser.add_argument("--record", action="store_true", help="record each machine, for harness replay (TCG, one CPU)")


def main(arguments: argparse.Namespace) -> int:
    """Build, boot, press, judge; the exit code is the verdict's."""
    from harness.host.workspace import cache_dir
    from harness.kernel import patches
    from harness.report import lines
    from harness.report.document import render
    from harness.run import pipeline
    from harness.terminal import Terminal
    from harness.variants import catalogue

    if arguments.record and arguments.accel == "kvm":
        raise UsageError("--record and --accel kvm: QEMU records no guest on KVM", "leave out --accel, or --record")
    having = bool(arguments.changed_since) or patches.own(arguments.patch or ())
    if arguments.require_patch_coverage and not having:
        asked = f"--require-patch-coverage {arguments.require_patch_coverage:g}"
        raise UsageError(
            f"{asked}: no patch of yours is given, so none of its lines can run", "--patch FILE, or --changed-since"
        )
    request = _options.run_request(
        arguments,
        catalogue.choose(arguments.scenarios),
        record=arguments.record,
        maxfail=arguments.maxfail,
        coverage=arguments.require_patch_coverage,
        changed_since=arguments.changed_since,
    )
    with Terminal() as terminal:
        told = lines.Told(terminal.colour)
        verdict, folder = pipeline.run(
            request, cache_dir(), terminal, lambda result: terminal.lines(told.result(result))
        )
    terminal.lines(lines.summary(verdict, str(folder), terminal.colour))
    if arguments.json:
        print(render(verdict), end="")
    return verdict.outcome.exit_code
