"""`qanat dead`: dead letters listed, looked into, taken out to a file, and tried again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qanat.cli.options import Data, Json, Params, Project

if TYPE_CHECKING:
    from qanat.gateway.letters import Letter, Wanted
    from qanat.gateway.repair import Finding, Tried
    from qanat.log.base import Log

app = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be taken, and its repair.")

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Letters, as in qanat dead list.")]
Stream = Annotated[str | None, typer.Option(metavar="NAME", help="Addressed to this stream.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="With this in their reason, in capitals or not.")]
Source = Annotated[str | None, typer.Option(metavar="NAME", help="That came by this protocol: mqtt, http, ...")]
Client = Annotated[str | None, typer.Option(metavar="NAME", help="Of this client, user or address.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="That arrived then or later: 2026-11-21T10:00:00.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="That arrived before.")]
All = Annotated[bool, typer.Option("--all", help="Also those that have been repaired.")]

_FORMAT = typer.Option(
    "--format", metavar="NAME", help="How to read them, where no source says it: json, csv, cbor, ..."
)

#: Exit code of `retry` where some letters do not fit: that of errors in data.
_UNFIT = 4


@app.command("list")
def list_letters(
    stream: Stream = None,
    reason: Reason = None,
    source: Source = None,
    client: Client = None,
    since: Since = None,
    until: Until = None,
    also_repaired: All = False,
    by: Annotated[str | None, typer.Option(metavar="WHAT", help="Count by reason, stream, client or source.")] = None,
    late: Annotated[bool, typer.Option("--late", help="Rows that came too late for every window instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 50,
    before: Annotated[str | None, typer.Option(metavar="ID", help="Only older ones: the next page.")] = None,
    directory: Project = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List dead letters, the newest first."""
    from qanat.errors import ConfigError
    from qanat.gateway.letters import GROUPS, counts, late_rows, newest, parse_id
    from qanat.gateway.letters import as_json as values

    wanted = _wanted((), stream, reason, source, client, since, until, also_repaired)
    at = None if before is None else parse_id(before)
    if by is not None and (by not in GROUPS or late):
        raise ConfigError(f"letters are not counted by {by}", hint=f"--by {', '.join(GROUPS)}; not with --late")
    with _reading(directory, data) as log:
        if by is not None:
            _show([{by: text, "letters": count} for text, count in counts(log, wanted, by)], as_json)
            return
        if late:
            rows = [_late(row) for row in late_rows(log, wanted, limit, at)]
        else:
            rows = [values(letter) if as_json else _line(letter) for letter in newest(log, wanted, limit, at)]
    _show(rows, as_json)
    if len(rows) == limit and not as_json:
        typer.echo(f"more: --before {rows[-1]['id']}", err=True)


