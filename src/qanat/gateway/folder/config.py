"""What a watched folder may be told. Frozen and checked; opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from qanat.errors import ConfigError
from qanat.model.sources import Source

KEEP, MOVE, DELETE = "keep", "move", "delete"
#: Formats whose files are read line by line, those that are one document, and those with a reader of their own.
LINES = frozenset({"json", "ndjson", "number", "text", "boolean"})
CSV, PARQUET = "csv", "parquet"
_SUFFIXES = {".csv": CSV, ".parquet": PARQUET}


@dataclass(frozen=True, slots=True)
class FolderSource:
    """One source. `format` None goes by the ending of a file's name, and takes what says nothing for lines of JSON.

    `settle_ms`: so long a file must not have changed. `after`: keep, move (to `done`) or delete. `header`, `delimiter`,
    `rename`: as in `model.sources.Source`; `nested`: rows lie deeper in a document.
    """

    name: str
    path: Path
    pattern: str = "*"
    format: str | None = None
    settle_ms: int = 2000
    poll_ms: int = 1000
    after: str = KEEP
    done: Path | None = None
    header: tuple[str, ...] = ()
    delimiter: str = ","
    rename: Mapping[str, str] = field(default_factory=dict)
    nested: bool = False

    def format_of(self, name: str) -> str:
        """How a file is read."""
        return self.format or _SUFFIXES.get(PurePath(name).suffix.lower(), "json")


def open_source(name: str, declared: Source, base: Path) -> FolderSource:
    """The source that qanat.yaml declares; paths are relative to `base`. Raises `ConfigError`."""
    folder = declared.folder
    assert folder is not None
    source = FolderSource(
        name,
        base / folder.path,
        folder.pattern,
        declared.format,
        int(folder.settle),
        int(folder.poll),
        folder.after,
        None if folder.done is None else base / folder.done,
        declared.header,
        declared.delimiter,
        declared.rename,
        declared.path is not None,
    )
    check_source(source)
    return source


def check_source(source: FolderSource) -> None:
    """Raises `ConfigError` for settings that cannot work."""
    whose = f"source {source.name}: folder"
    if (source.after == MOVE) != (source.done is not None):
        raise ConfigError(f"{whose}.after: move and .done belong together", hint="after: move, done: taken/")
    if not source.pattern or source.pattern.startswith("/") or ".." in source.pattern.split("/"):
        raise ConfigError(
            f"{whose}.pattern is {source.pattern!r}", hint='pattern: "*.csv", or "**/*.csv" for folders in it'
        )
    if source.done is not None and source.done.resolve() == source.path.resolve():
        raise ConfigError(f"{whose}.done is the folder itself", hint="move to another one")
    if source.poll_ms < 1:
        raise ConfigError(f"{whose}.poll is {source.poll_ms} ms", hint="poll: 1 s")
