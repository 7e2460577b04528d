# SPDX-License-Identifier: GPL-2.0-only
"""Paths, locks, and writes that are whole or absent."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.host import workspace
from harness.model.errors import OutOfSpace, UsageError
from tests.unit.conftest import Said


def test_keys_see_where_a_part_ends():
    """The same letters in different parts make another key."""
    assert workspace.digest("ab", "c") != workspace.digest("a", "bc")
    assert workspace.digest("ab") == workspace.digest(b"ab")
    assert len(workspace.digest()) == 20


def test_a_write_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failure leaves the old file and no leftovers."""
    target = tmp_path / "f"
    workspace.write_atomic(target, "old")

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutOfSpace, match="no space left"):
        workspace.write_atomic(target, "new")

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_published_whole(tmp_path: Path):
    """It appears when it is done, and the leftovers of a killed process go."""
    target = tmp_path / "t"
    (tmp_path / ".t.stale").mkdir()

    with workspace.publishing(target) as fresh:
        (fresh / "f").write_text("x")
        assert not target.exists()

    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert (target / "f").read_text() == "x"
    assert workspace.whole(target)


def test_a_folder_that_failed_is_not_published(tmp_path: Path):
    """Nothing is left of it."""
    with pytest.raises(ZeroDivisionError), workspace.publishing(tmp_path / "t"):
        raise ZeroDivisionError

    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_waited_for_and_says_so(tmp_path: Path, said: Said):
    """One holder at a time, and a waiting process says what it waits for."""
    order: list[str] = []
    waiting = threading.Event()

    class Waiting(Said):
        def say(self, text: str) -> None:
            super().say(text)
            waiting.set()

    heard = Waiting()

    def second() -> None:
        with workspace.lock(tmp_path / "l", heard, "the tree"):
            order.append("second")

    thread = threading.Thread(target=second)
    with workspace.lock(tmp_path / "l", said):
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)

    assert order == ["first", "second"]
    assert heard.lines == ["the tree: another harness is at work on it, waiting"]
    assert said.lines == []


def publish(target: Path, **files: bytes) -> None:
    with workspace.publishing(target) as fresh:
        for name, content in files.items():
            (fresh / name).write_bytes(content)


