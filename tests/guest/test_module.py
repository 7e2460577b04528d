# SPDX-License-Identifier: GPL-2.0-only
"""The C code of guest-modules and examples, checked by the kernel's own tools."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.host.progress import QUIET
from harness.host.workspace import cache_dir
from harness.kernel import modules, source, versions
from harness.kernel.build import KernelBuild
from harness.model.instrument import Instrument
from harness.run import pipeline
from harness.run.pipeline import Clock, KernelRequest
from tests.guest.command import EACH, ROOT

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

C = ROOT / "guest-modules"
EXAMPLES = ROOT / "examples"
EXAMPLES_C = sorted(EXAMPLES.rglob("*.[ch]"))
MODULE = C / "notifier_hold"
PLANTED = C / "planted"
REACHED = C / "reached"
PLANTED_C = sorted(PLANTED.glob("*.c"))
KERNEL_C = sorted([*MODULE.glob("*.[ch]"), *(C / "types").glob("*.c"), *REACHED.glob("*.[ch]"), *PLANTED_C])
USER_C = sorted({*C.glob("*/*.[ch]")} - {*KERNEL_C})
COMPAT = MODULE / "compat.h"
# Advice against the purpose of compat.h.
COMPAT_ONLY = {
    "LINUX_VERSION_CODE": "the module is built for many kernels",
    "CONSTANT_COMPARISON": "the comparison with KERNEL_VERSION() is taken for a constant on the left",
    "DEPRECATED_API": "a kernel without kmap_local_page() has kmap_atomic()",
}
# Advice against the purpose of planted.c.
PLANTED_ONLY = {"AVOID_BUG": "a BUG is one of them"}
# Advice that a program in user space cannot follow: the C library has none of these.
KERNEL_ONLY = {
    "PREFER_KERNEL_TYPES": "u64 is the kernel's",
    "PREFER_DEFINED_ATTRIBUTE_MACRO": "__printf() and __noreturn are the kernel's",
    "PREFER_FALLTHROUGH": "so is fallthrough",
    "STRCPY": "so is strscpy()",
    "VOLATILE": "a load that must happen has no READ_ONCE() here",
    "USE_NEGATIVE_ERRNO": "positive errnos are what errno and the agent's protocol use",
    "ENOSYS": "the agent's answer to a frame that it does not know",
    "EMBEDDED_FUNCTION_NAME": "a key of the protocol is called progress, and so is the function that prints it",
}


def kernel(source: str = versions.DEFAULT) -> KernelBuild:
    """A patched kernel, built or found."""
    return pipeline.prepare(KernelRequest(source), Instrument(), cache_dir(), QUIET, Clock()).kernel


@pytest.fixture(scope="module")
def checkpatch() -> Path:
    """The script of the newest supported kernel, where its source was unpacked."""
    pristine = source.fetch(versions.DEFAULT, cache_dir()).origin.linkable
    assert pristine is not None
    return pristine / "scripts" / "checkpatch.pl"


def complaints(checkpatch: Path, files: list[Path]) -> dict[str, str]:
    """What checkpatch --strict prints, by the type of the message; its exit status agrees, or it did not run."""
    done = subprocess.run(
        ["perl", checkpatch, "--no-tree", "--strict", "--terse", "--no-summary", "--show-types", "-f", *files],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (not done.stdout), done.stdout
    said = re.findall(r"^(.*: (?:ERROR|WARNING|CHECK):([A-Z_]+): .*)$", done.stdout, re.MULTILINE)
    assert len(said) == len(done.stdout.splitlines()), done.stdout
    return {kind: line for line, kind in said}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([path for path in KERNEL_C if path not in (COMPAT, *PLANTED_C)], {}),
        ([COMPAT], COMPAT_ONLY),
        (PLANTED_C, PLANTED_ONLY),
        (USER_C, KERNEL_ONLY),
        (EXAMPLES_C, {}),
    ],
    ids=["modules", "compat", "planted", "programs", "examples"],
)
def test_checkpatch_says_only_what_is_against_the_purpose_of_a_file(
    checkpatch: Path, files: list[Path], expected: dict[str, str]
):
    """--strict, every type of message; a type that is excused and does not come leaves the list."""
    assert COMPAT in KERNEL_C

    said = complaints(checkpatch, files)

    assert said.keys() == expected.keys(), said


def test_checkpatch_speaks(checkpatch: Path, tmp_path: Path):
    """The check itself can fail."""
    (tmp_path / "bad.c").write_text("// SPDX-License-Identifier: GPL-2.0-only\nint *one(void){\n  return 0; }\n")

    assert {"OPEN_BRACE", "LEADING_SPACE"} <= complaints(checkpatch, [tmp_path / "bad.c"]).keys()


@EACH
def test_compiler_and_sparse_are_silent_about_the_modules(source: str):
    """W=1 and C=2, everything compiled anew."""
    assert modules.complaints(MODULE, kernel(source), cache_dir()) == []
    assert modules.complaints(REACHED, kernel(source), cache_dir()) == []


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["pin-driver/pinner", "ioctl-misc/parcel"])
def test_compiler_and_sparse_are_silent_about_the_examples(name: str):
    """As a reader who copies one will want."""
    assert modules.complaints(EXAMPLES / name, kernel(), cache_dir()) == []


def test_compiler_and_sparse_are_silent_about_the_planted_faults():
    """The same, on the kernel that they are planted in."""
    assert modules.complaints(PLANTED, kernel(), cache_dir()) == []


def test_compiler_and_sparse_speak(tmp_path: Path):
    """A copy with an unused variable, and one with a user pointer that is read, are complained about."""
    copy = tmp_path / REACHED.name
    shutil.copytree(REACHED, copy)
    with (copy / "reached.c").open("a") as stream:
        stream.write(
            "\nint nh_bad(int __user *p);\nint nh_bad(int __user *p)\n{\n\tint set;\n\n\tset = *p;\n\treturn 0;\n}\n"
        )

    said = "\n".join(modules.complaints(copy, kernel(), cache_dir()))

    assert "set but not used" in said
    assert "dereference of noderef expression" in said
