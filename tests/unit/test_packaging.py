# SPDX-License-Identifier: GPL-2.0-only
"""What is shipped: licence lines, the lock, and a wheel that needs no checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from setup.build_hook import FOLDERS, LEFTOVERS, variants

ROOT = Path(__file__).resolve().parents[2]
SPDX = "SPDX-License-Identifier: GPL-2.0-only"

# Files that cannot hold a comment, or whose text is not ours.
BARE = re.compile(
    r"LICENSE|tests/golden/.*|harness/report/vendor/.*|.*\.(md|patch|diff|mbox|log|json|png|svg|txt)|\.gitignore|(.*/)?py\.typed"
)


def tracked() -> list[Path]:
    """Every file that git would ship."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = [Path(name) for name in listing.stdout.decode().split("\0") if name]
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = target.glob("*.whl")
    return built


def test_every_file_names_the_licence_in_its_first_lines() -> None:
    files = [name for name in tracked() if not BARE.fullmatch(name.as_posix())]
    silent = [
        name.as_posix()
        for name in files
        if SPDX not in "".join((ROOT / name).read_text(errors="replace").splitlines(keepends=True)[:3])
    ]

    assert silent == []
    assert len(files) > 20, "the listing itself must not be empty"


def test_the_licence_is_version_2_and_no_other(project: Any) -> None:
    text = (ROOT / "LICENSE").read_text()

    assert "GNU GENERAL PUBLIC LICENSE" in text
    assert "Version 2, June 1991" in text
    assert project["project"]["license"] == "GPL-2.0-only"


def test_the_wheel_holds_every_variant_and_nothing_that_a_compiler_left(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {
        f"harness/data/{name.as_posix()}"
        for name in tracked()
        if name.parts[0] in FOLDERS and not name.name.endswith(LEFTOVERS)
    }

    assert shipped <= names
    assert not [name for name in names if name.endswith(LEFTOVERS)]


def test_leftovers_of_a_module_built_in_its_folder_are_not_shipped(tmp_path: Path) -> None:
    module = tmp_path / "guest-modules" / "hold"
    module.mkdir(parents=True)
    for name in ("hold.c", "Makefile", "hold.o", "hold.ko", "hold.mod", "hold.mod.c", ".hold.o.cmd", "Module.symvers"):
        (module / name).touch()

    assert set(variants(tmp_path).values()) == {
        "harness/data/guest-modules/hold/hold.c",
        "harness/data/guest-modules/hold/Makefile",
    }


def test_an_unpacked_wheel_finds_its_own_variants(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    folders = sorted({name.parts[0] for name in tracked() if name.parts[0] in FOLDERS})
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from harness.host.workspace import data\n"
        "for folder in sys.argv[2:]: print(data(folder))\n"
    )

    said = subprocess.run(
        [sys.executable, "-I", "-c", program, tmp_path, *folders], capture_output=True, text=True, check=True
    ).stdout.split()

    assert said == [str(tmp_path / "harness" / "data" / folder) for folder in folders]


def test_the_wheel_brings_the_command_and_the_pytest_plugin(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (entry_points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    text = archive.read(entry_points).decode()

    assert "harness = harness.cli:main" in text
    assert "kernel_harness = harness.pytest_plugin" in text
    assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def locked() -> dict[str, str]:
    """Package → version of the lock."""
    text = (ROOT / "requirements.lock").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ]+)", text, re.MULTILINE))


def test_the_lock_serves_every_dependency(project: Any) -> None:
    wanted = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]
    versions = locked()

    for text in wanted:
        requirement = Requirement(text)
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{text}: the lock has {version}; make lock"


def test_every_locked_package_has_hashes_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]

    assert len(blocks) == len(locked())
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"://|--(extra-)?index-url|--find-links|^/", text, re.MULTILINE)


def test_one_oldest_python_is_named_everywhere(project: Any) -> None:
    assert project["project"]["requires-python"] == ">=3.11"
    assert project["tool"]["ruff"]["target-version"] == "py311"
    assert project["tool"]["mypy"]["python_version"] == "3.11"
    assert "(3, 11)" in (ROOT / "setup" / "venv.sh").read_text()
