"""Functions of the user: the decorator that declares them, and how CREATE FUNCTION finds them. Calls nothing.

@qanat.udf("DOUBLE", returns="DOUBLE")
def fahrenheit(celsius: pa.Array) -> pa.Array:
    return pc.add(pc.multiply(celsius, 1.8), 32.0)

CREATE FUNCTION fahrenheit AS 'conversions.fahrenheit' LANGUAGE PYTHON;
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from qanat.errors import ConfigError
from qanat.model.functions import UserFunction
from qanat.model.types import Type
from qanat.sql.statements import parse_type

_METHODS = ("add", "result")


def udf(
    *arguments: str,
    returns: str | Mapping[str, str],
    name: str | None = None,
    deterministic: bool = True,
) -> Callable[[Callable[..., Any]], UserFunction]:
    """Declare a function for SQL, vectorised over Arrow.

    `arguments`: SQL types. `returns`: a SQL type, or for a table function its columns. A scalar function takes one
    `pyarrow.Array` per argument and gives an array of the same length. A table function gives a `pyarrow.Table` or a
    dict of columns: first the place of the input row that each row came of (0, 0, 1, ...), then `returns`. A class is
    an aggregate: `add(self, *arrays)` and `result(self)`, and `retract(self, *arrays)` where rows may be taken back;
    its attributes are its state, so they are plain values (or it has `state()` and `restore(state)`).
    `deterministic` False: a replay must not call it again; its pipeline stores its state with every commit.

    Raises `ConfigError` for a type that SQL does not have, or a class without these methods.
    """
    takes = tuple(_type(one) for one in arguments)

    def declare(body: Callable[..., Any]) -> UserFunction:
        kind: Literal["SCALAR", "TABLE", "AGGREGATE"] = "SCALAR"
        if inspect.isclass(body):
            kind = "AGGREGATE"
            missing = [one for one in _METHODS if not callable(getattr(body, one, None))]
            if missing:
                hint = "an aggregate is a class with add(self, *arrays) and result(self)"
                raise ConfigError(f"{body.__name__} has no method {missing[0]}", hint=hint)
        columns: tuple[tuple[str, Type], ...] = ()
        result: Type | None = None
        if isinstance(returns, str):
            result = _type(returns)
        else:
            kind, columns = "TABLE", tuple((column, _type(text)) for column, text in returns.items())
        return UserFunction(name or body.__name__, kind, takes, result, columns, body, deterministic)

    return declare


def _type(text: str) -> Type:
    try:
        return parse_type(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a SQL type: {error}", hint="BIGINT, DOUBLE, STRING, ARRAY<INT>") from None


def load(reference: str, folder: Path, name: str) -> UserFunction:
    """The function that `module.attribute` names, looked for in `folder` first. Raises `ConfigError`."""
    module_name, _, attribute = reference.rpartition(".")
    if not module_name:
        raise ConfigError(f"'{reference}' names no function", hint="'module.function'")
    with _importable(folder):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            hint = f"put {module_name.split('.')[0]}.py beside the SQL file, or install the package"
            raise ConfigError(f"cannot import {module_name}: {error}", hint=hint) from error
        except Exception as error:
            raise ConfigError(f"{module_name} failed while it was imported: {type(error).__name__}: {error}") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, UserFunction):
        what = "is not there" if found is None else "is no function for SQL"
        hint = '@qanat.udf("DOUBLE", returns="DOUBLE") in front of it'
        raise ConfigError(f"{attribute} in {module_name} {what}", hint=hint)
    return replace(found, name=name)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Modules of `folder` can be imported, before others of their name."""
    place = str(folder.absolute())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
