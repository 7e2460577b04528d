# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.guest.qemu import Files, Tape, command, kernel_parameters
from harness.model.shape import Board, MachineShape

FILES = Files(Path("/k/vmlinux"), Path("/i.cpio"), console=10, terminal=11, agent=12, ssh=13, monitor=14, swap=15)
QEMU = ["/usr/bin/qemu-system-x86_64"]


def values(argv: list[str], option: str) -> list[str]:
    """The value after each occurrence of an option."""
    return [value for name, value in itertools.pairwise(argv) if name == option]


@pytest.mark.parametrize("board", list(Board))
@pytest.mark.parametrize("accel", ["tcg", "kvm"])
def test_a_guest_has_no_way_out(board, accel):
    """Nothing is there by default, and no network device is asked for."""
    argv = command(QEMU, MachineShape(board=board), accel, FILES)

    assert {"-nodefaults", "-no-user-config"} <= set(argv)
    assert not values(argv, "-netdev")
    assert not values(argv, "-nic")
    assert not any("net" in device for device in values(argv, "-device"))


def test_every_descriptor_that_is_named_is_inherited():
    argv = " ".join(command(QEMU, MachineShape(), "tcg", FILES))

    assert FILES.descriptors() == (10, 11, 12, 13, 14, 15)
    assert all(f"fd={number}" in argv for number in FILES.descriptors())


@pytest.mark.parametrize("board", list(Board))
def test_a_guest_can_tell_of_its_end_without_its_console(board):
    """It uses a watchdog and a PCI device, which a microvm does not have; QEMU decides nothing by itself."""
    argv = command(QEMU, MachineShape(board=board), "tcg", FILES)

    assert "ib700" in values(argv, "-device")
    assert ("pvpanic-pci" in values(argv, "-device")) is (board is not Board.MICROVM)
    assert values(argv, "-action") == ["watchdog=none", *([] if board is Board.MICROVM else ["panic=none"])]


def test_a_shape_without_swap_has_no_disk():
    files = Files(Path("/k"), Path("/i"), console=10, terminal=11, agent=12, ssh=13, monitor=14)
    argv = command(QEMU, MachineShape(swap_mib=0), "tcg", files)

    assert not values(argv, "-blockdev")
    assert not any("blk" in device for device in values(argv, "-device"))


def test_the_accelerator_brings_its_processor():
    tcg = command(QEMU, MachineShape(), "tcg", FILES)
    kvm = command(QEMU, MachineShape(), "kvm", FILES)

    assert (values(tcg, "-accel"), values(tcg, "-cpu")) == (["tcg,thread=multi"], ["max"])
    assert (values(kvm, "-accel"), values(kvm, "-cpu")) == (["kvm"], ["host"])


def test_the_shapes_own_parameters_win():
    """The kernel uses the last of two values; a shape can turn on what the harness turned off."""
    parameters = kernel_parameters(MachineShape().with_cmdline("transparent_hugepage=always"))

    assert parameters[-1] == "transparent_hugepage=always"
    assert "panic=-1" in parameters


def test_the_clocks_rate_is_told_to_tcg_only():
    """Under KVM the guest has a clock of the hypervisor's."""
    files = Files(Path("/k"), Path("/i"), console=1, terminal=2, agent=3, ssh=4, monitor=5, tsc_khz=2600000)

    assert "tsc_early_khz=2600000" in values(command(QEMU, MachineShape(), "tcg", files), "-append")[0]
    assert "tsc_early_khz" not in values(command(QEMU, MachineShape(), "kvm", files), "-append")[0]


def test_the_same_question_has_the_same_answer():
    assert command(QEMU, MachineShape(), "tcg", FILES) == command(QEMU, MachineShape(), "tcg", FILES)


def options(value: str) -> dict[str, str]:
    """What QEMU makes of NAME=VALUE,…: two commas are one of the value (util/qemu-option.c)."""
    fields = re.findall(r"(?:[^,]|,,)+", value, re.DOTALL)
    return dict(field.replace(",,", ",").partition("=")[::2] for field in fields)


PATHS = st.text(st.characters(blacklist_characters="\0/"), min_size=1, max_size=12).map(lambda name: Path("/o", name))


@given(path=PATHS)
@example(path=Path("/o/a,b,,c,"))
@example(path=Path("/o/,share=on"))
@example(path=Path("/o/ :=\\'\"$\udcff"))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_whatever_a_folder_is_called_qemu_finds_its_files(path):
    """Where commas separate values those of a path are doubled; elsewhere a path is taken as it is."""
    files = dataclasses.replace(FILES, kernel=path, initrd=path, memory=path, tape=Tape(path, path))

    argv = command(QEMU, MachineShape(cpus=1), "tcg", files)

    assert (values(argv, "-kernel"), values(argv, "-initrd")) == ([str(path)], [str(path)])
    assert options(values(argv, "-icount")[0])["rrfile"] == str(path)
    assert options(values(argv, "-object")[0])["mem-path"] == str(path)
    (agent,) = (value for value in values(argv, "-chardev") if "id=agent" in value)
    assert options(agent)["logfile"] == str(path)


def test_an_error_of_the_host_s_disk_stops_the_guest():
    """Its kernel would report the error, and be blamed. A tape is replayed with the command line of its recording."""
    (disk,) = (value for value in values(command(QEMU, MachineShape(), "tcg", FILES), "-device") if "blk" in value)
    taped = dataclasses.replace(FILES, tape=Tape(Path("/t"), Path("/a")))

    assert disk.endswith(",rerror=stop,werror=stop")
    assert not any("rerror" in word for word in command(QEMU, MachineShape(cpus=1), "tcg", taped))


def test_a_tape_takes_one_thread_its_own_clock_and_a_recorded_disk():
    files = dataclasses.replace(FILES, tape=Tape(Path("/t,ape"), Path("/answers"), replay=True), tsc_khz=2600000)
    argv = command(QEMU, MachineShape(cpus=1), "tcg", files)

    assert values(argv, "-accel") == ["tcg,thread=single"]
    assert values(argv, "-icount") == ["shift=5,rr=replay,rrfile=/t,,ape"]
    assert "tsc_early_khz=1000000" in values(argv, "-append")[0]
    assert "driver=blkreplay,node-name=swap,image=image" in values(argv, "-blockdev")
    assert values(argv, "-serial") == ["chardev:console", "none", "none", "none", "chardev:agent"]
    assert not any("isa-serial" in device for device in values(argv, "-device"))
