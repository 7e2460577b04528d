# SPDX-License-Identifier: GPL-2.0-only
"""The commit that broke it: `harness bisect` against `git bisect run` with make, QEMU and grep, on one history.

Fourteen commits on Debian's 6.12, made as the tests make theirs: one does not
build, two change a header that much reads, and the culprit warns when a memory
cgroup is made, the first of them at boot. Each side begins where a person does
who has just seen that: with the bad end built. The script boots the kernel
once, without a root file system, which is the least that shows the warning; it
proves nothing about a failure that comes now and then.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figure import Faster, Row, Side
from harness.host import process
from harness.model.errors import MachineError
from tests.guest import history
from tests.guest.history import Edit, History

ROWS = (
    Row("which commit: harness bisect against git bisect run, make and grep", "bisect_s", Faster(2), "plain_s"),
    Row("the same, with ccache in the script", "bisect_s", None, "ccache_s"),
)
# A round builds the bad end three times before anything is measured.
ROUNDS = 1

_HEADER = "include/linux/mmu_notifier.h"
_FADVISE = "mm/fadvise.c"
_CULPRIT = "mm/memcontrol: check each group"
_EDITS = (
    Edit("mm/msync: an error is a long", "mm/msync.c", "\tint error = -EINVAL;", "\tlong error = -EINVAL;"),
    Edit("mm/mincore: count in an int", "mm/mincore.c", "\tunsigned char present = 0;", "\tunsigned int present = 0;"),
    Edit("mm/page_io: reword", "mm/page_io.c", '"Read-error on swap-device\\n"', '"Read error on a swap device\\n"'),
    Edit(
        "mmu_notifier: say who", _HEADER, "#ifdef CONFIG_MMU_NOTIFIER", "/* Subscribers. */\n#ifdef CONFIG_MMU_NOTIFIER"
    ),
    Edit("mm/swapfile: reword", "mm/swapfile.c", '"Unable to find swap-space signature\\n"', '"No signature\\n"'),
    Edit("mm/mprotect: drop a const", "mm/mprotect.c", "\tconst bool rier = ", "\tbool rier = "),
    Edit("mm/fadvise: name the last byte", _FADVISE, "\tloff_t endbyte;", "\tloff_t last;"),
    Edit("mm/fadvise: call it endbyte again", _FADVISE, "\tloff_t last;", "\tloff_t endbyte;"),
    Edit("mm/mremap: drop an initial value", "mm/mremap.c", "\tunsigned long ret = -EINVAL;", "\tlong ret = -EINVAL;"),
    Edit(
        _CULPRIT,
        "mm/memcontrol.c",
        "\told_memcg = set_active_memcg(parent);\n\tmemcg = mem_cgroup_alloc(parent);",
        "\tWARN_ON(1);\n\told_memcg = set_active_memcg(parent);\n\tmemcg = mem_cgroup_alloc(parent);",
    ),
    Edit("mm/madvise: say which descriptor", "mm/madvise.c", "\t\treturn -EBADF;", "\t\treturn -EBADF; /* mm's */"),
    Edit("mmu_notifier: say it shorter", _HEADER, "/* Subscribers. */\n", ""),
    Edit("mm/dmapool: reword", "mm/dmapool.c", '"%s %s busy\\n"', '"%s %s is busy\\n"'),
    Edit("mm/fadvise: reword", _FADVISE, "no bad return value, but ignore advice", "advice is ignored"),
)
_SCENARIO = "memcg-eagain"
_LIMIT_S = 3 * 3600

# What a person writes: 125 where it does not build or boot, 1 where the kernel warns.
_SCRIPT = """\
#!/bin/sh
make -s -j"$(nproc)" O="$OBJECTS" CC="$CC" olddefconfig vmlinux >"$OBJECTS.log" 2>&1 || exit 125
timeout 120 qemu-system-x86_64 -machine accel="$ACCEL" -cpu max -smp 2 -m 512 -display none -no-reboot \\
    -kernel "$OBJECTS/vmlinux" -append "console=ttyS0 panic=-1" -serial file:"$OBJECTS.console"
grep -q "Linux version" "$OBJECTS.console" || exit 125
! grep -q "WARNING: .* at mm/" "$OBJECTS.console"
"""


@contextmanager
def measuring(bench: Bench) -> Iterator[Sequence[Side]]:
    """Each side with caches and objects of its own; about 4 minutes each until the bad end is built."""
    made = history.make(bench.folder() / "linux", _EDITS)
    # A script needs a checkout of all files; ours reads objects.
    history.git(made.folder, "sparse-checkout", "disable")
    bench.progress.say("building the bad end for harness bisect")
    cache = bench.folder()
    built = bench.harness("build", "--source", f"git:{made.folder}@{made.bad}", "--patch", "none", cache=cache)
    if built.status:
        raise MachineError(f"harness build: status {built.status}: {built.stderr.strip()[-300:]}")
    config = next((cache / "kernels").glob("*/config"))

    def ours() -> Mapping[str, float]:
        for kept in ("bisect", "runs"):
            shutil.rmtree(cache / kept, ignore_errors=True)
        out = bench.folder()
        cost = bench.harness(
            "bisect", "--tree", str(made.folder), "--good", made.good, "--bad", made.bad, "--patch", "none",
            "--accel", bench.accel, "--out", str(out), _SCENARIO, "--", "mm/", "include/",
            cache=cache,
        )  # fmt: skip
        _check("harness bisect", made, cost.stderr)
        return cost.quantities("bisect")

    yield [
        ours,
        lambda: _git(bench, made, config, "plain", "gcc"),
        lambda: _git(bench, made, config, "ccache", "ccache gcc"),
    ]


def _git(bench: Bench, made: History, config: Path, name: str, compiler: str) -> Mapping[str, float]:
    """`git bisect run`, in the checkout."""
    place = bench.folder()
    objects, script = place / "objects", place / "step.sh"
    objects.mkdir()
    shutil.copy2(config, objects / ".config")
    script.write_text(_SCRIPT, encoding="utf-8")
    env = process.environment(OBJECTS=str(objects), CC=compiler, ACCEL=bench.accel, CCACHE_DIR=str(place / "ccache"))
    history.git(made.folder, "checkout", "--quiet", "--force", made.bad)
    bench.progress.say(f"building the bad end for git bisect run ({name})")
    first = process.run(["sh", script], timeout_s=_LIMIT_S, cwd=made.folder, env=env)
    if first.status != 1:
        raise MachineError(f"{script}: the bad end ended with {first.status}", f"{objects}.log has what make said")
    history.git(made.folder, "bisect", "start", made.bad, made.good)
    try:
        began = time.monotonic()
        said = history.git(made.folder, "bisect", "run", "sh", str(script), env=os.environ | env)
        spent_s = time.monotonic() - began
    finally:
        history.git(made.folder, "bisect", "reset")
    _check("git bisect run", made, said)
    shutil.rmtree(objects)
    return {f"{name}_s": spent_s}


def _check(who: str, made: History, said: str) -> None:
    if f"{made.commits[_CULPRIT]} is the first bad" not in said.replace(f" {_CULPRIT}", ""):
        raise MachineError(f"{who} named another commit: {said.strip()[-300:]}")
