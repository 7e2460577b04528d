# SPDX-License-Identifier: GPL-2.0-only
"""An ioctl of a misc device: what it answers, and what KASAN says of its use after free."""

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The program of C, static: a guest has no libraries."""
    made = tmp_path_factory.mktemp("program") / "parcel-test"
    subprocess.run(["gcc", "-static", "-O2", "-Wall", "-o", made, HERE / "program.c"], check=True)
    return made


def test_what_it_answers(guest, module, program):
    module(HERE / "parcel")
    guest.program(program)


@pytest.mark.kernel(needs="KASAN", memory="1G", expect="KASAN: slab-use-after-free Read in parcel_weigh")
def test_a_parcel_that_was_dropped_is_not_weighed(guest, module, program):
    module(HERE / "parcel")
    guest.program(program, "drop")
