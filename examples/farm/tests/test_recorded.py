"""Two greenhouses and twelve weather stations as they were recorded, beside a computation that knows nothing of qanat.

The plain way: each file with `csv` and `zoneinfo`, the loggers' clock by the order of their rows, then pandas. What the
example's README says of the flaws is what these tests count.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

ROME = ZoneInfo("Europe/Rome")
SET_BACK = dt.datetime(2021, 10, 31, 3)
IN_LUX = dt.datetime(2022, 5, 4)
#: File -> (place, kind, column, factor) of what it measures.
LOGGERS = {
    "Micro": (
        ("soil", "soil_temperature", 2, 1), ("plant", "plant_temperature", 3, 1), ("par", "par", 4, 1),
        ("water_1", "soil_moisture", 5, 100), ("water_2", "soil_moisture", 6, 100),
    ),
    "Temp_4ch": tuple((f"t{n}", "temperature", n + 1, 1) for n in (1, 2, 3, 4)),
    "TRH": (("t", "temperature", 2, 1), ("h", "humidity", 3, 1)),
}  # fmt: skip
FIXED = {
    "Ref_AirTemp": "temperature", "Ref_RH": "humidity", "Ref_PAR": "light", "Ref_SoilTemp": "soil_temperature",
    "Ref_WaterCont": "soil_moisture",
}  # fmt: skip
#: Nights below zero at any sensor of a site, and spells of seven dry days.
NIGHTS = {"beijing": 491, "greenhouse": 58}
SPELLS = 3
MOST_KLUX = 91
BOUNDS = {
    "temperature": (-40, 60), "soil_temperature": (-40, 60), "plant_temperature": (-40, 60), "humidity": (0, 100),
    "soil_moisture": (0, 100), "par": (0, 2200), "light": (0, 150), "rain": (0, math.inf), "wind": (0, math.inf),
}  # fmt: skip


def lines(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8-sig") as file:
        return list(csv.reader(file))[1:]


def clock(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, "%d/%m/%Y %H:%M:%S" if "/" in text else "%Y-%m-%d %H:%M:%S")


def logger_times(rows: list[list[str]]) -> list[dt.datetime]:
    """UTC of each row: the clock was set back once, where it jumps back by 45 minutes on that day, or in a gap."""
    times, is_winter, before = [], False, dt.datetime.min
    for row in rows:
        local = clock(row[1])
        if local >= SET_BACK and (local < before or local >= SET_BACK + dt.timedelta(hours=1)):
            is_winter = is_winter or before.date() != SET_BACK.date() or local < before
        times.append(local - dt.timedelta(hours=1 if is_winter else 2))
        before = local
    return times


def measured(recordings: dict[str, Path]) -> Iterator[tuple[str, str, str, dt.datetime, float]]:
    """(site, sensor, kind, UTC, value as it stands there; NaN where none does)."""
    for name, path in recordings.items():
        rows = lines(path)
        if name in FIXED:
            for text, at in rows:
                local = clock(at)
                utc = local.replace(tzinfo=ROME).astimezone(dt.UTC).replace(tzinfo=None)
                factor = 1000 if name == "Ref_PAR" and local >= IN_LUX else 1
                yield "greenhouse", name, FIXED[name], utc, float(text) / factor
        elif name.startswith("PRSA"):
            for row in rows:
                utc = dt.datetime(*map(int, row[1:5])) - dt.timedelta(hours=8)
                for kind, place in (("temperature", 11), ("rain", 14), ("wind", 16)):
                    yield "beijing", row[17], kind, utc, math.nan if row[place] == "NA" else float(row[place])
        else:
            for row, utc in zip(rows, logger_times(rows), strict=True):
                for place, kind, column, factor in LOGGERS[name.rpartition("_")[0]]:
                    yield "greenhouse", f"{name}/{place}", kind, utc, float(row[column]) * factor


@pytest.fixture(scope="module")
def expected(recordings: dict[str, Path]) -> pd.DataFrame:
    """Everything that was measured, with what is wrong with it."""
    frame = pd.DataFrame(measured(recordings), columns=["site", "sensor", "kind", "at", "raw"])
    low, high = (frame["kind"].map({kind: bounds[side] for kind, bounds in BOUNDS.items()}) for side in (0, 1))
    frame["flaw"] = "none"
    frame.loc[(frame["raw"] < low) | (frame["raw"] > high), "flaw"] = "impossible"
    frame.loc[frame["raw"].isna(), "flaw"] = "missing"
    frame["value"] = frame["raw"].where(frame["flaw"] == "none")
    return frame


def summed(frame: pd.DataFrame, span: str, form: str) -> pd.DataFrame:
    """Lowest, highest, average and count of what has a value, per sensor, kind and span; spans without any, too."""
    keys = ["site", "sensor", "kind", span]
    out = (
        frame.assign(**{span: frame["at"].dt.strftime(form)})
        .groupby(keys)["value"]
        .agg(readings="count", lowest="min", highest="max", average="mean")
    )
    return out.reset_index()


def assert_same(found: pd.DataFrame, wanted: pd.DataFrame, keys: list[str]) -> None:
    columns = list(wanted.columns)
    one, other = (frame[columns].sort_values(keys).reset_index(drop=True) for frame in (found, wanted))
    assert_frame_equal(one, other, check_dtype=False, rtol=1e-9, atol=1e-9)


def test_every_measurement_is_there_with_its_flaw(ask, expected):
    found = ask("SELECT site, kind, COALESCE(flaw, 'none') AS flaw, count(*) AS rows FROM readings GROUP BY ALL")
    wanted = expected.groupby(["site", "kind", "flaw"]).size().rename("rows").reset_index()
    assert_same(found, wanted, ["site", "kind", "flaw"])
    flaws = found[found["flaw"] != "none"].set_index(["site", "kind", "flaw"])["rows"].to_dict()
    assert flaws == {
        ("greenhouse", "temperature", "missing"): 1398,
        ("greenhouse", "humidity", "missing"): 1398,
        ("greenhouse", "soil_temperature", "missing"): 654,
        ("greenhouse", "soil_moisture", "missing"): 3104,
        ("greenhouse", "temperature", "impossible"): 12_010,
        ("greenhouse", "soil_moisture", "impossible"): 1758,
        ("greenhouse", "par", "impossible"): 2,
        ("beijing", "temperature", "missing"): 398,
        ("beijing", "rain", "missing"): 390,
        ("beijing", "wind", "missing"): 318,
    }


def test_every_hour_of_every_sensor(ask, expected):
    found = ask("SELECT * FROM hours")
    wanted = summed(expected[expected["site"] == "greenhouse"], "hour", "%Y-%m-%d %H")
    assert len(wanted) > 100_000
    assert_same(found, wanted, ["sensor", "kind", "hour"])


def test_every_day_of_every_sensor(ask, expected):
    found = ask("SELECT * FROM days")
    wanted = summed(expected, "day", "%Y-%m-%d")
    assert len(wanted) > 12 * 3 * 1461
    assert_same(found, wanted, ["site", "sensor", "kind", "day"])
    assert found["flaws"].sum() == (expected["flaw"] != "none").sum()


def test_every_frost_night(ask, expected):
    found = ask("SELECT site, sensor, night, lowest, readings FROM frost_nights")
    air = expected[expected["kind"] == "temperature"]
    air = air.assign(night=(air["at"] + pd.Timedelta(hours=12)).dt.strftime("%Y-%m-%d"))
    wanted = air.groupby(["site", "sensor", "night"])["value"].agg(lowest="min", readings="count").reset_index()
    wanted = wanted[wanted["lowest"] < 0]
    assert_same(found, wanted, ["site", "sensor", "night"])
    nights = found.groupby("site")["night"].nunique().to_dict()
    assert nights == NIGHTS


def test_every_dry_spell(ask, expected, example):
    """Days in a row on which the soil was drier than 15% on average; a day without readings ends a spell."""
    text = (example / "README.md").read_text()
    query = text[text.index("WITH dry AS") : text.index('"', text.index("WITH dry AS"))]
    found = ask(query)
    soil = summed(expected[expected["kind"] == "soil_moisture"], "day", "%Y-%m-%d")
    spells = []
    for sensor, days in soil[soil["average"] < 15].groupby("sensor"):
        run: list[dt.date] = []
        for day in [*map(dt.date.fromisoformat, sorted(days["day"])), dt.date.max]:
            if run and day != run[-1] + dt.timedelta(days=1):
                if len(run) >= 7:
                    spells.append((sensor, run[0].isoformat(), run[-1].isoformat(), len(run)))
                run = []
            run.append(day)
    assert len(spells) == SPELLS
    assert [tuple(row) for row in found.itertuples(index=False)] == sorted(spells)


# --- the flaws, one by one


def test_backward_steps_and_repeated_times_lose_nothing(recordings, ask):
    steps = {}
    for name in recordings:
        if name.rpartition("_")[0] in LOGGERS:
            times = [clock(row[1]) for row in lines(recordings[name])]
            steps[name] = sum(later < earlier for earlier, later in itertools.pairwise(times))
    assert steps == {"Micro_1": 3, "Micro_2": 3, "TRH_1": 3, "TRH_2": 3, "Temp_4ch_1": 4, "Temp_4ch_2": 5}
    [late] = ask("SELECT count(*) AS n FROM late")["n"]
    assert late == 0
    found = ask("SELECT count(*) AS n FROM readings WHERE sensor = 'TRH_1/t'")
    assert found["n"].tolist() == [10_858]


def test_the_hour_that_is_there_twice(ask):
    """Both passes from 03:00 to 03:45, an hour apart, and nothing twice."""
    found = ask(
        "SELECT sensor, at_, raw FROM readings WHERE sensor IN ('Temp_4ch_1/t1', 'Micro_2/soil') "
        "AND at_ >= '2021-10-31 00:30' AND at_ < '2021-10-31 03:30' ORDER BY sensor, at_"
    )
    quarters = [str(time) for time in pd.date_range("2021-10-31 00:30", "2021-10-31 03:15", freq="15min")]
    for sensor in ("Temp_4ch_1/t1", "Micro_2/soil"):
        assert [text[:19] for text in found[found["sensor"] == sensor]["at_"]] == quarters
    assert found[found["sensor"] == "Temp_4ch_1/t1"]["raw"].tolist()[2:10] == [
        11.155, 11.14, 11.084, 10.965, 11.09, 10.847, 10.799, 10.861,
    ]  # fmt: skip


def test_in_utc_all_clocks_tell_the_same(ask):
    """What the loggers' clock is was not written down: the air of the same greenhouse tells it, hour by hour."""
    hours = ask(
        "SELECT sensor, hour, average FROM hours WHERE sensor IN ('Ref_AirTemp', 'Temp_4ch_1/t2') AND readings > 0"
    )
    table = hours.pivot_table(index="hour", columns="sensor", values="average")
    table.index = pd.to_datetime(table.index, format="%Y-%m-%d %H")
    table = table.asfreq("h")
    for first, last in (("2021-09-01", "2021-10-15"), ("2021-11-01", "2022-01-15"), ("2022-05-01", "2022-06-15")):
        part = table.loc[first:last]
        fits = {shift: part["Ref_AirTemp"].corr(part["Temp_4ch_1/t2"].shift(shift)) for shift in (-2, -1, 0, 1, 2)}
        assert max(fits, key=lambda shift: fits[shift]) == 0, (first, fits)


def test_light_is_in_kilolux_throughout(ask):
    found = ask(
        "SELECT at_ < '2022-05-04' AS early, max(value) AS most FROM readings WHERE kind = 'light' GROUP BY ALL"
    )
    most = found.set_index("early")["most"].to_dict()
    assert most[True] == pytest.approx(MOST_KLUX, abs=1)
    assert most[False] == pytest.approx(99.573)


def test_gaps_of_weeks_are_gaps(ask):
    found = ask(
        "SELECT max(date_diff('day', before, at_)) AS days FROM (SELECT at_, lag(at_) OVER (ORDER BY at_) AS before "
        "FROM readings WHERE sensor = 'Ref_AirTemp')"
    )
    assert found["days"].tolist() == [36]


def test_lines_of_names_are_dead_letters_and_nothing_else_is(ask):
    found = ask("SELECT origin, reason FROM dead_letters ORDER BY origin")
    assert len(found) == 11
    assert {origin.rpartition(":")[2] for origin in found["origin"]} == {"1"}
