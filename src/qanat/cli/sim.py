"""`qanat sim`: simulated households and recorded homes, onto a broker's port or into files."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.clock import now_ms
from qanat.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress

    from qanat.sim.fleet import Account, Fleet, FleetOptions
    from qanat.sim.households import Message

app = typer.Typer(no_args_is_help=True, help="Simulated and recorded households.")

#: Accelerated households run apart by at most this much of their own time: with the swaps it stays below 5 s.
_LEAD_MS = 500

Host = Annotated[str, typer.Option(help="Where qanat listens.")]
Port = Annotated[int, typer.Option("--mqtt-port", help="Its MQTT port.")]
Qos = Annotated[int, typer.Option(help="0: sent and forgotten, 1: acknowledged.", min=0, max=1)]
Version = Annotated[str, typer.Option("--mqtt-version", help="5, 3.1.1, or mixed.")]
User = Annotated[str | None, typer.Option(help="User of every client; {client} stands for the client id.")]
Password = Annotated[str | None, typer.Option(envvar="QANAT_SIM_PASSWORD", help="Its password.", show_envvar=True)]
Out = Annotated[Path | None, typer.Option(help="Write power.jsonl and device_state.jsonl into this folder instead.")]
Json = Annotated[bool, typer.Option("--json", help="The result as one JSON object.")]
Share = typer.Option(min=0.0, max=1.0, help="Share of messages with this fault.")


@app.command()
def households(
    households: Annotated[int, typer.Option(min=1, help="How many; a hundred join every 5 s.")] = 100,
    seconds: Annotated[float, typer.Option(help="How long, in their own time.")] = 60.0,
    speed: Annotated[float, typer.Option(help="Their seconds per real second; 0 as fast as acknowledged.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Another seed is another neighbourhood.")] = 1,
    swap: Annotated[float, Share] = 0.01,
    no_clock: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of meters without a clock.")] = 0.0,
    late: Annotated[float, Share] = 0.0,
    duplicates: Annotated[float, Share] = 0.0,
    malformed: Annotated[float, Share] = 0.0,
    host: Host = "127.0.0.1",
    mqtt_port: Port = 1883,
    qos: Qos = 1,
    mqtt_version: Version = "5",
    username: User = None,
    password: Password = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Simulated households: total power every 1-3 s, at times with the on/off state of the appliances."""
    from qanat.sim.fleet import FleetOptions
    from qanat.sim.households import Neighbourhood, messages, write_lines

    if no_clock and speed != 1 and out is None:
        raise ConfigError("a meter without a clock lives in real time", hint="--no-clock with --speed 1, or with --out")
    past = seconds - seconds / speed if speed else seconds  # they end now at the latest: no time stamp in the future
    hood = Neighbourhood(
        households=households,
        seconds=seconds,
        seed=seed,
        start_ms=now_ms() - max(0, int(past * 1000)),
        swap=swap,
        no_clock=no_clock,
        late=late,
        duplicate=duplicates,
        malformed=malformed,
    )
    if out is not None:
        _wrote(write_lines(hood, out), as_json)
        return
    lead = None if 0 < speed <= 1 or not qos else _LEAD_MS
    options = FleetOptions(host, mqtt_port, qos, mqtt_version, username, password, speed, lead)
    _play(messages(hood), options, hood.start_ms, seconds, as_json)


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="REFIT recordings, House_N.csv.gz.")],
    speed: Annotated[float, typer.Option(help="Recorded seconds per real second; 0 as fast as acknowledged.")] = 600.0,
    threshold: Annotated[float, typer.Option(help="An appliance that draws more (W) is on.")] = 10.0,
    seconds: Annotated[float | None, typer.Option(help="Only the first seconds of the recording.")] = None,
    keep_dates: Annotated[bool, typer.Option(help="Do not move the homes to a common start.")] = False,
    lead: Annotated[
        float, typer.Option(help="Recorded seconds that homes may run apart; below the watermark's delay.")
    ] = 45,
    host: Host = "127.0.0.1",
    mqtt_port: Port = 1883,
    qos: Qos = 1,
    mqtt_version: Version = "5",
    username: User = None,
    password: Password = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Recorded homes, all moved to a common start: power, and appliance states by threshold.

    The streams' watermark delay has to exceed --lead, as in examples/nilm/refit.
    """
    from qanat.sim.fleet import FleetOptions
    from qanat.sim.replay import messages, read_homes, write_lines

    homes = read_homes(files, threshold, keep_dates)
    if out is not None:
        _wrote(write_lines(homes, out), as_json)
        return
    first, last = homes["timestamp"][0], homes["timestamp"][-1]
    lead_ms = int(lead * 1000) if qos else None
    options = FleetOptions(host, mqtt_port, qos, mqtt_version, username, password, speed, lead_ms)
    length = last - first if seconds is None else min(seconds, last - first)
    _play(messages(homes, seconds), options, first * 1000, length, as_json)


def _wrote(paths: Iterable[Path], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({path.stem: str(path) for path in paths}))
    else:
        for path in paths:
            typer.echo(f"wrote {path}")


def _play(messages: Iterable[Message], options: FleetOptions, start_ms: int, seconds: float, as_json: bool) -> None:
    from qanat.sim.fleet import Fleet, allow_sockets, loop_factory

    allow_sockets()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        account = runner.run(_watched(Fleet(options), messages, start_ms, seconds))
    told = {
        "sent": account.sent,
        "acknowledged": account.acknowledged,
        "again": account.again,
        "refused": sum(account.refused),
        "reconnects": account.reconnects,
    }
    typer.echo(json.dumps(told) if as_json else ", ".join(f"{count:,} {what}" for what, count in told.items()))
    if options.qos and account.acknowledged + told["refused"] < len(account.messages):
        missing = len(account.messages) - account.acknowledged
        raise ConfigError(f"{missing:,} messages were not acknowledged by {options.host}:{options.port}")


async def _watched(fleet: Fleet, messages: Iterable[Message], start_ms: int, seconds: float) -> Account:
    """Play with a progress bar on stderr, where that is a terminal."""
    playing = asyncio.create_task(fleet.play(messages))
    with _progress() as bar:
        task = bar.add_task("playing", total=seconds) if bar else None
        while not playing.done():
            await asyncio.wait([playing], timeout=0.25)
            account = fleet.account
            if bar is not None and task is not None and account.messages:
                at = (account.messages[-1].at_ms - start_ms) / 1000
                told = f"{account.sent:,} sent, {account.acknowledged:,} acknowledged"
                bar.update(task, completed=min(at, seconds), description=told)
    return await playing


def _progress() -> Progress | nullcontext[None]:
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
