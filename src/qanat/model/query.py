"""The section `query` of qanat.yaml: what one query may take. Declarations only."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qanat.model.sections import Duration, Section, Size


class QuerySettings(Section, frozen=True):
    """`timeout`: of one query, its waiting for a connection included; null is none. `memory`: what DuckDB may take for
    one. `threads`: of one (null: all cores). `max_rows`: of one answer (null: any). `connections`: queries at a time.
    """

    timeout: Duration | None = Duration(300_000)
    memory: Size = Size(2_000_000_000)
    threads: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_rows: Annotated[int, msgspec.Meta(ge=1)] | None = None
    connections: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
