# SPDX-License-Identifier: GPL-2.0-only
"""Looks at pages in a real browser without a window, and prints what it found as JSON.

    python look.py CHROMIUM OUT PAGE…

It runs in an environment of its own (requirements.txt), and needs nothing of
the project. Each page is opened from disk at the width of a phone and of a
desktop, in both colour schemes, with all that is folded closed and open; what
the browser complains of, asks for, and axe-core finds is told. OUT gets the pictures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

WIDTHS = (390, 1200)
SCHEMES = ("light", "dark")
# What sticks out at the right of the window, and is not in a box that scrolls.
STICKS_OUT = """() => [...document.querySelectorAll("body *")].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width && box.right > document.documentElement.clientWidth + 1
    && !one.closest(".wide, .u-wrap, .hidden");
}).map((one) => one.outerHTML.slice(0, 200))"""
OPEN = """(count) => {
  const closed = [...document.querySelectorAll("details.scenario")];
  for (const one of closed.slice(0, count))
    for (const part of [one, ...one.querySelectorAll("details")]) part.open = true;
  for (const one of document.querySelectorAll("section > details, article details")) one.open = true;
}"""
# Of so many scenarios, all is opened.
OPENED = 3
# A page of 5 MB on a host that does other things, too.
LIMIT_MS = 300_000


def looked(browser: Browser, path: Path, width: int, scheme: Any, out: Path) -> dict[str, Any]:
    """All that there is to say of a page at a width and in a colour scheme."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, device_scale_factor=1)
    page = context.new_page()
    page.set_default_timeout(LIMIT_MS)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.extend([f"dialog: {dialog.message}", str(dialog.dismiss() or "")]))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    found: dict[str, Any] = {"page": path.name, "width": width, "scheme": scheme, "title": page.title()}
    picture(page, out / f"{path.stem}-{width}-{scheme}.png")
    found["closed"] = violations(page, f"{path.name} {width} {scheme}")
    found["sticks_out"] = page.evaluate(STICKS_OUT)
    page.evaluate(OPEN, OPENED)
    page.wait_for_timeout(300)
    picture(page, out / f"{path.stem}-{width}-{scheme}-open.png")
    found["open"] = violations(page, f"{path.name} {width} {scheme} open")
    found["sticks_out"] += page.evaluate(STICKS_OUT)
    found["canvases"] = page.locator("canvas").count()
    found["executed"] = page.evaluate("() => globalThis.owned ?? null")
    found["asked"] = [url for url in asked if url != path.as_uri()]
    found["said"] = said
    context.close()
    return found


def picture(page: Page, path: Path) -> None:
    """A picture of the page's upper part; of all of a long one, nothing could be seen."""
    height = min(4000, int(page.evaluate("() => document.documentElement.scrollHeight")))
    page.screenshot(
        path=path, clip={"x": 0, "y": 0, "width": page.viewport_size["width"], "height": height}, full_page=True
    )


def violations(page: Page, where: str) -> list[str]:
    """What axe-core finds, a line each."""
    response = Axe().run(page).response
    return [
        f"{where}: {one['id']}: {one['help']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for one in response["violations"]
        for node in one["nodes"][:3]
    ]


def keyed(browser: Browser, path: Path) -> dict[str, Any]:
    """What the keyboard and a page without scripts can do."""
    page = browser.new_context(viewport={"width": 390, "height": 900}, java_script_enabled=False).new_page()
    page.goto(path.as_uri())
    found: dict[str, Any] = {"silent": page.locator("main").inner_text()}
    page = browser.new_context(viewport={"width": 1200, "height": 900}).new_page()
    page.goto(path.as_uri())
    link = page.locator("a[data-mark]").first
    if link.count():
        link.focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(300)
        charts = page.locator(".charts:has(canvas)").first
        found["charts"] = charts.count()
        found["in_view"] = charts.evaluate(
            "(one) => { const box = one.getBoundingClientRect(); return box.top < innerHeight && box.bottom > 0; }"
        )
        page.locator(".charts button", has_text="All").first.focus()
        page.keyboard.press("Enter")
    return found


def main(chromium: str, out: Path, pages: list[Path]) -> None:
    """Look at each page, and print what there is to say."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        # Its sandbox needs user namespaces, which root in a container does not have.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        told = [looked(browser, path, width, scheme, out) for path in pages for width in WIDTHS for scheme in SCHEMES]
        keys = {path.name: keyed(browser, path) for path in pages}
        browser.close()
    sys.stdout.write(json.dumps({"looked": told, "keyed": keys}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [Path(word).resolve() for word in sys.argv[3:]])
