"""Subjects and their versions: register, look up, check, delete; with the meaning of the Confluent Schema Registry.

Nothing of HTTP is here. Errors are `ContractError` with that registry's codes (40401 no such subject, ...).
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qanat.codec.avro_schema import AvroType, fingerprint
from qanat.contracts.formats import LANGUAGES
from qanat.contracts.schema import Level, Mode, Reference, Schema, Version
from qanat.contracts.store import Store
from qanat.errors import ContractError, IncompatibleError, SchemaError

_GLOBAL = ""
_PERMANENTLY = "Set permanent=true to delete permanently"
_MAX_PARSED = 1000
_COMPATIBILITY, _MODE, _MORE = "compatibility", "mode", "config"


class Registry:
    """Thread-safe; several processes may use one file. What is registered is durable when the call returns."""

    def __init__(self, path: Path | None = None) -> None:
        """`path` of the file; None keeps everything in memory. Raises `ConfigError`."""
        self._store = Store(path)
        self._parsed: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    # --- schemas by number -------------------------------------------------------------------------------------------

    def schema(self, number: int) -> Schema:
        """The schema with this id. Raises 40403."""
        return self._found(number)[2]

    def guid(self, number: int) -> str:
        """Its name that is the same in every registry. Raises 40403."""
        return self._found(number)[1]

    def id_of_guid(self, guid: str) -> int:
        """The id of the schema with this guid. Raises 40403."""
        found = self._store.id_of("guid", guid)
        if found is None:
            raise ContractError(f"Schema {guid} not found", code=40403)
        return found

    def id_of_fingerprint(self, mark: bytes) -> int | None:
        """The id of the Avro schema with this CRC-64-AVRO fingerprint (eight bytes, the lowest first)."""
        return self._store.id_of("fingerprint", mark)

    def _found(self, number: int) -> tuple[int, str, Schema]:
        found = self._store.schema(number)
        if found is None:
            raise ContractError(f"Schema {number} not found", code=40403)
        return found

    def tree(self, number: int) -> Any:
        """The parsed schema with this id; kept in memory. Raises 40403, `SchemaError`."""
        with self._lock:
            if number in self._parsed:
                self._parsed.move_to_end(number)
                return self._parsed[number]
        made = self.parse(self.schema(number))
        with self._lock:
            self._parsed[number] = made
            if len(self._parsed) > _MAX_PARSED:
                self._parsed.popitem(last=False)
        return made

    def parse(self, schema: Schema) -> Any:
        """The schema with its references, as its language has it. Raises `SchemaError`."""
        if not schema.text.strip():
            raise SchemaError("Empty schema")
        return LANGUAGES[schema.format].parse(schema.text, self._referenced(schema))

    def _referenced(self, schema: Schema, above: tuple[Reference, ...] = ()) -> dict[str, str]:
        """Texts of all that the schema needs, by name, what others need coming first."""
        texts: dict[str, str] = {}
        for one in schema.references:
            if one in above:
                raise SchemaError(f"the reference {one.name} leads back to itself")
            try:
                target = self.version(one.subject, one.version, deleted=True).schema
            except ContractError as error:
                raise SchemaError(
                    f"No schema reference found for subject {one.subject} and version {one.version}"
                ) from error
            texts |= self._referenced(target, (*above, one))
            texts[one.name] = target.text
        return texts

    # --- subjects and versions ---------------------------------------------------------------------------------------

    def subjects(self, prefix: str = "", deleted: bool = False, deleted_only: bool = False) -> list[str]:
        """Names of subjects: those that have a version that is not deleted; `deleted`: the others, too."""
        alive: dict[str, bool] = {}
        for one in self._store.everything():
            if one.subject.startswith(prefix):
                alive[one.subject] = alive.get(one.subject, False) or not one.deleted
        return [name for name, live in alive.items() if (not live if deleted_only else live or deleted)]

    def versions(self, subject: str, deleted: bool = False, deleted_only: bool = False) -> list[Version]:
        """All versions in order. Raises 40401 where there is none."""
        known = self._store.versions(subject)
        found = [one for one in known if (one.deleted if deleted_only else deleted or not one.deleted)]
        if not found:
            raise _no_subject(subject)
        return found

    def version(self, subject: str, number: int | None, deleted: bool = False) -> Version:
        """One version; None is the latest. Raises 40401, 40402."""
        found = self.versions(subject, deleted)
        if number is None:
            return found[-1]
        for one in found:
            if one.version == number:
                return one
        raise ContractError(f"Version {number} not found.", code=40402)

    def everything(self, prefix: str = "", deleted: bool = False) -> list[Version]:
        """All versions of all subjects."""
        return [
            one for one in self._store.everything() if one.subject.startswith(prefix) and (deleted or not one.deleted)
        ]

    def used_by(self, number: int, deleted: bool = False) -> list[Version]:
        """Where a schema stands. Raises 40403."""
        self._found(number)
        return [one for one in self._store.used_by(number) if deleted or not one.deleted]

    def referenced_by(self, subject: str, number: int | None) -> list[int]:
        """Ids of the schemas that need this version. Raises 40401, 40402."""
        wanted = self.version(subject, number, deleted=True)
        found = {
            one.id
            for one in self._store.everything()
            for need in one.schema.references
            if (need.subject, need.version) == (subject, wanted.version) and not one.deleted
        }
        return sorted(found)

    def lookup(self, subject: str, schema: Schema, normalize: bool = False, deleted: bool = False) -> Version:
        """The version of a subject that is this schema. Raises 40401, 40403, `SchemaError`."""
        known = self.versions(subject, deleted)
        found = self._same(known, schema, normalize or self._normalizes(subject))
        if found is None:
            raise ContractError("Schema not found", code=40403)
        return found

    def _same(self, known: Sequence[Version], schema: Schema, normalize: bool) -> Version | None:
        tree = self.parse(schema)
        number = self._store.id_of("digest", _digest(schema, LANGUAGES[schema.format].identity(schema.text, tree)))
        ids = {number} if number is not None else set()
        if normalize:
            ids |= set(self._store.ids_of_normal(_digest(schema, LANGUAGES[schema.format].normal(schema.text, tree))))
        return next((one for one in reversed(known) if one.id in ids), None)

    # --- register ----------------------------------------------------------------------------------------------------

    def register(self, subject: str, schema: Schema, normalize: bool = False, dry_run: bool = False) -> Version | None:
        """Make the schema the newest version of a subject; the version that it is already, where there is one.

        Raises `SchemaError` (42201), `IncompatibleError` (409), 42205 where the subject is read-only. `dry_run` checks
        all of that and changes nothing; it gives None for what would be new.
        """
        tree = self.parse(schema)
        with self._store.change():
            if self.mode(subject) in (Mode.READONLY, Mode.READONLY_OVERRIDE):
                raise ContractError(f"Subject {subject} is in read-only mode", code=42205)
            every = self._store.versions(subject)
            alive = [one for one in every if not one.deleted]
            found = self._same(alive, schema, normalize or self._normalizes(subject))
            if found is not None:
                return found
            self._demand(subject, schema, tree, alive)
            if dry_run:
                return None
            number = self._keep(schema, tree)
            version = max((one.version for one in every), default=0) + 1
            self._store.add_version(subject, version, number)
        return self.version(subject, version)

    def _keep(self, schema: Schema, tree: Any) -> int:
        language = LANGUAGES[schema.format]
        digest = _digest(schema, language.identity(schema.text, tree))
        normal = _digest(schema, language.normal(schema.text, tree))
        text = language.stored(schema.text, tree)
        kept = Schema(schema.format, text, schema.references, schema.metadata, schema.rules)
        mark = fingerprint(tree) if isinstance(tree, AvroType) else None
        return self._store.add_schema(kept, digest, str(uuid.UUID(digest[:32])), normal, mark)

    def import_version(self, subject: str, schema: Schema, number: int) -> Version:
        """Register under a version of one's own choosing, in IMPORT mode; nothing is compared."""
        if self.mode(subject) is not Mode.IMPORT:
            raise ContractError(f"Subject {subject} is not in import mode", code=42205)
        tree = self.parse(schema)
        with self._store.change():
            if any(one.version == number for one in self._store.versions(subject)):
                raise ContractError(f"Version {number} of {subject} is there already", code=42205)
            self._store.add_version(subject, number, self._keep(schema, tree))
        return self.version(subject, number)

    # --- compatibility -----------------------------------------------------------------------------------------------

    def check(self, subject: str, schema: Schema, number: int | None = None, all_versions: bool = False) -> list[str]:
        """Which rules the schema would break: against one version (None: the latest), or as `register` would ask.

        Raises 40401, 40402, `SchemaError`. A subject without versions takes everything.
        """
        tree = self.parse(schema)
        level = self.level(subject)
        alive = [one for one in self._store.versions(subject) if not one.deleted]
        if all_versions:
            return self._broken(level, schema, tree, alive)
        if number is None and not alive:
            return []
        return self._against(level, schema, tree, self.version(subject, number))

    def _demand(self, subject: str, schema: Schema, tree: Any, alive: Sequence[Version]) -> None:
        level = self.level(subject)
        broken = self._broken(level, schema, tree, alive)
        if broken:
            raise IncompatibleError(
                f"Schema being registered is incompatible with an earlier schema for subject {subject!r}"
                f" (compatibility {level})",
                tuple(broken),
                hint=f"change the schema, or what is demanded: qanat schema compatibility {subject} NONE",
            )

    def _broken(self, level: Level, schema: Schema, tree: Any, alive: Sequence[Version]) -> list[str]:
        if level is Level.NONE:
            return []
        asked = alive if level.is_transitive else alive[-1:]
        return [line for one in reversed(asked) for line in self._against(level, schema, tree, one)]

    def _against(self, level: Level, schema: Schema, tree: Any, old: Version) -> list[str]:
        if level is Level.NONE:
            return []
        if old.schema.format is not schema.format:
            return [f"version {old.version} is {old.schema.format}, the new schema {schema.format} (FORMAT_CHANGED)"]
        problems, before = LANGUAGES[schema.format].problems, self.tree(old.id)
        found = []
        if level.checks_backward:
            found += [f"does not read what version {old.version} wrote: {one}" for one in problems(tree, before)]
        if level.checks_forward:
            found += [f"is not read by version {old.version}: {one}" for one in problems(before, tree)]
        return found

    # --- delete ------------------------------------------------------------------------------------------------------

    def delete_version(self, subject: str, number: int | None, permanent: bool = False) -> int:
        """Hide a version, or forget a hidden one. Raises 40401, 40402, 40406, 40407, 42206."""
        with self._store.change():
            self._writable(subject)
            one = self.version(subject, number, deleted=True) if permanent or number else self.version(subject, None)
            if permanent and not one.deleted:
                message = (
                    f"Subject '{subject}' Version {one.version} was not deleted first before being permanently deleted"
                )
                raise ContractError(message, code=40407)
            if not permanent and one.deleted:
                message = f"Subject '{subject}' Version {one.version} was soft deleted. {_PERMANENTLY}"
                raise ContractError(message, code=40406)
            self._unreferenced(one)
            self._drop(one, permanent)
            return one.version

    def delete_subject(self, subject: str, permanent: bool = False) -> list[int]:
        """Hide all versions, or forget all hidden ones. Raises 40401, 40404, 40405, 42206."""
        with self._store.change():
            self._writable(subject)
            every = self.versions(subject, deleted=True)
            alive = [one for one in every if not one.deleted]
            if permanent and alive:
                message = f"Subject '{subject}' was not deleted first before being permanently deleted"
                raise ContractError(message, code=40405)
            if not permanent and not alive:
                message = f"Subject '{subject}' was soft deleted. {_PERMANENTLY}"
                raise ContractError(message, code=40404)
            gone = every if permanent else alive
            for one in gone:
                self._unreferenced(one)
            for one in gone:
                self._drop(one, permanent)
            for name in (_COMPATIBILITY, _MODE, _MORE):
                self._store.set(subject, name, None)
            return [one.version for one in gone]

    def _drop(self, one: Version, permanent: bool) -> None:
        if permanent:
            self._store.remove_version(one.subject, one.version)
        else:
            self._store.mark_deleted(one.subject, one.version)

    def _unreferenced(self, one: Version) -> None:
        users = [user for user in self.referenced_by(one.subject, one.version) if user != one.id]
        if users:
            message = f"One or more references exist to the schema {one.subject} version {one.version}"
            raise ContractError(
                message, code=42206, hint=f"the schemas with the ids {', '.join(map(str, users))} need it"
            )

    def _writable(self, subject: str) -> None:
        if self.mode(subject) in (Mode.READONLY, Mode.READONLY_OVERRIDE):
            raise ContractError(f"Subject {subject} is in read-only mode", code=42205)

    # --- settings ----------------------------------------------------------------------------------------------------

    def level(self, subject: str = _GLOBAL) -> Level:
        """The compatibility that holds for a subject: its own, or everybody's, or BACKWARD."""
        found = self._setting(subject, _COMPATIBILITY)
        return Level.BACKWARD if found is None else Level(found)

    def own_level(self, subject: str) -> Level | None:
        """The compatibility that was set for this subject alone."""
        found = self._store.setting(subject, _COMPATIBILITY)
        return None if found is None else Level(found)

    def set_level(self, subject: str, level: str | None) -> None:
        """Set the compatibility of a subject, or of all with ""; None forgets it. Raises 42203."""
        if level is not None and level not in Level.__members__:
            message = f"Invalid compatibility level. Valid values are {', '.join(map(str.lower, Level))}"
            raise ContractError(message, code=42203)
        with self._store.change():
            self._store.set(subject, _COMPATIBILITY, level)

    def more_config(self, subject: str) -> dict[str, Any]:
        """What else was set for the subject (`normalize`, and what only clients look at)."""
        found = self._store.setting(subject, _MORE)
        return {} if found is None else dict(json.loads(found))

    def set_more_config(self, subject: str, values: dict[str, Any] | None) -> None:
        """Replace it; None forgets it."""
        with self._store.change():
            self._store.set(subject, _MORE, None if values is None else json.dumps(values))

    def _normalizes(self, subject: str) -> bool:
        return bool(self.more_config(subject).get("normalize", self.more_config(_GLOBAL).get("normalize", False)))

    def mode(self, subject: str = _GLOBAL) -> Mode:
        """The mode that holds for a subject."""
        everybody = self._store.setting(_GLOBAL, _MODE)
        if everybody == Mode.READONLY_OVERRIDE:
            return Mode.READONLY_OVERRIDE
        found = self._setting(subject, _MODE)
        return Mode.READWRITE if found is None else Mode(found)

    def own_mode(self, subject: str) -> Mode | None:
        """The mode that was set for this subject alone."""
        found = self._store.setting(subject, _MODE)
        return None if found is None else Mode(found)

    def set_mode(self, subject: str, mode: str | None, force: bool = False) -> None:
        """Set a mode, or forget it with None. Raises 42204; 42205 for IMPORT where there are schemas, unless forced."""
        if mode is not None and mode not in Mode.__members__:
            raise ContractError(f"Invalid mode. Valid values are {', '.join(Mode)}", code=42204)
        with self._store.change():
            if mode == Mode.IMPORT and not force:
                there = self._store.versions(subject) if subject else self._store.everything()
                if any(not one.deleted for one in there):
                    message = "Cannot import since found existing subjects" if not subject else f"{subject} has schemas"
                    raise ContractError(message, code=42205)
            self._store.set(subject, _MODE, mode)

    def _setting(self, subject: str, name: str) -> str | None:
        own = self._store.setting(subject, name)
        return self._store.setting(_GLOBAL, name) if own is None and subject else own


def _no_subject(subject: str) -> ContractError:
    return ContractError(f"Subject '{subject}' not found.", code=40401)


def _digest(schema: Schema, identity: str) -> str:
    """What makes a schema itself: format, content, references, and what clients hang on it."""
    references = [[one.name, one.subject, one.version] for one in sorted(schema.references, key=lambda one: one.name)]
    parts = [schema.format, identity, references, schema.metadata, schema.rules]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
