"""Which queries there are, and their texts, which qanat and Flink run unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.nexmark.texts import letters
from bench.work import folder

_HERE = Path(__file__).resolve().parent
#: Rows of the side input of q13.
_SIDE_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Query:
    """One query. `adapted`: how it differs from the published one, if it does."""

    name: str
    title: str
    adapted: str = ""


QUERIES = {
    query.name: query
    for query in (
        Query("q0", "bids as they are"),
        Query("q1", "prices in euro"),
        Query("q2", "bids for chosen auctions"),
        Query("q3", "who sells in three states"),
        Query("q4", "mean winning price by category"),
        Query("q5", "auctions with the most bids"),
        Query("q7", "highest bids"),
        Query("q8", "new people who sell"),
        Query("q9", "winning bids"),
        Query("q10", "bids with day and minute", "the sink has dt and hm as columns, and no PARTITIONED BY"),
        Query("q11", "sessions of bidders", "SESSION as a table function instead of GROUP BY SESSION(...)"),
        Query("q13", "bids with a side input", "a join instead of a lookup, which Flink's filesystem table has not"),
        Query("q14", "price, time of day, letters", "REPLACE and CHAR_LENGTH instead of a function in Java"),
        Query("q15", "statistics by day"),
        Query("q16", "statistics by channel"),
        Query("q17", "statistics by auction"),
        Query("q18", "last bid by bidder and auction"),
        Query("q19", "ten highest bids by auction"),
        Query("q20", "bids with their auction"),
        Query("q21", "channels' ids"),
        Query("q22", "folders of addresses"),
    )
}

#: Not run anywhere, and why.
LEFT_OUT = {
    "q6": "an OVER window over a ranking that changes: Flink does not have it",
    "q12": "windows of processing time: the answer depends on the clock",
}

#: What `make bench` measures.
MEASURED = tuple(QUERIES[f"q{number}"] for number in (0, 1, 2, 5, 7, 8, 11, 15, 18, 20))


def script(query: Query) -> str:
    """The text of a query with its tables and views. It has the parameters INPUT, SINK, and in q13 SIDE_INPUT."""
    return (_HERE / "events.sql").read_text() + "\n" + (_HERE / f"{query.name}.sql").read_text()


def side_input(seed: int) -> Path:
    """The bounded table of q13, as CSV: key, value."""
    path = folder("data") / f"nexmark-side-{seed}.csv"
    if not path.exists():
        rng = np.random.default_rng([seed, _SIDE_ROWS])
        values = letters(rng, np.full(_SIDE_ROWS, 10, dtype=np.int64))
        part = path.with_suffix(".part")
        part.write_text("".join(f"{key},{value}\n" for key, value in enumerate(values)))
        part.rename(path)
    return path
