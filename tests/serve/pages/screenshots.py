"""Pictures of the pages for the README: `python -m tests.serve.pages.screenshots` writes docs/images/*.png."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page
from tests.serve.pages.station import CHROMIUM, Farm, chromium

FOLDER = Path(__file__).parents[3] / "docs" / "images"
#: Name of the picture -> path, and what shows that the page is complete.
PICTURES = {
    "overview": ("/", "section[aria-label=Pipelines] tbody tr"),
    "register": ("/ui/register", "tbody tr"),
    "readings": ("/ui/readings", "svg.spark path"),
    "charts": ("/ui/charts", "svg.chart path.line"),
    "dead-letters": ("/ui/dead-letters", "[data-letter]"),
}
LARGEST = 150_000


def take(farm: Farm, browser: Browser, folder: Path) -> list[Path]:
    """One picture a page."""
    context = browser.new_context(viewport={"width": 1000, "height": 640}, color_scheme="light")
    stored = json.dumps(json.dumps({"header": "x-api-key", "value": farm.key}))
    context.add_init_script(f"sessionStorage.setItem('qanat.credentials', {stored})")
    found = []
    for name, (path, ready) in PICTURES.items():
        page = context.new_page()
        page.goto(farm.url + path)
        if name == "register":
            _register(page)
        page.locator(ready).first.wait_for()
        if name == "overview":  # rates are known from the second look on
            farm.send("farm/farm-1/temperature-0/temperature", [{"v": 20.5}] * 400)
            page.locator("td", has_text=re.compile(r"[1-9]\d\d?/s")).first.wait_for()
        found.append(folder / f"{name}.png")
        page.screenshot(path=found[-1])
        page.close()
    context.close()
    return found


def _register(page: Page) -> None:
    page.get_by_label("Site", exact=True).fill("north")
    page.get_by_label("Kind", exact=True).fill("temperature")
    page.get_by_label("Names of the sensors").fill("stable-1..3")


def main() -> int:
    """Write them; 1 where one is too large or the browser is missing."""
    if CHROMIUM is None:
        print("no chromium: make services installs it", file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        farm = Farm(Path(folder), demanded=True)
        try:
            farm.simulate()
            farm.send("farm/farm-0/temperature-0/temperature", b'{"v": "warm"}')
            farm.send("farm/farm-1/soil_moisture-1/soil_moisture", b'{"v": 31.5, "ts": "yesterday"}')
            register = {"id": "stable-0", "kind": "temperature", "labels": {"site": "north"}}
            farm.post("/v1/devices", register)
            pictures = take(farm, browser, FOLDER)
        finally:
            farm.stop()
    large = [path.name for path in pictures if path.stat().st_size > LARGEST]
    print("\n".join(f"{path.name} {path.stat().st_size}" for path in pictures))
    return 1 if large else 0


if __name__ == "__main__":
    raise SystemExit(main())
