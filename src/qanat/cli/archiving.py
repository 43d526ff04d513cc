"""The lake of a project, out of qanat.yaml and the environment that it names: where it lies, and its archiver."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from qanat.errors import ConfigError

if TYPE_CHECKING:
    from qanat.cli.project import Folder
    from qanat.lake import Tables
    from qanat.lake.service import ArchiveService
    from qanat.lake.store import Place
    from qanat.log.base import Log
    from qanat.model.lake import S3
    from qanat.observe.metrics import Metrics

_FOLDER = "lake"


def tables_of(folder: Folder) -> Tables:
    """The tables of a project's lake. Raises `ConfigError`."""
    from qanat.lake import Tables

    return Tables(place_of(folder))


def archive_service(folder: Folder, log: Log, metrics: Metrics) -> ArchiveService | None:
    """What archives the project's streams, ready to start; None where no stream asks for it.

    From now on the log deletes nothing that is to be archived first. Raises `ConfigError` where deltalake is missing.
    """
    from qanat.model.lake import consumer_of, is_archived

    status = log.status()
    wanted = any(is_archived(one.stream) for one in status.values())
    if not wanted and not any(log.positions(consumer_of(name)) for name in status):
        return None
    from qanat.lake import Archiver
    from qanat.lake.service import ArchiveService
    from qanat.lake.store import delta

    if wanted:
        delta()
    archiver = Archiver(log, tables_of(folder), folder.project.lake, metrics)
    archiver.prepare()
    return ArchiveService(archiver, log, folder.project.lake) if wanted else None


def place_of(folder: Folder) -> Place:
    """The folder or bucket, and how to get there. Raises `ConfigError` for a URL that is neither."""
    from qanat.lake.store import Place

    settings = folder.project.lake
    if settings.url is None:
        return Place(str((folder.data / _FOLDER).absolute()))
    scheme, separator, rest = settings.url.partition("://")
    if not separator:
        return Place(str((folder.path / settings.url).absolute()))
    if scheme != "s3" or not rest.strip("/"):
        raise ConfigError(f"lake.url: {settings.url!r} is no place for a lake", hint="a folder, or s3://bucket/prefix")
    return Place(settings.url, s3_options(settings.s3, os.environ))


def s3_options(settings: S3, environment: Mapping[str, str]) -> dict[str, str]:
    """What delta-rs is told of a bucket."""
    found = {"AWS_REGION": settings.region}
    if settings.endpoint is not None:
        found["AWS_ENDPOINT_URL"] = settings.endpoint
        found["AWS_ALLOW_HTTP"] = str(settings.endpoint.startswith("http://")).lower()
    for name, variable in (
        ("AWS_ACCESS_KEY_ID", settings.access_key_env),
        ("AWS_SECRET_ACCESS_KEY", settings.secret_key_env),
        ("AWS_SESSION_TOKEN", settings.session_token_env),
    ):
        if environment.get(variable):
            found[name] = environment[variable]
    return found
