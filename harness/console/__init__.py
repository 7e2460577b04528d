# SPDX-License-Identifier: GPL-2.0-only
"""Reports of a kernel in its console log.

`scan` reads a stream, `find` reads what is in memory, and `opener` judges a single
line for callers that listen live. The tables of the lines that open a report are in
patterns/, the functions that no report is named after in infrastructure.py.
"""

from __future__ import annotations

from harness.console.lines import Record, records
from harness.console.report import Report
from harness.console.scanner import Scanner, find, opener, scan

__all__ = ["Record", "Report", "Scanner", "find", "opener", "records", "scan"]
