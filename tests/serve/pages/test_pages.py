"""What people do with the pages, in a real browser before a real `qanat up`."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect
from tests.serve.pages.station import Farm, Open, Watched

expect.set_options(timeout=30_000)
PATHS = ["/", "/ui/register", "/ui/readings", "/ui/charts", "/ui/dead-letters"]
TITLES = ["Overview", "Register a site and its sensors", "Latest readings", "Charts", "Dead letters"]
#: What shows that a page has what it asked for.
FULL = ["[data-health]", ".empty, tbody tr", "tbody tr", "[data-chart]", "[data-letter], .empty"]


def register(page: Page, site: str, kind: str, names: str) -> None:
    page.get_by_label("Site", exact=True).fill(site)
    page.get_by_label("Kind", exact=True).fill(kind)
    page.get_by_label("Names of the sensors").fill(names)
    page.get_by_role("button", name="Register", exact=True).click()


def readings_of(page: Page, sensor: str) -> list[str]:
    """The cells of a sensor's row, once it is there."""
    page.get_by_label("Search").fill(sensor)
    row = page.locator("tbody tr").filter(has=page.get_by_text(sensor, exact=True))
    expect(row).to_have_count(1)
    return row.locator("th, td").all_inner_texts()


def test_a_sensor_is_registered_sends_and_appears(farm: Farm, visit: Open) -> None:
    page = visit(farm, "/ui/register").page
    watcher = visit(farm, "/ui/readings").page
    register(page, "Nordhof", "temperature", "hof-1..2\nkühl-3")
    expect(page.get_by_role("heading", name="Credentials of Nordhof")).to_be_focused()
    page.get_by_label("As", exact=True).select_option("kühl-3")
    snippet = page.locator("[data-snippet=python]").inner_text()
    assert "farm/Nordhof/kühl-3/temperature" in snippet
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, encoding="utf-8", timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert readings_of(watcher, "kühl-3")[:4] == ["Nordhof", "kühl-3", "temperature", "21.5"]  # without a reload
    stored = farm.get("/v1/streams/farm/rows?where=sensor%3Dk%C3%BChl-3")["rows"]
    assert [(one["site"], one["kind"], one["v"]) for one in stored] == [("Nordhof", "temperature", 21.5)]
    device = farm.get("/v1/devices/k%C3%BChl-3")
    assert device["publish"] == ["farm/Nordhof/{id}/temperature"]
    assert device["labels"] == {"site": "Nordhof"}


