# SPDX-License-Identifier: GPL-2.0-only
"""From a request to a verdict: plan, drive, judge, keep; and finished runs, read again."""
