"""Reads a project folder: qanat.yaml, the environment that it names, and the *.sql files.

Decides nothing: what the file may say is checked by `qanat.model.project`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import yaml

from qanat.errors import ConfigError
from qanat.model import project as model

if TYPE_CHECKING:
    from qanat.sql.plan import Program

CONFIG = "qanat.yaml"
_LOG = "log.db"


@dataclass(frozen=True, slots=True)
class Folder:
    """A project as it lies on disk. `data`: the folder of the log, `.qanat` in the project unless said otherwise."""

    path: Path
    project: model.Project
    scripts: tuple[Path, ...]
    data: Path

    @property
    def log_url(self) -> str:
        """The URL of the project's log."""
        return log_url(self.data)


class _Loader(yaml.SafeLoader):
    """YAML as people read it: `on`, `no` and `2026-11-21` are text. (YAML 1.1 makes booleans and dates of them.)"""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, ""])


def log_url(data: Path) -> str:
    """The URL of the log that lies in the folder `data`."""
    return f"sqlite:///{(data / _LOG).absolute()}"


def data_folder(directory: Path, data: Path | None) -> Path:
    """Where the log of a project lies."""
    return data or directory / ".qanat"


def existing_log_url(directory: Path, data: Path | None) -> str:
    """The URL of a project's log. Raises `ConfigError` where there is none."""
    folder = data_folder(directory, data)
    if not (folder / _LOG).is_file():
        raise ConfigError(
            f"there is no log in {folder}",
            hint="start the project once (qanat up), or say where it is: --dir DIR, --data DIR",
        )
    return log_url(folder)


def open_folder(path: Path, data: Path | None = None) -> Folder:
    """Read the project in `path`. Raises `ConfigError` where there is no such folder or qanat.yaml is wrong."""
    if not path.is_dir():
        what = "is a file, not a project folder" if path.exists() else "does not exist"
        raise ConfigError(f"{path} {what}", hint=f"make a project: qanat init {path if not path.exists() else 'DIR'}")
    config = path / CONFIG
    project = read_config(config) if config.exists() else model.Project()
    return Folder(path, project, tuple(sorted(path.glob("*.sql"))), data_folder(path, data))


def read_config(path: Path) -> model.Project:
    """The project that the file declares, with passwords taken from the environment where it says so."""
    project = declared_config(path)
    users = tuple(_resolve(user, path) for user in project.users)
    return msgspec.structs.replace(project, users=users)


def declared_config(path: Path) -> model.Project:
    """The project that the file declares, as it stands there."""
    text = read_text(path)
    try:
        lines = _lines(yaml.compose(text, Loader=_Loader), str(path))
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: this is not YAML: {' '.join(str(error).split())}") from error
    return model.validate(raw, str(path), lambda place: _nearest(lines, place))


def compile_folder(folder: Folder, params: Mapping[str, str]) -> Program:
    """Compile all *.sql of the project, with the parameters of qanat.yaml and, before those, of the command line."""
    from qanat.sql import compile_files

    if not folder.scripts:
        raise ConfigError(
            f"no *.sql in {folder.path}",
            hint=f"a project needs at least one CREATE TABLE; see a working one: qanat init {folder.path}",
        )
    declared = {name: _text(value) for name, value in folder.project.parameters.items()}
    texts = [(str(path), read_text(path)) for path in folder.scripts]
    return compile_files(texts, params={**declared, **params})


def read_text(path: Path) -> str:
    """The text of a file of the project. Raises `ConfigError` where it is missing or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error


def parse_params(pairs: list[str]) -> dict[str, str]:
    """`NAME=VALUE` arguments as a mapping."""
    params = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--param {pair!r} is not NAME=VALUE", hint="for example --param WINDOW=15")
        params[name] = value
    return params


def _text(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return str(value)


def _resolve(user: model.User, path: Path) -> model.User:
    if user.password_env is None:
        return user
    password = os.environ.get(user.password_env)
    if not password:
        raise ConfigError(
            f"{path}: the password of user {user.name!r} is expected in the environment variable {user.password_env}",
            hint=f"export {user.password_env}=...",
        )
    return msgspec.structs.replace(user, password=password, password_env=None)


def _nearest(lines: Mapping[model.Path, int], place: model.Path) -> int | None:
    """The line of the key, or of the closest thing around it that stands in the file."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place)


def _lines(node: yaml.Node | None, source: str, path: model.Path = ()) -> dict[model.Path, int]:
    """Line of every key and list item. Refuses a key that stands twice: YAML would quietly take the last."""
    found: dict[model.Path, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*path, str(key.value))
            line = key.start_mark.line + 1
            if place in found:
                raise ConfigError(f"{source}:{line}: {key.value!r} stands here for the second time")
            found[place] = line
            found |= _lines(value, source, place)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            found[(*path, number)] = item.start_mark.line + 1
            found |= _lines(item, source, (*path, number))
    return found