@app.command("show")
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="The letter, as in qanat dead list.")],
    form: Annotated[str | None, _FORMAT] = None,
    directory: Project = Path(),
    data: Data = None,
    param: Params = None,
    as_json: Json = False,
) -> None:
    """Show one dead letter, its bytes, and what would have to change."""
    from qanat.cli.letters_way import open_repair
    from qanat.cli.output import say_json
    from qanat.errors import DataError
    from qanat.gateway.http.dead import finding_json
    from qanat.gateway.letters import Wanted, newest, parse_id
    from qanat.gateway.letters import as_json as values
    from qanat.gateway.repair import Terms

    wanted = Wanted(ids=frozenset({parse_id(letter)}), repaired=True)
    with _reading(directory, data) as log:
        found = newest(log, wanted, 1)
        if not found:
            raise DataError(f"no dead letter {letter}", hint="retention has deleted it, or it never was")
        finding = open_repair(log, directory, data, param, declare=False).examine(found[0], Terms(format=form))
    if as_json:
        say_json({**values(found[0]), **finding_json(finding)})
    else:
        typer.echo(_told(found[0], finding))


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="*.ndjson, *.csv or *.parquet.")],
    ids: Ids = None,
    stream: Stream = None,
    reason: Reason = None,
    source: Source = None,
    client: Client = None,
    since: Since = None,
    until: Until = None,
    also_repaired: All = False,
    directory: Project = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Write dead letters to a file, with their bytes as they came."""
    from qanat.cli.letters_file import write_letters
    from qanat.cli.output import say_json
    from qanat.gateway.letters import oldest

    wanted = _wanted(ids or (), stream, reason, source, client, since, until, also_repaired)
    with _reading(directory, data) as log:
        count = write_letters(oldest(log, wanted), file)
    if as_json:
        say_json({"file": str(file), "letters": count})
    else:
        typer.echo(f"{count:,} letters in {file}", err=True)


@app.command("retry")
def retry(
    ids: Ids = None,
    stream: Stream = None,
    reason: Reason = None,
    source: Source = None,
    client: Client = None,
    since: Since = None,
    until: Until = None,
    put: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="COLUMN=VALUE", help="Every row gets this value; may be repeated."),
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="STREAM", help="To this stream, not the addressed one.")] = None,
    transform: Annotated[
        str | None, typer.Option(metavar="SQL", help="The new payload, an expression over the text `data`.")
    ] = None,
    form: Annotated[str | None, _FORMAT] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Change them in $EDITOR first, a letter a line.")] = False,
    corrected: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Letters as exported (*.ndjson), corrected since.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="User of the running server.")] = None,
    password: Annotated[
        str | None, typer.Option(envvar="QANAT_PASSWORD", show_envvar=True, metavar="TEXT", help="His password.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="QANAT_TOKEN", show_envvar=True, metavar="TEXT", help="Or a token.")
    ] = None,
    directory: Project = Path(),
    data: Data = None,
    param: Params = None,
    as_json: Json = False,
) -> None:
    """Try dead letters again; what fits is stored once, the rest stays."""
    from qanat.cli.letters_changed import Changing, choose
    from qanat.cli.letters_way import Login, Target, open_way
    from qanat.cli.target import confirm
    from qanat.gateway.repair import Terms

    wanted = _wanted(ids or (), stream, reason, source, client, since, until, False)
    terms = Terms(to, tuple(_pair(text) for text in put or ()), form, dry_run)
    with _reading(directory, data) as log:
        changed = choose(log, wanted, Changing(transform, edit, corrected))
    if not changed:
        typer.echo("no dead letter is left that is meant", err=True)
        return
    if not (dry_run or ids) and not confirm(yes, f"Try {len(changed):,} letters again?"):
        raise typer.Exit(1)
    target = Target(directory, data, tuple(param or ()))
    with open_way(target, Login(user, password, token)) as way:
        typer.echo(way.told, err=True)
        _report(list(way.run(changed, terms)), as_json)


# --- what is meant


def _wanted(
    ids: Sequence[str],
    stream: str | None,
    reason: str | None,
    source: str | None,
    client: str | None,
    since: str | None,
    until: str | None,
    repaired: bool,
) -> Wanted:
    from qanat.gateway.letters import Wanted, parse_id, parse_instant

    return Wanted(
        ids=frozenset(map(parse_id, ids)),
        stream=stream,
        reason=reason,
        source=source,
        client=client,
        since=None if since is None else parse_instant(since),
        until=None if until is None else parse_instant(until),
        repaired=repaired,
    )


def _pair(text: str) -> tuple[str, str]:
    from qanat.errors import ConfigError

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"--set {text!r} is not COLUMN=VALUE", hint="for example --set temperature=20.5")
    return name, value


@contextmanager
def _reading(directory: Path, data: Path | None) -> Iterator[Log]:
    from qanat.cli.project import existing_log_url
    from qanat.log import open_log

    log = open_log(existing_log_url(directory, data), read_only=True)
    try:
        yield log
    finally:
        log.close()


# --- what is said


def _show(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    import pyarrow as pa

    from qanat.cli.output import Grid, for_people, say_json

    if as_json or not for_people():
        for row in rows:
            say_json(row)
    elif rows:
        Grid().write(pa.Table.from_pylist(list(rows)))


def _line(letter: Letter) -> dict[str, Any]:
    from qanat.gateway.letters import instant

    found = {"id": letter.id, "arrived": instant(letter.arrived), "stream": letter.stream, "reason": letter.reason}
    found |= {"client": letter.client, "data": letter.data.decode(errors="replace")}
    return found | ({"repaired": "yes"} if letter.repaired else {})


def _late(row: Mapping[str, Any]) -> dict[str, Any]:
    from qanat.gateway.letters import instant

    times = {name: row[name] for name in ("event_time", "watermark") if row[name] is not None}
    return {**row, **{name: instant(round(time.timestamp() * 1000)) for name, time in times.items()}}


def _told(letter: Letter, finding: Finding) -> str:
    from qanat.gateway.letters import instant

    lines = [f"letter    {letter.id}, {'repaired since' if letter.repaired else 'open'}"]
    lines += [f"arrived   {instant(letter.arrived)} by {letter.source}, {letter.origin}, from {letter.client}"]
    lines += [f"stream    {letter.stream}", f"reason    {letter.reason}", "", *_bytes(letter.data), ""]
    tried = finding.tried
    if tried.reason is None:
        lines.append(f"It would fit {tried.stream} now: qanat dead retry {letter.id}")
    else:
        lines.append(f"It does not fit now: {tried.reason}")
    width = max((len(one.name) for one in finding.columns), default=0)
    for one in finding.columns:
        what = f"✗ {one.fault}" if one.fault is not None else f"  {one.value}"
        lines.append(f"  {one.name:<{width}}  {one.type:<14}  {what}")
    return "\n".join(lines)


def _bytes(data: bytes) -> list[str]:
    """As text where they are text, else sixteen a line."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable() or text.replace("\n", "").replace("\t", "").replace("\r", "").isprintable():
        return [f"  {line}" for line in text.splitlines()]
    rows = [data[at : at + 16] for at in range(0, len(data), 16)]
    return [f"  {at * 16:06x}  {row.hex(' '):<47}  {_printable(row)}" for at, row in enumerate(rows)]


def _printable(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)


def _report(tried: Sequence[Tried], as_json: bool) -> None:
    """What became of each; exit code 4 where some did not fit."""
    from qanat.cli.output import say_json
    from qanat.gateway.letters import general

    if as_json:
        for one in tried:
            say_json(one.as_json())
    reasons = Counter((one.fate.value, one.stream or "", general(one.reason or "")) for one in tried)
    for (fate, stream, reason), count in sorted(reasons.items(), key=lambda pair: -pair[1]):
        rows = sum(one.rows for one in tried if (one.fate.value, one.stream or "") == (fate, stream))
        stored = f", {rows:,} rows for {stream}" if rows else ""
        typer.echo(f"{count:,} {fate}{stored}{': ' + reason if reason else ''}", err=True)
    if any(one.reason is not None for one in tried):
        raise typer.Exit(_UNFIT)
