# SPDX-License-Identifier: GPL-2.0-only
"""Set-up from nothing, on a system whose package manager and Python are scripts that record their arguments."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("need", "tool", "probe", "debian", "fedora", "arch", "opensuse", "alpine")

# The only real programs that the scripts find: those that every system has, and flock.
REAL = (
    *("awk", "cat", "chmod", "cp", "cut", "date", "dirname", "env", "find", "flock", "grep", "head", "ls", "mkdir"),
    *("mv", "rm", "sed", "sh", "sha256sum", "sort", "tail", "tr"),
)

DPKG_QUERY = """
for name in "$@"; do
    case $name in
    -*|*Package*) ;;
    *) grep -qx "$name" "$FAKE/missing" || echo "$name installed" ;;
    esac
done
"""
APT_CACHE = """
shift
for name in "$@"; do
    grep -qx "$name" "$FAKE/unknown" || printf '%s:\\n  Installed: (none)\\n  Candidate: 1.0\\n' "$name"
done
"""
APT_GET = """
echo "apt-get $*" >>"$FAKE/asked"
[ ! -e "$FAKE/broken" ] || { echo 'E: Unable to fetch some archives'; exit 100; }
case $* in
*install*) echo '0 upgraded, 1 newly installed, 0 to remove'; echo 'Setting up it'; : >"$FAKE/missing" ;;
esac
"""
PYTHON = """
echo "python $*" >>"$FAKE/asked"
case $* in
*' venv '*) mkdir -p .venv/bin; : >.venv/pyvenv.cfg; cp "$FAKE/bin/python3" .venv/bin/python ;;
*--editable*) : >.venv/bin/harness; chmod +x .venv/bin/harness ;;
*--version*) echo 'Python 3.11.2' ;;
esac
"""


class Fresh:
    """A checkout on a system that has nothing."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.fake = folder / "fake"
        (self.fake / "bin").mkdir(parents=True)
        shutil.copytree(ROOT / "setup", self.checkout / "setup", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
        for name in ("pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, self.checkout)
        for name in REAL:
            (self.fake / "bin" / name).symlink_to(shutil.which(name) or f"/missing/{name}")
        self.program("id", "echo 0")
        self.program("dpkg-query", DPKG_QUERY)
        self.program("apt-cache", APT_CACHE)
        self.program("apt-get", APT_GET)
        self.program("python3", PYTHON)
        for name in ("missing", "unknown", "asked"):
            (self.fake / name).touch()
        self.system("debian")

    def program(self, name: str, body: str) -> None:
        """Put a script in PATH."""
        path = self.fake / "bin" / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def system(self, name: str, like: str = "") -> None:
        """Become another distribution."""
        (self.fake / "os-release").write_text(f'ID={name}\nID_LIKE="{like}"\n')

    def lack(self, *names: str) -> None:
        """Debian packages that are not installed."""
        (self.fake / "missing").write_text("".join(f"{name}\n" for name in names))

    def asked(self) -> list[str]:
        """What apt-get and Python were asked for; clears the record."""
        lines = (self.fake / "asked").read_text().splitlines()
        (self.fake / "asked").write_text("")
        return lines

    def files(self) -> set[Path]:
        """All that lies in the checkout."""
        return set(self.checkout.rglob("*"))

    def run(self, *words: str) -> tuple[int, list[str]]:
        """Set up; returns the exit status and the printed lines."""
        done = subprocess.run(
            [self.fake / "bin" / "sh", "setup/setup.sh", *words],
            cwd=self.checkout,
            env={
                "PATH": str(self.fake / "bin"),
                "FAKE": str(self.fake),
                "HARNESS_OS_RELEASE": str(self.fake / "os-release"),
                "PYTHON": "python3",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout.splitlines()


@pytest.fixture
def fresh(tmp_path: Path) -> Fresh:
    return Fresh(tmp_path)


def table() -> list[dict[str, str]]:
    lines = (ROOT / "setup" / "packages.tsv").read_text().splitlines()
    return [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines if not line.startswith("#")]


def test_the_table_is_whole() -> None:
    rows = table()

    assert all(all(row.values()) for row in rows)
    assert {row["need"] for row in rows} == {"required", "optional", "nightly"}
    assert [row["tool"] for row in rows if row["debian"] == "-"] == []


def test_only_what_is_missing_is_installed(fresh: Fresh) -> None:
    fresh.lack("bc", "qemu-system-x86")

    status, said = fresh.run()

    (apt,) = [line for line in fresh.asked() if line.startswith("apt-get") and "install" in line]
    assert status == 0, said
    assert apt.split(" install ")[1].split() == ["--yes", "--no-install-recommends", "bc", "qemu-system-x86"]
    assert "DPkg::Lock::Timeout" in apt
    assert said[-1].startswith("set-up: ready (")


def test_what_only_the_night_needs_is_installed_for_the_night_alone(fresh: Fresh) -> None:
    """300 MB, which `make run` and `make check` do without."""
    fresh.lack("chromium")

    assert fresh.run()[0] == 0
    assert not [line for line in fresh.asked() if line.startswith("apt-get")]
    assert fresh.run("nightly")[0] == 0
    assert [line for line in fresh.asked() if line.startswith("apt-get") and line.endswith(" chromium")]


def test_a_second_call_does_nothing_and_says_so(fresh: Fresh) -> None:
    fresh.run()
    fresh.asked()

    status, said = fresh.run()

    assert status == 0
    assert len(said) == 1
    assert said[0].startswith("set-up: ready, nothing to do")
    assert not [line for line in fresh.asked() if "install" in line or "venv .venv" in line]


def test_a_package_that_was_removed_is_installed_again(fresh: Fresh) -> None:
    fresh.run()
    fresh.asked()
    fresh.lack("sparse")

    status, _ = fresh.run()

    asked = fresh.asked()
    assert status == 0
    assert [line for line in asked if line.startswith("apt-get") and line.endswith(" sparse")]
    assert not [line for line in asked if "-m venv" in line], ".venv was still good"


@pytest.mark.parametrize("change", ["requirements.lock", "pyproject.toml"])
def test_new_requirements_make_the_environment_anew(fresh: Fresh, change: str) -> None:
    fresh.run()
    fresh.asked()
    with (fresh.checkout / change).open("a") as stream:
        stream.write("# changed\n")

    status, _ = fresh.run()

    assert status == 0
    assert [line for line in fresh.asked() if "--require-hashes" in line]


def test_an_environment_that_no_longer_answers_is_made_anew(fresh: Fresh) -> None:
    fresh.run()
    fresh.asked()
    (fresh.checkout / ".venv/bin/python").unlink()

    status, _ = fresh.run()

    assert status == 0
    assert [line for line in fresh.asked() if "-m venv" in line]


def test_a_folder_that_is_no_environment_is_left_alone(fresh: Fresh) -> None:
    (fresh.checkout / ".venv").mkdir()
    (fresh.checkout / ".venv" / "thesis.tex").touch()

    status, said = fresh.run()

    assert status != 0
    assert "move it away" in said[-1]
    assert (fresh.checkout / ".venv" / "thesis.tex").exists()


def test_a_link_to_an_environment_is_left_alone(fresh: Fresh) -> None:
    """Its own --clear would empty what it points to."""
    other = fresh.checkout.parent / "other"
    other.mkdir()
    (other / "pyvenv.cfg").touch()
    (fresh.checkout / ".venv").symlink_to(other)

    status, said = fresh.run()

    assert status != 0
    assert ".venv is a link, and what it points to may be another checkout's: rm .venv" in said[-1]
    assert (other / "pyvenv.cfg").exists()


def test_an_optional_kernel_that_debian_no_longer_has_is_said_once_and_no_error(fresh: Fresh) -> None:
    fresh.lack("linux-source-6.1")
    (fresh.fake / "unknown").write_text("linux-source-6.1\n")

    first = fresh.run()
    second = fresh.run()

    assert first[0] == second[0] == 0
    assert any("linux-source-6.1 is not in this Debian" in line for line in first[1])
    assert "nothing to do" in second[1][-1]


def test_a_required_package_in_no_source_is_named(fresh: Fresh) -> None:
    fresh.lack("linux-source-6.12")
    (fresh.fake / "unknown").write_text("linux-source-6.12\n")

    status, said = fresh.run()

    assert status != 0
    assert any("bookworm-security" in line for line in said)
    assert "linux-source-6.12 is in none of this machine's package sources" in said[-1]


def test_a_failed_installation_shows_why_and_the_next_call_works(fresh: Fresh) -> None:
    fresh.lack("bc")
    (fresh.fake / "broken").touch()

    status, said = fresh.run()

    assert status != 0
    assert any("Unable to fetch some archives" in line for line in said)
    assert said[-1].startswith("set-up: FAILED: apt-get")
    assert (fresh.checkout / ".set-up.log").exists()
    (fresh.fake / "broken").unlink()
    assert fresh.run()[0] == 0
    assert not (fresh.checkout / ".set-up.log").exists()


def test_without_root_the_command_for_root_is_told(fresh: Fresh) -> None:
    fresh.lack("bc")
    fresh.program("id", "echo 1000")
    before = fresh.files() | {fresh.checkout / ".set-up.lock"}

    status, said = fresh.run()

    assert status != 0
    assert any(line.endswith("apt-get install --no-install-recommends bc") for line in said), said
    assert fresh.files() == before


@pytest.mark.parametrize(
    ("name", "like", "column"),
    [
        ("fedora", "", "fedora"),
        ("rocky", "rhel centos fedora", "fedora"),
        ("arch", "", "arch"),
        ("opensuse-tumbleweed", "opensuse suse", "opensuse"),
        ("alpine", "", "alpine"),
        ("ubuntu", "debian", "debian"),
    ],
)
def test_another_system_is_told_its_own_names_and_is_not_changed(
    fresh: Fresh, name: str, like: str, column: str
) -> None:
    fresh.system(name, like)
    before = fresh.files()

    status, said = fresh.run()

    absent = {row[column] for row in table() if row["tool"] in {"bc", "qemu", "libelf", "ccache", "gcc"}}
    absent = {package for package in absent if not _header_is_here(package)}
    assert status != 0
    assert absent <= {line.strip() for line in said}
    assert "nothing was changed" in said[-1]
    assert fresh.files() == before
    assert not [line for line in fresh.asked() if "apt-get" in line or "-m" in line.split()]


def _header_is_here(package: str) -> bool:
    """The scripts look for headers in the real /usr/include."""
    return "elf" in package and os.path.lexists("/usr/include/libelf.h")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_shell_scripts_are_clean() -> None:
    scripts = [*(ROOT / "setup").glob("*.sh"), ROOT / ".ci" / "run"]

    done = subprocess.run(
        ["shellcheck", "--external-sources", *scripts], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.stdout == ""
