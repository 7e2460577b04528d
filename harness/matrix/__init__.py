# SPDX-License-Identifier: GPL-2.0-only
"""Many runs as one: a plan's jobs, which of them have to run, where they run, and what all of them come to."""
