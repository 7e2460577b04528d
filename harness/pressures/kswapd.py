# SPDX-License-Identifier: GPL-2.0-only
"""Free memory below the low watermark and far above the minimum: kswapd reclaims, and nobody has to wait for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEYS = {"subscriber": True, "callbacks": True}


def commands(arguments: Mapping[str, Any]) -> Sequence[str]:
    """Take memory that cannot be reclaimed, until kswapd has come to the subscriber's buffer `callbacks` times."""
    return [
        # Without the page cache get_scan_count() has no easier prey than anonymous memory.
        "write path=/proc/sys/vm/drop_caches value=3",
        # The watermarks are 10 % of memory apart, their widest: in 512 MiB low is near 55 MiB, high near 105 MiB;
        # with KASAN, which takes a fifth of the memory, both are a fifth less.
        "write path=/proc/sys/vm/watermark_scale_factor value=1000",
        "charge name=ballast leave=20M lock=1",
        f"until name={arguments['subscriber']} counter=own min={arguments['callbacks']}",
        "unmap name=ballast",
    ]
