# SPDX-License-Identifier: GPL-2.0-only
"""The line table of an object, as the real compiler makes it."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.kernel import line_table
from harness.kernel.line_table import Row

SOURCE = """\
int other(int);
static int hot;
static inline __attribute__((always_inline)) int twice(int x)
{
	return other(x) * 2;
}
__attribute__((section(".init.text"))) int begin(int x)
{
	if (x)
		hot = other(x);
	return twice(x);
}
int outer(int x)
{
	for (int i = 0; i < x; i++)
		x += twice(i);
	/* A comment. */
	if (__builtin_expect(x == 7, 0)) {
		other(x);
		hot = 1;
	}
	return x + hot;
}
"""


def rows(content: bytes) -> list[Row]:
    return list(line_table.rows(ELFFile(io.BytesIO(content))))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An object with code in two sections."""
    folder = tmp_path_factory.mktemp("lines")
    (folder / "some.c").write_text(SOURCE)
    target = folder / "some.o"
    subprocess.run(["gcc", "-O2", "-gdwarf-5", "-c", folder / "some.c", "-o", target], cwd=folder, check=True)
    return target


def test_each_instruction_has_the_section_file_and_line_that_addr2line_gives_it(made: Path):
    found = rows(made.read_bytes())

    with made.open("rb") as stream:
        elf = ELFFile(stream)
        names = {row.section: elf.get_section(row.section).name for row in found}
    assert set(names.values()) == {".text", ".init.text"}
    for section, name in names.items():
        mine = [row for row in found if row.section == section]
        argv: list[str | Path] = ["addr2line", "-e", made, "-j", name, *(f"{row.address:#x}" for row in mine)]
        told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
        plain = [re.sub(r" \(discriminator \d+\)", "", place) for place in told]
        assert plain == [f"{row.file}:{row.line}" for row in mine]


def test_a_statement_begins_where_a_debugger_would_stop(made: Path):
    """A comment has no row; each statement that makes code has one that begins it."""
    text = SOURCE.splitlines()
    found = rows(made.read_bytes())

    assert {"hot = other(x);", "return other(x) * 2;", "other(x);", "hot = 1;"} <= {
        text[row.line - 1].strip() for row in found if row.begins
    }
    assert "/* A comment. */" not in {text[row.line - 1].strip() for row in found}


def test_a_row_owns_its_address(made: Path):
    """A statement without an instruction of its own is not told where another line's instruction is."""
    places = [(row.section, row.address) for row in rows(made.read_bytes())]

    assert len(places) == len(set(places))


def test_an_object_without_debug_info_has_no_rows(tmp_path: Path):
    (tmp_path / "some.c").write_text(SOURCE)
    subprocess.run(["gcc", "-O2", "-c", "some.c"], cwd=tmp_path, check=True)

    assert rows((tmp_path / "some.o").read_bytes()) == []


@given(flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_damaged_table_is_refused_or_read_to_its_end(made: Path, flips: list[tuple[int, int]]):
    content = bytearray(made.read_bytes())
    section = ELFFile(io.BytesIO(content)).get_section_by_name(".debug_line")
    assert section is not None
    for at, value in flips:
        content[section["sh_offset"] + at % section["sh_size"]] = value

    with contextlib.suppress(ValueError, LookupError):
        assert all(row.line for row in rows(bytes(content)))
