"""A process of its own that appends to a log: `python writer.py URL COUNT`, one transaction a row."""

from __future__ import annotations

import sys

import pyarrow as pa

from qanat.log import open_log
from qanat.log.base import Append, Transaction


def main(url: str, count: int) -> None:
    log = open_log(url)
    for number in range(count):
        rows = pa.record_batch({"client_id": [f"w{number % 3}"], "v": [float(number)]})
        log.submit(Transaction([Append("readings", number % 2, rows, at=10_000 + number)])).result()
        if number == 0:
            print("began", flush=True)
    log.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
