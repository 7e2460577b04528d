# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from harness.host import accelerator, confinement
from harness.host.accelerator import Accelerator, Choice, decide, probe
from harness.model.errors import LaunchError, UsageError

BROKEN = Accelerator("kvm", False, "/dev/kvm opens, but a 64-bit guest did not finish in 3 s", 3.0)
KVM = Accelerator("kvm", True, "a 64-bit guest ran to its end in 0.1 s", 0.1)
NESTED = Accelerator("kvm", True, "a 64-bit guest ran to its end in 1.6 s", 1.6)
TCG = Accelerator("tcg", True, "a 64-bit guest ran to its end in 0.2 s", 0.2)
NO_TCG = Accelerator("tcg", False, "qemu-system-x86_64: not found in PATH", 0.0)


@pytest.mark.parametrize(
    ("requested", "found", "choice"),
    [
        ("auto", (KVM, TCG), Choice("kvm", KVM.reason, 1.0)),
        ("auto", (BROKEN, TCG), Choice("tcg", BROKEN.reason, 10.0)),
        ("tcg", (KVM, TCG), Choice("tcg", f"asked for; {TCG.reason}", 10.0)),
        ("auto", (NESTED, TCG), Choice("kvm", NESTED.reason, 8.0)),
        ("kvm", (KVM, TCG), Choice("kvm", f"asked for; {KVM.reason}", 1.0)),
    ],
)
def test_what_works_is_used_and_the_reason_is_told(requested, found, choice):
    assert decide(requested, {item.name: item for item in found}) == choice


@pytest.mark.parametrize(
    ("requested", "found"), [("kvm", (BROKEN, TCG)), ("auto", (BROKEN, NO_TCG)), ("tcg", (KVM, NO_TCG))]
)
def test_what_was_asked_for_is_never_swapped(requested, found):
    with pytest.raises(LaunchError, match=r"3 s|not found") as caught:
        decide(requested, {item.name: item for item in found})
    assert caught.value.exit_code == 128


def test_an_unknown_accelerator_is_bad_input():
    with pytest.raises(UsageError, match="--accel hvf"):
        decide("hvf", {})


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A program in QEMU's place that behaves as its text says. It is run as we are: nobody could not reach it."""
    calls = tmp_path / "calls"
    monkeypatch.setattr(confinement, "account", lambda: None)
    monkeypatch.setattr(confinement, "has_filter", lambda _: False)

    def install(body: str) -> Path:
        path = tmp_path / "qemu-system-x86_64"
        path.write_text(
            f"#!{sys.executable}\nimport sys, time\nopen({str(calls)!r}, 'a').write('x')\n{body}\n", "utf-8"
        )
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return calls

    return install


RUNS = "print('64-bit code ran'); sys.exit(33)"
RUNS_ON_TCG = f"if 'tcg' in sys.argv:\n    {RUNS}\n"


def test_kvm_that_hangs_is_told_and_remembered(qemu, tmp_path, monkeypatch):
    """The reason names the limit, QEMU's own words and the time that TCG needed; the next check starts no QEMU."""
    monkeypatch.setattr(accelerator, "_KVM_LIMIT_S", 0.5)
    monkeypatch.setattr(accelerator, "_KVM_FACTOR", 0.0)
    calls = qemu(
        RUNS_ON_TCG + "sys.stderr.write('KVM internal error. Suberror: 1\\n'); sys.stderr.flush(); time.sleep(99)"
    )
    device = tmp_path / "kvm"
    device.touch()

    found = probe(tmp_path / "cache", device=device)

    assert found["tcg"].usable
    assert not found["kvm"].usable
    assert "opens, but a 64-bit guest did not finish" in found["kvm"].reason
    assert "KVM internal error" in found["kvm"].reason
    assert "TCG needed" in found["kvm"].reason
    assert probe(tmp_path / "cache", device=device) == found
    assert calls.read_text("utf-8") == "xx"


def test_kvm_counts_only_with_the_guests_own_words(qemu, tmp_path):
    """An exit status of 33 without the line, or the line with another status, is no proof."""
    qemu(RUNS_ON_TCG + "sys.exit(33)")
    device = tmp_path / "kvm"
    device.touch()
    assert not probe(tmp_path / "a", device=device)["kvm"].usable

    qemu(RUNS_ON_TCG + "print('64-bit code ran'); sys.exit(0)")
    assert not probe(tmp_path / "b", device=device)["kvm"].usable

    qemu(RUNS)
    assert probe(tmp_path / "c", device=device)["kvm"].usable


def test_a_device_that_is_absent_or_closed_is_not_tried(qemu, tmp_path):
    calls = qemu(RUNS)

    found = probe(tmp_path / "cache", device=tmp_path / "none")

    assert found["kvm"].reason == f"{tmp_path / 'none'} does not exist"
    assert calls.read_text("utf-8") == "x"


def test_a_change_of_the_device_or_of_qemu_is_noticed(qemu, tmp_path):
    calls = qemu(RUNS)
    probe(tmp_path / "cache", device=tmp_path / "none")
    (tmp_path / "none").touch()
    assert probe(tmp_path / "cache", device=tmp_path / "none")["kvm"].usable
    before = len(calls.read_text("utf-8"))
    qemu(RUNS + "  # newer")

    probe(tmp_path / "cache", device=tmp_path / "none")

    assert len(calls.read_text("utf-8")) == before + 2


@pytest.mark.parametrize("damage", ["", "[]", '{"key": 1}', "\x00"])
def test_a_damaged_record_counts_as_none(qemu, tmp_path, damage):
    qemu(RUNS)
    first = probe(tmp_path / "cache", device=tmp_path / "none")
    (tmp_path / "cache" / "accelerators.json").write_text(damage, "utf-8")

    again = probe(tmp_path / "cache", device=tmp_path / "none")

    assert {name: item.usable for name, item in again.items()} == {name: item.usable for name, item in first.items()}
    assert json.loads((tmp_path / "cache" / "accelerators.json").read_text("utf-8").partition("\n")[2])["accelerators"]


def test_no_qemu_is_a_reason_and_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    found = probe(tmp_path / "cache")

    assert all(not item.usable and "not found in PATH" in item.reason for item in found.values())
    assert not (tmp_path / "cache" / "accelerators.json").exists()
