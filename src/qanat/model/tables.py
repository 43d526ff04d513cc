"""The section `tables` of qanat.yaml: tables outside of qanat that queries join with streams. Declarations only."""

from __future__ import annotations

from qanat.model.sections import Section


class OutsideTable(Section, frozen=True):
    """Where a table lies.

    `url`: postgresql://[user@]host[:port]/database, sqlite:///path, or a path to CSV or Parquet (`*` allowed; relative
    to the project). `table`: its name there, SCHEMA.TABLE where needed; the name in qanat.yaml unless given.
    `password_env`: the environment variable that holds the password.
    """

    url: str
    table: str | None = None
    password_env: str | None = None
