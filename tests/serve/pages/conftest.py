"""One browser and one running farm for the tests of a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from tests.serve.pages.station import CHROMIUM, Farm, Open, Watched, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, or a skip that says so."""
    if CHROMIUM is None:
        text = "no chromium: make services installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm that demands credentials and has two hours of readings."""
    running = Farm(tmp_path_factory.mktemp("farm"), demanded=True)
    running.simulate()
    yield running
    running.stop()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Farm]:
    """A farm to which nothing has come yet, and that asks nobody who he is."""
    running = Farm(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """`visit(farm, "/ui/charts")` gives a page of it, signed in unless `key=None`; more go to the browser's context."""
    contexts = []

    def go(farm: Farm, path: str = "/", key: str | None = "", **more: object) -> Watched:
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **more})  # type: ignore[arg-type]
        contexts.append(context)
        found = farm.key if key == "" else key
        if found is not None:
            stored = json.dumps(json.dumps({"header": "x-api-key", "value": found}))
            context.add_init_script(f"sessionStorage.setItem('qanat.credentials', {stored})")
        watched = Watched(context.new_page())
        watched.page.set_default_timeout(30_000)
        watched.page.goto(farm.url + path)
        return watched

    yield go
    for context in contexts:
        context.close()


def settled(page: Page) -> None:
    """Until the page has got what it asked for first."""
    page.locator("main h1").wait_for()
