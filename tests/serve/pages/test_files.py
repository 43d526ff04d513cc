"""The files of the pages as they are served, without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import httpx
import pytest
from tests.serve.pages.station import Farm

ASSETS = sorted(one.name for one in resources.files("qanat.serve.ui").joinpath("assets").iterdir())


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    running = Farm(tmp_path_factory.mktemp("farm"), demanded=True)
    yield running
    running.stop()


@pytest.mark.parametrize("path", ["/", "/ui", "/ui/", "/ui/register", "/ui/readings", "/ui/charts", "/ui/dead-letters"])
def test_every_page_is_the_shell_behind_a_strict_policy(farm: Farm, path: str) -> None:
    answer = httpx.get(farm.url + path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"https?:", policy) == []
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = httpx.get(farm.url + path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = httpx.head(farm.url + path)
    assert (head.status_code, head.content) == (200, b"")


def test_files_are_known_by_name_and_no_path_leads_out(farm: Farm) -> None:
    for name in ASSETS:
        assert httpx.get(f"{farm.url}/ui/assets/{name}").status_code == 200
    for name in ("..%2fmount.py", "..%2f..%2f..%2ferrors.py", "mount.py", "%00", "shell.html%00.js", "nothing.js"):
        answer = httpx.get(f"{farm.url}/ui/assets/{name}")
        assert answer.status_code == 404
        assert answer.json()["hint"]


def test_who_has_not_said_who_he_is_learns_only_that_he_must(farm: Farm) -> None:
    assert set(httpx.get(f"{farm.url}/ui/station.json").json()) == {"demanded", "user", "detail", "hint"}
    wrong = httpx.get(f"{farm.url}/ui/station.json", headers={"x-api-key": "qk_wrong"}).json()
    assert (wrong["demanded"], wrong["user"]) == (True, None)
    told = farm.get("/ui/station.json")
    assert (told["user"], told["mqtt_port"]) == ("key:operator", farm.mqtt_port)
    assert told["aggregates"] == [
        {"name": "farm", "stream": "farm", "value": "v", "dimensions": ["site", "sensor", "kind"]}
    ]


def test_pages_are_no_part_of_the_api(farm: Farm) -> None:
    assert [path for path in farm.get("/openapi.json")["paths"] if path == "/" or path.startswith("/ui")] == []


def test_files_are_small_and_name_no_other_host() -> None:
    folder = Path(str(resources.files("qanat.serve.ui").joinpath("assets")))
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    assert sum(map(len, texts.values())) < 100_000
    for name, text in texts.items():
        others = set(re.findall(r"https?://[^\s\"'`]+", text)) - {
            "http://www.w3.org/2000/svg"
        }  # a name, not an address
        assert others == set(), name
        assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b", text), name
        assert len(text.splitlines()) <= 300, name
