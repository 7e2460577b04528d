# SPDX-License-Identifier: GPL-2.0-only
"""What a QEMU may do, should its guest break out of it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness.guest.channels import Channels
from harness.host import confinement, process
from harness.host.emulator import Emulator
from harness.model.errors import UsageError
from harness.run import debugger

AS_ROOT = pytest.mark.skipif(confinement.account() is None, reason="only root can be another user")


@pytest.fixture
def fresh_account():
    """The account is asked for anew, now and after the test."""
    confinement.account.cache_clear()
    yield confinement.account
    confinement.account.cache_clear()


def confined(script: str, *descriptors: int) -> subprocess.CompletedProcess[str]:
    """Run a script with the rights that QEMU has."""
    return subprocess.run(
        confinement.tied(["sh", "-c", script]), pass_fds=descriptors, capture_output=True, text=True, check=False
    )


@AS_ROOT
def test_root_s_qemu_is_nobody_without_groups_or_a_way_to_new_rights() -> None:
    user = confinement.account()
    assert user is not None

    said = confined("id -u; id -g; grep -E '^(Groups|CapPrm|CapEff|NoNewPrivs)' /proc/self/status").stdout.split()

    groups = [str(number) for number in user.groups()]
    assert said[:2] == [str(user.uid), str(user.gid)]
    assert said[2:] == ["Groups:", *groups, "CapPrm:", "0" * 16, "CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    assert user.uid != 0


def test_only_root_becomes_another_user(fresh_account, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert fresh_account() is None
    assert [word for word in confinement.tied(["true"]) if "uid" in word] == []


def test_root_of_a_namespace_without_other_users_stays_what_it_is(fresh_account, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(confinement, "_mapped", lambda _, number: number == 0)

    assert fresh_account() is None


@AS_ROOT
@pytest.mark.parametrize("capability", ["chown", "setgid", "setuid"])
def test_root_of_a_container_that_may_not_change_users_stays_what_it_is(capability) -> None:
    said = "from harness.host import confinement; print(confinement.account())"
    dropped = f"--bounding-set=-{capability}"
    done = subprocess.run(
        ["setpriv", dropped, f"--inh-caps=-{capability}", sys.executable, "-c", said],
        cwd=Path(process.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "None\n"


def test_a_namespace_says_which_users_it_has(tmp_path, monkeypatch) -> None:
    (tmp_path / "uid_map").write_text("         0       1000          1\n         1     100000      65535\n")
    monkeypatch.setattr(confinement, "Path", lambda name: tmp_path / Path(name).name)

    assert [confinement._mapped("uid_map", number) for number in (0, 65534, 65535, 65536)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("mode", "group", "groups", "usable"),
    [(0o660, 108, [108], True), (0o666, 0, [], True), (0o600, 0, [], False), (0o660, 0, [], False)],
)
def test_the_group_of_the_kvm_device_is_kept(mode, group, groups, usable, tmp_path, monkeypatch) -> None:
    """Unless it is root's, who may more than use the device."""
    status = os.stat_result((mode | stat.S_IFCHR, 0, 0, 1, 0, group, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda _: status)
    user = confinement.Account("nobody", 65534, 65534)

    assert user.groups(tmp_path) == groups
    assert user.may_use(tmp_path) is usable


def test_a_machine_without_kvm_brings_no_group(tmp_path) -> None:
    assert confinement.Account("nobody", 65534, 65534).groups(tmp_path / "kvm") == []


@AS_ROOT
@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_qemu_reads_what_it_is_lent_and_nothing_else(mode, tmp_path) -> None:
    """Where it is, and whose it is, does not matter; QEMU cannot write to it, and sees no other file of ours."""
    tmp_path.chmod(0o700)
    lent, other = tmp_path / "vmlinux", tmp_path / "other"
    lent.write_text("kernel")
    other.write_text("secret")
    lent.chmod(mode)
    with confinement.lent(lent) as descriptor:
        name = confinement.name(descriptor)

        assert confined(f"cat {name}", descriptor).stdout == "kernel"
        confined(f"echo forged >{name}", descriptor)
        assert confined(f"cat {other} {lent}", descriptor).stdout == ""
    assert lent.read_text() == "kernel"
    assert (lent.stat().st_mode & 0o777, lent.stat().st_uid) == (mode, 0)


@AS_ROOT
def test_what_qemu_is_given_is_its_own_and_no_other_user_s(tmp_path) -> None:
    user = confinement.account()
    assert user is not None
    path = tmp_path / "memory"
    with confinement.given(path, 4096) as descriptor:
        assert confined(f"printf x >>{confinement.name(descriptor)}", descriptor).returncode == 0
    seen = path.stat()

    assert seen.st_size == 4097
    assert (seen.st_mode & 0o777, seen.st_uid, seen.st_gid) == (0o600, user.uid, user.gid)


def test_a_link_is_not_given(tmp_path) -> None:
    (tmp_path / "memory").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="memory"), confinement.given(tmp_path / "memory", 4096):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("body", "filtered"), [("exit 0", True), ("echo 'no option group' >&2; exit 1", False)])
