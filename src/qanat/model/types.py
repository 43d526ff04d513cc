"""SQL types as values: what a column may hold. No Arrow here (see `arrow.py`), no I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace


class Kind(enum.Enum):
    """The kind of a type; the names are Flink SQL's."""

    NULL = "NULL"
    BOOLEAN = "BOOLEAN"
    TINYINT = "TINYINT"
    SMALLINT = "SMALLINT"
    INT = "INT"
    BIGINT = "BIGINT"
    FLOAT = "FLOAT"
    DOUBLE = "DOUBLE"
    DECIMAL = "DECIMAL"
    STRING = "STRING"  # CHAR(n), VARCHAR(n) and STRING; `precision` is n where given
    BYTES = "BYTES"
    DATE = "DATE"
    TIME = "TIME"
    TIMESTAMP = "TIMESTAMP"  # without time zone
    TIMESTAMP_LTZ = "TIMESTAMP_LTZ"  # an instant
    INTERVAL_DAY = "INTERVAL DAY TO SECOND"  # milliseconds
    INTERVAL_YEAR = "INTERVAL YEAR TO MONTH"  # months
    ARRAY = "ARRAY"
    MAP = "MAP"
    ROW = "ROW"


@dataclass(frozen=True, slots=True)
class Type:
    """One SQL type.

    `precision`/`scale`: DECIMAL's digits, the length of CHAR/VARCHAR, the fractional digits of TIME and TIMESTAMP.
    `element`: of ARRAY, or the value of MAP; `key`: of MAP; `fields`: of ROW.
    """

    kind: Kind
    nullable: bool = True
    precision: int | None = None
    scale: int | None = None
    element: Type | None = None
    key: Type | None = None
    fields: tuple[tuple[str, Type], ...] = ()

    def with_nullable(self, nullable: bool) -> Type:
        """The same type, NULL allowed or not."""
        return self if self.nullable is nullable else replace(self, nullable=nullable)

    @property
    def is_time_attribute_type(self) -> bool:
        """Whether a watermark may be declared on a column of this type (TIMESTAMP(0..3), TIMESTAMP_LTZ(0..3))."""
        return self.kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ) and (self.precision or 0) <= 3

    def __str__(self) -> str:
        return _name(self) + ("" if self.nullable else " NOT NULL")


def _name(t: Type) -> str:
    match t.kind:
        case Kind.DECIMAL:
            return f"DECIMAL({t.precision}, {t.scale})"
        case Kind.STRING if t.precision is not None:
            return f"VARCHAR({t.precision})"
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ | Kind.TIME if t.precision is not None:
            return f"{t.kind.value}({t.precision})"
        case Kind.ARRAY:
            return f"ARRAY<{t.element}>"
        case Kind.MAP:
            return f"MAP<{t.key}, {t.element}>"
        case Kind.ROW:
            inside = ", ".join(f"`{name}` {field}" for name, field in t.fields)
            return f"ROW<{inside}>"
        case _:
            name: str = t.kind.value
            return name


NULL = Type(Kind.NULL)
BOOLEAN = Type(Kind.BOOLEAN)
TINYINT = Type(Kind.TINYINT)
SMALLINT = Type(Kind.SMALLINT)
INT = Type(Kind.INT)
BIGINT = Type(Kind.BIGINT)
FLOAT = Type(Kind.FLOAT)
DOUBLE = Type(Kind.DOUBLE)
STRING = Type(Kind.STRING)
BYTES = Type(Kind.BYTES)
DATE = Type(Kind.DATE)
TIMESTAMP = Type(Kind.TIMESTAMP, precision=3)
TIMESTAMP_LTZ = Type(Kind.TIMESTAMP_LTZ, precision=3)


def array(element: Type) -> Type:
    """ARRAY of `element`."""
    return Type(Kind.ARRAY, element=element)


def decimal(precision: int, scale: int) -> Type:
    """DECIMAL(precision, scale)."""
    return Type(Kind.DECIMAL, precision=precision, scale=scale)
