"""qanat and Flink at a Nexmark query: one run over a file of events into a blackhole, from the first row to the end."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType

from bench.data import prefix_file
from bench.engines import Run, last_json, pipeline_times
from bench.flink import FlinkCluster, Settings
from bench.install import FLINK_VERSION
from bench.nexmark.answers import BLACKHOLE, CHANGELOG_FILES, Answer, answer
from bench.nexmark.queries import Query, script, side_input
from bench.process import Watch, run_watched
from bench.work import ROOT, empty_folder

#: So many events run through Flink before the clock counts, and both engines' results are compared over them.
FIRST_EVENTS = 200_000
#: q20 keeps every bid; in the 2 GB of the window bench Flink's heap would be full of them.
FLINK_MEMORY = "4096m"


@dataclass(frozen=True, slots=True)
class Measured:
    """One run, and how many rows went in and how many changes came out where the engine says so."""

    run: Run
    rows_in: int | None = None
    rows_out: int | None = None


class Qanat:
    """`qanat run` in a process of its own, cold, its log on disk, every micro-batch committed with fsync."""

    name = "qanat"
    clock = "first row read to last commit, as `qanat run --json` says"
    note = "log on disk, exactly once, fsync"

    def __init__(self) -> None:
        self.version = metadata.version("qanat")

    def __enter__(self) -> Qanat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def measure(self, query: Query, source: Path, seed: int) -> Measured:
        """One run. Raises CommandError when it fails."""
        return self._run(query, source, seed, BLACKHOLE, empty_folder("nexmark-run"))

    def answer(self, query: Query, source: Path, seed: int) -> Answer:
        """The final result."""
        folder = empty_folder("nexmark-run")
        self._run(query, source, seed, CHANGELOG_FILES.format(folder / "out"), folder)
        return answer(folder / "out")

    def _run(self, query: Query, source: Path, seed: int, sink: str, folder: Path) -> Measured:
        text, log = folder / f"{query.name}.sql", folder / "said.json"
        text.write_text(script(query))
        command: list[str | Path] = [Path(sys.executable).with_name("qanat"), "run", text, "--json"]
        command += ["--state", folder / "state"]
        for name, value in _parameters(source, seed, sink).items():
            command += ["--param", f"{name}={value}"]
        usage = run_watched(command, log, cwd=ROOT)
        said = last_json(log)
        [pipeline] = said["pipelines"]
        return Measured(Run(*pipeline_times(said), usage), pipeline["rows_in"], pipeline["rows_out"])


class Flink:
    """A session cluster of its own for each run, in which the query has run over the first events before."""

    name = "flink"
    version = FLINK_VERSION
    clock = "source tasks RUNNING to the job FINISHED; JVM and cluster start, warm-up, planning and deployment left out"

    def __init__(self, settings: Settings) -> None:
        self._cluster = FlinkCluster(empty_folder("cluster"), settings)
        self._stack = ExitStack()
        self.note = (
            f"{settings.slots} slots, parallelism {settings.parallelism}, {settings.task_manager_memory} task manager, "
            f"checkpoints every {settings.checkpoint_interval}"
        )

    def __enter__(self) -> Flink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def measure(self, query: Query, source: Path, seed: int) -> Measured:
        """One run. Raises FlinkError when it fails. Memory is that of job manager and task manager."""
        with self._cluster:
            warm_up = prefix_file(source, FIRST_EVENTS)
            self._cluster.run_sql(script(query), _parameters(warm_up, seed, BLACKHOLE))
            with Watch(*self._cluster.engine_pids, fresh=False) as watch:
                times = self._cluster.run_sql(script(query), _parameters(source, seed, BLACKHOLE))
        return Measured(Run(times.sources_running_at, times.finished_at, watch.usage))

    def answers(self, queries: tuple[Query, ...], source: Path, seed: int) -> dict[str, Answer]:
        """The final results, by name of the query; in one cluster, since nothing is measured."""
        found = {}
        with self._cluster:
            for query in queries:
                folder = empty_folder("nexmark-run")
                self._cluster.run_sql(script(query), _parameters(source, seed, CHANGELOG_FILES.format(folder / "out")))
                found[query.name] = answer(folder / "out")
        return found


def _parameters(source: Path, seed: int, sink: str) -> dict[str, str]:
    return {"INPUT": str(source), "SIDE_INPUT": str(side_input(seed)), "SINK": sink}