@pytest.mark.parametrize("tool", ["mosquitto_pub", "curl"])
@pytest.mark.parametrize("credential", ["password", "token"])
def test_snippets_for_a_shell_run_as_they_stand(farm: Farm, visit: Open, tool: str, credential: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}: make services installs it")
    page = visit(farm, "/ui/register").page
    name = f"it's-{tool}-{credential}"
    page.get_by_label("Credential", exact=True).select_option(credential)
    register(page, "South 'x' farm", "humidity", name)
    page.get_by_role("heading", name="Credentials of").wait_for()
    snippet = page.locator(f"[data-snippet={tool}]").inner_text()
    done = subprocess.run(["sh", "-c", snippet], capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    rows = [one for one in farm.get("/v1/streams/farm/rows?order=newest&limit=50")["rows"] if one["sensor"] == name]
    assert [(one["site"], one["v"]) for one in rows] == [("South 'x' farm", 21.5)]


def test_credentials_can_be_downloaded_and_are_shown_once(farm: Farm, visit: Open) -> None:
    page = visit(farm, "/ui/register").page
    register(page, 'a "b", c', "load", "once-1..30")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download as CSV").click()
    rows = list(csv.DictReader(io.StringIO(waiting.value.path().read_text())))
    assert [one["id"] for one in rows] == [f"once-{number}" for number in range(1, 31)]
    assert {one["site"] for one in rows} == {'a "b", c'}
    assert rows[0]["secret"] in page.locator("[data-snippet=mosquitto_pub]").inner_text()
    page.reload()
    page.locator("tbody tr").first.wait_for()
    assert rows[0]["secret"] not in page.content()


def test_an_error_is_shown_with_its_hint(farm: Farm, visit: Open) -> None:
    page = visit(farm, "/ui/register").page
    alert = page.get_by_role("alert")
    register(page, "North", "", "twice")
    expect(alert).to_contain_text("The topic still has {kind}.")
    for _ in range(2):
        register(page, "North", "load", "twice")
        page.get_by_role("heading", name="Credentials of").wait_for()
    expect(alert).to_contain_text("twice")
    expect(alert).to_contain_text("rotate")


def test_a_chart_says_what_the_aggregate_says(farm: Farm, visit: Open) -> None:
    page = visit(farm, "/ui/charts").page
    page.get_by_label("Site", exact=True).select_option("farm-1")
    page.get_by_label("Range").select_option("6 hours")
    page.get_by_label("Window").select_option("15 min")
    charts = page.locator(".charts")
    expect(charts).to_have_attribute("data-asked", re.compile(r"window=900\+s.*site=farm-1"))
    expect(page.locator("[data-chart]")).to_have_count(4)
    for one in page.get_by_text("As a table").all():
        one.click()
    expect(page.locator("[data-chart] tbody:has(tr)")).to_have_count(4)  # a table is filled a moment after it opens
    shown = page.evaluate(
        """() => [document.querySelector(".charts").dataset.asked, Object.fromEntries(
        [...document.querySelectorAll("[data-chart]")].map((chart) => [chart.dataset.chart,
        [...chart.querySelectorAll("tbody tr")].map((row) => [Number(row.dataset.start),
        ...[...row.querySelectorAll("data")].map((one) => Number(one.value))])]))]"""
    )
    asked, found = shown
    answer = farm.get(asked)
    wanted = {
        group["by"]["kind"]: [
            [_ms(one["start"]), one["count"], one["min"], one["avg"], one["max"]]
            for one in group["windows"]
            if one["count"]
        ]
        for group in answer["groups"]
    }
    assert found == wanted
    assert set(wanted) == {"temperature", "humidity", "soil_moisture", "milk_yield"}
    assert all(start % 900_000 == 0 for rows in wanted.values() for start, *_ in rows)
    line = page.locator("[data-chart=temperature] path.line").get_attribute("d")
    assert line is not None
    assert line.count("L") + 1 == len(wanted["temperature"])


def _ms(text: str) -> int:
    import datetime as dt

    return round(dt.datetime.fromisoformat(text).timestamp() * 1000)


def test_a_chart_follows_new_rows_and_is_read_with_keys(farm: Farm, visit: Open) -> None:
    farm.send("farm/keys/k-1/keyed", {"v": 1.0})
    page = visit(farm, "/ui/charts").page
    page.get_by_label("Site", exact=True).select_option("keys")
    plot = page.locator("[data-chart=keyed] svg")
    expect(plot).to_have_attribute("aria-label", re.compile("from 1 to 1;"))
    farm.send("farm/keys/k-1/keyed", [{"v": 3.0}, {"v": 5.0}])
    expect(plot).to_have_attribute("aria-label", re.compile("from 1 to 5;"))
    plot.focus()
    page.keyboard.press("End")
    expect(page.locator("[data-chart=keyed] [aria-live]")).to_contain_text("reading")
    page.keyboard.press("Home")
    expect(page.locator("[data-chart=keyed] [aria-live]")).to_contain_text("no reading")


def test_a_dead_letter_is_corrected_and_retried(farm: Farm, visit: Open) -> None:
    farm.send("farm/mend/m-1/temperature", b'{"v": "lukewarm"}')
    page = visit(farm, "/ui/dead-letters").page
    letter = page.locator("[data-letter]").filter(has_text="lukewarm")
    expect(letter).to_have_count(1)
    letter.get_by_text("Bytes as hex").click()
    expect(letter.locator(".hex")).to_contain_text("7b 22 76 22 3a 20 22 6c 75 6b 65 77 61 72 6d 22")
    letter.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(letter.get_by_role("status")).to_contain_text("does not fit")
    letter.get_by_role("textbox").fill('{"v": 36.6}')
    letter.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.locator("p.good")).to_contain_text("repaired")
    expect(letter).to_have_count(0)
    rows = farm.get("/v1/streams/farm/rows?where=site%3Dmend")["rows"]
    assert [one["v"] for one in rows] == [36.6]


