"""Sites, pipelines, dead letters that are dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qanat.model.devices import Device
from qanat.secure.registry import Registry
from qanat.serve.context import PipelineState

from .conftest import NOW, reading

Start = Callable[..., Any]


def test_sites_with_their_sensors_and_last_readings(start: Start) -> None:
    server = start()
    assert server.get("/v1/sites").json() == {"sites": [], "complete": True}
    server.feed("readings", [reading(n) for n in range(6)] + [reading(1, site="süd", sensor="x", temperature=5.5)])
    north, south = server.get("/v1/sites").json()["sites"]
    assert [one["name"] for one in north["sensors"]] == ["s0", "s1", "s2"]
    assert north["sensors"][2]["reading"]["count"] == 5
    assert (north["last"], north["sensors"][0]["streams"]) == ("2023-11-14T21:13:25.000Z", ["readings"])
    assert (south["site"], south["sensors"][0]["reading"]["temperature"]) == ("süd", 5.5)
    server.feed(
        "readings", [reading(2, sensor="s2", count=99), reading(8, sensor="s0", count=7), reading(9, site=None)]
    )
    (north,) = server.get("/v1/sites", params={"site": "north"}).json()["sites"]
    assert [one["reading"]["count"] for one in north["sensors"]] == [7, 4, 5]


def test_devices_belong_to_the_site_of_their_label(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "devices.db"
    registry = Registry(path)
    registry.add([Device("m1", kind="meter", labels={"site": "north"}), Device("m2", labels={})], [])
    registry.close()
    server = start(devices=path)
    everything = {"x-api-key": server.key("one", "admin")}
    rows_only = {"x-api-key": server.key("two", "read:readings", "write:readings")}
    server.wait_until_demanded()
    server.feed("readings", [reading(0, sensor="m1")], headers=rows_only)
    (site,) = server.get("/v1/sites", headers=everything).json()["sites"]
    assert (site["kinds"], site["devices"], site["sensors"][0]["kind"]) == (["meter"], ["m1"], "meter")
    (site,) = server.get("/v1/sites", headers=rows_only).json()["sites"]
    assert site["devices"] == []
    nothing = {"x-api-key": server.key("three", "read:spread")}
    assert server.get("/v1/sites", headers=nothing).json()["sites"] == []


def test_a_sensor_that_was_removed_is_shown_no_more_until_it_sends_or_is_registered(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "devices.db"
    registry = Registry(path)
    registry.add([Device("s1", labels={"site": "north"}), Device("s2", labels={"site": "north"})], [])
    server = start(devices=path)
    everything = {"x-api-key": server.key("one", "admin")}
    server.wait_until_demanded()

    def sensors() -> list[str]:
        (site,) = server.get("/v1/sites", headers=everything).json()["sites"]
        return [one["name"] for one in site["sensors"]]

    server.feed("readings", [reading(n) for n in range(3)], headers=everything)
    assert sensors() == ["s0", "s1", "s2"]
    registry.remove(["s1"], NOW)
    assert sensors() == ["s0", "s2"]
    server.feed("readings", [reading(3, sensor="s1"), reading(4)], headers=everything)  # from before its end
    assert sensors() == ["s0", "s2"]
    registry.add([Device("s1", labels={"site": "north"})], [])
    assert sensors() == ["s0", "s1", "s2"]
    registry.remove(["s1"], 0)
    assert sensors() == ["s0", "s1", "s2"]
    registry.close()


def test_pipelines_are_shown_with_what_is_wrong(start: Start) -> None:
    server = start(log="memory")
    server.pipelines = [PipelineState("climate", "failed", 10, 2, 3, 1, 0, NOW, 4, 100, "division by zero")]
    (one,) = server.get("/v1/pipelines").json()["pipelines"]
    assert (one["name"], one["state"], one["lag"], one["late"], one["error"]) == (
        "climate",
        "failed",
        4,
        3,
        "division by zero",
    )
    assert one["watermark"] == "2023-11-14T22:13:20.000Z"


def test_dead_letters_are_listed_retried_and_dropped(start: Start) -> None:
    server = start()
    bad = "\n".join('{"sensor": "s1", "temperature": "warm"}' for _ in range(3))
    answer = server.post("/v1/streams/readings/rows", content=bad, headers={"content-type": "application/x-ndjson"})
    assert answer.json()["dead_letters"] == 3
    body = {"letters": [{"id": "0:0"}], "set": {"temperature": "20.5"}}
    assert server.post("/v1/dead-letters/retry", json=body).json()["letters"][0]["fate"] == "repaired"
    dropped = server.post("/v1/dead-letters/drop", json={"letters": ["0:0", "0:1", "0:9"]}).json()
    assert dropped["dropped"] == 1
    assert [one["fate"] for one in dropped["letters"]] == ["repaired before", "dropped", "gone"]
    assert [one["id"] for one in server.get("/v1/dead-letters").json()["letters"]] == ["0:2"]
    for wrong in ({"letters": []}, {"letters": ["x"]}, {}, {"letters": "0:1"}, {"letters": ["0:1"], "x": 1}):
        assert server.post("/v1/dead-letters/drop", json=wrong).status_code == 400


def test_who_may_only_read_dead_letters_drops_none(start: Start) -> None:
    server = start()
    writer = {"x-api-key": server.key("w", "write:readings")}
    reader = {"x-api-key": server.key("r", "read:dead_letters")}
    keeper = {"x-api-key": server.key("k", "dead-letters")}
    server.wait_until_demanded()
    server.post("/v1/streams/readings/rows", json={"temperature": "warm"}, headers=writer)
    body = {"letters": ["0:0"]}
    assert server.post("/v1/dead-letters/drop", json=body, headers=writer).status_code == 403
    told = server.post("/v1/dead-letters/drop", json=body, headers=reader).json()
    assert told["letters"][0]["fate"] == "not allowed"
    assert server.post("/v1/dead-letters/drop", json=body, headers=keeper).json()["dropped"] == 1
