"""`qanat device`: the registry of devices of a project, running or not. A running project hears of changes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qanat.cli.options import Data, Json, Project

if TYPE_CHECKING:
    from qanat.model.devices import Device, Record
    from qanat.secure.registry import Registry

app = typer.Typer(no_args_is_help=True, help="Devices: who they are, what they may do, and their secrets.")

_FILE = "devices.db"
#: Names in one message.
_TOLD = 5

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="The devices.")]
Owner = Annotated[str | None, typer.Option(metavar="TEXT", help="Whose it is.")]
Kind = Annotated[str | None, typer.Option(metavar="TEXT", help="What it is: meter, pump, ...")]
Label = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")]
Interval = Annotated[str | None, typer.Option(metavar="TIME", help="How often it sends: 30 s.")]
Publish = Annotated[
    list[str] | None, typer.Option(metavar="TOPIC", help="May publish there; + # {id}.  [default: +/{id}/#]")
]
Subscribe = Annotated[
    list[str] | None, typer.Option(metavar="TOPIC", help="May subscribe there; + # {id}.  [default: +/{id}/#]")
]
Password = Annotated[bool, typer.Option("--password", help="Draw a password (default).")]
Token = Annotated[bool, typer.Option("--token", help="Draw a token.")]
Certificate = Annotated[Path | None, typer.Option(metavar="FILE.pem", help="It brings this client certificate.")]
CommonName = Annotated[str | None, typer.Option(metavar="NAME", help="It brings any certificate of this common name.")]
Secrets = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the secrets into a new .csv or .jsonl, not to stdout.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@app.command()
def add(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="The device; or --from, or --count.")] = None,
    owner: Owner = None,
    kind: Kind = None,
    label: Label = None,
    interval: Interval = None,
    publish: Publish = None,
    subscribe: Subscribe = None,
    password: Password = False,
    token: Token = False,
    certificate: Certificate = None,
    common_name: CommonName = None,
    source: Annotated[Path | None, typer.Option("--from", metavar="FILE", help="Many: a .csv or .jsonl.")] = None,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Many: so many, numbered.")] = None,
    prefix: Annotated[str, typer.Option(metavar="P", help="What numbered ids begin with.")] = "device-",
    first: Annotated[int, typer.Option(min=0, metavar="N", help="The first number.")] = 1,
    secrets: Secrets = None,
    directory: Project = Path(),
    data: Data = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Register devices; their secrets are shown once."""
    from qanat.clock import now_ms
    from qanat.secure.enrolment import enrol

    basic = _record(owner, kind, label, interval, publish, subscribe, password, token, certificate, common_name)
    records = _wanted(name, source, count, basic, prefix, first)
    with _opened(directory, data, dry_run, make=True) as registry:
        made = enrol(records, now_ms())
        with _secrets(secrets, as_json, dry_run) as show:
            registry.add([one.device for one in made], [one.credential for one in made])
            show(made)
    _report("added", [one.device.id for one in made], dry_run)


