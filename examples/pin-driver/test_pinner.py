# SPDX-License-Identifier: GPL-2.0-only
"""A driver with an mmu notifier of its own: it is told of each range twice, and memory pressure does not upset it."""

from pathlib import Path

import pytest

PINNER = Path(__file__).with_name("pinner")


@pytest.fixture
def driver(guest, module):
    module(PINNER)
    return guest


def counted(driver, command):
    """The ranges that began and ended in a shell of the guest that holds the device open and does `command`."""
    done = driver.run("sh", "-c", f"exec 3</dev/pinner; {command}; cat <&3", check=True)
    return [int(word) for word in done.text.split()]


def test_reclaim_tells_of_each_page(driver):
    driver.run("sh", "-c", "cd /sys/fs/cgroup; echo +memory > cgroup.subtree_control; mkdir small", check=True)
    fill = "x=$(head -c 2000000 /dev/zero | tr '\\0' x)"

    starts, ends = counted(driver, f"cd /sys/fs/cgroup/small; echo $$ > cgroup.procs; {fill}; echo 1M > memory.reclaim")

    assert starts == ends > 200


def test_it_lives_beside_a_device_that_refuses(driver, notifier, pressure, observed):
    notifier.subscribe(policy="eagain")
    pressure.memcg(size="40M")

    starts, ends = counted(driver, "true")

    assert observed.eagain > 0
    assert starts == ends


def test_it_can_be_unloaded(driver):
    driver.rmmod("pinner")
