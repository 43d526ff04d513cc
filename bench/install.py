"""Puts the peers in place, once: a virtual environment each with pinned packages, the jars of Flink and Cassandra.

Flink comes from PyPI: the source archive of `apache-flink-libraries` holds the jars of the distribution under `deps/`.
The SQL Gateway is not among them and comes from Maven Central, through Maven, as Cassandra does. Each piece ends with a
stamp that names what was installed; what bears the right stamp is not touched again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Callable
from pathlib import Path

from bench.process import CommandError
from bench.work import BENCH, WORK, empty_folder

FLINK_VERSION = "2.3.0"
CASSANDRA_VERSION = "5.0.5"

_CASSANDRA_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>qanat</groupId>
  <artifactId>cassandra</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.cassandra</groupId>
      <artifactId>cassandra-all</artifactId>
      <version>{version}</version>
    </dependency>
  </dependencies>
</project>
"""


def python_of(peer: str) -> Path:
    """The interpreter of a peer's own environment (`bench/peers/PEER.txt`), made at the first call."""
    requirements = BENCH / "peers" / f"{peer}.txt"
    stamp = hashlib.sha256(requirements.read_bytes()).hexdigest()
    home = _installed(peer, stamp, lambda home: _make_environment(home, requirements))
    return home / "bin" / "python"


def flink_home() -> Path:
    """Flink's `lib`, `opt`, `plugins` and `bin`, and the SQL Gateway's jar in `gateway`; fetched at the first call."""
    _require("java")
    return _installed("flink", FLINK_VERSION, _fetch_flink)


def cassandra_home() -> Path:
    """Cassandra's jars and those that they need, in `lib`; fetched at the first call."""
    _require("java", "Cassandra")
    return _installed("cassandra", CASSANDRA_VERSION, _fetch_cassandra)


def cassandra_is_here() -> bool:
    """Whether `cassandra_home` has nothing to fetch."""
    mark = WORK / "cassandra" / "installed"
    return shutil.which("java") is not None and mark.exists() and mark.read_text() == CASSANDRA_VERSION


def _installed(name: str, stamp: str, make: Callable[[Path], None]) -> Path:
    home = WORK / name
    mark = home / "installed"
    if not (mark.exists() and mark.read_text() == stamp):
        empty_folder(name)
        make(home)
        mark.write_text(stamp)
    return home


def _make_environment(home: Path, requirements: Path) -> None:
    venv.create(home, with_pip=True)
    _run(home / "bin" / "python", "-m", "pip", "install", "-q", "-r", requirements)


def _require(tool: str, who: str = "Flink") -> None:
    if shutil.which(tool) is None:
        raise CommandError(f"{who} needs `{tool}`: install a JDK 17 and Maven, or leave {who.lower()} out")


def _fetch_flink(home: Path) -> None:
    _require("mvn")
    tools = home / "tools"
    venv.create(tools, with_pip=True)
    pip: list[str | Path] = [tools / "bin" / "python", "-m", "pip"]
    # pip reads the archive's metadata even when it only downloads it, which takes these two
    _run(*pip, "install", "-q", "setuptools", "wheel")
    _run(
        *pip,
        "download",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-binary",
        ":all:",
        "-d",
        home,
        f"apache-flink-libraries=={FLINK_VERSION}",
    )
    (archive,) = home.glob("apache_flink_libraries-*.tar.gz")
    _unpack_deps(archive, home)
    archive.unlink()
    shutil.rmtree(tools)
    artifact = f"org.apache.flink:flink-sql-gateway:{FLINK_VERSION}"
    _run("mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={home / 'gateway'}")


def _fetch_cassandra(home: Path) -> None:
    _require("mvn", "Cassandra")
    pom = home / "pom.xml"
    pom.write_text(_CASSANDRA_POM.format(version=CASSANDRA_VERSION))
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={home / 'lib'}"]
    _run("mvn", "-q", "-B", "-f", pom, *copy)


def _unpack_deps(archive: Path, home: Path) -> None:
    with tarfile.open(archive) as packed:
        for member in packed:
            _, _, inside = member.name.partition("/deps/")
            if member.isfile() and inside:
                member.name = inside
                packed.extract(member, home, filter="data")


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise CommandError(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    homes = {"flink": flink_home, "cassandra": cassandra_home}
    for chosen in sys.argv[1:] or ["flink", "cassandra", "pathway", "bytewax"]:
        sys.stdout.write(f"{homes[chosen]() if chosen in homes else python_of(chosen)}\n")
