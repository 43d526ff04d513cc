"""`qanat schema`: contracts of streams, beside a running project and without one. The file is `.qanat/contracts.db`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qanat.cli.options import Data, Json, Params, Project

if TYPE_CHECKING:
    from qanat.contracts.registry import Registry
    from qanat.contracts.schema import Format, Schema, Version
    from qanat.model.streams import Column, Stream

app = typer.Typer(no_args_is_help=True, help="Contracts: the schemas of streams, and what may follow what.")

Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="STREAM-value, STREAM-key, or another name.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A .avsc, .proto or .json (JSON Schema).")]
For = Annotated[str, typer.Option("--subject", metavar="SUBJECT", help="Of which subject it is a version.")]
Reference = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=SUBJECT:N", help="A schema that the file names; may be repeated."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Of = Annotated[int | None, typer.Option("--version", min=1, metavar="N", help="The latest unless given.")]


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A stream, a subject, or a file.")],
    as_: Annotated[
        str | None,
        typer.Option("--as", metavar="FORMAT", help="avro, json-schema, protobuf or sql.  [default: as it is]"),
    ] = None,
    version: Of = None,
    directory: Project = Path(),
    data: Data = None,
    param: Params = None,
) -> None:
    """Show a schema, or the columns of a stream, in any format."""
    from qanat.contracts.formats import LANGUAGES, format_of

    path = Path(name)
    if path.suffix in (".avsc", ".proto", ".json") and path.is_file():
        schema, tree = _from_file(path, (), None)
        typer.echo(_converted(path.stem, schema, tree, as_))
        return
    stream = None if version is not None else _stream(directory, data, param, name)
    if stream is not None:
        columns = _columns_of(stream)
        text = _sql(name, stream.columns, stream.key) if as_ == "sql" else None
        typer.echo(text or _pretty(LANGUAGES[format_of(as_ or "avro")].declare(name, columns, None)))
        return
    with _registry(directory, data) as registry:
        found = _version(registry, name, version)
        typer.echo(_converted(name.removesuffix("-value"), found.schema, registry.tree(found.id), as_))


@app.command("list")
def list_(directory: Project = Path(), data: Data = None, as_json: Json = False) -> None:
    """List subjects with their latest version."""
    with _registry(directory, data) as registry:
        latest = {one.subject: one for one in registry.everything()}
        _print([_row(registry, one) for one in latest.values()], as_json)


@app.command()
def versions(subject: Subject, directory: Project = Path(), data: Data = None, as_json: Json = False) -> None:
    """List the versions of a subject."""
    with _registry(directory, data) as registry:
        name = _subject(registry, subject)
        _print([_row(registry, one) for one in registry.versions(name)], as_json)


@app.command()
def register(
    file: File,
    subject: For,
    reference: Reference = None,
    dry_run: DryRun = False,
    directory: Project = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a file the next version of a subject."""
    from qanat.cli.output import say_json

    with _registry(directory, data, make=not dry_run) as registry:
        schema, _ = _from_file(file, _references(reference), registry)
        known = {one.version for one in registry.everything(subject) if one.subject == subject}
        found = registry.register(subject, schema, dry_run=dry_run)
    if as_json:
        say_json({"subject": subject, "version": None if found is None else found.version, "id": found and found.id})
    elif found is None:
        typer.echo(f"{file} would be the next version of {subject}")
    elif found.version in known:
        typer.echo(f"{file} is version {found.version} of {subject} already, id {found.id}")
    else:
        typer.echo(f"{subject} version {found.version}, id {found.id}")


