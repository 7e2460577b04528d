# SPDX-License-Identifier: GPL-2.0-only
"""No program that a repository names is run, whichever setting names it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.bisect import history
from harness.host import git as ours
from harness.host import workspace
from harness.kernel.source import fetch
from harness.model.errors import HarnessError
from tests.unit.conftest import TOY, git

# Every setting of git's manual (`git help --config`, 2.39 and 2.47) whose value is a command or leads to one.
# A place for any name (a driver, a tool, a remote) has the name x, or origin.
COMMANDS = [
    "alias.cat-file", "alias.ls-files", "alias.ls-tree", "alias.rev-parse",
    "browser.x.cmd", "browser.x.path",
    "core.alternateRefsCommand", "core.askPass", "core.editor", "core.fsmonitor", "core.gitProxy", "core.hooksPath",
    "core.pager", "core.sshCommand",
    "credential.helper", "credential.https://example.org.helper",
    "diff.x.command", "diff.x.textconv", "diff.external", "diff.guitool", "diff.tool",
    "difftool.x.cmd", "difftool.x.path",
    "filter.x.clean", "filter.x.process", "filter.x.smudge",
    "gpg.program", "gpg.openpgp.program", "gpg.ssh.program", "gpg.x509.program", "gpg.ssh.defaultKeyCommand",
    "gui.x.cmd", "guitool.x.cmd", "help.browser", "hook.x.command", "imap.tunnel", "init.templateDir",
    "instaweb.browser", "instaweb.httpd", "interactive.diffFilter",
    "man.viewer", "man.x.cmd", "man.x.path",
    "merge.x.driver", "merge.guitool", "merge.tool", "mergetool.x.cmd", "mergetool.x.path",
    "pager.cat-file", "pager.ls-files", "pager.ls-tree", "pager.rev-parse",
    "receive.procReceiveRefs", "remote.origin.proxy", "remote.origin.receivepack", "remote.origin.uploadpack",
    "remote.origin.vcs",
    "sendemail.ccCmd", "sendemail.headerCmd", "sendemail.sendmailCmd", "sendemail.smtpServer", "sendemail.toCmd",
    "sequence.editor", "submodule.x.update", "tar.x.command", "trailer.x.cmd", "trailer.x.command",
    "uploadpack.packObjectsHook", "web.browser",
]  # fmt: skip
# How a partial clone may say that what is missing comes from elsewhere.
REMOTES = ["ssh://example.org/x", "git://example.org/x", "https://example.org/x", "ext::{program} %S", "{clone}"]
HOOKS = [
    "post-checkout",
    "post-index-change",
    "fsmonitor-watchman",
    "query-watchman",
    "pre-auto-gc",
    "reference-transaction",
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy kernel as a partial clone that lacks one file, with attributes that name every kind of driver."""
    folder = Path(shutil.copytree(TOY, tmp_path_factory.mktemp("git") / "toy"))
    git(folder, "init", "-q")
    (folder / ".gitattributes").write_text("* filter=x diff=x merge=x\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "toy")
    (folder / "mm/notes").write_text("text\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "notes")
    (folder / ".git/info/attributes").write_text("* filter=x diff=x merge=x\n")
    lacking = git(folder, "rev-parse", "HEAD:mm/rmap.c")
    (folder / ".git/objects" / lacking[:2] / lacking[2:]).unlink()
    for key, value in (
        ("core.repositoryFormatVersion", "1"), ("extensions.partialClone", "origin"), ("remote.origin.promisor", "true")
    ):  # fmt: skip
        git(folder, "config", key, value)
    return folder


def looked_at(pristine: Path, tmp_path: Path, remote: str, *settings: tuple[str, str]) -> list[str]:
    """What ran when a repository was read as a directory, as a revision and as a history."""
    folder = Path(shutil.copytree(pristine, tmp_path / "repository"))
    program, marks = tmp_path / "program", tmp_path / "marks"
    program.write_text(f'#!/bin/sh\necho ran "$0" "$@" >>{marks}\n')
    program.chmod(0o755)
    for hook in HOOKS:
        (tmp_path / hook).symlink_to(program)
        (folder / ".git/hooks" / hook).symlink_to(program)
    remote = remote.format(program=program, clone=folder)
    with (folder / ".git/config").open("a") as stream:
        stream.write(f'[remote "origin"]\n\turl = "{remote}"\n')
    for key, value in settings:
        git(folder, "config", key, value.format(program=program, folder=tmp_path))
    (folder / "mm/rmap.c").touch()
    for spec in (str(folder), f"git:{folder}@HEAD"):
        try:
            source = fetch(spec, tmp_path / "cache")
            dict(source.origin.read(source.origin.manifest()))
        except HarnessError:
            assert spec.startswith("git:"), "a directory lacks nothing"
    found = history.read(str(folder), "HEAD~1", "HEAD", ["mm/"])
    assert found.commit(found.bad).subject == "notes"
    assert "mm/notes" in found.stat(found.bad)
    assert b"-text" in found.reverse(found.bad)
    assert found.changed(found.good, found.bad) == ["mm/notes"]
    return marks.read_text().splitlines() if marks.exists() else []


def named(key: str) -> tuple[str, str]:
    """A setting with a program for its value, in the form that it takes."""
    if key in ("core.hooksPath", "init.templateDir"):
        return key, "{folder}"
    return key, "!{program}" if key.startswith(("alias.", "submodule.")) else "{program}"


@pytest.mark.parametrize("section", sorted({key.partition(".")[0] for key in COMMANDS}))
def test_no_setting_makes_a_program_run(section: str, pristine: Path, tmp_path: Path):
    """Of a repository's own configuration; a section at once."""
    settings = [named(key) for key in COMMANDS if key.startswith(f"{section}.")]
    assert looked_at(pristine, tmp_path, REMOTES[0], *settings) == []


@pytest.mark.parametrize("remote", REMOTES)
def test_nothing_is_fetched(remote: str, pristine: Path, tmp_path: Path):
    """Whatever a repository allows; what a partial clone lacks is an error that names it."""
    allowed = [("protocol.allow", "always"), ("protocol.ext.allow", "always")]
    transport = [named(key) for key in COMMANDS if key.startswith(("core.", "credential.", "uploadpack."))]
    pack = ("remote.origin.uploadpack", "{program}")
    assert looked_at(pristine, tmp_path, remote, *allowed, *transport, pack) == []
    repository = tmp_path / "repository"
    source = fetch(f"git:{repository}@HEAD", tmp_path / "cache")
    with pytest.raises(HarnessError, match=r"cannot read mm/rmap\.c: .*missing") as caught:
        dict(source.origin.read(source.origin.manifest()))
    assert "--refetch" in caught.value.hint


def test_an_included_file_is_no_way_round(pristine: Path, tmp_path: Path):
    (tmp_path / "more").write_text(f"[core]\n\tfsmonitor = {tmp_path}/program\n\tsshCommand = {tmp_path}/program\n")

    assert looked_at(pristine, tmp_path, REMOTES[0], ("include.path", "{folder}/more")) == []


def test_another_work_tree_is_not_listed(repository: Path, tmp_path: Path):
    """core.worktree leads to another folder; the directory that was asked for is what is read."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/secret.c").write_text("")
    git(repository, "config", "core.worktree", str(tmp_path / "other"))

    files = fetch(str(repository), tmp_path / "cache").origin.manifest()

    assert "mm/rmap.c" in files
    assert not [path for path in files if "secret" in path]


def test_what_the_user_ignores_and_trusts_still_counts(repository: Path, tmp_path: Path, monkeypatch):
    """These two settings of the user's own name no program; all others of his are left out."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "ignored").write_text("cscope.out\n")
    marks = tmp_path / "marks"
    (home / "program").write_text(f"#!/bin/sh\necho ran >>{marks}\n")
    (home / "program").chmod(0o755)
    (home / ".gitconfig").write_text(
        "[core]\n\texcludesFile = ~/ignored\n\tfsmonitor = ~/program\n[safe]\n\tdirectory = /trusted\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    ours._of_the_user.cache_clear()
    try:
        first = fetch(str(repository), tmp_path / "cache")
        (repository / "cscope.out").write_text("x")
        assert fetch(str(repository), tmp_path / "cache").id == first.id
        assert ("safe.directory", "/trusted") in ours._of_the_user()
    finally:
        ours._of_the_user.cache_clear()
    assert not marks.exists()


def test_git_is_called_in_one_place():
    """Another call would have to think of all of this again."""
    modules = (workspace.ROOT / "harness").rglob("*.py")

    assert [path.name for path in modules if '["git"' in path.read_text()] == ["git.py"]
