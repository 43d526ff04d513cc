"""Random scripts with random inputs: the same ones for the same seed. Writes input files, runs nothing.

Streams have disorder, late rows, NULLs, ties, rows exactly at the ends of windows, and quiet gaps. Values are quarters,
so that sums are exact in any order. Operators with two inputs get streams without late rows: which input Flink reads
first is chance.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

_BASE = datetime(2026, 3, 1)


@dataclass(frozen=True, slots=True)
class Script:
    """One script. `final_only`: see compare.py."""

    name: str
    sql: str
    key: tuple[str, ...] = ()
    final_only: bool = False


def scripts(seed: int, count: int, folder: Path) -> list[Script]:
    """`count` scripts, their inputs below `folder`; kinds take turns."""
    made = []
    for number in range(count):
        random = Random(seed * 1_000 + number)
        kind, make = list(_KINDS.items())[number % len(_KINDS)]
        place = folder / f"{number:02}"
        place.mkdir()
        for name in ("p", "q"):
            (place / f"{name}.json").write_text(_stream(random))
        select, key, two = make(random)
        made.append(Script(f"{number:02}-{kind}", _tables(place, late=not two) + select, key, two))
    return made


def _stream(random: Random) -> str:
    now, lines = 0, []
    for _ in range(random.randint(10, 45)):
        now += random.choice([0, 0, 250, 1_000, 1_000, 2_500, 5_000, 9_999, 10_000 - now % 10_000, 600_000])
        back = random.choice([0, 0, 0, 0, 500, 1_999, 2_000, 2_001, 4_000, 12_000])
        time = _BASE + timedelta(milliseconds=max(now - back, 0))
        row = {
            "k": random.choice(["a", "a", "b", "c", None]),
            "v": random.choice([None, *(quarter / 4 for quarter in range(-4, 9))]),
            "n": random.choice([None, *range(6)]),
            "ts": time.isoformat(sep=" ", timespec="milliseconds"),
        }
        lines.append(json.dumps(row) + "\n")
    return "".join(lines)


def _tables(place: Path, *, late: bool) -> str:
    delay = "'2' SECOND" if late else "'5' DAY"
    return "".join(
        f"CREATE TABLE {name} (k STRING, v DOUBLE, n INT, ts TIMESTAMP(3), "
        f"WATERMARK FOR ts AS ts - INTERVAL {delay})\n"
        f"WITH ('connector' = 'filesystem', 'path' = '{place / name}.json', 'format' = 'json');\n"
        for name in ("p", "q")
    )


Made = tuple[str, tuple[str, ...], bool]

_AGGREGATES = (
    "COUNT(*)", "COUNT(v)", "SUM(v)", "AVG(v)", "MIN(v)", "MAX(n)", "SUM(n)", "COUNT(DISTINCT n)", "AVG(n)",
    "SUM(v) FILTER (WHERE n > 2)", "COUNT(*) FILTER (WHERE v > 0)", "MAX(k)", "COUNT(DISTINCT v) FILTER (WHERE n < 4)",
)  # fmt: skip


def _aggregates(random: Random) -> str:
    chosen = random.sample(_AGGREGATES, random.randint(1, 4))
    return ", ".join(f"{one} AS a{place}" for place, one in enumerate(chosen))


def _where(random: Random) -> str:
    return random.choice(["", "", " WHERE v IS NOT NULL", " WHERE n <> 3", " WHERE k = 'a' OR v > 1"])


def _having(random: Random) -> str:
    return random.choice(["", "", "", " HAVING COUNT(*) > 1", " HAVING MAX(v) > 0"])


def _seconds(value: int) -> str:
    return f"INTERVAL '{value}' SECOND"


def _aligned(random: Random) -> Made:
    step, times = random.choice([1, 2, 5, 10]), random.randint(1, 4)
    offset = random.choice(["", "", f", {_seconds(random.randint(1 - step, step - 1))}"])
    window = random.choice(
        [
            f"TUMBLE(TABLE p, DESCRIPTOR(ts), {_seconds(step)}{offset})",
            f"HOP(TABLE p, DESCRIPTOR(ts), {_seconds(step)}, {_seconds(step * times)}{offset})",
            f"CUMULATE(TABLE p, DESCRIPTOR(ts), {_seconds(step)}, {_seconds(step * times)}{offset})",
        ]
    )
    keys = random.choice(["", "k, ", "k, n, "])
    select = f"SELECT {keys}window_start, window_end, {_aggregates(random)} FROM TABLE({window}){_where(random)}"
    return f"{select} GROUP BY {keys}window_start, window_end{_having(random)};", (), False


def _session(random: Random) -> Made:
    gap, keyed = random.choice([1, 2, 5, 10]), random.random() < 0.7
    by, keys = (" PARTITION BY k", "k, ") if keyed else ("", "")
    window = f"SESSION(TABLE p{by}, DESCRIPTOR(ts), {_seconds(gap)})"
    select = f"SELECT {keys}window_start, window_end, {_aggregates(random)} FROM TABLE({window})"
    return f"{select} GROUP BY {keys}window_start, window_end{_having(random)};", (), False


def _group(random: Random) -> Made:
    key = random.choice(["k", "n"])
    return f"SELECT {key}, {_aggregates(random)} FROM p{_where(random)} GROUP BY {key}{_having(random)};", (key,), False


def _group_of_group(random: Random) -> Made:
    inner = "SELECT k, n, COUNT(*) AS n2, SUM(v) AS v FROM p GROUP BY k, n"
    aggregates = random.sample(["COUNT(*)", "SUM(n2)", "MAX(v)", "MIN(n2)", "COUNT(DISTINCT n2)", "SUM(v)"], 3)
    shown = ", ".join(f"{one} AS a{place}" for place, one in enumerate(aggregates))
    return f"SELECT k, {shown} FROM ({inner}) GROUP BY k;", ("k",), False


def _ranked(random: Random) -> Made:
    order = random.choice(["v DESC, n, ts", "n, v DESC, ts", "ts, v, n DESC"])
    # not rn = 1: Flink 2.3 never takes the losers back there, which is a fault
    many = random.choice(["rn <= 2", "rn <= 3", "rn BETWEEN 2 AND 3"])
    number = random.choice(["", ", rn"])
    inner = f"SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY {order}) AS rn FROM p"
    return f"SELECT k, v, n, ts{number} FROM ({inner}) WHERE {many};", ("k",), False


def _deduplicated(random: Random) -> Made:
    way = random.choice(["ASC", "DESC"])
    inner = f"SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts {way}) AS rn FROM p{_where(random)}"
    return f"SELECT k, v, n, ts FROM ({inner}) WHERE rn = 1;", ("k",), False


def _over(random: Random) -> Made:
    frame = random.choice(
        [
            f"ROWS BETWEEN {random.randint(1, 3)} PRECEDING AND CURRENT ROW",
            f"RANGE BETWEEN {_seconds(random.choice([1, 5, 10]))} PRECEDING AND CURRENT ROW",
            "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
        ]
    )
    calls = random.sample(["COUNT(*)", "SUM(v)", "MIN(n)", "MAX(v)", "AVG(v)", "COUNT(n)", "SUM(n)"], 3)
    shown = ", ".join(f"{one} OVER w AS a{place}" for place, one in enumerate(calls))
    return f"SELECT k, n, ts, {shown} FROM p WINDOW w AS (PARTITION BY k ORDER BY ts {frame});", (), False


def _window_ranked(random: Random) -> Made:
    window = f"TUMBLE(TABLE p, DESCRIPTOR(ts), {_seconds(random.choice([5, 10]))})"
    order = random.choice(["v DESC, n, ts", "n, v, ts DESC", "ts, n, v"])
    inner = (
        f"SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY {order}) AS rn "
        f"FROM TABLE({window})"
    )
    return f"SELECT k, v, n, ts, window_start, rn FROM ({inner}) WHERE rn <= {random.randint(1, 3)};", (), False


def _interval_joined(random: Random) -> Made:
    low, high = random.randint(0, 5), random.randint(0, 5)
    kind = random.choice(["", "LEFT ", "RIGHT ", "FULL "])
    rest = random.choice(["", " AND p.v < q.v", " AND p.n <> q.n"])
    return (
        (
            f"SELECT p.k, p.n, p.v, q.k AS k2, q.n AS m, q.v AS w FROM p {kind}JOIN q "
            f"ON p.k = q.k AND p.ts BETWEEN q.ts - {_seconds(low)} AND q.ts + {_seconds(high)}{rest};"
        ),
        (),
        True,
    )


def _regular_joined(random: Random) -> Made:
    kind = random.choice(["", "LEFT ", "RIGHT ", "FULL "])
    rest = random.choice(["", " AND a.v < b.v"])
    left = random.choice(["p", "(SELECT k, n, MAX(v) AS v FROM p GROUP BY k, n)"])
    right = random.choice(["q", "(SELECT k, n, MIN(v) AS v FROM q GROUP BY k, n)"])
    select = f"SELECT a.k, a.v, b.k AS k2, b.n, b.v AS w FROM {left} AS a {kind}JOIN {right} AS b"
    return f"{select} ON a.k = b.k AND a.n = b.n{rest};", (), True


def _window_joined(random: Random) -> Made:
    size = _seconds(random.choice([5, 10, 60]))
    kind = random.choice(["", "LEFT ", "RIGHT ", "FULL "])
    sides = [f"(SELECT * FROM TABLE(TUMBLE(TABLE {name}, DESCRIPTOR(ts), {size})))" for name in ("p", "q")]
    return (
        (
            f"SELECT a.k, a.n, a.v, b.k AS k2, b.n AS m, b.v AS w, a.window_start AS ws, b.window_end AS we "
            f"FROM {sides[0]} AS a {kind}JOIN {sides[1]} AS b "
            f"ON a.k = b.k AND a.window_start = b.window_start AND a.window_end = b.window_end;"
        ),
        (),
        True,
    )


def _versioned(random: Random) -> Made:
    kind = random.choice(["", "LEFT "])
    # not NULL: Flink 2.3 joins NULL with NULL here, and nowhere else
    versions = (
        "SELECT k, v, n, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS rn "
        "FROM q WHERE k IS NOT NULL) "
        "WHERE rn = 1"
    )
    return (
        (
            f"CREATE VIEW versions AS {versions};\n"
            f"SELECT p.k, p.n, p.ts, r.ts AS since FROM p {kind}JOIN versions "
            "FOR SYSTEM_TIME AS OF p.ts AS r ON p.k = r.k;"
        ),
        (),
        True,
    )


_KINDS: dict[str, Callable[[Random], Made]] = {
    "windows": _aligned,
    "session": _session,
    "group": _group,
    "over": _over,
    "interval_join": _interval_joined,
    "ranked": _ranked,
    "group_of_group": _group_of_group,
    "deduplicated": _deduplicated,
    "window_ranked": _window_ranked,
    "regular_join": _regular_joined,
    "more_windows": _aligned,
    "window_join": _window_joined,
    "versions": _versioned,
}
