# SPDX-License-Identifier: GPL-2.0-only
"""Writes the documents as a site: build/site. `make docs`.

Pages are collected and generated here; MkDocs, in an environment of its own
below the cache, makes HTML of them. Once that is installed, no network is needed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.host.workspace import cache_dir
from harness.model.errors import HarnessError
from setup.site import rendering

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Write the site; 0, or 1 when a page is wrong."""
    try:
        where, said = rendering.render(ROOT, ROOT / "build", cache_dir())
    except (HarnessError, OSError, ValueError) as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    if said:
        print(said, file=sys.stderr)
        return 1
    print(f"docs: {where}/index.html; its search needs a server: python3 -m http.server -d {where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
