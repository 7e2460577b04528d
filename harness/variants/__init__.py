# SPDX-License-Identifier: GPL-2.0-only
"""What there is to choose from: the folders of variants, the mutants, and scenarios that nobody wrote."""
