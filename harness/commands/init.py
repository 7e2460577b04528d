# SPDX-License-Identifier: GPL-2.0-only
"""harness init: a scenario, a test and a workflow to begin with, in a tree of one's own."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from harness.model.errors import UsageError

FILES = {
    "scenarios/first.yaml": """\
# `harness run scenarios/first.yaml` runs it, and so does `pytest`. `harness show NAME` tells scenarios as prose,
# `harness list scenarios` has more of them to copy from.
summary: A device goes on holding its pages when reclaim comes for them.
cgroup: {max: 32M}
buffers:
  held: {kind: anon, size: 16M}
subscribers:
  device: {buffer: held, policy: eagain-mayfail}
steps:
  - {touch: held, seed: 1}
  - {hold: device, how: get}
  - {advise: held, advice: cold}
  - {pressure: memcg-charge, size: 40M}
  - {same: device, expect: {differ: 0}}
  - {user-check: held, seed: 1}
exercised: {callbacks: 1000, direct_reclaim: 1000}
""",
    "tests/test_kernel.py": '''\
"""Tests that drive a guest: a fresh one for each, from one boot. A test fails when the kernel complains, too."""


def test_the_guest_runs_the_kernel(guest):
    assert guest.run("uname", "-r").text


def test_a_scenario_of_the_harness(judged):
    judged("memcg-eagain")
''',
    ".github/workflows/kernel.yml": """\
# The variable KERNEL_HARNESS of the repository names the one of the harness, as owner/name.
name: kernel
on: [push, workflow_dispatch]
permissions:
  contents: read
jobs:
  kernel:
    runs-on: ubuntu-latest
    container:
      image: debian:bookworm
      options: --device /dev/kvm
    timeout-minutes: 60
    env:
      HARNESS_CACHE: /var/cache/kernel-harness
    steps:
      - run: apt-get update
      - run: apt-get install --yes --no-install-recommends ca-certificates git make zstd
      - uses: actions/checkout@v4
        with: {path: tree}
      - uses: actions/checkout@v4
        with: {path: harness, repository: "${{ vars.KERNEL_HARNESS }}"}
      - uses: actions/cache@v4
        with: {path: /var/cache/kernel-harness, key: "kernel-${{ github.run_id }}", restore-keys: kernel-}
      - run: make -C harness setup
      - run: ../harness/.venv/bin/pytest --kernel-accel kvm
        working-directory: tree
""",
}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="default: this folder")


def main(arguments: argparse.Namespace) -> int:
    """Write what is not there yet; a file that is there stays as it is, and then nothing is written at all."""
    from harness.host import workspace

    folder: Path = arguments.folder
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder", f"mkdir {shlex.quote(str(folder))}")
    if there := [name for name in FILES if (folder / name).exists() or (folder / name).is_symlink()]:
        raise UsageError(
            f"{folder}: already has {', '.join(there)}; nothing was written", "harness init another folder"
        )
    for name, text in FILES.items():
        with workspace.space(folder):
            workspace.write_atomic(folder / name, text)
        print(folder / name)
    print(f"try: harness run {shlex.quote(str(folder / 'scenarios/first.yaml'))}; pytest in {folder.absolute()}")
    return 0
