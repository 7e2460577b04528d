# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: scenarios as test items, and fixtures for tests that drive a guest themselves.

::

    pytest scenarios/                     every scenario of a folder called scenarios
    pytest mine.yaml                      one file
    def test_x(judged): judged("memcg-eagain")
    def test_y(guest): guest.run("uname", "-r", check=True)
    def test_z(guest, module): module("my-driver")

Options: --kernel-source, --kernel-patch, --kernel-config, --kernel-accel, with
the meanings that `harness run` gives them; the marker `kernel` chooses for one
test. A test with a guest is judged as a scenario is: what its kernel says fails
it, whatever the test asserts. docs/how-to/pytest.md has it all.
"""

from harness.pytest_plugin.guests import (
    guest,
    kernel,
    module,
    notifier,
    observed,
    pressure,
    pytest_report_teststatus,
    pytest_runtest_call,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    pytest_runtest_setup,
    pytest_terminal_summary,
)
from harness.pytest_plugin.marks import pytest_configure
from harness.pytest_plugin.options import pytest_addoption, pytest_load_initial_conftests
from harness.pytest_plugin.scenarios import judged, pytest_collect_file
from harness.pytest_plugin.sessions import pytest_unconfigure

__all__ = [
    "guest",
    "judged",
    "kernel",
    "module",
    "notifier",
    "observed",
    "pressure",
    "pytest_addoption",
    "pytest_collect_file",
    "pytest_configure",
    "pytest_load_initial_conftests",
    "pytest_report_teststatus",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_runtest_setup",
    "pytest_terminal_summary",
    "pytest_unconfigure",
]
