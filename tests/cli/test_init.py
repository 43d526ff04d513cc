"""`qanat init`: the project works, and nothing of the user's is overwritten."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run

from qanat.cli.project import compile_folder, open_folder


def test_the_new_project_compiles(qanat: Run, tmp_path: Path) -> None:
    done = qanat("init", "farm")
    assert done.returncode == 0, done.stderr
    program = compile_folder(open_folder(tmp_path / "farm"), {})
    assert [pipeline.name for pipeline in program.pipelines] == ["climate"]
    assert set(program.tables) == {"readings", "climate"}


def test_it_says_what_to_do_next(qanat: Run) -> None:
    said = qanat("init", "my farm").stdout
    assert "cd 'my farm'" in said
    for word in ("qanat up", "curl", "mosquitto_pub", "qanat query", "qanat tail"):
        assert word in said


def test_a_folder_with_files_is_refused(qanat: Run, tmp_path: Path) -> None:
    (tmp_path / "streams.sql").write_text("mine")
    done = qanat("init", ".")
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert "--force" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["streams.sql"]


def test_force_adds_what_is_missing_and_changes_nothing(qanat: Run, tmp_path: Path) -> None:
    (tmp_path / "streams.sql").write_text("mine")
    assert qanat("init", ".", "--force").returncode == 0
    assert (tmp_path / "streams.sql").read_text() == "mine"
    assert (tmp_path / "climate.sql").exists()


def test_dry_run_writes_nothing(qanat: Run, tmp_path: Path) -> None:
    done = qanat("init", "farm", "--dry-run")
    assert done.returncode == 0
    assert "would write farm/streams.sql" in done.stdout
    assert not (tmp_path / "farm").exists()


def test_a_file_is_no_folder(qanat: Run, tmp_path: Path) -> None:
    (tmp_path / "farm").write_text("")
    assert qanat("init", "farm").returncode == 2
