"""The engines of the window bench behind one face: run a query over a file once, say when it began and ended.

The clock runs from the first row read to the last row committed. Each engine's own nearest mark of the two moments is
taken, and where there is a choice, the one that favours the peer; docs/bench.md lists them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from bench.data import prefix_file
from bench.flink import FlinkCluster, Settings
from bench.install import FLINK_VERSION, python_of
from bench.oracle import Query
from bench.process import CommandError, Usage, Watch, run_watched
from bench.work import BENCH, ROOT, empty_folder

_WARM_UP_ROWS = 200_000


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run. Times in epoch seconds."""

    first_row_at: float
    last_commit_at: float
    usage: Usage

    @property
    def seconds(self) -> float:
        """What the bench compares."""
        return self.last_commit_at - self.first_row_at


@dataclass(frozen=True, slots=True)
class Effort:
    """How often an engine runs a query, and over how many rows at most (None: all of them)."""

    runs: int
    rows: int | None = None


class Engine(Protocol):
    """Entered once, run many times, left. `run` writes committed rows below `folder/out`, which is empty before."""

    name: str
    version: str
    clock: str
    note: str
    efforts: Mapping[str, Effort]

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(self, query: Query, source: Path, folder: Path) -> Run:
        """Raises CommandError or FlinkError when the engine fails."""
        ...


class _Stateless(AbstractContextManager["_Stateless"]):
    """An engine whose every run is a process of its own: nothing to enter or leave."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Qanat(_Stateless):
    """`qanat run` in a process of its own, its log on disk, every micro-batch committed with fsync."""

    name = "qanat"
    clock = (
        "first row read to last commit, as `qanat run --json` says; interpreter start, imports and planning left out"
    )
    note = "log on disk, exactly once, fsync"
    efforts: Mapping[str, Effort] = {"tumble": Effort(5), "hop": Effort(5)}

    def __init__(self) -> None:
        self.version = _version("qanat")

    def run(self, query: Query, source: Path, folder: Path) -> Run:
        """See `Engine.run`."""
        log = folder / "said.json"
        command: list[str | Path] = [Path(sys.executable).with_name("qanat"), "run", query.sql, "--json"]
        command += ["--state", folder / "state", "--param", f"INPUT={source}", "--param", f"OUTPUT={folder / 'out'}"]
        usage = run_watched(command, log, cwd=ROOT)
        first, last = pipeline_times(last_json(log))
        return Run(first, last, usage)


class Flink:
    """A session cluster in which the query has run once over the first rows of the file, so that it is compiled.

    Every run has a cluster of its own, as every run of the other engines has a process of its own. `kept`: one cluster
    for all runs instead, which goes on optimising; that is Flink after it has run the same query for a while.
    """

    clock = (
        "source tasks RUNNING to the last output file committed, a little before the job is FINISHED; "
        "JVM and cluster start, warm-up jobs, planning, submission and deployment left out"
    )
    efforts: Mapping[str, Effort] = {"tumble": Effort(5), "hop": Effort(5)}

    def __init__(self, settings: Settings, *, files: int = 1, kept: bool = False) -> None:
        self._cluster = FlinkCluster(empty_folder("cluster"), settings)
        self._files, self._kept = files, kept
        self._warm: set[str] = set()
        self._stack = ExitStack()
        self.name = "flink-warm" if kept else "flink" if files == 1 else f"flink-{files}-files"
        self.version = FLINK_VERSION
        spread = "" if files == 1 else f"; input dealt out to {files} files beforehand, so that every slot reads"
        self.note = (
            f"{settings.slots} slots, parallelism {settings.parallelism}, {settings.task_manager_memory} task manager, "
            f"checkpoints every {settings.checkpoint_interval}{spread}{_changed(settings)}"
        )
        if files > 1:
            self.efforts = {name: replace(effort, runs=3) for name, effort in self.efforts.items()}

    def __enter__(self) -> Flink:
        if self._kept:
            self._stack.enter_context(self._cluster)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, query: Query, source: Path, folder: Path) -> Run:
        """See `Engine.run`. Memory is that of job manager and task manager; the SQL Gateway is left out."""
        if self._kept:
            return self._measured(query, source, folder)
        with self._cluster:
            self._warm.clear()
            return self._measured(query, source, folder)

    def _measured(self, query: Query, source: Path, folder: Path) -> Run:
        if query.name not in self._warm:
            self._submit(query, prefix_file(source, _WARM_UP_ROWS), folder / "warm-up")
            self._warm.add(query.name)
        with Watch(*self._cluster.engine_pids, fresh=False) as watch:
            first, last = self._submit(query, source, folder / "out")
        return Run(first, last, watch.usage)

    def _submit(self, query: Query, source: Path, output: Path) -> tuple[float, float]:
        source = source if self._files == 1 else dealt_out(source, self._files)
        script = query.sql.read_text()
        times = self._cluster.run_sql(script, {"INPUT": source.as_uri(), "OUTPUT": output.as_uri()})
        # the commit renames the file, which is what the change time of an inode shows
        last = max(path.stat().st_ctime for path in output.glob("part-*"))
        return times.sources_running_at, min(last, times.finished_at)


class Pathway(_Stateless):
    """A script in Pathway's own environment, two workers."""

    name = "pathway"
    clock = "input file opened to `pw.run` returned; imports and building of the graph left out"
    efforts: Mapping[str, Effort] = {"tumble": Effort(3), "hop": Effort(1, 200_000)}

    def __init__(self, behavior: str) -> None:
        self._behavior = behavior
        self.version = _pinned("pathway")
        self.note = {
            "none": "two workers, static mode: one batch, no commits, not durable",
            "exactly_once": "two workers, static mode with exactly_once_behavior(5 s), not durable",
        }[behavior]

    def run(self, query: Query, source: Path, folder: Path) -> Run:
        """See `Engine.run`."""
        return _run_script("pathway", query, source, folder, self._behavior, {"PATHWAY_THREADS": "2"})


