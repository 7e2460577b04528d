# SPDX-License-Identifier: GPL-2.0-only
"""From lines to instructions of a linked kernel."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from harness.kernel import places
from harness.kernel.changes import Changed
from harness.kernel.places import Places, _Spot

FIRST = """\
extern int shared;
static __attribute__((noinline)) int same(int x)
{
	return x + shared;
}
int one(int x)
{
	return same(x) * 3;
}
"""
# The other function of the name differs.
SECOND = FIRST.replace("x + shared", "x - shared * 5").replace("int one", "int two")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vmlinux of two objects that have a static function of the same name, and its System.map."""
    folder = tmp_path_factory.mktemp("kernel")
    for name, text in (("first", FIRST), ("second", SECOND), ("data", "int shared = 7;\n")):
        (folder / f"{name}.c").write_text(text)
        subprocess.run(["gcc", "-O2", "-gdwarf-5", "-fno-pie", "-c", f"{name}.c"], cwd=folder, check=True)
    objects = ["first.o", "second.o", "data.o"]
    ends = ["-no-pie", "-nostdlib", "-Wl,-e,one", "-Wl,--defsym=_text=__executable_start"]
    subprocess.run(["gcc", *ends, "-o", "vmlinux", *objects], cwd=folder, check=True)
    listing = subprocess.run(["nm", "vmlinux"], cwd=folder, check=True, capture_output=True, text=True).stdout
    listing = "\n".join(
        line.replace(" R _text", " T _text").replace(" A _text", " T _text") for line in listing.splitlines()
    )
    (folder / "System.map").write_text(listing + "\n")
    return folder / "vmlinux"


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_static_function_is_found_by_its_code_when_its_name_is_not_enough(kernel: Path, name: str):
    """The instruction in the kernel is the one of the object's line, in the function of that object."""
    folder = kernel.parent
    image = places._Image(kernel)
    with (folder / f"{name}.o").open("rb") as stream:
        functions = places._functions(ELFFile(stream), image)

    found = {function: there for having in functions.values() for function, _, _, there in having}

    assert sorted(found) == sorted({"first": ["one", "same"], "second": ["same", "two"]}[name])
    for function, (offset,) in found.items():
        argv: list[str | Path] = ["addr2line", "-f", "-e", kernel, f"{image._text + offset:#x}"]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
        assert said[0] == function
        assert f"/{name}.c:" in said[1]


def spot(offset: int, *, begins: bool = True, function: str = "f") -> _Spot:
    return _Spot(function, offset, begins)


def test_a_line_is_reached_where_a_statement_begins_and_elsewhere_only_when_none_does():
    spots = {"a.c": {3: [spot(8), spot(4, begins=False)], 4: [spot(16, begins=False)]}}

    found = places._placed({"a.c": Changed((2, 3, 4, 5))}, spots, {})

    assert found == Places({("a.c", 3): (8,), ("a.c", 4): (16,)}, silent=2)


@pytest.mark.parametrize(
    ("cut", "lines"),
    [
        (4, [5]),  # the next line with code
        (5, [5]),
        (9, []),  # between two functions
        (2, []),  # before all code
        (20, []),  # after it
    ],
)
def test_the_next_line_of_the_same_function_stands_for_a_deleted_one(cut: int, lines: list[int]):
    having = {3: [spot(0)], 5: [spot(4)], 8: [spot(8)], 12: [spot(12, function="g")]}

    assert list(places._beside((cut,), having)) == lines


HEADER = """\
#define twice(x) \\
	((x) * 2)
extern int other(int x);
static inline unsigned long vma_end(struct vm *vm)
{
	if (vm)
		return call(vm);
	return 0;
}
"""


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        (Changed((2,)), {"twice"}),
        (Changed((4,)), {"vma_end"}),
        (Changed((7,), (8,)), {"vma_end"}),
        (Changed((2, 6)), {"twice", "vma_end"}),
        (Changed(), set()),
    ],
)
def test_of_many_objects_those_come_first_that_name_what_a_header_changed(changed: Changed, names: set[str]):
    assert places.enclosing(HEADER, changed) == names


def test_what_is_kept_is_read_again():
    found = Places({("a.c", 3): (8, 16)}, 2, {"b.c": "is not part of vmlinux in this configuration"})

    assert places._restored(places._document(found)) == found  # type: ignore[arg-type]
