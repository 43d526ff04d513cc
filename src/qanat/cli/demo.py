"""`qanat demo`: `qanat up examples/nilm`, a fleet on real MQTT sockets, a live view, and a parity report at the end.

qanat runs as a process of its own and is looked at from outside, as anybody could: /metrics, and the log opened
read-only. Ctrl-C ends the fleet; what it sent until then is judged all the same.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.clock import now_ms
from qanat.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.live import Live

    from qanat.log.base import Log
    from qanat.sim.board import Board, Moment
    from qanat.sim.fleet import Fleet
    from qanat.sim.households import Message
    from qanat.sim.oracle import Flow
    from qanat.sim.parity import Report

EXAMPLE = Path(__file__).parents[3] / "examples" / "nilm"
#: Recorded seconds per real second, and how far recorded homes may run apart (below the minute of refit.sql).
_RECORDED_SPEED, _RECORDED_LEAD_MS = 600.0, 45_000
_LOOK_S, _LINE_S = 0.5, 5.0
#: The outputs are given up when they have not moved for so long.
_STUCK_S = 30.0
_START_S = 60.0


def demo(
    households: Annotated[int, typer.Option(min=1, help="How many simulated ones.")] = 500,
    seconds: Annotated[float, typer.Option(min=1, help="How long; real seconds.")] = 60.0,
    real: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Play REFIT recordings instead, at 600 times.")
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the log here; else it is thrown away.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed is another neighbourhood.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The parity report as JSON, and nothing else.")] = False,
) -> None:
    """Watch a fleet go through qanat, then count.

    Households send over MQTT; windows and training sets come out; a parity report says whether anything is missing.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)  # so that the server, which has a session of its own, ends too
    play = _recorded(real, seconds) if real is not None else _simulated(households, seconds, seed)
    with ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qanat-demo-")))
        if (folder / "log.db").exists():
            raise ConfigError(f"{folder} holds a log already", hint="--data with a new folder")
        server = stack.enter_context(running(play.project, folder))
        report = _run(play, server, as_json)
    if not report.ok:
        raise typer.Exit(1)


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


@dataclass(frozen=True, slots=True)
class _Play:
    """What is shown: the project, its times, the messages in the fleet's own time, and the fleet's pace."""

    title: str
    project: Path
    flow: Flow
    seconds: float
    speed: float
    lead_ms: int | None
    households: int = 0
    seed: int = 0
    recordings: Path | None = None

    def messages(self) -> Iterable[Message]:
        """From now on, where the households are simulated."""
        from qanat.sim import replay
        from qanat.sim.households import Neighbourhood, messages

        if self.recordings is not None:
            homes = replay.read_homes(replay.recordings(self.recordings))
            return replay.messages(homes, self.seconds * self.speed)
        hood = Neighbourhood(self.households, self.seconds, self.seed, start_ms=now_ms())
        return messages(hood)


def _simulated(households: int, seconds: float, seed: int) -> _Play:
    from qanat.sim.oracle import LIVE

    title = f"{households:,} simulated households"
    return _Play(title, EXAMPLE, LIVE, seconds, 1.0, None, households=households, seed=seed)


def _recorded(folder: Path, seconds: float) -> _Play:
    from qanat.sim.oracle import RECORDED
    from qanat.sim.replay import recordings

    title = f"{len(recordings(folder))} recorded homes, {_RECORDED_SPEED:.0f} times as fast as they lived"
    project = EXAMPLE / "refit"
    return _Play(title, project, RECORDED, seconds, _RECORDED_SPEED, _RECORDED_LEAD_MS, recordings=folder)


# --- the server