def test_a_dead_letter_is_dropped_only_when_that_is_confirmed(farm: Farm, visit: Open) -> None:
    farm.send("farm/drop/d-1/temperature", b"\xff\xfe\x00\x01")
    page = visit(farm, "/ui/dead-letters").page
    letter = page.locator("[data-letter]").filter(has_text="no text in UTF-8").first
    name = letter.get_attribute("data-letter")
    drop = letter.get_by_role("button", name="Drop")
    drop.click()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()  # Enter by mistake drops nothing
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(drop).to_be_focused()
    assert name in [one["id"] for one in farm.get("/v1/dead-letters")["letters"]]
    drop.click()
    page.get_by_role("dialog").get_by_role("button", name="Drop").click()
    expect(page.locator(f"[data-letter='{name}']")).to_have_count(0)
    assert name not in [one["id"] for one in farm.get("/v1/dead-letters")["letters"]]


def test_a_key_is_demanded_and_a_wrong_one_refused(farm: Farm, visit: Open) -> None:
    watched = visit(farm, "/ui/readings", key=None)
    page = watched.page
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert "farm-0" not in page.content()
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type("qk_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("qanat key")
    assert page.evaluate("sessionStorage.length") == 0
    page.get_by_label("API key").fill(str(farm.key))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Latest readings")).to_be_visible()
    expect(page.locator("tbody tr").first).to_be_visible()
    assert [url for url in watched.requested if str(farm.key) in url] == []
    assert (page.evaluate("localStorage.length"), page.context.cookies()) == (0, [])
    assert watched.complaints == []
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_key_that_may_little_is_told_what_it_lacks(farm: Farm, visit: Open) -> None:
    little = farm.make_key("little", "read:farm")
    page = visit(farm, "/ui/register", key=little).page
    expect(page.locator(".empty")).to_contain_text("scope devices or admin")
    page = visit(farm, "/ui/dead-letters", key=little).page
    expect(page.get_by_role("alert")).to_contain_text("dead_letters")
    page = visit(farm, "/", key=little).page
    expect(page.get_by_role("alert")).to_contain_text("--scope query")
    expect(page.locator("section[aria-label=Streams] tbody tr")).to_have_text([re.compile("^farm")])


def test_names_that_are_markup_are_text(farm: Farm, visit: Open) -> None:
    script, image = "<script>bad=1<\\script>", "<img src=x onerror=bad=1>"
    turned = "\u202e\u05d4\u05e4\u05d5\u05da\u200f\u202d"
    row = {"site": script, "sensor": image, "kind": turned, "v": 7.25}
    farm.send("farm", [row])
    page = visit(farm, "/ui/register").page
    register(page, script, "<b>", "<script>bad=1")
    page.get_by_role("heading", name="Credentials of").wait_for()
    expect(page.locator("section[aria-label=Credentials] th[scope=row]")).to_have_text("<script>bad=1")
    pages = [page, visit(farm, "/ui/readings").page, visit(farm, "/ui/charts").page]
    assert readings_of(pages[1], image)[:4] == [script, image, turned, "7.25"]
    expect(pages[2].locator("figcaption", has_text="\u05d4\u05e4")).to_have_count(1)
    for one in pages:
        assert one.evaluate("typeof bad") == "undefined"
        assert one.locator("main script, main img, main b, main iframe").count() == 0


@pytest.mark.parametrize("look", [{}, {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}])
def test_pages_keep_to_themselves(farm: Farm, visit: Open, look: dict[str, object]) -> None:
    for path, title, full in zip(PATHS, TITLES, FULL, strict=True):
        watched = visit(farm, path, **look)
        page = watched.page
        expect(page.locator("h1")).to_have_text(title)
        page.locator(full).first.wait_for()
        assert watched.complaints == [], path
        assert {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in watched.requested} == {farm.url}
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the window"
        _is_operable(page)


def _is_operable(page: Page) -> None:
    """Every control has a name, one heading leads, and the way past the navigation is the first stop."""
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, select, textarea, button, [role=region], svg[role=img]")]
        .filter((one) => !(one.labels?.length || one.getAttribute("aria-label") || one.textContent.trim()))
        .map((one) => one.outerHTML.slice(0, 200))"""
    )
    assert nameless == []
    assert page.locator("h1").count() == 1
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_empty_pages_say_what_to_do_next(fresh: Farm, visit: Open) -> None:
    wanted = {
        "/": "Register a site",
        "/ui/register": "qanat key add operator --scope admin",
        "/ui/readings": "Register a site",
        "/ui/charts": "Choose a longer range",
        "/ui/dead-letters": "qanat dead list",
    }
    for path, text in wanted.items():
        watched = visit(fresh, path)
        expect(watched.page.locator(".empty")).to_contain_text(text)
        assert watched.complaints == []


def test_rates_faults_and_lag_are_seen(farm: Farm, visit: Open) -> None:
    watched: Watched = visit(farm, "/")
    page = watched.page
    cell = page.locator("section[aria-label=Streams] tr", has=page.get_by_text("farm", exact=True)).locator("td").first
    expect(cell).to_have_text("0.0/s")
    farm.send("farm/rate/r-1/temperature", [{"v": float(number)} for number in range(100)])
    expect(cell).not_to_have_text("0.0/s", timeout=10_000)
    expect(page.locator("section[aria-label=Pipelines] tbody tr")).to_contain_text("running")
    ill = {"ready": False, "faults": [{"part": "pipeline warm", "fault": "state limit <b>reached</b>"}]}
    page.route("**/readyz", lambda route: route.fulfill(status=503, json=ill))
    expect(page.locator("[data-health=ill]")).to_contain_text("pipeline warm: state limit <b>reached</b>")


def test_thousands_of_sensors_leave_the_page_usable(fresh: Farm, visit: Open) -> None:
    many = 8000
    rows = [{"site": f"s{n % 40}", "sensor": f"n{n}", "kind": "load", "v": float(n)} for n in range(many)]
    fresh.send("farm", rows)
    page = visit(fresh, "/ui/readings").page
    expect(page.get_by_text("8,000 of 8,000 sensors")).to_be_visible()
    page.evaluate(
        """() => { window.longest = 0; new PerformanceObserver((list) => { for (const one of list.getEntries())
        window.longest = Math.max(window.longest, one.duration); }).observe({ type: "longtask" }); }"""
    )
    assert page.locator("tbody tr").count() == 50
    for turn in range(1, 4):
        fresh.send("farm", [row | {"v": float(turn)} for row in rows])
    assert readings_of(page, "n7999")[3] == "7,999" or readings_of(page, "n7999")[3] in "123"
    expect(page.locator("tbody tr td.number")).to_have_text("3")
    page.get_by_label("Search").fill("")
    page.get_by_label("Site", exact=True).select_option("s7")
    expect(page.get_by_text("200 of 8,000 sensors")).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("51 to 100 of 200")).to_be_visible()
    assert page.evaluate("window.longest") < 1000  # ms; 100 to 300 on two busy cores


def test_live_rows_go_on_where_they_were_cut(farm: Farm, visit: Open) -> None:
    page = visit(farm, "/ui/readings").page
    expect(page.get_by_text(re.compile("^Live"))).to_be_visible()
    page.route("**/rows/live*", lambda route: route.abort())  # it must not be back before the row is there
    farm.stop()
    expect(page.get_by_text("The connection is interrupted")).to_be_visible()
    farm.start()
    farm.send("farm/cut/c-1/temperature", {"v": 4.5})
    page.unroute("**/rows/live*")
    expect(page.get_by_text(re.compile("^Live"))).to_be_visible()
    assert readings_of(page, "c-1")[3] == "4.5"


def test_the_question_of_a_chart_has_no_key_and_whole_windows(farm: Farm, visit: Open) -> None:
    watched = visit(farm, "/ui/charts")
    watched.page.locator("[data-chart]").first.wait_for()
    (asked, *_) = [url for url in watched.requested if "/v1/aggregate/" in url]
    given = parse_qs(urlsplit(asked).query)
    assert set(given) == {"window", "from", "to", "align", "functions", "by"}
    assert int(given["from"][0]) % 60_000 == 0
    assert json.dumps(given).count("qk_") == 0
