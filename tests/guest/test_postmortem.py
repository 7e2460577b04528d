# SPDX-License-Identifier: GPL-2.0-only
"""What the post-mortem reads in guests that hang, deadlock and panic: planted faults with known causes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.host import process
from harness.host.progress import QUIET
from harness.host.workspace import cache_dir
from harness.kernel import build as builds
from harness.kernel import lines
from harness.kernel.build import KernelBuild
from harness.kernel.lines import Spot
from harness.run import decoding, pipeline
from harness.run.pipeline import Clock, KernelRequest
from harness.variants import instruments
from tests.guest.command import PATCHES, harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]


def planted(fault: str, folder: Path, timeout: str = "1") -> tuple[str, str, Path]:
    """Evidence of the ending, text of the post-mortem and its folder, for memcg-eagain on a kernel with a fault."""
    patch = PATCHES / f"{fault}.patch"
    words: list[str | Path] = [
        "run",
        "--json",
        "--no-patch-coverage",
        "--patch",
        "mayfail",
        "--patch",
        patch,
        "--timeout",
        timeout,
        "--out",
        folder / "run",
    ]

    ended = harness(*words, "memcg-eagain")

    assert ended.status == 1, ended.stderr
    place = folder / "run" / "memcg-eagain"
    text = (place / "postmortem.txt").read_text()
    first = text.partition("\n\n")[0]
    [evidence] = [f["evidence"] for f in ended.findings() if f["oracle"] == "no-hang" and first in f["evidence"]]
    assert "cannot be read" not in text
    assert ended.document["scenarios"][0]["phases"]["postmortem"] > 0
    return evidence, text, place


def test_a_hang_is_explained_by_the_blocked_task_and_its_stack(tmp_path: Path):
    """It also shows the subscribers, the state of the cgroup, and the memory, for further analysis."""
    evidence, text, place = planted("hangs", tmp_path)

    assert " drive (D) waits for time to pass, in __mmu_notifier_invalidate_range_start+" in evidence
    assert "    try_to_unmap_one+" in evidence
    assert "invalidate_range_start nh_eagain_reclaim [notifier_hold]" in text
    assert "/work: memory 32768 KiB (max 32768 KiB)" in text
    assert "zone DMA32: free " in text
    assert (place / "memory.kdump").stat().st_size > 1 << 20


def test_a_deadlock_names_both_locks_both_holders_and_the_circle(tmp_path: Path):
    """A mutex one way and an rwsem the other, found from the waiters on the tasks' stacks."""
    evidence, _, place = planted("deadlocks", tmp_path)

    (waiters,) = json.loads((place / "record.json").read_text())["circles"]
    assert sorted(waiter.partition(" ")[2].partition(" ")[2] for waiter in waiters) == ["drive", "planted"]
    told = [line for line in evidence.splitlines() if not line.startswith(" ")]
    drive, holder, circle = [line for line in told if line.startswith(("pid ", "deadlock"))]
    assert " drive (D) waits for mutex planted_mutex, held by pid " in drive
    assert drive.endswith(" planted")
    assert " planted (D) waits for rw_semaphore planted_rwsem, held by pid " in holder
    assert holder.endswith(" drive")
    assert circle.startswith("deadlock: ")


def test_a_panic_is_looked_at_before_qemu_ends(tmp_path: Path):
    """With panic=-1 the guest resets at once; its last state is read all the same."""
    evidence, _, _ = planted("panics-in-reclaim", tmp_path)

    assert "    panic+" in evidence
    assert "    __mmu_notifier_invalidate_range_start+" in evidence


def test_cpus_that_are_stopped_with_interrupts_off_are_seen_and_made_to_speak(tmp_path: Path):
    """Nothing answers: the dump shows each CPU's stack, an NMI makes the kernel write the stacks beside its console."""
    evidence, _, place = planted("stops", tmp_path, "0.5")

    assert "    planted+" in evidence
    assert "    try_charge_memcg+" in evidence, "a function whose return a kretprobe waits for"
    said = (place / "nmi.log").read_text(errors="replace")
    assert {"NMI backtrace for cpu 0", "NMI backtrace for cpu 1"} <= set(re.findall("NMI backtrace for cpu .", said))
    assert "NMI" not in (place / "console.log").read_text(errors="replace")


def test_nobody_looks_at_a_guest_that_is_well(tmp_path: Path):
    assert harness("run", "--out", tmp_path / "run", "memcg-accept").status == 0

    assert list((tmp_path / "run").glob("*/postmortem.txt")) == []
    assert list((tmp_path / "run").glob("*/memory.kdump")) == []


