"""Reading the log from outside of pipelines: SELECT with DuckDB, and the rows as they come.

with Query("sqlite:///project/.qanat/log") as query:
    query.table("SELECT client_id, avg(consumption) FROM readings GROUP BY ALL")

for chunk in tail(log, "readings", -10, follow=True):
    ...
"""

from __future__ import annotations

from qanat.query.duck import Parameters, Query, evaluate
from qanat.query.tail import Start, parse_start, tail

__all__ = ["Parameters", "Query", "Start", "evaluate", "parse_start", "tail"]
