"""What each input row does to the one result row of its key -> rows of a changelog."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qanat.sql.embedded.flow import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE, Ints, Kinds

#: Steps: nothing changes; the result appears, is replaced, disappears.
NOTHING, APPEARS, REPLACED, GONE = (np.int8(one) for one in range(4))
_KIND = np.array([INSERT, INSERT, UPDATE_AFTER, DELETE], dtype=np.int8)


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows of a changelog: the input row that made each, its kind, and whether it shows the result before that row
    (-U and -D) or after it."""

    source: Ints
    kinds: Kinds
    before: npt.NDArray[np.bool_]


def changes_by(steps: Kinds) -> Changes:
    """The rows that come of one step per input row: one for a result that appears or disappears, two for a new one."""
    row = np.flatnonzero(steps)
    step = steps[row]
    copies = np.where(step == REPLACED, 2, 1)
    source, kinds = np.repeat(row, copies), np.repeat(_KIND[step], copies)
    kinds[np.flatnonzero(kinds == UPDATE_AFTER)[::2]] = UPDATE_BEFORE
    return Changes(source, kinds, (kinds == UPDATE_BEFORE) | (kinds == DELETE))
