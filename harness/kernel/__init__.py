# SPDX-License-Identifier: GPL-2.0-only
"""From the name of a kernel to files that boot: source, patches, configuration, build, modules."""
