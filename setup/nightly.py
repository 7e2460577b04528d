# SPDX-License-Identifier: GPL-2.0-only
"""Runs what takes too long for `make check`; ends with one line: `nightly: 5 of 5 passed`.

The tests that are marked nightly; the matrix of plans/nightly.yaml; every mutant of
the patch and of stock kernels, and an hour of generated scenarios, on each supported
kernel; an hour of hostile input for each door; and an hour of two harnesses on one
cache, in which nothing may grow; and the way from a bare Debian to a verdict. The
arguments `suite`, `run` (the matrix), `mutants`, `explore`, `stock` (the mutants of
stock kernels), `fuzz`, `soak` and `bare` choose a part, and --source chooses one
kernel.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.kernel import versions

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("suite", "run", "mutants", "explore", "stock", "fuzz", "soak", "bare")
BARE = ("bookworm", "trixie")
PLAN = "plans/nightly.yaml"
EXPLORE_S = FUZZ_S = SOAK_S = 3600


def commands(
    kinds: Sequence[str], sources: Sequence[str], accel: str, out: Path, matrix: Sequence[str] = ()
) -> Iterator[list[str]]:
    """The command lines, in the order in which they are run. matrix: more words for the matrix."""
    if "suite" in kinds:
        yield [sys.executable, "-m", "pytest", "-m", "nightly", "tests/guest"]
    if "fuzz" in kinds:
        for fuzzer in sorted((ROOT / "tests/unit").glob("test_fuzz_*.py")):
            yield [sys.executable, "-m", "setup.fuzz", str(FUZZ_S), str(fuzzer.relative_to(ROOT))]
    if "soak" in kinds:
        yield [sys.executable, "-m", "setup.soak", str(SOAK_S)]
    if "bare" in kinds:
        for suite in BARE:
            yield ["sh", "setup/bare.sh", suite, str(out.parent / f"bare-{suite}")]
    harness = [sys.executable, "-m", "harness.cli"]
    if "run" in kinds:
        yield [*harness, "matrix", PLAN, "--accel", accel, *matrix, "--out", str(out / "matrix")]
    for source in sources:
        # One kernel, as a runner of the nightly workflow has it, needs no name in the folders' names.
        place = f"-{source.replace(':', '-')}" if len(sources) > 1 else ""
        where = ["--source", source, "--accel", accel]
        if "mutants" in kinds:
            yield [*harness, "mutants", *where, "--out", str(out / f"mutants{place}")]
        if "explore" in kinds:
            yield [*harness, "explore", *where, "--seconds", str(EXPLORE_S), "--out", str(out / f"explore{place}")]
        if "stock" in kinds:
            yield [*harness, "mutants", *where, "--contract", "stock", "--out", str(out / f"stock-mutants{place}")]


def main(words: Sequence[str]) -> int:
    """Run everything, whatever fails; 0 when everything passed, else 1."""
    parser = argparse.ArgumentParser(prog="make nightly", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"some of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--source", choices=versions.sources(), help="one kernel (default: each)")
    parser.add_argument("--accel", default="auto")
    parser.add_argument("--shard", metavar="I/N", help="of the matrix, the Ith of N parts")
    parser.add_argument("--since", metavar="DIR", help="the matrix directory of another night")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / time.strftime("nightly-%Y%m%d-%H%M%S"))
    asked = parser.parse_args(words)
    if unknown := set(asked.kinds) - set(KINDS):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(KINDS)}")
    sources = [asked.source] if asked.source else versions.sources()
    matrix = ["--source", asked.source] if asked.source else []
    for option, value in (("--shard", asked.shard), ("--since", asked.since)):
        matrix += [option, value] if value else []
    ended = []
    for command in commands(asked.kinds or KINDS, sources, asked.accel, asked.out, matrix):
        began = time.monotonic()
        name = " ".join(command[2 if command[0] == sys.executable else 1 :])
        print(f"nightly: {name}", flush=True)
        try:
            status = subprocess.run(command, cwd=ROOT, check=False).returncode
        except KeyboardInterrupt:
            print("nightly: interrupted", flush=True)
            return 130
        ended.append(status)
        print(f"nightly: {name} ended with {status} after {time.monotonic() - began:.0f} s", flush=True)
    print(f"nightly: {ended.count(0)} of {len(ended)} passed; {asked.out}", flush=True)
    return int(any(ended))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
