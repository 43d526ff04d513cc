"""The examples of docs/lake.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qanat.cli.project import read_config
from qanat.sql import compile_script
from tests.lake.conftest import DAY_ONE, Station

TEXT = (Path(__file__).parents[2] / "docs" / "lake.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sql,) = blocks("sql")
    assert compile_script(sql).tables["readings"].stream is not None
    (tmp_path / ".qanat").mkdir()
    station = Station(tmp_path / ".qanat", sql)
    station.feed([{"sensor": "greenhouse", "kind": "temperature", "value": 20.5, "ts": DAY_ONE}])
    station.archived()
    station.log.close()
    monkeypatch.chdir(tmp_path)
    found = blocks("python")
    assert len(found) == 2
    for code in found:
        exec(compile(code, "docs/lake.md", "exec"), {})


def test_the_settings_are_settings(tmp_path: Path) -> None:
    text = "".join(blocks("yaml"))
    (tmp_path / "qanat.yaml").write_text(text)
    lake = read_config(tmp_path / "qanat.yaml").lake
    assert (lake.url, lake.s3.access_key_env, int(lake.interval)) == ("s3://farm/lake", "LAKE_KEY", 10_000)
