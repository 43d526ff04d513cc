"""Faults come in the shares that were asked for, always the same ones, and each leaves everything else as it was."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from qanat.errors import ConfigError
from qanat.sim import farm as farms
from qanat.sim import web as sites
from qanat.sim.faults import DEADLY, Fault, Faults, Note, disturb, draw, parse_rate, parse_share
from qanat.sim.households import Message

FARM = farms.Farm(sites=3, sensors=300, seconds=600, seed=5)
ALL = Faults(late=0.02, swapped=0.03, duplicates=0.01, clock_faults=0.02, malformed=0.01)


def played(faults: Faults, farm: farms.Farm = FARM) -> list[tuple[Message, Note]]:
    return list(disturb(farms.readings(farm), faults, farm.seed))


def test_nothing_goes_wrong_unless_it_is_asked_for() -> None:
    found = played(Faults())
    assert {note.fault for _, note in found} == {Fault.NONE}
    assert [message.payload for message, _ in found] == [one.write(one.at_ms) for one in farms.readings(FARM)]


def test_every_fault_has_its_share() -> None:
    found = played(ALL)
    counts = Counter(one for _, note in found for one in note.fault)
    once = sum(Fault.AGAIN not in note.fault for _, note in found)
    clocked = sum(one.clocked for one in farms.readings(FARM))
    for fault, share, of in (
        (Fault.LATE, 0.02, once),
        (Fault.SWAPPED, 0.03, once),
        (Fault.AGAIN, 0.01, once),
        (Fault.AHEAD, 0.01, clocked),
        (Fault.BEHIND, 0.01, clocked),
        (Fault.CUT, 0.01, once),
    ):
        assert counts[fault] == pytest.approx(share * of, rel=0.35), fault


def test_messages_leave_in_the_order_of_their_times() -> None:
    times = [message.at_ms for message, _ in played(ALL)]
    assert times == sorted(times)


def test_the_same_seed_is_the_same_play_and_another_one_is_not() -> None:
    assert played(ALL) == played(ALL)
    assert played(ALL) != played(ALL, replace(FARM, seed=6))


def test_one_fault_more_changes_nothing_else() -> None:
    def without(found: list[tuple[Message, Note]], fault: Fault) -> set[tuple[str, bytes]]:
        return {(note.key, message.payload) for message, note in found if fault not in note.fault}

    plain, more = played(replace(ALL, malformed=0.0)), played(ALL)
    cut = {note.key for _, note in more if Fault.CUT in note.fault}
    assert cut
    assert {pair for pair in without(plain, Fault.CUT) if pair[0] not in cut} == without(more, Fault.CUT)


def test_a_swapped_message_leaves_after_the_next_one_of_its_device() -> None:
    found = [note.key for _, note in played(Faults(swapped=0.2))]
    places = {key: place for place, key in enumerate(found)}
    swapped = [note.key for _, note in played(Faults(swapped=0.2)) if note.fault]
    behind = 0
    for key in swapped:
        name, number = key.rsplit("/", 1)
        behind += places.get(f"{name}/{int(number) + 1}", -1) < places[key]
    assert behind == len(swapped) > 50


def test_a_cut_message_is_not_json_and_a_wrong_clock_is_far_off() -> None:
    for message, note in played(ALL):
        if Fault.CUT in note.fault:
            with pytest.raises(ValueError):
                json.loads(message.payload)
        elif note.fault & (Fault.AHEAD | Fault.BEHIND):
            assert abs(json.loads(message.payload)["ts"] - message.at_ms) > 86_400_000


def test_draws_are_spread_evenly_and_do_not_follow_each_other() -> None:
    values = [draw(1, who, n, 3) for who in range(50) for n in range(200)]
    assert sum(values) / len(values) == pytest.approx(0.5, abs=0.02)
    assert sum(a < 0.5 < b for a, b in pairwise(values)) == pytest.approx(len(values) / 4, rel=0.1)


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.5 %", 0.005), ("0.02", 0.02), (0.1, 0.1), ("100%", 1)])
def test_shares_are_written_in_per_cent_or_not(text: str | float, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize(("text", "rate"), [("1/min", 1), ("0.5/s", 30), ("30/h", 0.5), ("4", 4), (2.0, 2)])
def test_rates_are_written_with_their_time(text: str | float, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)


def test_what_is_no_share_or_rate_is_refused() -> None:
    for text in ("101%", "-1", "much", "2 %%"):
        with pytest.raises(ValueError, match="no share"):
            parse_share(text)
    for text in ("1/day", "often", "-1/min"):
        with pytest.raises(ValueError, match="no rate"):
            parse_rate(text)
    with pytest.raises(ConfigError, match="late is a share"):
        Faults(late=2)


# --- what is measured


def test_sensors_keep_their_interval_and_come_from_all_vendors_and_kinds() -> None:
    everyone = {one.client: one for one in farms.sensors(FARM)}
    assert {one.vendor for one in everyone.values()} == set(farms.VENDORS)
    assert {one.kind.name for one in everyone.values()} == {kind.name for kind in farms.KINDS}
    assert {one.interval_s for one in everyone.values()} == set(farms.INTERVALS_S)
    times: dict[str, list[int]] = {}
    for reading in farms.readings(FARM):
        times.setdefault(reading.client, []).append(reading.at_ms)
    for client, found in times.items():
        wanted = everyone[client].interval_s * 1000
        assert all(0.99 * wanted <= b - a <= 1.01 * wanted for a, b in pairwise(found))
    assert len(times) == FARM.sensors


def test_each_vendor_writes_the_same_measurement_in_its_own_way() -> None:
    shapes = set()
    for reading in farms.readings(FARM):
        row = json.loads(reading.write(reading.at_ms))
        value = row["raw"] / row["scale"] if "raw" in row else row.get("value", row.get("data", {}).get("v"))
        assert round(value * 100) == reading.value
        assert ("ts" in row) == reading.clocked
        shapes.add(frozenset(row))
        site, sensor = reading.client.rsplit("-", 2)[0], "-".join(reading.client.rsplit("-", 2)[1:])
        assert reading.topic.split("/")[:3] == ["farm", site, sensor]
    assert len(shapes) == 3


def test_a_sensor_of_a_larger_farm_measures_the_same() -> None:
    small = {one.key(one.at_ms): one.value for one in farms.readings(replace(FARM, sensors=30))}
    large = {one.key(one.at_ms): one.value for one in farms.readings(FARM)}
    assert small.items() <= large.items()


def test_visitors_have_sessions_and_every_event_its_own_time() -> None:
    site = sites.Site(visitors=60, seconds=900, collectors=3)
    rows = [json.loads(one.write(one.at_ms)) for one in sites.readings(site)]
    assert len({(row["user_id"], row["timestamp"]) for row in rows}) == len(rows) > 1_000
    assert {row["event_type"] for row in rows} == {name for name, _ in sites.EVENTS}
    sessions = {(row["user_id"], row["payload"]["session_id"]) for row in rows}
    assert len(sessions) > 120
    assert {one.client for one in sites.readings(site)} == {f"collector-{n}" for n in (1, 2, 3)}


def test_fleets_of_nothing_are_refused() -> None:
    with pytest.raises(ConfigError):
        farms.Farm(sensors=0)
    with pytest.raises(ConfigError):
        sites.Site(collectors=0)
    assert DEADLY == Fault.AHEAD | Fault.CUT
