/* SPDX-License-Identifier: GPL-2.0-only */
/* Where to watch, as offsets from _text; harness/run/reached.py writes the list for each patch. */
static const u32 reached_at[] = { 0 };
