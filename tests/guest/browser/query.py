# SPDX-License-Identifier: GPL-2.0-only
"""Asks trace_processor about a trace, and prints the answers as JSON. It fetches that program the first time.

python query.py TRACE
"""

from __future__ import annotations

import json
import sys

from perfetto.trace_processor import TraceProcessor

QUERIES = {
    "slices": "select count(*) as n from slice where category in ('notifier', 'reclaim') and dur > 0",
    "ranges": "select count(*) as n from slice where name glob 'range open for *' and dur >= 0",
    "again": "select count(*) as n from slice where name = 'start −EAGAIN'",
    "held": "select cast(max(value) as int) as n from counter",
    "lost": "select ifnull(sum(value), 0) as n from stats where severity in ('error', 'data_loss')",
}


def main(trace: str) -> None:
    """Answer each query."""
    with TraceProcessor(trace=trace) as processor:
        found = {name: next(iter(processor.query(query))).n for name, query in QUERIES.items()}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
