"""States of a snapshot for the operators of a plan that may be written differently: which state is whose, and what its
columns are called now. Whether a state may be carried over is decided before (see `qanat.control`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from qanat.errors import ChangedPipelineError
from qanat.sql.embedded.flow import State
from qanat.sql.fingerprint import Part


def carried(states: Sequence[State], old: Sequence[Part], new: Sequence[Part]) -> list[State]:
    """The states, one per operator of `new`; `old`: the operators that `states` are of.

    Raises `ChangedPipelineError` where an operator with state has none here.
    """
    if tuple(old) == tuple(new):
        return list(states)
    kept = [(part, state) for part, state in zip(old, states, strict=True) if part.state is not None]
    wanted = [part for part in new if part.state is not None]
    if [part.state for part, _ in kept] != [part.state for part in wanted]:
        raise ChangedPipelineError("a snapshot belongs to another plan", hint="qanat plan says what can be done")
    found = iter(kept)
    return [{} if part.state is None else _renamed(*next(found), part) for part in new]


def names_clash(old: Sequence[Part], new: Sequence[Part]) -> bool:
    """Whether columns of equal states were renamed in a way that the states cannot follow."""
    pairs = zip((p for p in old if p.state), (p for p in new if p.state), strict=True)
    return any(_mapping(one, two) is None for one, two in pairs)


def _renamed(old: Part, state: State, new: Part) -> State:
    mapping = _mapping(old, new)
    if mapping is None:
        raise ChangedPipelineError("the columns of a state were renamed crosswise", hint="qanat plan")
    result: State = _rename(state, mapping) if mapping else state
    return result


def _mapping(old: Part, new: Part) -> dict[str, str] | None:
    """Old name -> new name, where they differ; None where one name has become two."""
    found: dict[str, str] = {}
    for before, after in zip(old.names, new.names, strict=True):
        if found.setdefault(before, after) != after:
            return None
    if len(set(found.values())) < len(found):
        return None
    return {before: after for before, after in found.items() if before != after}


def _rename(value: Any, names: Mapping[str, str]) -> Any:
    match value:
        case pl.DataFrame():
            return value.rename({old: new for old, new in names.items() if old in value.columns})
        case dict():
            return {key: _rename(one, names) for key, one in value.items()}
        case list() | tuple():
            return [_rename(one, names) for one in value]
        case _:
            return value
