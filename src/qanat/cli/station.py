"""Everything of a project in one process: log, engine, gateway and the log's upkeep, started and ended in order.

The event loop (gateway) has the main thread; the engine has its own. Prints nothing: what happens goes to `announce`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from qanat.cli.archiving import archive_service
from qanat.cli.asking import archive_of, queries_of
from qanat.cli.contracts import ProjectContracts
from qanat.cli.project import CONFIG, Folder
from qanat.cli.reloading import Reloading
from qanat.cli.running import forget_running, write_running
from qanat.cli.serving import mount_api, open_aggregates
from qanat.cli.storing import open_stores
from qanat.cli.streams import all_streams, with_retention, written_by
from qanat.clock import now_ms
from qanat.errors import QanatError
from qanat.gateway import Gateway, GatewayConfig
from qanat.log import open_log
from qanat.model.streams import DEAD_LETTERS, LATE, dead_letter_stream, late_stream
from qanat.notify import open_sinks
from qanat.observe.metrics import Metrics
from qanat.serve.ui import Facts
from qanat.sql.embedded import Engine, EngineOptions, RestartPolicy
from qanat.sql.plan import Program

#: Called with the name of an event and what belongs to it.
Announce = Callable[[str, Mapping[str, object]], None]

#: Seconds between two runs of retention and compaction, and between two looks at the pipelines.
_UPKEEP = 30.0
_LOOK = 0.5


class Station:
    """A running project. Made, started and stopped in one event loop."""

    def __init__(self, folder: Folder, program: Program, config: GatewayConfig, announce: Announce) -> None:
        self._announce, self._data, self._config = announce, folder.data, config
        program = with_retention(program, folder.project)
        folder.data.mkdir(parents=True, exist_ok=True)
        self._log = open_log(folder.log_url)
        self._contracts: ProjectContracts | None = None
        try:
            streams = all_streams(program)
            inputs = frozenset(streams) - {DEAD_LETTERS, LATE} - written_by(program)
            self._contracts = ProjectContracts(folder, streams, inputs)  # before anything takes over what has changed
            metrics = Metrics()
            self._engine = Engine(program, self._log, _engine_options(folder), metrics=metrics)  # declares the streams
            self._sinks = open_sinks(folder.project.sinks, streams, self._log, metrics, folder.path)  # before new rows
            for stream in (dead_letter_stream(), late_stream()):  # as the project wants them, not as rooms declare them
                self._log.create(folder.project.retained(stream))
            self._archiving = archive_service(folder, self._log, metrics)  # before retention deletes anything
            self._stores = open_stores(folder, self._log, streams, metrics)
            contracts = self._contracts.take_over()
            config = replace(config, accepts=inputs, contracts=contracts)
            self.gateway = Gateway(config, streams, self._log, metrics, self._checks)
            self._aggregates = open_aggregates(folder, streams, metrics)
            self._reloading = Reloading(folder.path / CONFIG, self._aggregates.use)
            pages = Facts.of(folder.project, inputs, self._aggregates.measures, lambda: self.gateway.mqtt_port)
            also = (self._aggregates.mount, pages.mount)
            archive, queries = archive_of(folder, self._log), queries_of(folder)
            self._end_api = mount_api(
                self.gateway, self._engine, program, self._log, folder.project.api, archive, also, queries
            )
        except BaseException:
            self._close()
            raise
        self.inputs = tuple(sorted(inputs))
        self._faults: dict[str, str | None] = {"log": None, "engine": None}
        self._thread = threading.Thread(target=self._run_engine, name="qanat-engine", daemon=True)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen, and let the pipelines run. Raises `ConfigError` where a port is taken; nothing is left open then."""
        try:
            await self.gateway.start()
        except BaseException:
            self._close()
            raise
        for sink in self._sinks:
            sink.start()
        write_running(self._data, self._config, self.gateway.http_port)
        self._aggregates.start()
        self._thread.start()
        if self._archiving is not None:
            self._archiving.start()
        self._stores.start()
        self._tasks = [asyncio.create_task(self._upkeep()), asyncio.create_task(self._look())]

    async def stop(self) -> None:
        """Take nothing more and acknowledge what was taken; finish the commits at hand; close the log."""
        forget_running(self._data)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.gateway.stop()
        self._end_api()
        await self._aggregates.stop()
        self._engine.stop()
        for sink in self._sinks:
            await asyncio.to_thread(sink.stop)
        await asyncio.to_thread(self._thread.join)
        if self._archiving is not None:
            await asyncio.to_thread(self._archiving.stop)  # what has come until now is archived, too
        await asyncio.to_thread(self._stores.stop)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._log.close()
        if self._contracts is not None:
            self._contracts.close()

    def _run_engine(self) -> None:
        try:
            self._engine.run()
        except BaseException as error:  # noqa: BLE001 - shown by /healthz; the gateway goes on taking rows
            self._faults["engine"] = f"{type(error).__name__}: {error}"
            self._announce("engine_failed", {"error": self._faults["engine"]})

    def _checks(self) -> Mapping[str, str | None]:
        pipelines = {f"pipeline {status.name}": status.error for status in self._engine.status()}
        lake = {} if self._archiving is None else self._archiving.faults()
        sinks = {f"sink {sink.name}": sink.fault for sink in self._sinks}
        settings = {} if self._reloading.fault is None else {"qanat.yaml": self._reloading.fault}
        return {
            **self._faults,
            **settings,
            **sinks,
            **self._aggregates.checks(),
            **pipelines,
            **lake,
            **self._stores.faults(),
        }

    async def _upkeep(self) -> None:
        maintain = getattr(self._log, "maintain", None)
        while maintain is not None:
            await asyncio.sleep(_UPKEEP)
            try:
                await asyncio.to_thread(maintain, now_ms())
                self._faults["log"] = None
            except QanatError as error:  # shown by /healthz, tried again
                self._faults["log"] = str(error)

    async def _look(self) -> None:
        """Tell when a pipeline fails, is begun again or finishes, and when other settings are in force."""
        known = {status.name: "running" for status in self._engine.status()}
        while True:
            await asyncio.sleep(_LOOK)
            if await self._reloading.check():
                self._announce("reloaded", {"section": "cache"})
            for status in self._engine.status():
                before, known[status.name] = known[status.name], status.state
                if status.state != before and status.state in ("failed", "restarting", "finished"):
                    self._announce(f"pipeline_{status.state}", {"name": status.name, "error": status.error})


def _engine_options(folder: Folder) -> EngineOptions:
    wanted = folder.project.engine
    options = EngineOptions(live=True, restarts=RestartPolicy())
    if wanted.batch_rows is not None:
        options = replace(options, batch_rows=wanted.batch_rows)
    if wanted.snapshot_interval is not None:
        options = replace(options, snapshot_interval_ms=int(wanted.snapshot_interval))
    limits = {
        name: int(one.state_limit) for name, one in folder.project.pipelines.items() if one.state_limit is not None
    }
    total = folder.project.state_limit
    return replace(options, state_limit=None if total is None else int(total), state_limits=limits)
