"""The page of charts of this example, in a browser: a chart for each kind that the sensors measure."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import sync_playwright

from qanat.cli.demo import running

from .conftest import wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def test_the_page_of_charts_has_a_chart_for_each_kind(example: Path, tmp_path: Path) -> None:
    if CHROMIUM is None:
        text = "no chromium: make services installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    shutil.copytree(example, tmp_path / "farm", ignore=shutil.ignore_patterns("tests", "recorded", ".qanat"))
    now = int(time.time() * 1000)
    with running(tmp_path / "farm", tmp_path / "data") as server:
        url = f"http://127.0.0.1:{server.http_port}"
        for kind in ("temperature", "soil_moisture"):
            rows = [{"seq": seq, "ts": now - seq * 60_000, "value": 20.0 + seq % 7} for seq in range(60)]
            stored = httpx.post(f"{url}/streams/farm/site-01/f1-00001/{kind}", json=rows)
            assert (stored.status_code, stored.json()["dead_letters"]) == (200, 0)
        wait_for(lambda: httpx.get(f"{url}/v1/streams/readings").json()["rows"] == 120, "all readings", 30)
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
            page = browser.new_page()
            page.goto(f"{url}/ui/charts")
            page.locator("[data-chart] path.line").nth(1).wait_for(timeout=30_000)
            found = page.locator("[data-chart]").evaluate_all("all => all.map((one) => one.dataset.chart)")
            browser.close()
    assert sorted(found) == ["soil_moisture", "temperature"]