class Bytewax(_Stateless):
    """A script in Bytewax's own environment, two processes (one interpreter has but one core)."""

    name = "bytewax"
    note = "two processes, no recovery store, output synced"
    clock = "input file opened to the last process's `cluster_main` returned; imports and connecting left out"
    efforts: Mapping[str, Effort] = {"tumble": Effort(3), "hop": Effort(1)}

    def __init__(self) -> None:
        self.version = _pinned("bytewax")

    def run(self, query: Query, source: Path, folder: Path) -> Run:
        """See `Engine.run`."""
        return _run_script("bytewax", query, source, folder, "2", {})


def last_json(path: Path) -> dict[str, Any]:
    """The JSON object at the end of what a command said: its last line."""
    last = (path.read_text().strip().splitlines() or ["nothing"])[-1]
    try:
        return dict(json.loads(last))
    except ValueError as error:
        raise CommandError(f"expected a JSON object as last line, found: {last[:200]}") from error


def pipeline_times(said: Mapping[str, Any]) -> tuple[float, float]:
    """First row read and last row committed over all pipelines of a `qanat run --json`."""
    pipelines = said["pipelines"]
    return min(each["first_row_at"] for each in pipelines), max(each["last_commit_at"] for each in pipelines)


def dealt_out(source: Path, files: int) -> Path:
    """A folder with the rows dealt out to several files in turn, so that all of them cover the same time."""
    folder = source.with_suffix(f".{files}-files")
    if not folder.exists():
        part = empty_folder("data", folder.name + ".part")
        for number in range(files):
            with source.open("rb") as rows, (part / f"{number}.jsonl").open("wb") as out:
                out.writelines(islice(rows, number, None, files))
        part.rename(folder)
    return folder


#: What `make bench` runs; the others are there for who asks for them.
USUAL = ("qanat", "flink", "flink-warm", "pathway", "bytewax")


def all_engines(settings: Settings, pathway_behavior: str) -> dict[str, Engine]:
    """By name, in the order of the table."""
    engines: list[Engine] = [
        Qanat(),
        Flink(settings),
        Flink(settings, kept=True),
        Flink(settings, files=settings.slots),
        Pathway(pathway_behavior),
        Bytewax(),
    ]
    return {engine.name: engine for engine in engines}


def _changed(settings: Settings) -> str:
    options = dict(settings.options or {})
    if settings.auto_watermark is not None:
        options["pipeline.auto-watermark-interval"] = settings.auto_watermark
    return "".join(f"; {key}: {value}" for key, value in options.items())


def _run_script(peer: str, query: Query, source: Path, folder: Path, last: str, env: Mapping[str, str]) -> Run:
    output = folder / "out"
    output.mkdir()
    script = BENCH / "peers" / f"{peer}_windows.py"
    command: list[str | Path] = [python_of(peer), script, source, output, str(query.size_ms), str(query.slide_ms), last]
    usage = run_watched(command, folder / "said.txt", env=env)
    times = json.loads((folder / "times.json").read_text())
    return Run(times["first_row_at"], times["last_commit_at"], usage)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _pinned(package: str) -> str:
    pins = (BENCH / "peers" / f"{package}.txt").read_text().splitlines()
    return next(pin.partition("==")[2] for pin in pins if pin.startswith(f"{package}=="))
