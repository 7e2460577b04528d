# SPDX-License-Identifier: GPL-2.0-only
"""The forms and bounds of what stands in a scenario file: checked by scenario.py, published by scenario_schema.py."""

from __future__ import annotations

import re

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
SIZE = re.compile(r"([0-9]{1,13})([KMG]?)")
SIZE_MAX = 1 << 40
PAGE = 4096
HUGE_PAGE = 2 << 20
# With less, a kernel of ours does not boot, which would look like its own fault.
MEMORY_MIN = 128 << 20
CPUS_MAX = 64
TIMEOUT_MAX_S = 86_400
COUNT_MAX = 1 << 40
# What a number in a reply can be expected to be.
WANTED = re.compile(r"[<>]= *[0-9]{1,19}")
NUMBER_MAX = 1 << 64
# What the driver's lines can hold: a word; in quotes, words. Kernel paths, as the name of a program or a module.
WORD = re.compile(r"[^\s\"#][^\s\"]{0,1023}")
WORDS = re.compile(r"[^\r\n\"]{0,1023}")
TARGETS = {
    "program": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"),
    "module": re.compile(r"[a-z0-9_]+(/[a-z0-9_-]+){0,15}"),
}
# Arguments of several words.
SPOKEN = ("value", "args")
VARIANTS_MAX, STEPS_MAX = 100, 1000
PATTERN_MAX = 1000
OPTION = re.compile(r"[A-Z0-9_]+")
VERSION = re.compile(r"(\d+)\.(\d+)")
