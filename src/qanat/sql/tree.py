"""Walking and rebuilding plans. Knows the nodes' shapes and nothing of their meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace

from qanat.model.functions import UserFunction
from qanat.sql.expressions import Call, Cast, Column, Expression, Literal
from qanat.sql.plan import (
    IntervalJoin,
    LookupJoin,
    Node,
    RegularJoin,
    Scan,
    TemporalJoin,
    Union,
    WindowJoin,
)


def inputs_of(node: Node) -> tuple[Node, ...]:
    """The nodes that this one reads."""
    match node:
        case Scan():
            return ()
        case Union():
            return node.inputs
        case IntervalJoin() | WindowJoin() | RegularJoin() | TemporalJoin():
            return (node.left, node.right)
        case LookupJoin():
            return (node.left,)
        case _:
            return (node.input,)


def map_inputs(node: Node, change: Callable[[Node], Node]) -> Node:
    """The node with every input changed."""
    match node:
        case Scan():
            return node
        case Union():
            return replace(node, inputs=tuple(change(one) for one in node.inputs))
        case IntervalJoin() | WindowJoin() | RegularJoin() | TemporalJoin():
            return replace(node, left=change(node.left), right=change(node.right))
        case LookupJoin():
            return replace(node, left=change(node.left))
        case _:
            return replace(node, input=change(node.input))


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, outermost first."""
    yield node
    for one in inputs_of(node):
        yield from walk(one)


def user_functions(part: object) -> Iterator[UserFunction]:
    """The user's functions that a plan, or a part of one, calls."""
    if isinstance(part, UserFunction):
        yield part
    elif isinstance(part, tuple):
        for one in part:
            yield from user_functions(one)
    elif is_dataclass(part):
        for field in fields(part):
            yield from user_functions(getattr(part, field.name))


def substitute(expression: Expression, by_name: Mapping[str, Expression]) -> Expression:
    """The expression with columns replaced by what they stand for; names that are not in the map stay."""
    match expression:
        case Column(name=name):
            return by_name.get(name, expression)
        case Call():
            return replace(expression, args=tuple(substitute(one, by_name) for one in expression.args))
        case Cast():
            return replace(expression, arg=substitute(expression.arg, by_name))
        case Literal():
            return expression
