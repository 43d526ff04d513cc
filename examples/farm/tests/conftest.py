"""What the tests of this example share: where it lies, where the recordings are, and a running qanat."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from qanat.cli.demo import Server, running
from qanat.log import open_log
from qanat.sim.watch import behind

EXAMPLE = Path(__file__).parents[1]
DATA = EXAMPLE.parents[1].parent / "shared" / "data"
#: Rows that each stream gets of the recordings, without the lines of names.
ROWS = {"micro": 25_558, "four_temperatures": 55_040, "climate": 21_578, "fixed": 123_463, "beijing": 420_768}


@pytest.fixture(scope="session")
def example() -> Path:
    """The folder of the example."""
    return EXAMPLE


def qanat(*arguments: object, **environment: str) -> str:
    """What a command says. Fails where it fails."""
    command = [sys.executable, "-m", "qanat", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=os.environ | {"NO_COLOR": "1"} | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def recordings() -> dict[str, Path]:
    """The recordings by name, packed. Skips where they are absent; in CI that is a failure."""
    folders = [DATA / "greenhouse-italy" / "Greenhouse_1", DATA / "beijing-air"]
    for folder in folders:
        if not folder.is_dir():
            text = f"the recordings are not at {folder} (../shared/data beside the repository)"
            if os.environ.get("CI") == "true":
                pytest.fail(text)
            pytest.skip(text)
    found = {path.name.removesuffix(".csv.gz"): path for folder in folders for path in sorted(folder.glob("*.csv.gz"))}
    return {name: path for name, path in found.items() if not name.startswith("Valid_")}


def wait_for(done: Callable[[], object], what: str, seconds: float = 200) -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def taken(recordings: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`qanat up examples/farm/recorded`, after all files dropped into in/ have been taken and worked through."""
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copytree(EXAMPLE / "recorded", folder, dirs_exist_ok=True)
    (folder / "in").mkdir()
    for name, path in recordings.items():
        (folder / "in" / f".{name}").write_bytes(gzip.decompress(path.read_bytes()))
        (folder / "in" / f".{name}").rename(folder / "in" / f"{name}.csv")
    with running(folder, folder / "data") as server:
        log = open_log(server.log_url, read_only=True)
        try:
            wait_for(lambda: {name: log.status()[name].rows for name in ROWS} == ROWS, "all files are taken")
            wait_for(lambda: behind(log) == 0, "the pipelines have read everything")
        finally:
            log.close()
        yield server


@pytest.fixture(scope="session")
def ask(taken: Server) -> Callable[[str], pd.DataFrame]:
    """The answer to a query, by `qanat query` beside the running project."""
    folder = Path(taken.log_url.removeprefix("sqlite://")).parent

    def ask(sql: str) -> pd.DataFrame:
        lines = qanat("query", sql, "--data", folder, "--dir", folder.parent).splitlines()
        return pd.DataFrame([json.loads(line) for line in lines])

    return ask
