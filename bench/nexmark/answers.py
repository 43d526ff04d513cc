"""Results as they stand at the end: a changelog in files, brought to a bag of rows, its size and its digest."""

from __future__ import annotations

import decimal
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

_numbers = msgspec.json.Decoder(float_hook=decimal.Decimal).decode

#: WITH (...) of a sink that keeps every change in files.
CHANGELOG_FILES = "'connector' = 'filesystem', 'path' = '{}', 'format' = 'debezium-json'"
ROW_FILES = "'connector' = 'filesystem', 'path' = '{}', 'format' = 'json'"
BLACKHOLE = "'connector' = 'blackhole'"


@dataclass(frozen=True, slots=True)
class Answer:
    """A final result: rows left, changes that led there (where they were counted), and a digest of the rows."""

    rows: int
    changes: int
    digest: str


def answer(output: Path, *, first_places: bool = False) -> Answer:
    """The result that a sink left in its folder. `first_places`: rows whose last column, `place`, is 1, without it."""
    changes = 0
    bag: Counter[str] = Counter()
    for path in sorted(output.glob("part-*")):
        for line in path.read_bytes().splitlines():
            changes += 1
            row = _numbers(line)
            count = 1
            if set(row) == {"before", "after", "op"}:
                row, count = (row["before"], -1) if row["op"] == "d" else (row["after"], 1)
            if not first_places or row.pop("place") == 1:
                bag[canonical(row)] += count
    if any(count < 0 for count in bag.values()):
        raise ValueError(f"{output}: a row is taken back that was never there")
    return Answer(bag.total(), changes, digest(bag))


def canonical(row: Mapping[str, Any]) -> str:
    """A row as text. DECIMAL without trailing zeros, which writers treat differently."""
    return json.dumps(list(row.values()), default=_shortest, ensure_ascii=False)


def _shortest(number: decimal.Decimal) -> int | str:
    return int(number) if number == int(number) else f"{number.normalize():f}"


def digest(bag: Mapping[str, int]) -> str:
    """The same for the same rows in any order."""
    said = hashlib.sha256()
    for row, count in sorted(bag.items()):
        if count:
            said.update(f"{count} {row}\n".encode())
    return said.hexdigest()


def file_digest(paths: Iterable[Path]) -> str:
    """Of the bytes of some files."""
    said = hashlib.sha256()
    for path in paths:
        said.update(path.read_bytes())
    return said.hexdigest()
