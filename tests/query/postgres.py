"""A PostgreSQL server of its own for one test session, on loopback; stopped in the end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "s3cr3t-of-the-plant"


def _missing(text: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def _programs() -> Path | None:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


def started() -> Iterator[tuple[str, Path]]:
    """Its address, HOST:PORT, and its log; the user is `qanat`, with `PASSWORD`.

    Its folder is none of pytest's, which every new run of pytest closes to other users.
    """
    programs = _programs()
    if programs is None:
        _missing("PostgreSQL is not installed (make services)")
        return
    as_user: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        if not shutil.which("runuser"):
            _missing("PostgreSQL does not run as root, and there is no runuser")
        as_user = ["runuser", "-u", "postgres", "--"]
    with tempfile.TemporaryDirectory(prefix="qanat-pg-") as made:
        yield from _run(programs, as_user, Path(made))


def _run(programs: Path, as_user: list[str], folder: Path) -> Iterator[tuple[str, Path]]:
    if as_user:
        shutil.chown(folder, "postgres")
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, control = str(folder / "data"), str(programs / "pg_ctl")
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    ways = ["-U", "qanat", "-A", "scram-sha-256", f"--pwfile={secret}", "-N", "-E", "UTF8"]
    subprocess.run([*as_user, str(programs / "initdb"), "-D", data, *ways], **quiet)
    options = f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off -c log_statement=all"
    log = str(folder / "log")
    subprocess.run([*as_user, control, "-D", data, "-l", log, "-o", options, "-w", "start"], **quiet)
    try:
        yield f"127.0.0.1:{port}", folder / "log"
    finally:
        subprocess.run([*as_user, control, "-D", data, "-m", "immediate", "stop"], **quiet)
