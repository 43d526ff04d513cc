"""Where the bench keeps what it makes: inputs, environments, jars, outputs. All of it lies in `bench/.work/` and can be
deleted at any time; nothing of it is committed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
WORK = Path(os.environ.get("QANAT_BENCH_WORK", BENCH / ".work"))


def folder(*parts: str) -> Path:
    """A folder below the work folder, made if missing."""
    path = WORK.joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


def empty_folder(*parts: str) -> Path:
    """The same, with nothing in it."""
    path = WORK.joinpath(*parts)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def write_json(path: Path, value: object) -> None:
    """Write all of it or nothing: a reader never sees half a file."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    part.replace(path)
