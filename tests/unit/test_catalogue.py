# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios and mutants by name and by file: each runs once, and no two of one name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.host.workspace import data
from harness.model.errors import UsageError
from harness.variants import catalogue, mutants

OURS = data("scenarios") / "memcg-eagain.yaml"
VARIED = next(path for path in sorted(data("scenarios").glob("*.yaml")) if "\nvary:" in path.read_text("utf-8"))


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A file of the user's that is called like one of ours."""
    return Path(shutil.copy(OURS, tmp_path / OURS.name))


def names(*words: str) -> list[str]:
    return [entry.name for entry in catalogue.choose(words)]


@pytest.mark.parametrize(
    "words",
    [
        ("memcg-eagain", "{theirs}"),
        ("{theirs}", "memcg-eagain"),
        ("all", "{theirs}"),
        ("{theirs}", "all"),
        ("{ours}", "{theirs}"),
        ("{theirs}", "{other}"),
    ],
)
def test_two_files_of_one_name_are_both_named(words: tuple[str, ...], theirs: Path):
    """One of them would be judged under the name of both."""
    other = theirs.parent / "b" / theirs.name
    other.parent.mkdir()
    shutil.copy(theirs, other)
    asked = [word.format(theirs=theirs, ours=OURS, other=other) for word in words]

    with pytest.raises(UsageError, match="two scenarios are called 'memcg-eagain': ") as caught:
        catalogue.choose(asked)

    assert str(theirs) in caught.value.message
    assert caught.value.message.count(theirs.name) == 2


def test_one_file_by_several_names_runs_once(tmp_path: Path, theirs: Path):
    (tmp_path / "b").symlink_to(tmp_path)

    assert names("memcg-eagain", str(OURS), "memcg-eagain") == ["memcg-eagain"]
    assert names(str(theirs), str(tmp_path / "b" / theirs.name), f"{tmp_path}/./{theirs.name}") == ["memcg-eagain"]
    assert names("all", "memcg-eagain", str(VARIED)) == names("all")


def test_a_file_that_varies_collides_with_its_like(tmp_path: Path):
    copy = shutil.copy(VARIED, tmp_path / VARIED.name)
    first = catalogue.choose([str(copy)])[0]

    with pytest.raises(UsageError, match=f"two scenarios are called '{first.name}'"):
        catalogue.choose([str(copy), first.name])


@pytest.mark.parametrize("name", ["events", "kernel"])
def test_a_scenario_is_not_called_like_a_part_of_a_run(tmp_path: Path, name: str):
    path = tmp_path / f"{name}.yaml"
    shutil.copy(OURS, path)

    with pytest.raises(UsageError, match=f"{name}.yaml: a run keeps files of its own in '{name}'"):
        catalogue.choose([str(path)])


def test_two_mutants_of_one_name_are_both_named(tmp_path: Path):
    path = next(iter(data("mutants").glob("*.patch")))
    version = mutants.load(path).kernels[0]
    copy = shutil.copy(path, tmp_path / path.name)

    with pytest.raises(UsageError, match=f"two mutants are called '{path.stem}': "):
        mutants.choose([path.stem, str(copy)], version)
