"""Reading streams from outside of pipelines: SELECT with DuckDB, and the rows as they come.

with Query("sqlite:///project/.qanat/log") as query:
    query.table("SELECT client_id, avg(consumption) FROM readings GROUP BY ALL")

for chunk in tail(log, "readings", -10, follow=True):
    ...
"""

from __future__ import annotations

from qanat.query.as_of import AsOf, parse_as_of
from qanat.query.duck import Parameters, Query, evaluate
from qanat.query.limits import Handle
from qanat.query.outside import open_tables
from qanat.query.tail import Start, parse_start, tail

__all__ = [
    "AsOf",
    "Handle",
    "Parameters",
    "Query",
    "Start",
    "evaluate",
    "open_tables",
    "parse_as_of",
    "parse_start",
    "tail",
]
