# SPDX-License-Identifier: GPL-2.0-only
"""Machines for the tests of the guest layer.

They boot the kernel that the options of the plugin name (pytest
--kernel-source …), or the vmlinux in $HARNESS_TEST_VMLINUX, which needs no build.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from harness.guest import image as images
from harness.guest.image import GuestImage
from harness.guest.machine import Machine, boot
from harness.host import accelerator
from harness.host.workspace import cache_dir
from harness.model.shape import MachineShape
from harness.pytest_plugin import _session

Boot = Callable[..., AbstractContextManager[Machine]]


@pytest.fixture(scope="session")
def parts(pytestconfig: pytest.Config) -> tuple[Path, GuestImage, str]:
    """The kernel, an image without modules, and the accelerator."""
    named = os.environ.get("HARNESS_TEST_VMLINUX")
    vmlinux = Path(named) if named else _session(pytestconfig).lab.kernel.vmlinux
    choice = accelerator.choose(pytestconfig.getoption("--accel"), cache_dir())
    return vmlinux, images.assemble(cache_dir()), choice.used


@pytest.fixture
def start(parts: tuple[Path, GuestImage, str], tmp_path: Path) -> Boot:
    """A function that boots a machine; each gets a folder of its own."""
    vmlinux, image, accel = parts
    count = iter(range(100))

    def make(shape: MachineShape | None = None, **options: Any) -> AbstractContextManager[Machine]:
        folder = tmp_path / f"machine-{next(count)}"
        return boot(image, vmlinux, shape or MachineShape(), accel, run_dir=folder, **options)

    return make
