# SPDX-License-Identifier: GPL-2.0-only
"""What the project claims about speed, measured against its peers in the same run: `make bench`."""
