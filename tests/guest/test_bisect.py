# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import workspace
from harness.host.workspace import cache_dir
from tests.guest import history
from tests.guest.command import Ended, argv, environment, harness
from tests.guest.history import BROKEN, CULPRIT, EDITS, Edit, History, git

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


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    """A fixed place for a history, so that its work tree in the cache is made only once.

    To delete that tree's 45,000 files after each test took 115 s on a file system mounted with discard.
    """
    place = cache_dir() / "tests" / "bisect"
    with workspace.lock(cache_dir() / "locks" / "test-bisect.lock"):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        yield place / "linux"
        shutil.rmtree(place)


@pytest.fixture
def made() -> Iterator[History]:
    """A history of a kernel with the patch."""
    with _place() as place:
        yield history.make(place)


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


# Two commits that do not build, two that do not boot, two with an unrelated warning, and a flag that is lost in one
# call of 16,384: in one run of five.
RARE = "mm/rmap: flags now and then"
_LOCKED = "\tif (flags & TTU_RMAP_LOCKED)"
_WARNS = f"\tWARN_ON_ONCE(1);\n{_LOCKED}"
HARD = (
    Edit(
        "mm/rmap: include it",
        "mm/rmap.c",
        "#include <linux/mm.h>\n",
        "#include <linux/mm.h>\n#include <linux/random.h>\n",
    ),
    Edit("mm/fadvise: name the last byte", "mm/fadvise.c", "\tloff_t endbyte;", "\tloff_t last;"),
    Edit("mm/fadvise: call it endbyte again", "mm/fadvise.c", "\tloff_t last;", "\tloff_t endbyte;"),
    Edit(
        RARE,
        "mm/rmap.c",
        "MMU_NOTIFIER_RANGE_MAYFAIL, vma->vm_mm,",
        "get_random_u32_below(16384) ? MMU_NOTIFIER_RANGE_MAYFAIL : 0, vma->vm_mm,",
    ),
    Edit("mm/init: check", "mm/fadvise.c", "#ifdef", 'static int __init never(void) { panic("not today"); }\n#ifdef'),
    Edit("mm/init: call it", "mm/fadvise.c", "#ifdef", "core_initcall(never);\n#ifdef"),
    Edit("mm/init: do not call it", "mm/fadvise.c", "core_initcall(never);\n", ""),
    Edit("mm/init: do not check", "mm/fadvise.c", 'static int __init never(void) { panic("not today"); }\n', ""),
    Edit("mm/rmap: warn", "mm/rmap.c", _LOCKED, _WARNS),
    Edit("mm/rmap: do not warn", "mm/rmap.c", _WARNS, _LOCKED),
    Edit("mm/dmapool: reword", "mm/dmapool.c", '"%s %s busy\\n"', '"%s %s is busy\\n"'),
)


def committed(made: History, edits: tuple[Edit, ...]) -> dict[str, str]:
    """Commits on the good end of a history, by subject, on a branch called hard."""
    folder = made.folder
    git(folder, "checkout", "--quiet", "-B", "hard", made.good)
    found = {}
    for number, edit in enumerate(edits):
        path = folder / edit.path
        before = path.read_text()
        assert edit.old in before, edit
        path.write_text(before.replace(edit.old, edit.new, 1))
        date = {f"GIT_{role}_DATE": f"{1_600_000_100 + number} +0000" for role in ("AUTHOR", "COMMITTER")}
        who = ("-c", "user.name=A Developer", "-c", "user.email=dev@example.org")
        git(folder, *who, "commit", "--quiet", "--all", "-m", edit.subject, env=environment(**date))
        found[edit.subject] = git(folder, "rev-parse", "HEAD").strip()
    return found


def searched(made: History, bad: str, out: Path, *words: str) -> Ended:
    """Search from the good end. The answers are forgotten afterwards: they would be the next night's, at once."""
    ends = ("--tree", made.folder, "--good", made.good, "--bad", bad)
    try:
        return harness("bisect", *ends, "--json", "--out", out, *words)
    finally:
        with contextlib.suppress(FileNotFoundError):
            key = json.loads((out / "question.json").read_text())["key"]
            shutil.rmtree(cache_dir() / "bisect" / key)


@pytest.mark.nightly
def test_harness_bisect_names_the_culprit_and_proves_it(made: History, tmp_path: Path):
    ended = searched(made, made.bad, tmp_path / "out", "--patch", "none", "memcg-eagain", "--", "mm/")

    assert ended.status == 0, ended.stderr
    assert ended.document["first_bad"] == made.commits[CULPRIT]
    assert ended.document["finding"]["oracle"] == "mayfail-gate"
    assert ended.document["verified"] is True
    # Some commits change comments alone. Which of them is asked depends on what builds cost here.
    twins = [step for step in ended.document["steps"] if "to the bit" in step["reason"]]
    assert all(step["cached"] and step["runs"] == 0 for step in twins)
    assert f"Fixes: {made.commits[CULPRIT][:12]}" in (tmp_path / "out" / "mail.txt").read_text()


@pytest.mark.nightly
@pytest.mark.parametrize(("bad", "culprit"), [("mm/dmapool: reword", RARE), ("mm/init: call it", "mm/init: call it")])
def test_harness_bisect_is_not_led_astray(made: History, tmp_path: Path, bad: str, culprit: str):
    """By a failure that is rare, by kernels that do not build or boot, and by a warning that is not searched."""
    commits = committed(made, HARD)

    ended = searched(made, commits[bad], tmp_path / "out", "--patch", "none", "memcg-eagain")

    assert ended.status == 0, ended.stderr
    assert commits[culprit] in ended.document["candidates"], ended.stderr
    assert len(ended.document["candidates"]) <= 2
    for step in ended.document["steps"]:
        if step["commit"] in (commits["mm/rmap: warn"], commits["mm/fadvise: name the last byte"]):
            assert step["verdict"] == "skip", step


# Those that accepted a start get no end when another refuses: wrong by either contract, with the patch and without.
UNPAIRED = "mm/mmu_notifier: nobody has to be told"
PLAIN = (
    Edit("mm/msync: an error is an int or longer", "mm/msync.c", "\tint error = -EINVAL;", "\tlong error = -EINVAL;"),
    Edit(UNPAIRED, "mm/mmu_notifier.c", "\tif (ret) {\n", "\tif (0) {\n"),
    Edit("mm/mremap: drop an initial value", "mm/mremap.c", "\tunsigned long ret = -EINVAL;", "\tlong ret = -EINVAL;"),
    Edit("mm/fadvise: reword", "mm/fadvise.c", "no bad return value, but ignore advice", "advice is ignored"),
)


@pytest.mark.nightly
@pytest.mark.parametrize("words", [("--patch", "mayfail"), ("--patch", "none", "--contract", "stock")])
@pytest.mark.parametrize("source", ["debian:6.12", "debian:6.1"])
def test_harness_bisect_searches_by_either_contract(tmp_path: Path, source: str, words: tuple[str, ...]):
    """With the port of each commit, which must fit beside the culprit, and without; by taking the culprit back."""
    with _place() as place:
        made = history.make(place, PLAIN, source, port=False)

        ended = searched(made, made.bad, tmp_path / "out", *words, "refuser-with-end")

    assert ended.status == 0, ended.stderr
    assert ended.document["first_bad"] == made.commits[UNPAIRED], ended.stderr
    assert ended.document["finding"]["oracle"] == "pairing"
    assert ended.document["verified"] is True, ended.document["proof"]
    assert "without this commit" in ended.document["proof"]
