"""What the tests of the binder share: tables, and plans as short text."""

from __future__ import annotations

from qanat.sql import compile_script
from qanat.sql.explain import aggregate_text, describe_node, text, window_text
from qanat.sql.plan import (
    Filter,
    IntervalJoin,
    Node,
    Program,
    Project,
    Scan,
    WindowAggregate,
    WindowAssign,
)
from qanat.sql.tree import inputs_of

TABLES = """
CREATE TABLE t (k STRING, v INT, d DOUBLE, ts TIMESTAMP(3), r ROW<x INT, y ROW<z STRING>>, arr ARRAY<INT>,
  m MAP<STRING, INT>, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
CREATE TABLE u (k STRING, w INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts);
CREATE TABLE n (k STRING, w INT, x BIGINT);
"""
TUMBLE = "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))"

NILM = """
CREATE TABLE power (client_id STRING, username STRING, `timestamp` BIGINT, consumption DOUBLE,
  ts AS TO_TIMESTAMP_LTZ(`timestamp`, 0), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
CREATE TABLE device_state (client_id STRING, username STRING, `timestamp` BIGINT, state_bitmap ARRAY<BOOLEAN>,
  ts AS TO_TIMESTAMP_LTZ(`timestamp`, 0), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
CREATE TABLE predictions (client_id STRING, window_start TIMESTAMP(3), window_end TIMESTAMP(3), readings BIGINT,
  `values` ARRAY<DOUBLE>, PRIMARY KEY (client_id, window_start) NOT ENFORCED);
CREATE TABLE dataset2train (client_id STRING, session_start TIMESTAMP(3), session_end TIMESTAMP(3), samples BIGINT,
  consumption ARRAY<DOUBLE>, states ARRAY<ARRAY<BOOLEAN>>);
INSERT INTO predictions SELECT client_id, window_start, window_end, COUNT(*), ARRAY_AGG(consumption)
  FROM TABLE(HOP(TABLE power, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '15' SECOND))
  GROUP BY client_id, window_start, window_end;
CREATE VIEW fused AS SELECT p.client_id, p.ts, p.consumption, d.state_bitmap
  FROM power AS p JOIN device_state AS d ON p.client_id = d.client_id AND p.ts = d.ts;
INSERT INTO dataset2train
  SELECT client_id, window_start, window_end, COUNT(*), ARRAY_AGG(consumption), ARRAY_AGG(state_bitmap)
  FROM TABLE(SESSION(TABLE fused PARTITION BY client_id, DESCRIPTOR(ts), INTERVAL '5' SECOND))
  GROUP BY client_id, window_start, window_end
  HAVING TIMESTAMPDIFF(SECOND, MIN(ts), MAX(ts)) > 30;
"""


def compile_query(query: str) -> Program:
    """The tables above and one statement."""
    return compile_script(TABLES + query)


def root_of(query: str) -> Node:
    """The plan of one statement."""
    return compile_query(query).pipelines[0].root


def show(node: Node, depth: int = 0) -> str:
    """A plan, one line a node; `*` marks time attributes."""
    columns = ", ".join(one.name + ("*" if one.time_attribute else "") for one in node.schema)
    line = "  " * depth + f"{_head(node)} -> {columns}"
    return "\n".join([line, *(show(one, depth + 1) for one in inputs_of(node))])


def _head(node: Node) -> str:
    match node:
        case Scan():
            return node.table.name
        case Project():
            return f"project {', '.join(text(one) for one in node.expressions)}"
        case Filter():
            return f"filter {text(node.predicate)}"
        case WindowAssign():
            return f"assign {window_text(node.window)} on {node.time}"
        case WindowAggregate():
            window = window_text(node.window) if node.window else f"attached {node.attached}"
            calls = ", ".join(aggregate_text(one) for one in node.aggregates)
            return f"aggregate {window} on {node.time} by [{', '.join(map(text, node.keys))}]: {calls}"
        case IntervalJoin():
            keys = ", ".join(f"{text(a)} = {text(b)}" for a, b in zip(node.left_keys, node.right_keys, strict=True))
            more = f" and {text(node.residual)}" if node.residual else ""
            return f"join {keys}, {node.left_time} - {node.right_time} in {node.lower}..{node.upper}{more}"
        case _:
            return _others(node)


def _others(node: Node) -> str:
    """Nodes by name and by what `explain` says of them."""
    found = describe_node(node)
    shown = {key: value for key, value in found.items() if key not in _UNSHOWN and value}
    parts = [f"{key}={', '.join(value) if isinstance(value, list) else value}" for key, value in shown.items()]
    return " ".join([type(node).__name__, *parts])


_UNSHOWN = ("operator", "columns", "inputs", "state", "bounded", "bounded_by", "hint", "changes")