def test_a_qemu_without_a_filter_is_not_asked_to_filter(body, filtered, tmp_path, monkeypatch) -> None:
    """It is asked once, and once more when it was replaced."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\necho asked >>{tmp_path}/calls\n{body}\n")
    program.chmod(0o755)
    for _ in range(2):
        confinement.has_filter.cache_clear()

        monkeypatch.setattr(confinement, "account", lambda: None)
        with confinement.reached(Emulator(program, (str(program),))) as (words, _):
            assert words == [str(program), *(["-sandbox", confinement.FILTER] if filtered else [])]
    assert (tmp_path / "calls").read_text() == "asked\n"
    confinement.has_filter.cache_clear()


@AS_ROOT
def test_a_folder_of_packages_that_only_root_may_enter_is_handed_over(tmp_path: Path, monkeypatch) -> None:
    """A program in such a folder cannot be."""
    monkeypatch.setattr(confinement, "has_filter", lambda _: False)
    tmp_path.chmod(0o700)
    root = tmp_path / "packages"
    program = root / "usr/bin/qemu"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho $1\n")
    program.chmod(0o755)

    with confinement.reached(Emulator(program, (str(program), f"{root}/x"), root=root)) as (words, lent):
        done = subprocess.run(confinement.tied(words), pass_fds=lent, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == (f"/proc/self/fd/{lent[0]}/x\n", "")

    # Folders that may be entered, but not listed, are a way; pytest's own above them are not.
    monkeypatch.setattr(Path, "parents", property(lambda path: [program.parent] if path == program else []))
    program.parent.chmod(0o711)
    with confinement.reached(Emulator(program, (str(program),))) as (_, lent):
        assert lent == ()
    monkeypatch.undo()

    root.chmod(0o700)
    monkeypatch.setattr(confinement, "has_filter", lambda _: False)
    for unreachable in (Emulator(program, (str(program),)), Emulator(program, (str(program),), root=root)):
        with pytest.raises(UsageError, match="QEMU runs as nobody"), confinement.reached(unreachable):
            pass


def test_the_channels_of_a_machine_can_be_reached_by_nobody_else() -> None:
    """Pairs have no name; the name of the one that listens is gone, and its folder was ours alone."""
    before = set(Path("/tmp").glob("harness-*"))
    channels = Channels()
    try:
        names = [pair.theirs.getsockname() for pair in (channels.console, channels.terminal, channels.agent)]
        listens = Path(channels.ssh.theirs.getsockname())

        assert names == ["", "", ""]
        assert not listens.parent.exists()
        channels.ssh.dial().close()
    finally:
        channels.close()
    assert set(Path("/tmp").glob("harness-*")) <= before


def test_the_folders_of_sockets_are_private() -> None:
    with debugger.desk() as desk:
        modes = {path: path.stat().st_mode & 0o777 for path in (desk.folder, desk.socket.parent, desk.folder / "asked")}
        user = confinement.account()

        assert list(modes.values()) == [0o700, 0o700, 0o600]
        assert desk.socket.parent.stat().st_uid == (user.uid if user else os.getuid())
        assert confined(f"touch {desk.socket}").returncode == 0
        if user:
            assert confined(f"touch {desk.folder}/moves.gdb").returncode, "gdb reads it, and runs what it says"


def test_a_confined_child_dies_with_the_harness() -> None:
    """A change of the user disarms the signal that ends it, so it is armed after that."""
    script = """
import os, signal, sys
from harness.host import confinement, process
from harness.host.emulator import Emulator
from harness.model.errors import UsageError
process.spawn(["sleep", "1000"], stdout=sys.stdout.fileno(), wrap=confinement.tied)
os.write(2, b"up")
signal.pause()
"""
    root = Path(process.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root)},
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stderr.read(2) == b"up"
        child.kill()

        assert child.stdout.read() == b""