def quietly(path: Path, content: bytes) -> None:
    """Change a file as a rotten disk does: its times stay."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@given(
    files=st.dictionaries(st.sampled_from(["vmlinux", "config", "a.ko"]), st.binary(max_size=300), min_size=1),
    data=st.data(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_whatever_happens_to_a_file_of_an_entry_is_seen_and_mended(tmp_path_factory, files, data):
    """A flipped bit, a truncated, emptied, lengthened or deleted file; in the list of digests, too."""
    target = tmp_path_factory.mktemp("cache") / "kernels" / "key"
    publish(target, **files)
    assert workspace.whole(target)
    victim = target / data.draw(st.sampled_from([*files, workspace.DIGESTS]))
    content = victim.read_bytes()
    kinds = ["delete", "longer", *(["flip", "cut"] if content else [])]
    kind = data.draw(st.sampled_from(kinds if victim.name != workspace.DIGESTS else ["flip", "cut"]))
    at = data.draw(st.integers(0, max(0, len(content) - 1)))
    flipped = bytearray(content)
    if kind == "flip":
        flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    changed = {"flip": bytes(flipped), "cut": content[:at], "longer": content + b"x", "delete": b""}[kind]
    quietly(victim, changed)
    if kind == "delete":
        victim.unlink()

    assert not workspace.whole(target)
    publish(target, **files)

    assert workspace.whole(target)
    assert {path.name: path.read_bytes() for path in target.iterdir() if path.name in files} == files
    assert [path.name for path in target.parent.iterdir()] == ["key"]


def test_damage_is_said_once_with_its_place(tmp_path: Path, said: Said):
    publish(tmp_path / "k", vmlinux=b"kernel", config=b"c")
    quietly(tmp_path / "k/vmlinux", b"kernal")
    before = len(workspace.damage())

    assert not workspace.whole(tmp_path / "k", said, f"kernel of {tmp_path}")
    assert not workspace.whole(tmp_path / "k", said, f"kernel of {tmp_path}")

    assert said.lines == [f"kernel of {tmp_path}: vmlinux in the cache is damaged; making it again"]
    assert workspace.damage()[before:] == [f"kernel of {tmp_path}: vmlinux in the cache is damaged"]


def test_an_entry_is_read_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """But again when somebody wrote to it."""
    publish(tmp_path / "k", vmlinux=b"kernel")
    assert workspace.whole(tmp_path / "k")
    monkeypatch.setattr(workspace, "digest_sparse", lambda path: pytest.fail(f"read {path} again"))

    assert workspace.whole(tmp_path / "k")

    monkeypatch.undo()
    (tmp_path / "k/vmlinux").write_bytes(b"kernal")
    assert not workspace.whole(tmp_path / "k")


def test_an_entry_of_an_older_harness_is_adopted_once(tmp_path: Path):
    """From then on it cannot rot unseen."""
    entry = tmp_path / "k"
    entry.mkdir()
    (entry / "vmlinux").write_bytes(b"kernel")

    assert workspace.whole(entry)
    quietly(entry / "vmlinux", b"kernal")

    assert not workspace.whole(entry)


def test_what_is_not_there_is_not_damaged(tmp_path: Path):
    before = len(workspace.damage())
    (tmp_path / "empty").mkdir()

    assert not workspace.whole(tmp_path / "none")
    assert not workspace.whole(tmp_path / "empty")
    assert len(workspace.damage()) == before


def test_a_disk_that_gives_no_bytes_is_damage_and_one_that_is_closed_to_us_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    publish(tmp_path / "k", vmlinux=b"kernel")

    def refuse(number: int) -> None:
        def digest(path: Path) -> str:
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr(workspace, "digest_sparse", digest)

    refuse(errno.EIO)
    assert not workspace.whole(tmp_path / "k")
    refuse(errno.EMFILE)
    with pytest.raises(OSError, match="Too many open files"):
        workspace.whole(tmp_path / "k")


def test_a_condemned_entry_is_made_again(tmp_path: Path):
    publish(tmp_path / "k", manifest=b"m")
    assert workspace.whole(tmp_path / "k")

    assert "k: tree/a.c in the cache is damaged" in str(workspace.condemn(tmp_path / "k", "tree/a.c"))

    assert not workspace.whole(tmp_path / "k")


@given(content=st.binary(max_size=100), at=st.integers(0, 200), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_remembered_is_recalled_whole_or_not_at_all(tmp_path_factory, content, at, bit):
    memo = tmp_path_factory.mktemp("memo") / "m"
    workspace.remember(memo, content)
    assert workspace.recall(memo) == content
    raw = memo.read_bytes()
    flipped = bytearray(raw)
    flipped[at % len(raw)] ^= 1 << bit

    for changed in (bytes(flipped), raw[: at % len(raw)], raw + b"x", content):
        memo.write_bytes(changed)
        assert workspace.recall(memo) is None or changed == raw


def test_only_a_new_or_an_empty_folder_is_claimed(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years")
    run = tmp_path / "run"
    run.mkdir()
    (run / "verdict.json").touch()
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/.git").mkdir()

    assert workspace.claim(tmp_path / "a/b/c").is_dir()
    assert workspace.claim(tmp_path / "empty") == tmp_path / "empty"
    with pytest.raises(UsageError, match=r"mine: already holds other files \(thesis.tex\)"):
        workspace.claim(mine)
    with pytest.raises(UsageError, match=r"hidden: already holds other files"):
        workspace.claim(tmp_path / "hidden")
    with pytest.raises(UsageError, match="run: already holds a run"):
        workspace.claim(run)
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]


def test_a_folder_is_claimed_by_one(tmp_path: Path):
    """The lock holds as long as the process lives, whatever is written meanwhile; under another name, too."""
    (tmp_path / "link").symlink_to("out")
    workspace.claim(tmp_path / "out")

    for again in ("out", "link", "../" + tmp_path.name + "/out"):
        with pytest.raises(UsageError, match="another harness is writing there"):
            workspace.claim(tmp_path / again)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("file", "is not a folder"),
        ("file/below", "Not a directory"),
        ("dangling", "is not a folder"),
        ("dangling/below", "is not a folder"),
        ("loop", "is not a folder|Too many levels"),
        ("n" * 300, "File name too long"),
        ("d/" * 3000, "File name too long"),
        ("/proc/nothing", "No such file"),
    ],
)
def test_a_place_that_cannot_be_a_run_is_usage(tmp_path: Path, name: str, why: str):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(UsageError, match=why):
        workspace.claim(tmp_path / name)

    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_home_folder_is_meant_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE", "~/c")

    assert workspace.claim(Path("~/out")) == tmp_path / "out"
    assert workspace.cache_dir() == tmp_path / "c"


def test_a_place_that_may_not_be_written_is_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As a read-only file system is for root, too."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "c"))
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)

    with pytest.raises(UsageError, match="out: is not writable"):
        workspace.claim(tmp_path / "out")
    with pytest.raises(UsageError, match=r"HARNESS_CACHE .*/c: .* is not writable"):
        workspace.cache_dir()


def test_a_full_disk_is_no_mistake_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_args: object, **_rest: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)

    with pytest.raises(OutOfSpace, match="out: no space left"):
        workspace.claim(tmp_path / "out")


def test_the_cache_may_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """$HARNESS_CACHE is where everything goes."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "c"))
    assert workspace.cache_dir() == tmp_path / "c"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", "rel/ative")
    assert workspace.cache_dir() == tmp_path / "rel/ative"
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "jürgen+x@2.0=~"))
    assert workspace.cache_dir().name == "jürgen+x@2.0=~"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["a b", "a:b", "a,b", "a#b", "a$b", "a%b", "a'b", 'a"b', "a\\b", "a\udcff", "a\nb", "a;b", "(a)"]
)
def test_a_cache_in_which_nothing_can_be_built_is_usage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str):
    """Kbuild refuses spaces and colons, and misreads the others."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / name))

    with pytest.raises(UsageError, match="cannot build in a folder with"):
        workspace.cache_dir()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("file", "is not a folder"),
        ("file/below", "file is not a folder"),
        ("dangling", "dangling is not a folder"),
        ("dangling/below", "dangling is not a folder"),
        ("loop/below", "Too many levels|is not a folder"),
        ("n" * 300, "File name too long"),
    ],
)
def test_a_cache_that_cannot_be_one_is_usage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, why: str):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / name))

    with pytest.raises(UsageError, match=why):
        workspace.cache_dir()
