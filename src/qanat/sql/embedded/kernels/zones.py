"""Instants and local times. An instant is Datetime(.., "UTC"), a local time Datetime without zone; zones are named as
`qanat.sql.zones.zone_of` does."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from qanat.sql.expressions import UTC

#: No clock was ever put forward by more.
_LONGEST_GAP = timedelta(hours=3)


def to_local(instant: pl.Expr, zone: str) -> pl.Expr:
    """The local time of an instant."""
    if zone[0] in "+-":
        return instant.dt.replace_time_zone(None) + timedelta(minutes=int(zone))
    moved = instant if zone == UTC else instant.dt.convert_time_zone(zone)
    return moved.dt.replace_time_zone(None)


def to_instant(local: pl.Expr, zone: str, late: bool = False) -> pl.Expr:
    """The instant of a local time. One that there never was (clocks put forward) is moved on by the gap; of one that
    there was twice the first counts, or the second where `late` (as Java's old calendar does)."""
    if zone[0] in "+-":
        return (local - timedelta(minutes=int(zone))).dt.replace_time_zone(UTC)
    if zone == UTC:
        return local.dt.replace_time_zone(UTC)

    def found(value: pl.Expr) -> pl.Expr:
        placed = value.dt.replace_time_zone(zone, ambiguous="latest" if late else "earliest", non_existent="null")
        return placed.dt.convert_time_zone(UTC)

    return pl.coalesce(found(local), found(local - _LONGEST_GAP) + _LONGEST_GAP)