@dataclass(frozen=True, slots=True)
class Server:
    """A running `qanat up`."""

    process: subprocess.Popen[str]
    mqtt_port: int
    http_port: int
    log_url: str
    failures: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raises `ConfigError` where it, or one of its pipelines, has died."""
        if self.process.poll() is not None:
            raise ConfigError(f"qanat up ended with exit code {self.process.returncode}")
        if self.failures:
            raise ConfigError(self.failures[0])

    def listen(self) -> None:
        """Keep what it says of failures, for as long as it speaks."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if said["event"].endswith("_failed"):
                self.failures.append(f"{said.get('name', 'the engine')} failed: {said['error']}")

    def settle(self, done: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until `done()`. Raises `ConfigError` where the server dies or it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not done():
            self.check()
            if time.monotonic() > deadline:
                raise ConfigError(f"the pipelines have not caught up within {timeout_s:.0f} s")
            time.sleep(0.05)

    def stop(self) -> None:
        """As Ctrl-C would."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(project: Path, data: Path) -> Iterator[Server]:
    """`qanat up` for the project in a process of its own, on free ports, with its log in `data`; ended afterwards.

    Raises `ConfigError` where it does not start.
    """
    if not project.is_dir():
        raise ConfigError(f"{project} is not there", hint="qanat demo runs from a clone of the repository")
    command = [sys.executable, "-m", "qanat", "up", str(project), "--mqtt-port", "0", "--http-port", "0"]
    command += ["--data", str(data), "--json"]
    # A session of its own: Ctrl-C is meant for the fleet, and the server ends after it.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)  # noqa: S603
    try:
        ports = _ports(process)
        server = Server(process, ports["mqtt"], ports["http"], f"sqlite:///{(data / 'log.db').absolute()}")
        ear = threading.Thread(target=server.listen, daemon=True)
        ear.start()
        yield server
        server.stop()
        ear.join()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _ports(process: subprocess.Popen[str]) -> dict[str, int]:
    """What `up --json` says until it is ready."""
    assert process.stdout is not None
    ports: dict[str, int] = {}
    for line in process.stdout:
        said = json.loads(line)
        if said["event"] == "listening":
            ports[said["protocol"]] = said["port"]
        elif said["event"] == "ready":
            return ports
    raise ConfigError(f"qanat up did not start (exit code {process.wait(_START_S)})", hint="its message stands above")


# --- the play


def _run(play: _Play, server: Server, as_json: bool) -> Report:
    from rich.console import Console
    from rich.live import Live

    from qanat.log import open_log
    from qanat.sim.board import Board, report_table
    from qanat.sim.fleet import Fleet, FleetOptions, allow_sockets, loop_factory
    from qanat.sim.parity import text

    allow_sockets()
    console, board = Console(), Board(play.title, play.seconds)
    fleet = Fleet(FleetOptions(port=server.mqtt_port, speed=play.speed, lead_ms=play.lead_ms))
    log = open_log(server.log_url, read_only=True)
    try:
        shown = Live(board, console=console, auto_refresh=False) if console.is_terminal and not as_json else None
        if shown is None and not as_json:
            console.print(f"{play.title}; mqtt 127.0.0.1:{server.mqtt_port} http 127.0.0.1:{server.http_port}")
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            report = runner.run(_Show(play, server, fleet, log, board, shown, as_json).run())
    finally:
        log.close()
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report) | {"ok": report.ok}))
    elif console.is_terminal:
        console.print(report_table(report))
    else:
        typer.echo(text(report))
    return report


class _Show:
    """Fleet and view in one event loop; the log is looked at in a thread."""

    def __init__(
        self, play: _Play, server: Server, fleet: Fleet, log: Log, board: Board, shown: Live | None, quiet: bool
    ) -> None:
        self.play, self.server, self.fleet, self.log = play, server, fleet, log
        self.board, self.shown, self.quiet = board, shown, quiet
        self.began = self._told = time.monotonic()

    async def run(self) -> Report:
        """Play, wait for the outputs, judge."""
        from qanat.sim.parity import judge, read_stored

        loop = asyncio.get_running_loop()
        playing = asyncio.create_task(self.fleet.play(self.play.messages()))
        loop.add_signal_handler(signal.SIGINT, playing.cancel)
        with ExitStack() as stack:
            if self.shown is not None:
                stack.enter_context(self.shown)
            self.board.state = "playing"
            await self._watch(playing)
            self.board.state = "waiting for the outputs"
            settling = asyncio.create_task(self._settle())
            loop.add_signal_handler(signal.SIGINT, settling.cancel)
            await asyncio.wait([settling])
            self.board.state = "done"
            await self._look()
        loop.remove_signal_handler(signal.SIGINT)
        if not settling.cancelled():
            settling.result()
        stored = await asyncio.to_thread(read_stored, self.log)
        return await asyncio.to_thread(judge, stored, self.play.flow, self.fleet.account)

    async def _watch(self, playing: asyncio.Task[object]) -> None:
        while not playing.done():
            await asyncio.wait([playing], timeout=_LOOK_S)
            self.server.check()
            await self._look()
        if not playing.cancelled():
            playing.result()

    async def _settle(self) -> None:
        """Until the pipelines have read everything, or have not moved for `_STUCK_S`."""
        from qanat.sim.watch import behind

        least, since = None, time.monotonic()
        while rows := await asyncio.to_thread(behind, self.log):
            self.server.check()
            if least is None or rows < least:
                least, since = rows, time.monotonic()
            if time.monotonic() - since > _STUCK_S:
                return
            await self._look()
            await asyncio.sleep(0.1)

    async def _look(self) -> None:
        from qanat.sim.watch import look

        url = f"http://127.0.0.1:{self.server.http_port}/metrics"
        reading = await asyncio.to_thread(look, self.log, url)
        self.board.add(_moment(time.monotonic() - self.began, self.fleet, reading))
        if self.shown is not None:
            self.shown.update(self.board, refresh=True)
        elif not self.quiet and time.monotonic() - self._told >= _LINE_S:
            self._told = time.monotonic()
            typer.echo(self.board.line())


def _moment(at: float, fleet: Fleet, reading: object) -> Moment:
    import numpy as np

    from qanat.sim.board import Moment
    from qanat.sim.watch import Reading

    assert isinstance(reading, Reading)
    account = fleet.account
    recent = np.asarray(account.ack_ms[-20_000:])
    p50, p99 = np.quantile(recent, [0.5, 0.99]).tolist() if len(recent) else (None, None)
    return Moment(at, account.sent, account.acknowledged, account.again, account.connected, reading, p50, p99)
