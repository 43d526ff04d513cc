"""Which dead letters are tried again, and with which bytes: as they are, or through SQL, an editor or a file."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from qanat.errors import ConfigError, DataError
from qanat.gateway.letters import Letter, Wanted, data_fields, oldest, parse_id, read_data
from qanat.log.base import Log

_HEAD = b"// a letter a line: change data, leave id; a line that is taken away is not tried\n"


@dataclass(frozen=True, slots=True)
class Changing:
    """How the bytes are changed: at most one of an SQL expression, an editor, and a file."""

    transform: str | None = None
    edit: bool = False
    corrected: Path | None = None

    def __post_init__(self) -> None:
        if sum((self.transform is not None, self.edit, self.corrected is not None)) > 1:
            raise ConfigError("--transform, --edit and --from exclude each other", hint="take one; --set goes with all")


def choose(log: Log, wanted: Wanted, changing: Changing) -> dict[int, bytes | None]:
    """The offsets of the letters that are meant and not repaired yet, with their new bytes where they get any."""
    if changing.corrected is not None:
        given = dict(_read_lines(changing.corrected.read_bytes().splitlines(), str(changing.corrected)))
        ids = frozenset(given) & wanted.ids if wanted.ids else frozenset(given)
        if not ids:
            return {}
        meant = Wanted(ids, wanted.stream, wanted.reason, wanted.source, wanted.client, wanted.since, wanted.until)
        return {letter.offset: given[letter.offset] for letter in oldest(log, meant)}
    if changing.transform is not None:
        return _transformed(list(oldest(log, wanted)), changing.transform)
    if changing.edit:
        return _edited(list(oldest(log, wanted)))
    return {letter.offset: None for letter in oldest(log, wanted)}


def _transformed(letters: Sequence[Letter], expression: str) -> dict[int, bytes | None]:
    """NULL leaves a letter out. Letters that are no text are NULL themselves."""
    import pyarrow as pa

    from qanat.query import evaluate

    if not letters:
        return {}
    texts = [data_fields(letter.data).get("data") for letter in letters]
    columns = {"data": pa.array(texts, pa.string())}
    columns |= {
        name: pa.array([getattr(one, name) for one in letters]) for name in ("stream", "reason", "client", "origin")
    }
    values = evaluate(expression, pa.table(columns), "letters")
    found: dict[int, bytes | None] = {}
    for letter, value in zip(letters, values, strict=True):
        if isinstance(value, str | bytes):
            found[letter.offset] = value.encode() if isinstance(value, str) else value
        elif value is not None:
            raise ConfigError(f"--transform gives {value!r} for letter {letter.id}, which is no text", hint="cast it")
    return found


def _edited(letters: Sequence[Letter]) -> dict[int, bytes | None]:
    if not letters:
        return {}
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory(prefix="qanat-dead-") as folder:
        file = Path(folder) / "letters.ndjson"
        lines = [{"id": one.id, **data_fields(one.data), "stream": one.stream, "reason": one.reason} for one in letters]
        file.write_bytes(_HEAD + b"".join(orjson.dumps(line) + b"\n" for line in lines))
        try:
            ended = subprocess.run([*editor, str(file)], check=False)  # noqa: S603 - the user's own editor
        except OSError as error:
            raise ConfigError(
                f"the editor {editor[0]} does not start: {error.strerror}", hint="export EDITOR=..."
            ) from None
        if ended.returncode:
            raise ConfigError(f"the editor ended with exit code {ended.returncode}", hint="nothing was tried")
        known = {letter.offset for letter in letters}
        changed = dict(_read_lines(file.read_bytes().splitlines(), "the edited file"))
    foreign = sorted(set(changed) - known)
    if foreign:
        raise ConfigError(f"letter 0:{foreign[0]} was not among those to edit", hint="leave the ids as they are")
    return dict(changed)


def _read_lines(lines: Iterable[bytes], source: str) -> Iterator[tuple[int, bytes | None]]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(b"//"):
            continue
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise DataError(f"{source}:{number}: not JSON: {error}", hint="nothing was tried") from error
        if not isinstance(fields, dict) or not isinstance(fields.get("id"), str):
            raise DataError(f"{source}:{number}: no letter with an id", hint="lines as qanat dead export writes them")
        yield parse_id(fields["id"]), read_data(fields)
