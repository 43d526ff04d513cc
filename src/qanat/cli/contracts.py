"""The contracts of a project: its registry file, and what qanat.yaml says about each stream's schema."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from qanat.cli.project import Folder, read_text
from qanat.contracts.decoders import Contracts
from qanat.contracts.formats import NAMES, format_of
from qanat.contracts.registry import Registry
from qanat.contracts.schema import Level
from qanat.contracts.streams import Bound, Terms, bind
from qanat.errors import ConfigError, ContractError
from qanat.model.project import Contract
from qanat.model.streams import Stream

_FILE = "contracts.db"


def registry_path(data: Path) -> Path:
    """Where the registry of a project lies."""
    return data / _FILE


def open_registry(data: Path) -> Registry:
    """The registry of the project whose data lies in the folder `data`; made where there is none."""
    return Registry(registry_path(data))


def terms_of(folder: Folder, streams: Mapping[str, Stream]) -> dict[str, Terms]:
    """What qanat.yaml says, with the schema files read. Raises `ConfigError` for streams that there are not."""
    found = {}
    for name, one in folder.project.contracts.items():
        if name not in streams:
            raise ConfigError(
                f"contracts.{name}: no stream {name!r}", hint=f"the streams are: {', '.join(sorted(streams))}"
            )
        found[name] = _terms(folder, name, one)
    return found


def _terms(folder: Folder, name: str, one: Contract) -> Terms:
    level = None if one.compatibility is None else Level(one.compatibility)
    wanted = None if one.format is None else NAMES[one.format]
    if one.schema is None:
        return Terms(level, wanted, message=one.message)
    written = format_of(one.schema)
    if wanted is not None and wanted is not written:
        raise ConfigError(f"contracts.{name}: {one.schema} is {written}, and format says {one.format}")
    return Terms(level, written, read_text(folder.path / one.schema), one.message)


class ProjectContracts:
    """The contracts of a project that is about to run: checked at once, stored by `take_over`."""

    def __init__(self, folder: Folder, streams: Mapping[str, Stream], inputs: frozenset[str]) -> None:
        """Streams that take input have a contract, and those that qanat.yaml names.

        Raises `IncompatibleError` for a stream that was changed against its contract, `ConfigError`.
        """
        self._terms = terms_of(folder, streams)
        self._streams = [streams[name] for name in sorted(inputs | set(self._terms))]
        self._registry = open_registry(folder.data)
        try:
            bind(self._registry, self._streams, self._terms, dry_run=True)
        except BaseException:
            self._registry.close()
            raise

    def take_over(self) -> Contracts:
        """What is declared is now the contract of each stream."""
        return Contracts(self._registry, bind(self._registry, self._streams, self._terms))

    def close(self) -> None:
        """Close the registry."""
        self._registry.close()


def known_contracts(folder: Folder, streams: Mapping[str, Stream], inputs: frozenset[str]) -> Contracts:
    """The contracts as `qanat up` left them, for commands that only read payloads; registers nothing.

    A stream that was changed against its contract has none here. Raises `ConfigError`.
    """
    path = registry_path(folder.data)
    registry = Registry(path if path.exists() else None)
    terms = terms_of(folder, streams)
    bound: dict[str, Bound] = {}
    for name in sorted(inputs):
        with contextlib.suppress(ContractError):
            bound |= bind(registry, [streams[name]], terms, dry_run=path.exists())
    return Contracts(registry, bound)