@app.command()
def check(
    file: File,
    subject: For,
    reference: Reference = None,
    version: Of = None,
    directory: Project = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Say whether a file may be the next version of a subject; exit code 10 if not."""
    from qanat.cli.output import say_json

    with _registry(directory, data) as registry:
        schema, _ = _from_file(file, _references(reference), registry)
        broken = registry.check(subject, schema, version, all_versions=version is None)
        level = registry.level(subject)
    if as_json:
        say_json({"subject": subject, "compatibility": level, "is_compatible": not broken, "messages": broken})
    else:
        for line in broken:
            typer.echo(line)
        typer.echo(f"{file} {'may not' if broken else 'may'} follow {subject} ({level})")
    if broken:
        raise typer.Exit(10)


@app.command()
def compatibility(
    subject: Annotated[str | None, typer.Argument(metavar="[SUBJECT]", help="All subjects unless given.")] = None,
    level: Annotated[
        str | None,
        typer.Argument(metavar="[LEVEL]", help="NONE, BACKWARD, FORWARD, FULL or one of these with _TRANSITIVE."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Set LEVEL for all subjects without one.")] = False,
    unset: Annotated[bool, typer.Option("--unset", help="Forget the subject's own level.")] = False,
    directory: Project = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show or set what a new version must be able to do."""
    from qanat.cli.output import say_json
    from qanat.errors import ConfigError

    if everything:
        if subject is None or level is not None:
            raise ConfigError("--all takes a level alone", hint="qanat schema compatibility --all FULL")
        subject, level = "", subject
    with _registry(directory, data, make=level is not None) as registry:
        if unset or level is not None:
            registry.set_level(subject or "", None if unset else str(level).upper())
        found = registry.level(subject or "")
    if as_json:
        say_json({"subject": subject or None, "compatibility": found})
    else:
        typer.echo(f"{subject or 'all subjects'}: {found}")


@app.command()
def delete(
    subject: Subject,
    version: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only this one.")] = None,
    permanent: Annotated[bool, typer.Option("--permanent", help="Forget what was deleted before.")] = False,
    dry_run: DryRun = False,
    directory: Project = Path(),
    data: Data = None,
) -> None:
    """Hide a subject or a version; rows that were written with it can still be read."""
    with _registry(directory, data) as registry:
        there = registry.versions(subject, deleted=permanent)
        if dry_run:
            gone = [one.version for one in there if version in (None, one.version)]
        elif version is not None:
            gone = [registry.delete_version(subject, version, permanent)]
        else:
            gone = registry.delete_subject(subject, permanent)
    what = "would be " if dry_run else ""
    typer.echo(f"{subject} {', '.join(map(str, gone))} {what}{'forgotten' if permanent else 'deleted'}")


@contextmanager
def _registry(directory: Path, data: Path | None, make: bool = False) -> Iterator[Registry]:
    """The registry of a project; `make`: also where there is none yet. Without one an empty one in memory."""
    from qanat.cli.contracts import open_registry, registry_path
    from qanat.cli.project import data_folder
    from qanat.contracts.registry import Registry
    from qanat.errors import ConfigError

    if not directory.is_dir():
        raise ConfigError(f"{directory} is no project folder", hint="say where it is: --dir DIR")
    folder = data_folder(directory, data)
    registry = open_registry(folder) if make or registry_path(folder).exists() else Registry()
    try:
        yield registry
    finally:
        registry.close()


def _stream(directory: Path, data: Path | None, param: list[str] | None, name: str) -> Stream | None:
    """The stream of that name, where the project declares it."""
    from qanat.cli.project import compile_folder, open_folder, parse_params
    from qanat.cli.streams import declared_by

    folder = open_folder(directory, data)
    if not folder.scripts:
        return None
    return declared_by(compile_folder(folder, parse_params(param or []))).get(name)


def _columns_of(stream: Stream) -> tuple[Column, ...]:
    from qanat.contracts.streams import columns_of

    return columns_of(stream)


def _subject(registry: Registry, name: str) -> str:
    """A subject by its name, or by that of its stream."""
    known = registry.subjects()
    return f"{name}-value" if name not in known and f"{name}-value" in known else name


def _version(registry: Registry, name: str, version: int | None) -> Version:
    return registry.version(_subject(registry, name), version)


def _from_file(path: Path, references: tuple[Any, ...], registry: Registry | None) -> tuple[Schema, Any]:
    from qanat.cli.project import read_text
    from qanat.contracts.formats import format_of
    from qanat.contracts.registry import Registry
    from qanat.contracts.schema import Schema

    schema = Schema(format_of(path.name), read_text(path), references)
    if registry is not None:
        return schema, registry.parse(schema)
    alone = Registry()
    try:
        return schema, alone.parse(schema)
    finally:
        alone.close()


def _references(given: list[str] | None) -> tuple[Any, ...]:
    from qanat.contracts.schema import Reference
    from qanat.errors import ConfigError

    found = []
    for one in given or []:
        name, equals, target = one.partition("=")
        subject, colon, number = target.rpartition(":")
        if not equals or not colon or not number.isdigit():
            raise ConfigError(f"--reference {one!r} is not NAME=SUBJECT:N", hint="for example Place=place-value:1")
        found.append(Reference(name, subject, int(number)))
    return tuple(found)


def _converted(name: str, schema: Schema, tree: Any, as_: str | None) -> str:
    from qanat.contracts.formats import LANGUAGES, format_of

    if as_ is None or (as_ != "sql" and format_of(as_) is schema.format):
        return _pretty(schema.text)
    columns = LANGUAGES[schema.format].columns(tree)
    if as_ == "sql":
        return _sql(name, columns, ())
    wanted: Format = format_of(as_)
    return _pretty(LANGUAGES[wanted].declare(name, columns, None))


def _pretty(text: str) -> str:
    import json

    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text.rstrip()


def _sql(name: str, columns: tuple[Column, ...], key: tuple[str, ...]) -> str:
    """A CREATE TABLE with these columns."""
    lines = [f"  `{one.name}` {one.type}" for one in columns]
    if key:
        lines.append(f"  PRIMARY KEY ({', '.join(f'`{one}`' for one in key)}) NOT ENFORCED")
    return f"CREATE TABLE `{name}` (\n" + ",\n".join(lines) + "\n);"


def _row(registry: Registry, one: Version) -> dict[str, object]:
    return {
        "subject": one.subject,
        "version": one.version,
        "id": one.id,
        "format": str(one.schema.format),
        "compatibility": str(registry.level(one.subject)),
    }


def _print(rows: list[dict[str, object]], as_json: bool) -> None:
    import pyarrow as pa

    from qanat.cli.output import Grid, say_json

    if as_json:
        for row in rows:
            say_json(row)
    elif rows:
        Grid().write(pa.Table.from_pylist(rows))
