"""Three streams full of disorder, pipelines of every operator kind over them, and their outputs as plain values."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

import qanat
from qanat.log import open_log
from tests.crash.scenario import SCENARIOS, TABLES, compiled, outputs, prepare

ROOT = Path(__file__).parents[2]
_START = datetime(2026, 1, 1)


def rows(count: int = 90) -> dict[str, pa.Table]:
    """`readings`, `states` and `sites`: most rows a little out of order, some far too late, ties, NULLs."""
    drawn = random.Random(11)

    def times(many: int, every: int) -> pa.Array:
        late = [drawn.choice([0, 0, 0, 500, 2_500, 12_000]) for _ in range(many)]
        return pa.array(
            [_START + timedelta(milliseconds=60_000 + i * every - late[i]) for i in range(many)], pa.timestamp("ms")
        )

    few = count // 4
    return {
        "readings": pa.table(
            {
                "k": [drawn.choice("abc") for _ in range(count)],
                "n": pa.array([drawn.randrange(9) for _ in range(count)], pa.int64()),
                "v": [round(drawn.gauss(20, 5), 3) if drawn.random() < 0.9 else None for _ in range(count)],
                "ts": times(count, 400),
            }
        ),
        "states": pa.table(
            {
                "k": [drawn.choice("abd") for _ in range(few)],
                "s": ["x" * drawn.randrange(9) for _ in range(few)],
                "at_": times(few, 1600),
            }
        ),
        "sites": pa.table(
            {
                "k": [drawn.choice("abc") for _ in range(few)],
                "site": [drawn.choice(["north", "south"]) for _ in range(few)],
                "valid": times(few, 1600),
            }
        ),
    }


def results(scenario: str, batch_rows: int | None, folder: Path) -> dict[str, Any]:
    """What each pipeline of a scenario of tests/crash writes over `rows`: streams, files, late rows by pipeline."""
    inputs = {name: table for name, table in rows().items() if re.search(rf"\b{name}\b", SCENARIOS[scenario])}
    found = qanat.run(TABLES + SCENARIOS[scenario], inputs, {"OUT": str(folder)}, batch_rows)
    late = found.pop("late").to_pylist()
    streams: dict[str, Any] = {name: table.to_pylist() for name, table in found.items()}
    for name in {row["pipeline"] for row in late}:
        streams[f"late of {name}"] = [row for row in late if row["pipeline"] == name]
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        streams.setdefault(str(path.parent.relative_to(folder)), []).extend(path.read_text().splitlines())
    return streams


# --- a log that lies ready, and processes that work on it ------------------------------------------------------------

_CHILD = """
import sys
from pathlib import Path
from tests.crash.faults import AtPoint
from tests.crash.scenario import compiled, run
folder, name, point, hit = sys.argv[1:5]
if point:
    AtPoint(point, int(hit)).install()
run(Path(folder), compiled(name, Path(folder)))
"""


def ready(folder: Path, scenario: str) -> Path:
    """A folder with a log that holds all inputs of the scenario."""
    prepare(folder, compiled(scenario, folder))
    return folder


def work(folder: Path, scenario: str, death: tuple[str, int] = ("", 0), **environment: str) -> int:
    """Run the scenario in a process of its own until its inputs end, or until it dies at a point; its exit code."""
    point, hit = death
    command = [sys.executable, "-c", _CHILD, str(folder), scenario, point, str(hit)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, timeout=120, check=False)
    return done.returncode


def found(folder: Path, scenario: str) -> dict[str, Any]:
    """What the scenario has written."""
    return outputs(folder, compiled(scenario, folder))


def stored_bytes(folder: Path, scenario: str) -> dict[str, bytes]:
    """The rows of every stream that the scenario writes as Arrow IPC, in the order of the stream."""
    log = open_log(f"sqlite:///{folder}/log.db", read_only=True)
    try:
        streams = {one.sink.name for one in compiled(scenario, folder).pipelines if one.sink and one.sink.stream}
        return {name: _ipc([one.rows for one in log.read((name, 0), 0, 10**9)]) for name in sorted(streams)}
    finally:
        log.close()


def _ipc(batches: list[pa.RecordBatch]) -> bytes:
    """Independent of how the rows were cut into appends."""
    sink = pa.BufferOutputStream()
    if batches:
        table = pa.Table.from_batches(batches).combine_chunks()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return bytes(sink.getvalue())
