"""When rows of windows became visible to another process: `python -m bench.gateway.watching LOG_URL STREAM SECONDS`.

It opens the log as any reader does, looks for commits every 2 ms, and notes for every window end how many rows it saw
when. JSON on stdout: [[window end ms, seen at ms, rows], ...].
"""

from __future__ import annotations

import json
import sys
import threading
import time

import pyarrow as pa
import pyarrow.compute as pc

from qanat.log.layout import Settings
from qanat.log.sqlite import open_sqlite

_LOOK_S = 0.002


def main(url: str, stream: str, seconds: float) -> None:
    """Watch until `seconds` are over."""
    log = open_sqlite(url.removeprefix("sqlite://"), read_only=True, settings=Settings(poll_seconds=_LOOK_S))
    woken = threading.Event()
    unwatch = log.watch(woken.set)
    seen: list[tuple[int, int, int]] = []
    offset, end = 0, time.monotonic() + seconds
    sys.stderr.write("watching\n")
    sys.stderr.flush()
    while time.monotonic() < end:
        woken.wait(0.2)
        woken.clear()
        while chunks := log.read((stream, 0), offset, 100_000):
            now = round(time.time() * 1000)
            for chunk in chunks:
                counted = pc.value_counts(
                    chunk.rows.column("window_end").cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64())
                )
                seen += [(one["values"].as_py(), now, one["counts"].as_py()) for one in counted]
            offset = chunks[-1].end
    unwatch()
    log.close()
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