@app.command("list")
def list_devices(
    owner: Owner = None,
    kind: Kind = None,
    label: Label = None,
    prefix: Annotated[str, typer.Option(metavar="P", help="Whose id begins with this.")] = "",
    disabled: Annotated[bool | None, typer.Option("--disabled/--enabled", help="Only those.")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 100,
    after: Annotated[str, typer.Option(metavar="ID", help="Only behind this id: the next page.")] = "",
    directory: Project = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List devices in the order of their ids."""
    from qanat.cli.output import say_json
    from qanat.model.devices import describe, parse_label
    from qanat.secure.registry import Filter

    wanted = Filter(prefix, owner, kind, disabled, dict(map(parse_label, label or ())))
    with _opened(directory, data) as registry:
        found, total = registry.select(wanted, after, limit), registry.count(wanted)
    if as_json:
        for device in found:
            say_json(describe(device))
        return
    _print(found)
    if len(found) == limit < total:
        typer.echo(f"{limit:,} of {total:,}; the next page: --after {found[-1].id}", err=True)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="The device.")],
    directory: Project = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show all that is known of a device; secrets are not."""
    from qanat.cli.output import say_json
    from qanat.model.devices import describe

    with _opened(directory, data) as registry:
        known = describe(registry.get(name), registry.credentials(name))
    if as_json:
        say_json(known)
        return
    for key, value in known.items():
        for number, line in enumerate(_told(value) or ["-"]):
            typer.echo(f"{key if number == 0 else '':12} {line}")


@app.command()
def change(
    names: Ids,
    owner: Owner = None,
    kind: Kind = None,
    label: Label = None,
    interval: Interval = None,
    publish: Publish = None,
    subscribe: Subscribe = None,
    directory: Project = Path(),
    data: Data = None,
    dry_run: DryRun = False,
) -> None:
    """Change what is known of devices, or what they may do; labels and topics are replaced as a whole."""
    from qanat.model.devices import apply_record

    said = _record(owner, kind, label, interval, publish, subscribe)
    with _opened(directory, data, dry_run) as registry:
        registry.replace([apply_record(registry.get(name), said) for name in names])
    _report("changed", names, dry_run)


@app.command()
def rotate(
    names: Ids,
    password: Password = False,
    token: Token = False,
    certificate: Certificate = None,
    common_name: CommonName = None,
    grace: Annotated[str | None, typer.Option(metavar="TIME", help="So long the old secret works, too: 24 h.")] = None,
    secrets: Secrets = None,
    directory: Project = Path(),
    data: Data = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Give devices a new secret of the same kind, or of another; it is shown once."""
    from qanat.clock import now_ms
    from qanat.model.devices import parse_time
    from qanat.secure.enrolment import renew

    wanted = _record(password=password, token=token, certificate=certificate, common_name=common_name)
    now = now_ms()
    until = None if grace is None else now + parse_time(grace, "--grace")
    with _opened(directory, data, dry_run) as registry:
        made = [renew(registry.get(name), registry.credentials(name), wanted, now) for name in names]
        with _secrets(secrets, as_json, dry_run) as show_secrets:
            registry.rotate([one.credential for one in made], until, now)
            show_secrets(made)
    _report("rotated", names, dry_run)


@app.command()
def disable(names: Ids, directory: Project = Path(), data: Data = None, dry_run: DryRun = False) -> None:
    """Let devices in no more; their open connections are closed."""
    _switch(names, directory, data, dry_run, disabled=True)


@app.command()
def enable(names: Ids, directory: Project = Path(), data: Data = None, dry_run: DryRun = False) -> None:
    """Let disabled devices in again, with the secrets that they have."""
    _switch(names, directory, data, dry_run, disabled=False)


@app.command()
def remove(names: Ids, directory: Project = Path(), data: Data = None, dry_run: DryRun = False) -> None:
    """Forget devices; their open connections are closed, their rows stay."""
    from qanat.clock import now_ms

    with _opened(directory, data, dry_run) as registry:
        registry.remove(names, now_ms())
    _report("removed", names, dry_run)


def devices_file(data: Path) -> Path:
    """Where the registry lies in the folder of the log."""
    return data / _FILE


def has_devices(data: Path) -> bool:
    """Whether any device is registered."""
    from qanat.secure.registry import Registry

    if not devices_file(data).is_file():
        return False
    registry = Registry(devices_file(data))
    try:
        return registry.count() > 0
    finally:
        registry.close()


@contextmanager
def _opened(directory: Path, data: Path | None, dry_run: bool = False, make: bool = False) -> Iterator[Registry]:
    """The registry of a project. Raises `ConfigError` where there is none, unless it is to be made."""
    from qanat.cli.project import data_folder
    from qanat.errors import ConfigError
    from qanat.secure.registry import Registry

    if not directory.is_dir():
        raise ConfigError(f"{directory} is no folder", hint="say where the project is: --dir DIR")
    path = devices_file(data_folder(directory, data))
    if not path.is_file():
        if not make:
            raise ConfigError(f"no devices are registered in {path.parent}", hint="qanat device add ID")
        if not dry_run:
            path.parent.mkdir(parents=True, exist_ok=True)
    registry = Registry(path if path.is_file() or not dry_run else Path(":memory:"))
    try:
        with registry.rehearsal() if dry_run else nullcontext():
            yield registry
    finally:
        registry.close()


def _record(
    owner: str | None = None,
    kind: str | None = None,
    label: list[str] | None = None,
    interval: str | None = None,
    publish: list[str] | None = None,
    subscribe: list[str] | None = None,
    password: bool = False,
    token: bool = False,
    certificate: Path | None = None,
    common_name: str | None = None,
) -> Record:
    """What the options say."""
    from qanat.cli.project import read_text
    from qanat.errors import ConfigError
    from qanat.model.devices import Record, parse_label

    if sum((password, token, certificate is not None, common_name is not None)) > 1:
        raise ConfigError("a device has one way to come in", hint="--password, --token, --certificate or --common-name")
    return Record(
        owner=owner,
        kind=kind,
        interval=interval,
        labels=dict(map(parse_label, label)) if label else None,
        publish=tuple(publish) if publish else None,
        subscribe=tuple(subscribe) if subscribe else None,
        credential="token" if token else "password" if password else None,
        certificate=None if certificate is None else read_text(certificate),
        common_name=common_name,
    )


def _wanted(
    name: str | None, source: Path | None, count: int | None, basic: Record, prefix: str, first: int
) -> list[Record]:
    """The descriptions: of one device, of those in a file, or numbered ones."""
    from msgspec.structs import replace

    from qanat.cli.device_files import read_records
    from qanat.errors import ConfigError
    from qanat.model.devices import over
    from qanat.secure.enrolment import numbered

    if sum(one is not None for one in (name, source, count)) != 1:
        raise ConfigError("which devices?", hint="one of: an ID, --from FILE, --count N --prefix P")
    if name is not None:
        return [replace(basic, id=name)]
    if source is not None:
        return [over(record, basic) for record in read_records(source)]
    return numbered(basic, prefix, count or 0, first)


@contextmanager
def _secrets(path: Path | None, as_json: bool, dry_run: bool) -> Iterator[Callable[[Sequence[Any]], None]]:
    """How what was made is shown. The file is opened before anything is changed, and gone if that fails."""
    from qanat.cli.device_files import secrets_to, write_secrets

    if dry_run:
        yield lambda _: None
        return
    lines = as_json if path is None else path.suffix.lower() != ".csv"
    with secrets_to(path, as_json) as file:
        yield lambda made: write_secrets(file, made, lines)


def _switch(names: list[str], directory: Path, data: Path | None, dry_run: bool, disabled: bool) -> None:
    from dataclasses import replace

    with _opened(directory, data, dry_run) as registry:
        registry.replace([replace(registry.get(name), disabled=disabled) for name in names])
    _report("disabled" if disabled else "enabled", names, dry_run)


def _report(done: str, names: Sequence[str], dry_run: bool) -> None:
    """What was done, to people."""
    shown = ", ".join(names[:_TOLD]) + (f" and {len(names) - _TOLD:,} more" if len(names) > _TOLD else "")
    typer.echo(f"would have {done} {shown}; nothing was changed" if dry_run else f"{done} {shown}", err=True)


def _print(found: Sequence[Device]) -> None:
    import pyarrow as pa

    from qanat.cli.output import Grid
    from qanat.clock import instant_text

    rows = [
        {
            "id": device.id,
            "kind": device.kind,
            "owner": device.owner,
            "labels": " ".join(f"{name}={value}" for name, value in device.labels.items()),
            "state": "disabled" if device.disabled else "enabled",
            "last seen": None if device.seen_at is None else instant_text(device.seen_at),
        }
        for device in found
    ]
    if rows:
        Grid().write(pa.Table.from_pylist(rows))


def _told(value: object) -> list[str]:
    """A value of `describe` as lines."""
    match value:
        case dict():
            return [f"{name}={one}" for name, one in value.items()]
        case list() | tuple():
            return [" ".join(_told(one)) for one in value]
        case None:
            return []
        case _:
            return [str(value)]
