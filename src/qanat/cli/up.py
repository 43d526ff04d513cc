"""`qanat up`: a project in one process, until SIGTERM or Ctrl-C. What runs is put together in `station`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qanat.cli.options import Data, Directory, Json, Params

if TYPE_CHECKING:
    import asyncio

    from qanat.cli.project import Folder
    from qanat.cli.station import Announce, Station
    from qanat.gateway import GatewayConfig
    from qanat.gateway.config import Listener, TlsFiles
    from qanat.model.project import Grpc, Mqtts, Tls
    from qanat.model.project import Limits as DeclaredLimits
    from qanat.model.project import User as DeclaredUser
    from qanat.secure.users import User
    from qanat.sql.plan import Program

_MqttPort = Annotated[
    int | None, typer.Option(min=0, max=65535, metavar="N", help="MQTT port; 0 takes a free one.  [default: 1883]")
]
_HttpPort = Annotated[
    int | None, typer.Option(min=0, max=65535, metavar="N", help="HTTP port; 0 takes a free one.  [default: 8080]")
]


def up(
    directory: Directory = Path(),
    mqtt_port: _MqttPort = None,
    http_port: _HttpPort = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDR", help="Address of both listeners.  [default: 127.0.0.1]")
    ] = None,
    data: Data = None,
    param: Params = None,
    as_json: Json = False,
) -> None:
    """Run a project: listeners, pipelines, health and metrics."""
    import asyncio

    import uvloop

    from qanat.cli.project import compile_folder, open_folder, parse_params

    folder = open_folder(directory, data)
    config = _gateway_config(folder, host, mqtt_port, http_port)
    program = compile_folder(folder, parse_params(param or []))
    announce = _to_whom_it_concerns(_say_json if as_json else _say)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(folder, program, config, announce))


async def _serve(folder: Folder, program: Program, config: GatewayConfig, announce: Announce) -> None:
    import asyncio

    from qanat.cli import interpreter
    from qanat.cli.station import Station

    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, ending)
    station = Station(folder, program, config, announce)
    await station.start()
    interpreter.settle()
    try:
        _introduce(station, program, config, announce)
        await ending.wait()
        announce("stopping", {})
    finally:
        await station.stop()
        interpreter.release()


def _introduce(station: Station, program: Program, config: GatewayConfig, announce: Announce) -> None:
    for listener in config.listeners:
        if listener.protocol in station.gateway.ports:
            port = station.gateway.ports[listener.protocol]
            announce("listening", {"protocol": listener.protocol, "host": listener.host, "port": port})
    for pipeline in program.pipelines:
        announce("pipeline", {"name": pipeline.name})
    announce("ready", {"inputs": list(station.inputs)})


def _on_signal(ending: asyncio.Event) -> None:
    """The first signal ends in order. The second does not wait: what was acknowledged is durable in any case."""
    if ending.is_set():
        os._exit(130)
    ending.set()


def _to_whom_it_concerns(say: Announce) -> Announce:
    """Whoever started qanat may stop reading what it says; that must not end it."""

    def announce(event: str, what: Mapping[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):
            say(event, what)

    return announce


def _say_json(event: str, what: Mapping[str, object]) -> None:
    from qanat.cli.output import say_json

    say_json({"event": event, **what})


def _say(event: str, what: Mapping[str, object]) -> None:
    match event:
        case "listening":
            line = f"{what['protocol']} {what['host']}:{what['port']}"
        case "pipeline":
            line = f"pipeline {what['name']}"
        case "pipeline_failed" | "engine_failed":
            typer.echo(f"qanat: {what.get('name', 'the engine')} failed: {what['error']}", err=True)
            return
        case "pipeline_restarting":
            typer.echo(f"qanat: {what['name']} failed and is begun again: {what['error']}", err=True)
            return
        case "reloaded":
            line = f"the section {what['section']} of qanat.yaml is in force"
        case "pipeline_finished":
            line = f"pipeline {what['name']} has finished"
        case _:
            line = event
    typer.echo(line)
    sys.stdout.flush()


def _gateway_config(folder: Folder, host: str | None, mqtt_port: int | None, http_port: int | None) -> GatewayConfig:
    """qanat.yaml, and over it the options of the command."""
    from qanat.cli.device import devices_file, has_devices
    from qanat.cli.key import has_keys, keys_file
    from qanat.gateway import GatewayConfig, IngestLimits
    from qanat.gateway.config import Listener, check_config

    wanted = folder.project.listeners
    config = GatewayConfig(
        mqtt_host=host or wanted.mqtt.host,
        mqtt_port=wanted.mqtt.port if mqtt_port is None else mqtt_port,
        http_host=host or wanted.http.host,
        http_port=wanted.http.port if http_port is None else http_port,
        http_tls=_tls(folder, wanted.http.tls),
        mqtts=_listener(folder, "mqtts", wanted.mqtts, host) if wanted.mqtts.tls else Listener("mqtts"),
        grpc=_listener(folder, "grpc", wanted.grpc, host),
        users=tuple(_user(user) for user in folder.project.users),
        devices=devices_file(folder.data),
        keys=keys_file(folder.data),
        registered=has_devices(folder.data) or has_keys(folder.data),
        **_limits(folder.project.limits),
        sources=folder.project.sources,
        base=folder.path,
        ingest=IngestLimits(max_future_skew_ms=int(folder.project.max_future_skew)),
    )
    check_config(config)
    return config


def _listener(folder: Folder, protocol: str, declared: Mqtts | Grpc, host: str | None) -> Listener:
    from qanat.gateway.config import Listener

    return Listener(protocol, host or declared.host, declared.port, _tls(folder, declared.tls))


def _tls(folder: Folder, declared: Tls | None) -> TlsFiles | None:
    from qanat.gateway.config import TlsFiles

    if declared is None:
        return None
    client_ca = None if declared.client_ca is None else folder.path / declared.client_ca
    return TlsFiles(folder.path / declared.cert, folder.path / declared.key, client_ca, declared.demand_client)


def _user(declared: DeclaredUser) -> User:
    from qanat.secure.passwords import Cost, hash_password
    from qanat.secure.users import User

    # The password itself stands in the file or the environment, and its hash only in this process: dear would be vain.
    encoded = declared.password_hash or hash_password(declared.password or "", Cost.DEVICE)
    return User(declared.name, encoded, declared.publish, declared.subscribe, declared.admin)


def _limits(declared: DeclaredLimits) -> dict[str, Any]:
    """What qanat.yaml says about limits, as arguments of the gateway's settings."""
    from msgspec.structs import asdict

    from qanat.gateway.limits import Limit, RateLimits

    rates = RateLimits(Limit(**asdict(declared.device)), Limit(**asdict(declared.total)))
    most = declared.total.connections
    return {"limits": rates} if most is None else {"limits": rates, "max_connections": most}
