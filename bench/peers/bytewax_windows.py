"""Both queries for Bytewax 0.21; runs in Bytewax's own environment, not in qanat's.

    python bytewax_windows.py INPUT OUTPUT_DIR SIZE_MS SLIDE_MS PROCESSES

The clock of event time is Bytewax's EventClock with a wait of 5 s. Its watermark is per key and also moves with the
wall clock; `now_getter` stands still here, so that a slow run makes no row late. No recovery store: not exactly once.
Writes `times.json` into the output's parent: when the input was opened and when the last row was written and synced.
"""

import json
import multiprocessing
import socket
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.connectors.files import DirSink, FileSource
from bytewax.dataflow import Dataflow
from bytewax.testing import cluster_main, run_main

UTC = timezone.utc  # noqa: UP017 - as Bytewax's documentation writes it
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: count, sum, least, greatest; a list, since it is changed in place
State = list[Any]


class TimedSource(FileSource):
    """FileSource that notes when the file is opened: just before the first row is read."""

    def __init__(self, path: Path, note: Path, batch_size: int) -> None:
        super().__init__(path, batch_size)
        self._note = note

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Any:
        self._note.write_text(str(time.time()))
        return super().build_part(step_id, for_part, resume_state)


def parse(line: str) -> tuple[str, tuple[int, float]]:
    row = orjson.loads(line)
    return row["client_id"], (row["timestamp"], row["consumption"])


def time_of(row: tuple[int, float]) -> datetime:
    return datetime.fromtimestamp(row[0] / 1000, UTC)


def fold(state: State | None, row: tuple[int, float]) -> State:
    value = row[1]
    if state is None:
        return [1, value, value, value]
    state[0] += 1
    state[1] += value
    if value < state[2]:
        state[2] = value
    if value > state[3]:
        state[3] = value
    return state


def merge(one: State | None, other: State | None) -> State | None:
    if one is None or other is None:
        return one or other
    return [one[0] + other[0], one[1] + other[1], min(one[2], other[2]), max(one[3], other[3])]


def flow(source: Path, output: Path, size_ms: int, slide_ms: int, note: Path, processes: int) -> Dataflow:
    clock = win.EventClock(
        time_of,
        wait_for_system_duration=timedelta(seconds=5),
        now_getter=lambda: EPOCH,
        to_system_utc=lambda _: None,
    )
    size, slide = timedelta(milliseconds=size_ms), timedelta(milliseconds=slide_ms)
    windower = (
        win.TumblingWindower(length=size, align_to=EPOCH)
        if size_ms == slide_ms
        else win.SlidingWindower(length=size, offset=slide, align_to=EPOCH)
    )

    def line(item: tuple[str, tuple[int, State]]) -> tuple[str, str]:
        client, (window, (n, total, low, high)) = item
        start = window * slide_ms
        row = {"client_id": client, "window_start": start, "window_end": start + size_ms, "n": n}
        row |= {"mean": total / n, "low": low, "high": high}
        return client, orjson.dumps(row).decode()

    work = Dataflow("windows")
    lines = op.input("read", work, TimedSource(source, note, batch_size=10_000))
    rows = op.map("parse", lines, parse)
    windows = win.fold_window("window", rows, clock, windower, lambda: None, fold, merge)
    op.output("write", op.map("line", windows.down, line), DirSink(output, file_count=processes))
    return work


def run(arguments: list[str], addresses: list[str], number: int) -> None:
    source, output = Path(arguments[0]), Path(arguments[1])
    size_ms, slide_ms = int(arguments[2]), int(arguments[3])
    work = flow(source, output, size_ms, slide_ms, output.parent / "opened", max(1, len(addresses)))
    if addresses:
        cluster_main(work, addresses, number)
    else:
        run_main(work)
    (output.parent / f"ended-{number}").write_text(str(time.time()))


def free_addresses(count: int) -> list[str]:
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in bound]
    for each in bound:
        each.close()
    return addresses


def main(arguments: list[str]) -> None:
    count = int(arguments[4])
    if count == 1:
        run(arguments, [], 0)
    else:
        addresses = free_addresses(count)
        workers = [multiprocessing.Process(target=run, args=(arguments, addresses, number)) for number in range(count)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            sys.exit("a Bytewax process failed")
    folder = Path(arguments[1]).parent
    first = float((folder / "opened").read_text())
    last = max(float(path.read_text()) for path in folder.glob("ended-*"))
    (folder / "times.json").write_text(json.dumps({"first_row_at": first, "last_commit_at": last}))


if __name__ == "__main__":
    main(sys.argv[1:])
