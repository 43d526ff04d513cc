"""Files of devices: descriptions in, secrets out. CSV or JSON lines, by the name's ending. Knows no registry."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import msgspec
import orjson

from qanat.cli.project import read_text
from qanat.errors import ConfigError
from qanat.model.devices import Record, parse_label

if TYPE_CHECKING:
    from qanat.secure.enrolment import Enrolled

_LISTS = ("publish", "subscribe")
_COLUMNS = ("id", "credential", "secret")


def read_records(path: Path) -> list[Record]:
    """The descriptions in a file. Raises `ConfigError` that names file and line."""
    match path.suffix.lower():
        case ".csv":
            return list(_csv(path))
        case ".jsonl" | ".ndjson" | ".json":
            return list(_lines(path))
        case other:
            raise ConfigError(f"{path} ends with {other or 'nothing'}", hint="a .csv with a header, or a .jsonl")


@contextmanager
def secrets_to(path: Path | None, as_json: bool) -> Iterator[TextIO]:
    """Where secrets are written: a new file that only its owner reads, or stdout. On an error the file is removed."""
    if path is None:
        yield sys.stdout
        return
    if path.suffix.lower() not in (".csv", ".jsonl", ".ndjson") or as_json:
        raise ConfigError(f"cannot write secrets to {path}", hint="a new .csv or .jsonl, and no --json beside it")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already", hint="secrets are not written over other files") from error
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_secrets(file: TextIO, made: Sequence[Enrolled], as_json: bool) -> None:
    """One line for each device, with its secret where one was drawn."""
    rows = [(one.device.id, one.credential.kind.value, one.secret) for one in made]
    if as_json:
        file.writelines(orjson.dumps(dict(zip(_COLUMNS, row, strict=True))).decode() + "\n" for row in rows)
    else:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(rows)


def _csv(path: Path) -> Iterator[Record]:
    rows = csv.DictReader(read_text(path).splitlines(), strict=True)
    known = Record.__struct_fields__
    odd = [name for name in rows.fieldnames or () if name not in known]
    if odd or "id" not in (rows.fieldnames or ()):
        found = f"it has {odd[0]!r}" if odd else "it has no id"
        raise ConfigError(f"{path}: the header is wrong: {found}", hint=f"known columns: {', '.join(known)}")
    try:
        for row in rows:
            if None in row or None in row.values():
                raise ConfigError(f"the line has not {len(rows.fieldnames or ())} fields, as the header has")
            yield msgspec.convert(_parsed(row), Record)
    except (csv.Error, msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{path}:{rows.line_num}: {error}") from error


def _parsed(row: Mapping[str, str]) -> dict[str, object]:
    """The fields of a line that say something; several labels or topics stand apart by `;`."""
    said: dict[str, object] = {name: value for name, value in row.items() if value}
    for name in _LISTS:
        if name in said:
            said[name] = [topic.strip() for topic in row[name].split(";")]
    if "labels" in said:
        said["labels"] = dict(parse_label(label) for label in row["labels"].split(";"))
    return said


def _lines(path: Path) -> Iterator[Record]:
    decoder = msgspec.json.Decoder(Record)
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                raise ConfigError(f"{path}:{number}: {error}") from error
