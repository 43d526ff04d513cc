"""`qanat sim`: simulated households, farms and web sites and recorded homes, onto a gateway's port or into files."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from qanat.cli.options import Data, Project
from qanat.clock import now_ms
from qanat.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from rich.progress import Progress

    from qanat.sim.faults import Note
    from qanat.sim.fleet import Account, FleetOptions
    from qanat.sim.households import Message

app = typer.Typer(no_args_is_help=True, help="Simulated households, farms and web sites, and recorded homes.")

#: Accelerated fleets run apart by at most this much of their own time: with the swaps it stays below 5 s.
_LEAD_MS = 500


def _share(text: str | float) -> float:
    from qanat.sim.faults import parse_share

    return _parsed(parse_share, text)


def _rate(text: str | float) -> float:
    from qanat.sim.faults import parse_rate

    return _parsed(parse_rate, text)


def _parsed(parse: Any, text: str | float) -> float:
    try:
        return float(parse(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Host = Annotated[str, typer.Option(help="Where qanat listens.")]
Port = Annotated[int, typer.Option("--mqtt-port", help="Its MQTT port.")]
HttpPort = Annotated[int, typer.Option("--http-port", help="Its HTTP port.")]
Qos = Annotated[int, typer.Option(help="0: sent and forgotten, 1: acknowledged.", min=0, max=1)]
Version = Annotated[str, typer.Option("--mqtt-version", help="5, 3.1.1, or mixed.")]
User = Annotated[str | None, typer.Option(help="User of every client; {client} stands for the client id.")]
Password = Annotated[str | None, typer.Option(envvar="QANAT_SIM_PASSWORD", help="Its password.", show_envvar=True)]
Out = Annotated[Path | None, typer.Option(help="Write power.jsonl and device_state.jsonl into this folder instead.")]
File = Annotated[Path | None, typer.Option(help="Write the messages into this folder instead.")]
Json = Annotated[bool, typer.Option("--json", help="The result as one JSON object.")]
Seconds = Annotated[float, typer.Option(help="How long, in their own time.")]
Speed = Annotated[float, typer.Option(help="Their seconds per real second; 0 as fast as acknowledged.")]
Seed = Annotated[int, typer.Option(help="Another seed is another fleet.")]
_A_SHARE = {"parser": _share, "metavar": "SHARE"}
Late = Annotated[float, typer.Option(help="Messages held back for 6-60 s: 2% or 0.02.", **_A_SHARE)]
Swapped = Annotated[
    float, typer.Option("--swapped", "--swap", help="Messages sent after the next one of their device.", **_A_SHARE)
]
Duplicates = Annotated[float, typer.Option(help="Messages sent a second time.", **_A_SHARE)]
Clocks = Annotated[float, typer.Option("--clock-faults", help="Messages of a clock that is years off.", **_A_SHARE)]
Malformed = Annotated[float, typer.Option(help="Messages that are cut short.", **_A_SHARE)]
Lost = Annotated[
    float,
    typer.Option("--lost-connections", parser=_rate, metavar="RATE", help="Cut in the middle of a packet: 1/min."),
]
CheckIt = Annotated[bool, typer.Option("--check", help="Hold what arrived against what was sent; 1 if it differs.")]


@app.command()
def households(
    households: Annotated[int, typer.Option(min=1, help="How many; a hundred join every 5 s.")] = 100,
    seconds: Seconds = 60.0,
    speed: Speed = 1.0,
    seed: Seed = 1,
    swapped: Swapped = 0.01,
    no_clock: Annotated[float, typer.Option(help="Meters without a clock.", **_A_SHARE)] = 0.0,
    late: Late = 0.0,
    duplicates: Duplicates = 0.0,
    clock_faults: Clocks = 0.0,
    malformed: Malformed = 0.0,
    lost_connections: Lost = 0.0,
    check: CheckIt = False,
    directory: Project = Path(),
    data: Data = None,
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
    from qanat.cli.sim_check import check_empty, judge_households
    from qanat.sim.fleet import FleetOptions
    from qanat.sim.households import Neighbourhood, messages, write_lines

    if no_clock and speed != 1 and out is None:
        raise ConfigError("a meter without a clock lives in real time", hint="--no-clock with --speed 1, or with --out")
    hood = Neighbourhood(
        households=households,
        seconds=seconds,
        seed=seed,
        start_ms=_start(seconds, speed),
        swap=swapped,
        no_clock=no_clock,
        late=late,
        duplicate=duplicates,
        malformed=malformed,
        clock_fault=clock_faults,
    )
    if out is not None:
        _wrote(write_lines(hood, out), as_json)
        return
    if check:
        check_empty(directory, data)
    options = FleetOptions(
        host, mqtt_port, qos, mqtt_version, username, password, speed, _lead(speed, qos),
        seed=seed, lost_connections=lost_connections,
    )  # fmt: skip
    account = _play(messages(hood), options, hood.start_ms, seconds)
    _tell(account, as_json, check)
    if check and not judge_households(account, directory, data, as_json):
        raise typer.Exit(1)


@app.command()
def farm(
    sites: Annotated[int, typer.Option(min=1, help="How many farms.")] = 10,
    sensors: Annotated[int, typer.Option(min=1, help="How many sensors in all; they send every 5, 30 or 120 s.")] = 500,
    seconds: Seconds = 300.0,
    speed: Speed = 1.0,
    seed: Seed = 1,
    swapped: Swapped = 0.0,
    late: Late = 0.0,
    duplicates: Duplicates = 0.0,
    clock_faults: Clocks = 0.0,
    malformed: Malformed = 0.0,
    lost_connections: Lost = 0.0,
    check: CheckIt = False,
    directory: Project = Path(),
    data: Data = None,
    host: Host = "127.0.0.1",
    mqtt_port: Port = 1883,
    qos: Qos = 1,
    mqtt_version: Version = "5",
    username: User = None,
    password: Password = None,
    out: File = None,
    as_json: Json = False,
) -> None:
    """Simulated farms: sensors of six kinds and three vendors, topics farm/SITE/SENSOR/KIND (examples/farm)."""
    from qanat.cli.sim_check import Check
    from qanat.sim import farm as farms
    from qanat.sim.arrivals import Ledger, farm_rows
    from qanat.sim.faults import Faults, disturb
    from qanat.sim.fleet import FleetOptions

    played = farms.Farm(sites, sensors, seconds, seed, _start(seconds, speed))
    faults = Faults(late, swapped, duplicates, clock_faults, malformed, lost_connections)
    disturbed = disturb(farms.readings(played), faults, seed)
    if out is not None:
        _wrote([_write_messages(disturbed, out / "farm.jsonl")], as_json)
        return
    begun = Check.begun(directory, data, farms.STREAM, farm_rows) if check else None
    options = FleetOptions(
        host, mqtt_port, qos, mqtt_version, username, password, speed, _lead(speed, qos),
        seed=seed, lost_connections=lost_connections,
    )  # fmt: skip
    ledger = Ledger()
    account = _play(ledger.messages(disturbed), options, played.start_ms, seconds)
    _tell(account, as_json, check)
    if begun is not None and not begun.judge(account, ledger, as_json):
        raise typer.Exit(1)


@app.command()
def web(
    visitors: Annotated[int, typer.Option(min=1, help="How many visitors.")] = 1_000,
    collectors: Annotated[int, typer.Option(min=1, help="How many servers post what they do.")] = 4,
    seconds: Seconds = 300.0,
    speed: Speed = 1.0,
    seed: Seed = 1,
    swapped: Swapped = 0.0,
    late: Late = 0.0,
    duplicates: Duplicates = 0.0,
    clock_faults: Clocks = 0.0,
    malformed: Malformed = 0.0,
    lost_connections: Lost = 0.0,
    check: CheckIt = False,
    directory: Project = Path(),
    data: Data = None,
    host: Host = "127.0.0.1",
    http_port: HttpPort = 8080,
    username: User = None,
    password: Password = None,
    out: File = None,
    as_json: Json = False,
) -> None:
    """Simulated visitors of a web site, posted as NDJSON over HTTP with idempotency keys (examples/web)."""
    from qanat.cli.sim_check import Check
    from qanat.sim import web as sites
    from qanat.sim.arrivals import Ledger, web_rows
    from qanat.sim.faults import Faults, disturb
    from qanat.sim.posting import Posting, PostingOptions

    played = sites.Site(visitors, collectors, seconds, seed, _start(seconds, speed))
    faults = Faults(late, swapped, duplicates, clock_faults, malformed, lost_connections)
    disturbed = disturb(sites.readings(played), faults, seed)
    if out is not None:
        _wrote([_write_messages(disturbed, out / "web_events.jsonl")], as_json)
        return
    begun = Check.begun(directory, data, sites.STREAM, web_rows) if check else None
    posting = Posting(
        PostingOptions(host, http_port, username, password, speed, lost_connections=lost_connections, seed=seed)
    )
    ledger = Ledger()
    account = _run(posting, ledger.messages(disturbed), played.start_ms, seconds)
    _tell(account, as_json, check)
    if account.acknowledged < len(account.messages):
        raise ConfigError(f"{len(account.messages) - account.acknowledged:,} events were not acknowledged")
    if begun is not None and not begun.judge(account, ledger, as_json):
        raise typer.Exit(1)


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
    _tell(_play(messages(homes, seconds), options, first * 1000, length), as_json, False)


def _start(seconds: float, speed: float) -> int:
    """The fleet's beginning: it ends now at the latest, so that no time stamp lies in the future."""
    past = seconds - seconds / speed if speed else seconds
    return now_ms() - max(0, int(past * 1000))


