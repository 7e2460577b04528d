# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import workspace
from harness.host.workspace import cache_dir
from tests.guest import history
from tests.guest.command import argv, environment
from tests.guest.history import BROKEN, CULPRIT, EDITS, History, git

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

# Runs a command as a step of a bisection and records what it left behind: commit, status, and whether any
# file of the checkout or of .git came, went, or changed its content's time.
STEP = """\
log=$1; shift
state() { find . -printf '%p %y %s %T@\\n' | sort; }
state >"$log.before"
"$@" 2>>"$log.stderr" >&2
status=$?
state >"$log.after"
echo "$(git rev-parse HEAD) $status" >>"$log"
diff "$log.before" "$log.after" >>"$log.touched"
exit $status
"""


@pytest.fixture
def made() -> Iterator[History]:
    """A history in a fixed place, so that its work tree in the cache is made only once.

    To delete that tree's 45,000 files after each test took 115 s on a file system mounted with discard.
    """
    place = cache_dir() / "tests" / "bisect"
    with workspace.lock(cache_dir() / "locks" / "test-bisect.lock"):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        yield history.make(place / "linux")
        shutil.rmtree(place)


def test_git_bisect_run_names_the_culprit_and_skips_what_does_not_build(made: History, tmp_path: Path):
    """As README types it, in a checkout with the user's own changes, of which no step touches a byte."""
    repository = made.folder
    (repository / "README").write_text("changed, not staged\n")
    (repository / "CREDITS").write_text("changed, staged\n")
    git(repository, "add", "CREDITS")
    (repository / "mm" / "untracked.c").write_text("int mine;\n")
    mine = git(repository, "status", "--porcelain", "--branch")
    log, step = tmp_path / "steps", tmp_path / "step.sh"
    step.write_text(STEP)

    git(repository, "bisect", "start", made.bad, made.good)
    run = argv("run", "--source", "git:.@HEAD", "--patch", "none", "memcg-eagain")
    said = git(repository, "bisect", "run", "sh", str(step), str(log), *run, env=environment())

    told = (tmp_path / "steps.stderr").read_text()
    assert f"{made.commits[CULPRIT]} is the first bad commit" in said, said + told
    statuses = dict(line.split() for line in log.read_text().splitlines())
    position = {made.commits[edit.subject]: number for number, edit in enumerate(EDITS)}
    culprit, broken = position[made.commits[CULPRIT]], made.commits[BROKEN]
    # Bisection tried it first, and its compiler error says where.
    assert next(iter(statuses)) == broken
    assert re.search(r"mm/fadvise\.c:\d+: .*endbyte", told), told
    assert statuses == {sha: "125" if sha == broken else "1" if position[sha] >= culprit else "0" for sha in statuses}
    assert "[mayfail-gate]" in told
    assert "Traceback" not in told
    # No worktree, no lock, no refreshed index: nothing in the checkout or in .git moved while the harness ran.
    assert (tmp_path / "steps.touched").read_text() == ""
    git(repository, "bisect", "reset")
    assert git(repository, "status", "--porcelain", "--branch") == mine
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert git(repository, "for-each-ref", "--format=%(refname)").split() == ["refs/heads/topic"]
