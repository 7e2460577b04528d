# SPDX-License-Identifier: GPL-2.0-only
"""Kernel memory allocated past the watermarks without waking kswapd: each page that is short costs a direct reclaim.

The module allocates with __GFP_NORETRY, so that nothing is killed for it, and frees
it all again: mm/page_alloc.c __alloc_pages_slowpath() reclaims once, then fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEYS = {"subscriber": True, "stalls": False, "callbacks": False}


def commands(arguments: Mapping[str, Any]) -> Sequence[str]:
    """Allocate until allocstall_* has moved by `stalls` and a subscriber saw `callbacks`."""
    stalls, callbacks = arguments.get("stalls", 1), arguments.get("callbacks", 1)
    return [
        # Without the page cache get_scan_count() has no easier prey than anonymous memory.
        "write path=/proc/sys/vm/drop_caches value=3",
        # The swap device's own allocations wake kswapd, which then takes the pages while direct reclaim sleeps in
        # throttle_direct_reclaim(). High watermarks keep direct reclaim from that sleep: free memory stays above half
        # of them.
        "write path=/proc/sys/vm/min_free_kbytes value=16384",
        "kswapd",
        f"kalloc name={arguments['subscriber']} gfp=movable stop_allocstall={stalls} stop_callbacks={callbacks}",
    ]
