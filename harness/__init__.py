# SPDX-License-Identifier: GPL-2.0-only
"""Build a patched kernel, press it until reclaim meets an mmu notifier, and judge what happened."""

__version__ = "0.1.0"
