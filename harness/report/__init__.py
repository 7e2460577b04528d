# SPDX-License-Identifier: GPL-2.0-only
"""From a verdict to the files that people and CI read."""
