"""Where the lake of a project lies, out of qanat.yaml and the environment that it names. Opens nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from qanat.errors import ConfigError

if TYPE_CHECKING:
    from qanat.cli.project import Folder
    from qanat.lake import Tables
    from qanat.lake.store import Place
    from qanat.model.lake import S3

_FOLDER = "lake"


def tables_of(folder: Folder) -> Tables:
    """The tables of a project's lake. Raises `ConfigError`."""
    from qanat.lake import Tables

    return Tables(place_of(folder))


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
        raise ConfigError(
            f"lake.url: {settings.url!r} is no place for a lake", hint="a folder, or s3://bucket/prefix"
        )
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
