# SPDX-License-Identifier: GPL-2.0-only
"""HTML of the pages, by MkDocs in a virtual environment of its own below the cache."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import yaml

from harness.host import process, workspace
from harness.model.errors import LaunchError
from setup.site import staging

_HERE = Path(__file__).parent
_REQUIREMENTS = _HERE / "requirements.txt"
_INSTALL_LIMIT_S = 600
_BUILD_LIMIT_S = 300


def render(root: Path, build: Path, cache: Path) -> tuple[Path, str]:
    """Write the site of a checkout below a folder; returns where it is, and what is wrong with it: empty as a rule."""
    pages = build / "pages"
    settings = yaml.safe_load((_HERE / "mkdocs.yml").read_text(encoding="utf-8"))
    settings["nav"] = staging.stage(root, pages)
    settings["docs_dir"], settings["site_dir"] = "pages", "site"
    settings["theme"]["custom_dir"] = str(_HERE / "theme")
    (build / "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    with workspace.lock(cache / "locks" / "docs.lock"):
        python = installed(cache / "docs")
    # Not --quiet: what it silences does not count as wrong.
    done = process.run(
        [str(python), "-m", "mkdocs", "build", "--strict", "--config-file", str(build / "mkdocs.yml")],
        timeout_s=_BUILD_LIMIT_S,
    )
    return build / "site", (done.stdout + done.stderr).strip() or f"status {done.status}" if done.status else ""


def installed(folder: Path) -> Path:
    """The Python of an environment with exactly what requirements.txt names, checked by hash."""
    place = folder / workspace.digest_file(_REQUIREMENTS)
    if not (place / "ready").exists():
        print("docs: installing MkDocs", flush=True)
        shutil.rmtree(place, ignore_errors=True)
        for argv in (
            [sys.executable, "-m", "venv", str(place)],
            [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "--require-hashes", "-r", str(_REQUIREMENTS)],
        ):  # fmt: skip
            done = process.run(argv, timeout_s=_INSTALL_LIMIT_S)
            if done.status:
                raise LaunchError(f"{done.command}: status {done.status}: {done.stderr.strip()[-300:]}")
        (place / "ready").touch()
    # harness gc removes what was not used for longest.
    os.utime(place)
    return place / "bin/python"
