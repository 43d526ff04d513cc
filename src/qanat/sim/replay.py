"""Recorded homes (REFIT) as power readings and appliance states: as messages for a fleet, or as files of JSON lines.

The homes were recorded on different dates, 2013-09 to 2014-04, but a watermark is one for all homes: the newest would
make all others late. So every home is moved, as a whole, to one common start (the earliest first second among them);
its own cadence, gaps and readings stay as recorded. `dates=True` leaves the times alone (for one home at a time).

States are not recorded; an appliance counts as on where it draws more than `threshold` W. No socket, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from qanat.errors import ConfigError, DataError
from qanat.sim.households import DEVICE_STATE, POWER, Message

APPLIANCES = tuple(f"Appliance{i}" for i in range(1, 10))
_WANTED = ("Unix", "Aggregate", *APPLIANCES)


def read_homes(paths: Sequence[Path], threshold: float = 10.0, dates: bool = False) -> pl.DataFrame:
    """All readings of these recordings in the order of event time.

    Columns: client_id, username, timestamp (s), consumption (W), state_bitmap (nine booleans). Raises `DataError` for
    files that are not REFIT's.
    """
    if not paths:
        raise ConfigError("no recording given", hint="qanat sim replay House_1.csv.gz House_2.csv.gz")
    homes = [_read_home(path, threshold) for path in paths]
    if not dates:
        start = min(int(home["timestamp"][0]) for home in homes)
        homes = [home.with_columns(timestamp=pl.col("timestamp") - home["timestamp"][0] + start) for home in homes]
    return pl.concat(homes).sort("timestamp", maintain_order=True)


def recordings(folder: Path) -> list[Path]:
    """The recordings of a folder, House_2 before House_10. Raises `ConfigError` where there is none."""
    found = sorted(folder.glob("House_*.csv.gz"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0))
    if not found:
        raise ConfigError(f"no House_*.csv.gz in {folder}", hint="REFIT's cleaned recordings, one file per house")
    return found


def _read_home(path: Path, threshold: float) -> pl.DataFrame:
    try:
        raw = pl.read_csv(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: not a CSV file: {error}") from error
    missing = [name for name in _WANTED if name not in raw.columns]
    if missing or raw.is_empty():
        what = f"no column {', '.join(missing)}" if missing else "no rows"
        raise DataError(
            f"{path}: {what}", hint="expected REFIT's columns Time, Unix, Aggregate, Appliance1..Appliance9"
        )
    name = path.name.split(".")[0].lower().replace("_", "-")
    return raw.select(
        client_id=pl.lit(name),
        username=pl.lit(name),
        timestamp=pl.col("Unix").cast(pl.Int64),
        consumption=pl.col("Aggregate").cast(pl.Float64),
        state_bitmap=pl.concat_list([pl.col(one) > threshold for one in APPLIANCES]),
    )


def messages(homes: pl.DataFrame, seconds: float | None = None) -> Iterator[Message]:
    """Two publications per reading, at the reading's time; the first `seconds` of the recording, or all of it."""
    if seconds is not None:
        homes = homes.filter(pl.col("timestamp") - pl.col("timestamp").min() < seconds)
    for part in homes.iter_slices(10_000):
        for client, _, second, watts, states in part.iter_rows():
            head = f'{{"client_id":"{client}","username":"{client}","timestamp":{second},'
            bits = ",".join("true" if on else "false" for on in states)
            yield Message(second * 1000, client, f"{POWER}/{client}", f'{head}"consumption":{watts}}}'.encode())
            yield Message(
                second * 1000, client, f"{DEVICE_STATE}/{client}", f'{head}"state_bitmap":[{bits}]}}'.encode()
            )


def write_lines(homes: pl.DataFrame, folder: Path) -> tuple[Path, Path]:
    """`power.jsonl` and `device_state.jsonl` in `folder`, in the order of event time; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    power, states = folder / f"{POWER}.jsonl", folder / f"{DEVICE_STATE}.jsonl"
    homes.drop("state_bitmap").write_ndjson(power)
    homes.drop("consumption").write_ndjson(states)
    return power, states
