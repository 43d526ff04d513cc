"""Where tables lie: a folder or an S3 bucket. Opens files to write and to read; knows nothing of Delta's log.

A file that was written to a folder is on the disk when `written` ends, with the folders that name it; a bucket keeps
what it has acknowledged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from qanat.errors import ConfigError

#: Names of streams that are folders as they are.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
#: Names of commits in Delta's log.
_COMMIT = re.compile(r"\d{20}\.json")


@dataclass(frozen=True, slots=True)
class Place:
    """The folder or `s3://bucket/prefix` of a lake. `options`: what delta-rs needs to get there."""

    url: str
    options: Mapping[str, str] = field(default_factory=dict)

    def table(self, stream: str) -> str:
        """Where the table of a stream lies."""
        return f"{self.url.rstrip('/')}/{folder_of(stream)}"

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return "://" not in self.url


def folder_of(stream: str) -> str:
    """The stream's name, as a folder: what a path or an object's name may not have is written as its code.

    >>> folder_of("readings"), folder_of("a b/c")
    ('readings', '+a-20-b-2f-c')
    """
    if _PLAIN.fullmatch(stream):
        return stream
    return "+" + "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"-{ord(c):x}-" for c in stream)


def delta() -> Any:
    """The package deltalake. Raises `ConfigError` where it is not installed."""
    try:
        import deltalake
    except ImportError as error:
        raise ConfigError(
            "archiving streams needs deltalake, which is not installed", hint="pip install 'qanat[lake]'"
        ) from error
    return deltalake


class Folder:
    """The files of one table in a folder of this machine."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    @contextmanager
    def written(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write. What is raised inside leaves no file behind."""
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
        for folder in (path.parent, self._path):
            sync_folder(folder)

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return (self._path / name).stat().st_size

    def remove(self, name: str) -> None:
        """Delete a file that no version names."""
        with suppress(OSError):
            (self._path / name).unlink()

    def url(self, name: str) -> str:
        """What readers open."""
        return f"{self._path}/{name}"

    def filesystem(self) -> tuple[Any, Callable[[str], str]]:
        """A file system of pyarrow's, and how it calls a file."""
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem(), self.url

    def newest(self) -> int | None:
        """The newest version that is committed, where that is known without Delta's help; None: ask it."""
        try:
            with os.scandir(self._path / "_delta_log") as found:
                return max((int(one.name[:20]) for one in found if _COMMIT.fullmatch(one.name)), default=None)
        except OSError:
            return None  # Delta says what is wrong

    def settle(self, version: int) -> None:
        """Let the commit of a version be on the disk."""
        log = self._path / "_delta_log"
        path = log / f"{version:020d}.json"
        with suppress(FileNotFoundError):  # it is in a checkpoint already
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(log)


class Bucket:
    """The files of one table in an S3 bucket.

    Arrow moves them, not delta-rs: its file handles hold Python's lock while they wait for the network.
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        from pyarrow.fs import S3FileSystem

        self._url, self._path = url, url.removeprefix("s3://")
        endpoint = options.get("AWS_ENDPOINT_URL", "")
        scheme, _, host = endpoint.rpartition("://")
        self._files = S3FileSystem(
            access_key=options.get("AWS_ACCESS_KEY_ID"),
            secret_key=options.get("AWS_SECRET_ACCESS_KEY"),
            session_token=options.get("AWS_SESSION_TOKEN"),
            region=options.get("AWS_REGION"),
            scheme=scheme or "https",
            endpoint_override=host or None,
        )

    @contextmanager
    def written(self, name: str) -> Iterator[Any]:
        """A file to write: it is there when this ends. What is raised inside leaves none, or one that vacuum finds."""
        try:
            with self._files.open_output_stream(self._key(name)) as stream:
                yield stream
        except BaseException:
            self.remove(name)
            raise

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return int(self._files.get_file_info(self._key(name)).size)

    def remove(self, name: str) -> None:
        """Delete a file that no version names."""
        with suppress(OSError):
            self._files.delete_file(self._key(name))

    def url(self, name: str) -> str:
        """What readers open."""
        return f"{self._url}/{name}"

    def filesystem(self) -> tuple[Any, Callable[[str], str]]:
        """A file system of pyarrow's, and how it calls a file."""
        return self._files, self._key

    def newest(self) -> int | None:
        """Not known: only a request tells, and Delta makes it."""
        return None

    def settle(self, _version: int) -> None:
        """Nothing: what is acknowledged is durable."""

    def _key(self, name: str) -> str:
        return f"{self._path}/{name}"


def files_of(place: Place, stream: str) -> Folder | Bucket:
    """The files of a stream's table."""
    url = place.table(stream)
    return Folder(url) if place.is_local else Bucket(url, place.options)


def sync_folder(path: Path) -> None:
    """Let the names in a folder be on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
