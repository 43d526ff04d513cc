"""A lake in a bucket, over HTTP: a server that speaks S3 in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from qanat.cli.archiving import place_of
from qanat.cli.project import open_folder
from qanat.errors import ArchiveError
from qanat.lake import Tables
from qanat.lake.store import Place
from qanat.lake.upkeep import rewrite, rewrites
from tests.lake.conftest import DAY_ONE, Station, logged, same


@pytest.fixture
def station(tmp_path: Path, place: Place) -> Iterator[Station]:
    made = Station(tmp_path)
    made.tables = Tables(place)
    made.archive = type(made.archive)(made.tables, made.log)
    made.restarted()
    yield made
    made.log.close()


def test_rows_are_archived_rewritten_and_read(station: Station, place: Place) -> None:
    for number in range(4):
        station.readings(number * 50, 50, appends=3, day=number % 2)
        assert station.archived() == 50
    expected = logged(station.log, ("readings", 0))
    same(station.read(("readings", 0)), expected)
    cut = station.archive.cut("readings")
    assert cut is not None
    assert all(file.startswith("s3://farm/lake/readings/__date=") for file in station.archive.pieces(cut).files)
    table = station.tables.open("readings")
    assert table is not None
    for chosen in rewrites(table.files(), 1 << 27, DAY_ONE, all_dates=True):
        rewrite(table, station.stream, chosen, 1 << 27)
    assert len(table.files()) == 2
    assert len(table.vacuum(0)) == 4
    archive = type(station.archive)(station.tables, station.log)
    station.archive = archive
    same(station.read(("readings", 0)), expected)
    alone = DeltaTable("s3://farm/lake/readings", storage_options=dict(place.options))
    assert alone.count() == 200
    assert alone.transaction_version("qanat/0") == 200


def test_a_restart_goes_on_where_the_table_stands(station: Station) -> None:
    station.readings(0, 50)
    station.archived()
    station.readings(50, 50)
    assert station.restarted().archive("readings").rows == 50
    same(station.read(("readings", 0)), logged(station.log, ("readings", 0)))


def test_a_bucket_that_is_not_there(station: Station, place: Place) -> None:
    station.readings(0, 50)
    station.tables = Tables(Place("s3://elsewhere/lake", place.options))
    with pytest.raises(ArchiveError, match="s3://elsewhere/lake/readings"):
        station.restarted().archive("readings")
    assert station.log.positions("lake:readings") == {("readings", 0): 0}


def test_keys_come_from_the_environment_and_never_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = "{endpoint: 'http://127.0.0.1:9', region: eu-central-1, access_key_env: MINE}"
    (tmp_path / "qanat.yaml").write_text(f"lake:\n  url: s3://farm/lake\n  s3: {s3}\n")
    monkeypatch.setenv("MINE", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    place = place_of(open_folder(tmp_path))
    assert place.url == "s3://farm/lake"
    assert place.options == {
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }


def test_a_killed_process_leaves_nothing_twice(station: Station, tmp_path: Path, place: Place) -> None:
    """The commit is in the bucket, and whoever made it died before the log was told."""
    station.readings(0, 60)
    station.log.close()
    code = f"""
import os, signal
from pathlib import Path
from qanat.lake import Archiver, Tables
from qanat.lake.store import Place
from qanat.log import open_log
from qanat.model.lake import Lake
log = open_log("sqlite:///{tmp_path}/log.db")
archiver = Archiver(log, Tables(Place({place.url!r}, {dict(place.options)!r})), Lake())
archiver._tell = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
archiver.archive("readings")
"""
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), timeout=60).returncode == -9
    again = Station(tmp_path)
    again.tables = station.tables
    again.archive = type(again.archive)(again.tables, again.log)
    again.restarted()
    assert again.log.positions("lake:readings") == {("readings", 0): 0}
    assert again.archived() == 0
    same(again.read(("readings", 0)), logged(again.log, ("readings", 0)))
    assert again.log.positions("lake:readings") == {("readings", 0): 60}
    again.log.close()
