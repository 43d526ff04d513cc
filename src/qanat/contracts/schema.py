"""What a registry keeps, as values: schemas, their references, versions of subjects, levels of compatibility."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Format(enum.StrEnum):
    """The language of a schema; the names are those of the Confluent Schema Registry."""

    AVRO = "AVRO"
    PROTOBUF = "PROTOBUF"
    JSON = "JSON"


class Level(enum.StrEnum):
    """What a new version has to be able to do with what the versions before it wrote, or they with what it writes.

    BACKWARD: the new one reads the old. FORWARD: the old one reads the new. FULL: both. Without _TRANSITIVE only the
    version just before counts.
    """

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"

    @property
    def is_transitive(self) -> bool:
        """Whether all versions count, not only the latest."""
        return self.value.endswith("_TRANSITIVE")

    @property
    def checks_backward(self) -> bool:
        """Whether the new schema has to read what the old one wrote."""
        return self.value.startswith(("BACKWARD", "FULL"))

    @property
    def checks_forward(self) -> bool:
        """Whether the old schema has to read what the new one writes."""
        return self.value.startswith(("FORWARD", "FULL"))


class Mode(enum.StrEnum):
    """Whether a subject takes new schemas."""

    READWRITE = "READWRITE"
    READONLY = "READONLY"
    READONLY_OVERRIDE = "READONLY_OVERRIDE"
    IMPORT = "IMPORT"


@dataclass(frozen=True, slots=True)
class Reference:
    """Another schema that a schema needs: `name` is how its text calls it (type, file or $ref)."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema as it was given. `metadata` and `rules` are JSON that only clients look into."""

    format: Format
    text: str
    references: tuple[Reference, ...] = ()
    metadata: str | None = None
    rules: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A schema under a subject. `id` is the same wherever the same schema stands."""

    subject: str
    version: int
    id: int
    guid: str
    schema: Schema
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule that a change breaks: its name, where in the schema, and what is so, in words."""

    rule: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message} ({self.rule})"