def test_a_run_is_decoded_to_file_and_line_without_debug_info_in_its_kernel(tmp_path: Path):
    """Inlines too: the planted mutex is taken in mn_hlist_invalidate_range_start, which no symbol names."""
    decoded_deadlock(tmp_path)


@pytest.mark.nightly
def test_the_kernel_s_own_script_agrees_with_what_is_decoded(tmp_path: Path):
    """For every function of the reports, and for the module at every 512th byte."""
    decoded = decoded_deadlock(tmp_path)

    patches = ["mayfail", str(PATCHES / "deadlocks.patch")]
    request = KernelRequest(patches=patches)
    prepared = pipeline.prepare(request, instruments.NOTIFIER_HOLD, cache_dir(), QUIET, Clock())
    kernel, (module,) = prepared.kernel, prepared.modules
    reported = {spot for line in decoded.splitlines() for spot in decoding.spots_of(line)}
    inside = in_the_module(kernel)
    ours = lines.find(kernel, reported | inside, cache_dir(), module)
    assert inside & ours.keys()
    # Another module's functions may have the same names: the loaded module must equal the built module.
    (tmp_path / module.name).write_bytes(module.read_bytes() + b"!")
    assert not inside & lines.find(kernel, inside, cache_dir(), tmp_path / module.name).keys()
    script = by_the_kernels_script(kernel, ours, tmp_path)
    assert {spot: tuple(text.partition(" ")[0] for text in texts) for spot, texts in ours.items()} == script
    # A mere guess of the unwinder may lie in the gap after a function.
    assert {spot for spot in reported if spot.offset + 1 < spot.size} <= ours.keys()


def decoded_deadlock(folder: Path) -> str:
    """What `harness decode` makes of a run that hangs in a planted deadlock."""
    planted("deadlocks", folder)
    ended = harness("decode", folder / "run")
    assert ended.status == 0, ended.stderr
    decoded = Path(ended.stdout.strip()).read_text()
    assert re.search(r"^ +mm/mmu_notifier\.c:\d+ \(mn_hlist_invalidate_range_start\)$", decoded, re.MULTILINE)
    assert re.search(r"^ +mm/rmap\.c:\d+ \(try_to_unmap_one\)$", decoded, re.MULTILINE)
    return decoded


def in_the_module(kernel: KernelBuild) -> set[Spot]:
    """Places in every function of the module."""
    with builds.objects_of(kernel.recipe, cache_dir(), QUIET) as (_, objects, _):
        held = lines._where(objects, objects.folder / "modules" / "notifier_hold")
    ours = {name: size for name, [(path, size), *_] in held.items() if path.parent.name == "notifier_hold"}
    return {Spot(name, offset, 0) for name, size in ours.items() for offset in range(0, size, 512)}


def by_the_kernels_script(kernel: KernelBuild, spots: Iterable[Spot], folder: Path) -> dict[Spot, tuple[str, ...]]:
    """What the tree's scripts/decode_stacktrace.sh says of places in its objects, made with debug info."""
    spots = list(spots)
    with builds.objects_of(kernel.recipe, cache_dir(), QUIET) as (_, objects, _):
        held = lines._where(objects, objects.folder / "modules" / "notifier_hold")
        holders = {path for spot in spots for path, _ in held[spot.function]}
        made = [lines.compiled_again(path, objects, folder, cache_dir()) for path in holders]
        # Functions keep their code, and get new addresses; the script looks up the new addresses.
        linked = folder / "vmlinux"
        link: list[str | Path] = [
            "ld",
            "-e",
            "0",
            "--unresolved-symbols=ignore-all",
            "-z",
            "muldefs",
            # For head_64.S, which counts from the kernel's own address.
            "--noinhibit-exec",
            "-o",
            linked,
            *filter(None, made),
        ]
        done = process.run(link, timeout_s=60)
        assert linked.exists(), done.stderr
        asked = "".join(f" {spot.function}+{spot.offset:#x}/{spot.size or 1:#x}\n" for spot in spots)
        script = objects.tree / "scripts" / "decode_stacktrace.sh"
        done = process.run([script, linked, objects.tree], timeout_s=600, cwd=folder, stdin=asked.encode())
        tops = [f"{objects.tree}/", f"{objects.obj}/", f"{objects.folder}/modules/"]
    answers = [re.findall(r"[^\s(]+:\d+", line) for line in done.stdout.splitlines()]
    return {spot: tuple(below(place, tops) for place in answer) for spot, answer in zip(spots, answers, strict=True)}


def below(place: str, tops: Iterable[str]) -> str:
    """A path within the sources, or within the object tree."""
    place = os.path.normpath(place)
    return next((place.removeprefix(top) for top in tops if place.startswith(top)), place)
