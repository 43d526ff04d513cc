"""Both queries for Pathway 0.33; runs in Pathway's own environment, not in qanat's.

    python pathway_windows.py INPUT OUTPUT_DIR SIZE_MS SLIDE_MS BEHAVIOR

BEHAVIOR is `exactly_once` (each window comes out once, 5 s after its end, as the SQL has it) or `none` (a plain batch
aggregate). The file is read in static mode, the only one of Pathway's that comes to an end: the rows go through as one
batch, without commits in between, which favours Pathway. PATHWAY_THREADS sets the number of workers.
Writes `times.json` into the output's parent: when the input was opened and when the run had ended.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import pathway as pw

LATENESS_MS = 5_000


class Power(pw.Schema):
    client_id: str
    timestamp: int
    consumption: float


def build(source: str, output: Path, size_ms: int, slide_ms: int, behavior: str) -> None:
    power = pw.io.jsonlines.read(source, schema=Power, mode="static")
    window = (
        pw.temporal.tumbling(duration=size_ms)
        if size_ms == slide_ms
        else pw.temporal.sliding(duration=size_ms, hop=slide_ms)
    )
    once = pw.temporal.exactly_once_behavior(shift=LATENESS_MS) if behavior == "exactly_once" else None
    windows = power.windowby(power.timestamp, window=window, behavior=once, instance=power.client_id).reduce(
        client_id=pw.this._pw_instance,
        window_start=pw.this._pw_window_start,
        window_end=pw.this._pw_window_end,
        n=pw.reducers.count(),
        mean=pw.reducers.avg(pw.this.consumption),
        low=pw.reducers.min(pw.this.consumption),
        high=pw.reducers.max(pw.this.consumption),
    )
    pw.io.jsonlines.write(windows, output)


def note_opening(source: str, opened: list[float]) -> None:
    """Wait until this process has the input open: just before the first row is read."""
    wanted = os.path.realpath(source)
    while not opened:
        for entry in Path("/proc/self/fd").iterdir():
            try:
                if str(entry.readlink()) == wanted:
                    opened.append(time.time())
                    return
            except OSError:
                continue
        time.sleep(0.005)


def main(source: str, output: str, size_ms: str, slide_ms: str, behavior: str) -> None:
    folder = Path(output)
    build(source, folder / "windows.jsonl", int(size_ms), int(slide_ms), behavior)
    opened: list[float] = []
    threading.Thread(target=note_opening, args=(source, opened), daemon=True).start()
    before = time.time()
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    times = {"first_row_at": opened[0] if opened else before, "last_commit_at": time.time()}
    opened.append(before)
    (folder.parent / "times.json").write_text(json.dumps(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
