# SPDX-License-Identifier: GPL-2.0-only
"""harness console, and the list of known noise."""

from __future__ import annotations

import bz2
import datetime
import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import cli
from harness.console import Report, noise, stream
from harness.model.errors import UsageError
from harness.run import judging

WARN = "[    1.000001][  T9] WARNING: CPU: 1 PID: 9 at mm/rmap.c:1234 try_to_unmap_one+0x5/0x10\n"
ENTRY = """entries:
  - title: "WARNING in try_to_unmap_.*"
    reason: "seen on old hardware"
    link: "https://example.org/1"
    owner: "A Developer <a@example.org>"
    expires: {expires}
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "console.log"
    path.write_text(f"[    0.000000][  T0] Linux version 6.12.117\n{WARN}")
    return path


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    path = tmp_path / "clean.log"
    path.write_text("[    0.000000][  T0] Linux version 6.12.117\n")
    return path


def test_it_prints_type_title_line_and_file(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["console", str(log)]) == 1
    assert capsys.readouterr().out == f"{log}:2: WARNING: WARNING in try_to_unmap_one (torn)\n"


def test_a_clean_log_is_exit_code_0(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["console", str(clean)]) == 0
    assert capsys.readouterr().out == ""


def test_json_is_an_object_a_line_for_each_file(log: Path, clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["console", str(log), str(clean), "--json"]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())

    assert first["file"] == str(log)
    (report,) = first["reports"]
    wanted = {"type": "WARNING", "title": "WARNING in try_to_unmap_one", "torn": True, "line": 2}
    assert report.items() >= wanted.items()
    assert second == {"file": str(clean), "reports": [], "excused": []}


def test_a_missing_file_is_exit_code_129(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed about the files before it, either."""
    assert cli.main(["console", str(log), str(log.with_name("none"))]) == 129
    assert capsys.readouterr().out == ""


def test_hostile_text_reaches_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hostile.log"
    path.write_bytes(b"[    1.000001] BUG: very \x9b31m bad \xe2\x80\xae\x07 thing\n")

    assert cli.main(["console", "--text", str(path)]) == 1
    out = capsys.readouterr().out
    assert "\x07" not in out
    assert "\x9b" not in out
    assert "\u202e" not in out


