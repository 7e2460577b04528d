# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import subprocess
from pathlib import Path

from harness.kernel import lines
from harness.kernel.lines import Spot

SOURCE = """
extern int other(int);
static inline __attribute__((always_inline)) int twice(int x)
{
	return other(x) * 2;
}
int outer(int x)
{
	return twice(x) + 1;
}
"""


def compiled(folder: Path, name: str, text: str, *options: str) -> Path:
    """An object made by the real compiler."""
    (folder / f"{name}.c").write_text(text)
    target = folder / f"{name}.o"
    subprocess.run(["gcc", "-O2", *options, "-c", f"{name}.c", "-o", target], cwd=folder, check=True)
    return target


def test_debug_info_changes_no_code_and_a_constant_or_a_callee_does(tmp_path: Path):
    """The assumption is proved: equal bytes, and relocations that refer to the same names."""
    plain = lines.code(compiled(tmp_path, "plain", SOURCE))

    assert lines.code(compiled(tmp_path, "same", SOURCE, "-gdwarf-5")) == plain
    assert lines.code(compiled(tmp_path, "number", SOURCE.replace("+ 1", "+ 3"), "-gdwarf-5")) != plain
    assert lines.code(compiled(tmp_path, "callee", SOURCE.replace("other", "another"), "-gdwarf-5")) != plain


def test_a_weak_definition_gives_way_to_a_strong_one_and_static_functions_stay(tmp_path: Path):
    """As the linker does with arch_cpu_idle(), of which each kernel compiles two."""
    objects = [
        compiled(tmp_path, "weak", "#pragma weak idle\n#pragma weak own\nvoid idle(void) {}\nvoid own(void) {}\n"),
        compiled(tmp_path, "strong", "void idle(void) {}\n"),
        compiled(tmp_path, "static", "__attribute__((used)) static void idle(void) {}\n"),
    ]
    listing = subprocess.run(["nm", "-A", "-S", *objects], capture_output=True, text=True, check=True).stdout

    found = {name: [path.stem for path, _ in places] for name, places in lines._defined(listing).items()}

    assert found == {"idle": ["strong", "static"], "own": ["weak"]}


def test_an_inlined_function_comes_before_the_one_that_it_is_in(tmp_path: Path):
    path = compiled(tmp_path, "same", SOURCE, "-gdwarf-5")
    # More than go into one call of addr2line, and one that is in no object.
    spots = [
        Spot("gone", 1, 0),
        *(Spot("outer", offset, 0) for offset in (*range(20), *range(1 << 20, (1 << 20) + 2000))),
    ]

    found = lines._lines(path, spots, [tmp_path])

    assert ("same.c:5 (twice)", "same.c:9 (outer)") in found.values()
    assert max(spot.offset for spot in found) < 20
    assert found == {
        spot: places for one in spots[:21] for spot, places in lines._lines(path, [one], [tmp_path]).items()
    }, "together as one by one"


def test_a_name_that_several_objects_have_is_told_apart_by_size():
    assert lines._fits(0x7B4, Spot("f", 0, 0x7C0))
    assert lines._fits(0x7B4, Spot("f", 0, 0))
    assert lines._fits(0, Spot("f", 0, 0x7C0)), "assembly gives no size"
    assert not lines._fits(0x7A0, Spot("f", 0, 0x7C0))


def test_a_place_is_named_below_the_sources_or_the_objects(tmp_path: Path):
    tops = (tmp_path / "tree", tmp_path / "obj", tmp_path / "modules")

    assert lines.short(f"{tmp_path}/tree/mm/rmap.c:12 (discriminator 3)", tops) == "mm/rmap.c:12"
    assert lines.short(f"{tmp_path}/obj/../tree/mm/rmap.c:12", tops) == "mm/rmap.c:12"
    assert lines.short(f"{tmp_path}/obj/../modules/hold/main.c:70", tops) == "hold/main.c:70"
    assert lines.short(f"{tmp_path}/obj/./arch/x86/include/generated/asm/syscalls_64.h:1", tops) == (
        "arch/x86/include/generated/asm/syscalls_64.h:1"
    )
