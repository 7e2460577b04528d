# SPDX-License-Identifier: GPL-2.0-only
"""Pure data: what the other layers exchange. Imports nothing of this project."""