def test_known_noise_is_excused_until_it_expires(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = log.with_name("noise.yaml")
    listed.write_text(ENTRY.format(expires="9999-12-31"))
    assert cli.main(["console", str(log), "--known-noise", str(listed)]) == 0
    assert capsys.readouterr().out == f"{log}: 1 known reports excused\n"

    listed.write_text(ENTRY.format(expires="2020-01-01"))
    assert cli.main(["console", str(log), "--known-noise", str(listed)]) == 1
    assert "noise.yaml:2: 'WARNING in try_to_unmap_.*' expired on 2020-01-01" in capsys.readouterr().err


def test_an_entry_that_nothing_matches_is_reported(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = clean.with_name("noise.yaml")
    listed.write_text(ENTRY.format(expires="9999-12-31"))

    assert cli.main(["console", str(clean), "--known-noise", str(listed)]) == 0
    assert "matched no report" in capsys.readouterr().err


def test_the_day_of_expiry_still_counts() -> None:
    entry = noise.Entry("a", "b", "c", "d", datetime.date(2026, 5, 1), "x:1")
    report = Report("BUG", "a", 1)

    assert noise.Excuses([entry], datetime.date(2026, 5, 1)).excuse(report) is entry
    assert noise.Excuses([entry], datetime.date(2026, 5, 2)).excuse(report) is None


@pytest.mark.parametrize("key", ["title", "reason", "link", "owner", "expires"])
def test_an_entry_needs_all_five_keys(tmp_path: Path, key: str) -> None:
    path = tmp_path / "noise.yaml"
    lines = ENTRY.format(expires="9999-12-31").splitlines()
    kept = [line for line in lines if f"{key}:" not in line]
    if key == "title":
        kept[1] = kept[1].replace("    reason", "  - reason", 1)
    path.write_text("\n".join(kept))

    with pytest.raises(UsageError, match=key):
        noise.load(path)


@pytest.mark.parametrize("wrong", ['title: "("', 'owner: ""', "expires: soon"])
def test_a_faulty_entry_is_named_with_its_line(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "noise.yaml"
    key = wrong.partition(":")[0]
    lines = [
        line.partition(f"{key}:")[0] + wrong if f"{key}:" in line else line
        for line in ENTRY.format(expires="9999-12-31").splitlines()
    ]
    path.write_text("\n".join(lines))

    with pytest.raises(UsageError, match=r"noise\.yaml:\d"):
        noise.load(path)


def test_no_entry_of_the_list_that_ships_has_expired() -> None:
    """Fix the entry or ask its owner: from the day after, it excuses nothing."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    assert [entry.where for entry in noise.load() if entry.expired(today)] == []


@pytest.mark.parametrize(
    ("title", "expires", "told"),
    [
        ("WARNING in try_to_unmap_.*", "9999-12-31", "excused 1 reports until 9999-12-31: "),
        ("WARNING in try_to_unmap_.*", "2020-01-01", "expired on 2020-01-01; ask "),
        ("INFO: task hung in .*", "9999-12-31", "matched no report; ask "),
    ],
)
def test_a_run_says_what_was_excused_and_what_is_wrong_with_the_list(
    log: Path, monkeypatch: pytest.MonkeyPatch, title: str, expires: str, told: str
) -> None:
    """A pass that rests on an excuse is not silent; an entry for a hang excuses no hang."""
    listed = log.with_name("noise.yaml")
    listed.write_text(ENTRY.format(expires=expires).replace("WARNING in try_to_unmap_.*", title))
    monkeypatch.setattr(noise, "DEFAULT", listed)
    place = log.parent / "run" / "sample"
    place.mkdir(parents=True)
    hung = b"[ 9.0][ T1] INFO: task drive:33 blocked for more than 122 seconds.\n"
    (place / "console.log").write_bytes(log.read_bytes() + hung)

    (line,) = judging.known_noise(log.parent / "run", ["sample", "never-ran"])

    assert "noise.yaml:2" in line
    assert told in line


@pytest.fixture
def pipe() -> Iterator[tuple[str, int]]:
    """A pipe as a shell's <(…) names it, and the end to write to."""
    reading, writing = os.pipe()
    yield f"/dev/fd/{reading}", writing
    os.close(reading)


def test_what_a_shell_substitutes_is_a_file(pipe: tuple[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    name, writing = pipe
    os.write(writing, WARN.encode())
    os.close(writing)

    assert cli.main(["console", name]) == 1
    assert capsys.readouterr().out == f"{name}:1: WARNING: WARNING in try_to_unmap_one (torn)\n"


def test_a_fifo_without_a_writer_is_waited_for_so_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "FIFO_LIMIT_S", 0.05)
    monkeypatch.setattr(stream, "_SILENCE_S", 0.05)
    os.mkfifo(tmp_path / "fifo")

    assert cli.main(["console", "--json", str(tmp_path / "fifo")]) == 129
    out, err = capsys.readouterr()
    assert out == ""
    assert "nothing has come yet, waiting for up to 0.05 s" in err
    assert "a fifo to which nobody wrote for 0.1 s (limit 0.05 s)" in err


def test_a_fifo_with_a_writer_is_read_to_its_end(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(WARN,))
    writer.start()

    assert cli.main(["console", str(fifo)]) == 1
    writer.join()


def test_a_file_that_grows_is_read_as_far_as_it_was(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a log that grows faster than it is read would never end."""
    monkeypatch.setattr(stream, "BLOCK_BYTES", 16)
    size = log.stat().st_size
    got = b""
    for block in stream.blocks(str(log), print):
        got += block
        with log.open("a") as more:
            more.write("more and more\n")

    assert len(got) == size


PACKED = {
    "gzip": lambda raw: gzip.compress(raw, mtime=0),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": lambda raw: subprocess.run(["zstd", "-qc"], input=raw, stdout=subprocess.PIPE, check=True).stdout,
}


@pytest.mark.parametrize("what", PACKED)
def test_a_packed_log_is_unpacked(log: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    """By what it holds, whatever it is called."""
    log.write_bytes(PACKED[what](log.read_bytes()))

    assert cli.main(["console", str(log)]) == 1
    assert capsys.readouterr().out == f"{log}:2: WARNING: WARNING in try_to_unmap_one (torn)\n"


@pytest.mark.parametrize("what", PACKED)
def test_a_damaged_archive_is_exit_code_129(log: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    """What could be read is told, and an object of JSON is whole."""
    log.write_bytes(PACKED[what](log.read_bytes() * 50)[:-9])

    assert cli.main(["console", "--json", str(log)]) == 129
    out, err = capsys.readouterr()
    assert all(json.loads(line) for line in out.splitlines())
    assert f"{log}: cannot be unpacked: " in err


def test_a_packed_stream_is_named(log: Path, pipe: tuple[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    name, writing = pipe
    os.write(writing, gzip.compress(log.read_bytes(), mtime=0))
    os.close(writing)

    assert cli.main(["console", name]) == 129
    assert "gzip -dc | harness console -" in capsys.readouterr().err


def test_a_directory_is_its_files(log: Path, clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Links lead elsewhere, and what is hidden was not meant."""
    (log.parent / "link.log").symlink_to(log)
    (log.parent / ".hidden.log").write_text(WARN)

    assert cli.main(["console", "--json", str(log.parent)]) == 1
    assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == [str(clean), str(log)]


def test_an_empty_directory_is_exit_code_129(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["console", str(tmp_path)]) == 129
    assert "a directory without a file that is called as a log is" in capsys.readouterr().err


def test_reports_of_one_title_are_told_once_with_their_count(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = "".join(WARN.replace("1.000001", f"{time}.000001") for time in (2, 3))
    log.write_text(log.read_text() + again)
    line = f"{log}:2: WARNING: WARNING in try_to_unmap_one (torn)"

    assert cli.main(["console", str(log)]) == 1
    assert capsys.readouterr().out == f"{line} (3 times)\n"
    assert cli.main(["console", "--all", str(log)]) == 1
    assert capsys.readouterr().out.splitlines() == [line, line.replace(":2:", ":3:"), line.replace(":2:", ":4:")]


def test_json_says_how_often_in_which_boot_and_in_which_wrapping(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boot = "Sep  3 05:57:48 host kernel: [    0.000000] Linux version 6.12.117\n"
    log.write_text(boot + boot + f"Sep  3 05:57:49 host kernel: {WARN}")

    assert cli.main(["console", "--json", "--text", str(log)]) == 1
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert (report["count"], report["boot"], report["wrapping"]) == (1, 2, "clock+kernel+stamp+caller")
    assert report["text"] == WARN.partition("] ")[2].strip()


def test_the_help_says_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["console", "--help"]) == 0
    assert "Exit code: 0 no report, 1 a report" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 300_000, b"\xff\x00\x1b]0;x\x07\r" * 9000, b"x" * 5_000_000],
    ids=["empty", "NUL", "control", "line"],
)
def test_what_holds_no_report_is_exit_code_0(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty log is said to be empty: it may be the wrong one."""
    path = tmp_path / "any.log"
    path.write_bytes(content)

    assert cli.main(["console", str(path)]) == 0
    assert capsys.readouterr() == ("", f"harness: {path}: empty\n" if not content else "")


@pytest.mark.parametrize("name", ["/", "/nonexistent", "/etc/passwd/x", "x" * 300, "/dev/zero", "/dev/full"])
def test_what_cannot_be_read_is_exit_code_129(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["console", name]) == 129
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_file_that_may_not_be_read_is_exit_code_129(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)

    assert cli.main(["console", str(log)]) == 129
    assert "permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("wanted", [[], ["--json"]], ids=["lines", "json"])
def test_a_live_stream_is_told_as_it_comes_and_an_interrupt_ends_it(wanted: list[str]) -> None:
    """An interrupt is how dmesg -w ends: what came is told, and an object of JSON is whole."""
    argv = [sys.executable, "-m", "harness.cli", "console", *wanted, "-"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{WARN}[    1.000002][  T9] ---[ end trace 0000000000000000 ]---\n".encode())
        child.stdin.flush()
        said = os.read(child.stdout.fileno(), 1 << 16)
        assert b"WARNING in try_to_unmap_one" in said
        child.send_signal(signal.SIGINT)
        said += child.stdout.read()
        child.stdin.close()

    assert child.returncode == 130
    if wanted:
        assert json.loads(said)["reports"][0]["line"] == 1
    else:
        assert said == b"-:1: WARNING: WARNING in try_to_unmap_one (torn)\n"