def _lead(speed: float, qos: int) -> int | None:
    return None if 0 < speed <= 1 or not qos else _LEAD_MS


def _wrote(paths: Iterable[Path], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({path.stem: str(path) for path in paths}))
    else:
        for path in paths:
            typer.echo(f"wrote {path}")


def _write_messages(disturbed: Iterable[tuple[Message, Note]], path: Path) -> Path:
    """A line a message, in the order of sending: when, who, topic, payload, and what was done to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for message, note in disturbed:
            faults = [one.name.lower() for one in note.fault if one.name]
            line = {"at": message.at_ms, "client": message.client, "topic": message.topic}
            file.write(json.dumps(line | {"payload": message.payload.decode(), "faults": faults}) + "\n")
    return path


def _play(messages: Iterable[Message], options: FleetOptions, start_ms: int, seconds: float) -> Account:
    from qanat.sim.fleet import Fleet, allow_sockets

    allow_sockets()
    account = _run(Fleet(options), messages, start_ms, seconds)
    refused = sum(account.refused)
    if options.qos and account.acknowledged + refused < len(account.messages):
        missing = len(account.messages) - account.acknowledged
        raise ConfigError(f"{missing:,} messages were not acknowledged by {options.host}:{options.port}")
    return account


class _Player(Protocol):
    """What plays messages and keeps the account: a fleet, or collectors."""

    account: Account

    def play(self, messages: Iterable[Message]) -> Coroutine[Any, Any, Account]:
        """All of them, at their times."""
        ...


def _run(player: _Player, messages: Iterable[Message], start_ms: int, seconds: float) -> Account:
    from qanat.sim.fleet import loop_factory

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_watched(player, messages, start_ms, seconds))


def _tell(account: Account, as_json: bool, checked: bool) -> None:
    """In one line; not where a report in JSON follows."""
    if as_json and checked:
        return
    told = {
        "sent": account.sent,
        "acknowledged": account.acknowledged,
        "again": account.again,
        "refused": sum(account.refused),
        "reconnects": account.reconnects,
    }
    if as_json:
        typer.echo(json.dumps(told))
    else:
        typer.echo(", ".join(f"{count:,} {what}" for what, count in told.items()))


async def _watched(player: _Player, messages: Iterable[Message], start_ms: int, seconds: float) -> Account:
    """Play with a progress bar on stderr, where that is a terminal."""
    playing = asyncio.ensure_future(player.play(messages))
    with _progress() as bar:
        task = bar.add_task("playing", total=seconds) if bar else None
        while not playing.done():
            await asyncio.wait([playing], timeout=0.25)
            account = player.account
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
