"""What a user's function is: a declaration and the Python callable behind it. Nothing is called here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from qanat.model.types import Type


@dataclass(frozen=True, slots=True)
class UserFunction:
    """A function of the user, vectorised over Arrow.

    `kind` SCALAR: `body(*arrays) -> array` of the same length. TABLE: `body(*arrays) -> table` whose column 0 (int64,
    ascending) is the place of the input row and whose other columns are `columns`. AGGREGATE: `body` is a class with
    `add(self, *arrays)`, `merge(self, other)`, `result(self) -> value`, `state(self)` -> plain values and
    `restore(self, state)`; `retract(self, *arrays)` where it can take back.
    `arguments`: their types; `result`: type of the result (SCALAR, AGGREGATE); `columns`: of a TABLE function.
    `deterministic`: the same arguments give the same result, so that a replay may call it again.
    """

    name: str
    kind: Literal["SCALAR", "TABLE", "AGGREGATE"]
    arguments: tuple[Type, ...]
    result: Type | None
    columns: tuple[tuple[str, Type], ...]
    body: Callable[..., Any]
    deterministic: bool = True
