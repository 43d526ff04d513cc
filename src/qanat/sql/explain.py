"""A program in words: its tables, and per pipeline the tree of nodes with what each keeps in memory and for how long.

Describes only; the engine's counters are not looked at.
"""

from __future__ import annotations

from typing import Any

from qanat.sql.bounds import kept_by, length
from qanat.sql.changelog import changes_of, sink_takes
from qanat.sql.expressions import Call, Cast, Column, Expression, Literal
from qanat.sql.plan import (
    AggregateCall,
    Correlate,
    Cumulate,
    Deduplicate,
    Expand,
    Filter,
    GroupAggregate,
    Hop,
    IntervalJoin,
    LookupJoin,
    Materialize,
    Node,
    Normalize,
    Ordering,
    Over,
    Pipeline,
    Program,
    Project,
    Rank,
    RegularJoin,
    Scan,
    Schema,
    Session,
    Table,
    TemporalJoin,
    Tumble,
    Window,
    WindowAggregate,
    WindowAssign,
    WindowJoin,
    WindowRank,
)
from qanat.sql.tree import inputs_of, walk

_INFIX = ("+", "-", "*", "/", "%", "=", "<>", "<", "<=", ">", ">=", "AND", "OR", "||", "LIKE",
          "IS DISTINCT FROM", "IS NOT DISTINCT FROM")  # fmt: skip
_POSTFIX = ("IS NULL", "IS NOT NULL", "IS TRUE", "IS FALSE")


def explain(program: Program) -> str:
    """The program as text for people."""
    lines: list[str] = []
    for table in program.tables.values():
        lines += _table_lines(describe_table(table))
    for pipeline in program.pipelines:
        found = describe_pipeline(pipeline)
        lines += ["", f"PIPELINE {found['name']} -> {found['sink'] or 'the caller'}"]
        lines += _node_lines(found["plan"], 1)
        lines += [f"  warning: {one}" for one in found["warnings"]]
    return "\n".join(lines)


def warnings(root: Node) -> list[str]:
    """One line for each node whose state nothing bounds."""
    found = []
    for node in walk(root):
        kept = kept_by(node)
        if kept is not None and kept.bound is None:
            found.append(f"the state of {type(node).__name__} is not bounded ({kept.what}): {kept.hint}")
    return found


def explain_json(program: Program) -> dict[str, Any]:
    """The same as plain values, for `--json`."""
    return {
        "tables": [describe_table(one) for one in program.tables.values()],
        "views": list(program.views),
        "settings": dict(program.settings),
        "pipelines": [describe_pipeline(one) for one in program.pipelines],
    }


def describe_table(table: Table) -> dict[str, Any]:
    """One table."""
    watermark = table.watermark
    return {
        "name": table.name,
        "connector": table.connector,
        "columns": _columns(table.schema),
        "computed": {name: text(expression) for name, expression in table.computed},
        "key": list(table.key),
        "watermark": None
        if watermark is None
        else {"column": watermark.column, "delay_ms": watermark.delay_ms, "idle_timeout_ms": watermark.idle_timeout_ms},
        "options": dict(table.options),
        "takes": "inserts and changes" if sink_takes(table) else "inserts only",
    }


def describe_pipeline(pipeline: Pipeline) -> dict[str, Any]:
    """One pipeline with its tree."""
    return {
        "name": pipeline.name,
        "sink": pipeline.sink.name if pipeline.sink else None,
        "text": pipeline.text,
        "plan": describe_node(pipeline.root),
        "warnings": warnings(pipeline.root),
    }


def describe_node(node: Node) -> dict[str, Any]:
    """One node and all below it."""
    found: dict[str, Any] = {"operator": type(node).__name__, **_detail(node), "columns": _columns(node.schema)}
    if changes_of(node).updates:
        found["changes"] = "+I -U +U -D"
    kept = kept_by(node)
    if kept is not None:
        found |= {"state": kept.what, "bounded": kept.bound is not None, "bounded_by": kept.bound}
        if kept.bound is None:
            found["hint"] = kept.hint
    found["inputs"] = [describe_node(one) for one in inputs_of(node)]
    return found


def _columns(schema: Schema) -> list[dict[str, Any]]:
    return [{"name": one.name, "type": str(one.type), "time_attribute": one.time_attribute} for one in schema]


def _detail(node: Node) -> dict[str, Any]:
    match node:
        case Scan(table=table):
            return {"table": table.name, **_scan_watermark(table)}
        case Project():
            pairs = zip(node.schema, node.expressions, strict=True)
            return {"expressions": {field.name: text(one) for field, one in pairs}}
        case Filter():
            return {"condition": text(node.predicate)}
        case Expand():
            return {"sets": ["(" + ", ".join(one) + ")" for one in node.sets]}
        case WindowAssign():
            return {"window": window_text(node.window), "time": node.time}
        case WindowAggregate():
            return _aggregate_detail(node)
        case IntervalJoin() | WindowJoin() | RegularJoin() | TemporalJoin() | LookupJoin():
            return _join_detail(node)
        case GroupAggregate():
            calls = [aggregate_text(one) for one in node.aggregates]
            return {"keys": [text(one) for one in node.keys], "aggregates": calls}
        case Deduplicate():
            return {"keep": f"{node.keep} by {node.time or 'arrival'}", "keys": list(node.partition)}
        case Rank() | WindowRank():
            rows = f"{node.first} to {node.last}"
            return {"rows": rows, "order": [_order_text(one) for one in node.order], "keys": list(node.partition)}
        case Over():
            return _over_detail(node)
        case Correlate():
            name = node.function.name if node.function else "UNNEST"
            return {"kind": node.kind, "function": f"{name}({', '.join(text(one) for one in node.args)})"}
        case Normalize() | Materialize():
            return {"keys": list(node.key)}
        case _:
            return {}


def _join_detail(node: IntervalJoin | WindowJoin | RegularJoin | TemporalJoin | LookupJoin) -> dict[str, Any]:
    found: dict[str, Any] = {} if node.kind == "INNER" else {"kind": node.kind}
    if isinstance(node, LookupJoin):
        pairs = [f"{text(a)} = {b}" for a, b in zip(node.left_keys, node.keys, strict=True)]
        found |= {"table": node.table.name, "keys": pairs}
    else:
        pairs = [f"{text(a)} = {text(b)}" for a, b in zip(node.left_keys, node.right_keys, strict=True)]
        found["keys"] = pairs
    if isinstance(node, IntervalJoin):
        found["bounds"] = f"{node.left_time} - {node.right_time} from {node.lower} ms to {node.upper} ms"
    if isinstance(node, TemporalJoin):
        found["as_of"] = node.left_time or "arrival"
    return found | ({"condition": text(node.residual)} if node.residual else {})


def _over_detail(node: Over) -> dict[str, Any]:
    begins = "UNBOUNDED" if node.preceding is None else str(node.preceding) if node.rows else length(node.preceding)
    return {
        "frame": f"{'ROWS' if node.rows else 'RANGE'} {begins} PRECEDING",
        "time": node.time or "arrival",
        "keys": list(node.partition),
        "calls": [aggregate_text(one) for one in node.calls],
    }


def _order_text(one: Ordering) -> str:
    return one.column + (" DESC" if one.descending else "")


def _scan_watermark(table: Table) -> dict[str, Any]:
    if table.watermark is None:
        return {}
    return {"watermark": f"{table.watermark.column} - {length(table.watermark.delay_ms)}"}


def _aggregate_detail(node: WindowAggregate) -> dict[str, Any]:
    window = window_text(node.window) if node.window else f"attached ({', '.join(node.attached or ())})"
    calls = [aggregate_text(one) for one in node.aggregates]
    return {"window": window, "time": node.time, "keys": [text(one) for one in node.keys], "aggregates": calls}


# --- text ------------------------------------------------------------------------------------------------------


def _table_lines(table: dict[str, Any]) -> list[str]:
    where = f"connector {table['connector']}" if table["connector"] else "stream in the log"
    lines = [f"TABLE {table['name']} ({where})"]
    for column in table["columns"]:
        name = column["name"]
        computed = f" AS {table['computed'][name]}" if name in table["computed"] else ""
        lines.append(f"  {name} {column['type']}{' *time*' if column['time_attribute'] else ''}{computed}")
    if table["key"]:
        lines.append(f"  key: {', '.join(table['key'])}")
    lines.append(f"  takes: {table['takes']}")
    if table["watermark"]:
        idle = table["watermark"]["idle_timeout_ms"]
        delay = length(table["watermark"]["delay_ms"])
        lines.append(
            f"  watermark: {table['watermark']['column']} - {delay}" + (f", idle after {length(idle)}" if idle else "")
        )
    return lines


def _node_lines(node: dict[str, Any], depth: int) -> list[str]:
    indent = "  " * depth
    lines = [f"{indent}{node['operator']}" + (f" {node['table']}" if "table" in node else "")]
    for key, value in node.items():
        if key in ("operator", "table", "inputs", "columns", "state", "bounded", "bounded_by", "hint") or not value:
            continue
        shown = value
        if isinstance(value, dict):
            shown = ", ".join(one if name == one else f"{name} = {one}" for name, one in value.items())
        elif isinstance(value, list):
            shown = ", ".join(value)
        lines.append(f"{indent}  {key}: {shown}")
    columns = [one["name"] + (" *time*" if one["time_attribute"] else "") for one in node["columns"]]
    lines.append(f"{indent}  columns: {', '.join(columns)}")
    if "state" in node:
        bound = node["bounded_by"] or "NOT BOUNDED, it grows with the input"
        lines.append(f"{indent}  state: {node['state']}; {bound}")
    for one in node["inputs"]:
        lines += _node_lines(one, depth + 1)
    return lines


def window_text(window: Window) -> str:
    """A window as its function is written.

    >>> window_text(Hop(15000, 1000))
    'HOP(slide 1 s, size 15 s)'
    """
    match window:
        case Tumble():
            parts = [f"size {length(window.size)}"]
        case Hop():
            parts = [f"slide {length(window.slide)}", f"size {length(window.size)}"]
        case Cumulate():
            parts = [f"step {length(window.step)}", f"size {length(window.size)}"]
        case Session():
            parts = [f"gap {length(window.gap)}"]
            parts += [f"partition by {', '.join(window.partition)}"] if window.partition else []
            return f"SESSION({', '.join(parts)})"
    if window.offset:
        parts.append(f"offset {length(window.offset)}")
    return f"{type(window).__name__.upper()}({', '.join(parts)})"


def aggregate_text(call: AggregateCall) -> str:
    """An aggregate as it is written."""
    inside = ", ".join(text(one) for one in call.args) or "*"
    found = f"{call.function}({'DISTINCT ' if call.distinct else ''}{inside})"
    return found + (f" FILTER (WHERE {text(call.filter)})" if call.filter else "")


def text(expression: Expression) -> str:
    """An expression as SQL, near enough to read."""
    match expression:
        case Column(name=name):
            return name
        case Literal(value=value):
            return _literal_text(value)
        case Cast(arg=arg, type=kind, safe=safe):
            return f"{'TRY_CAST' if safe else 'CAST'}({text(arg)} AS {kind.with_nullable(True)})"
        case Call(function=name, args=args):
            return _call_text(name, [text(one) for one in args])


def _literal_text(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def _call_text(name: str, args: list[str]) -> str:
    if name in _INFIX and len(args) == 2:
        return f"({args[0]} {name} {args[1]})"
    if name in _POSTFIX:
        return f"({args[0]} {name})"
    if name == "IN":
        return f"({args[0]} IN ({', '.join(args[1:])}))"
    if name == "FIELD":
        return f"{args[0]}.{args[1][1:-1]}"
    if name == "ELEMENT":
        return f"{args[0]}[{args[1]}]"
    if name == "CASE":
        pairs = " ".join(f"WHEN {args[i]} THEN {args[i + 1]}" for i in range(0, len(args) - 1, 2))
        return f"CASE {pairs} ELSE {args[-1]} END"
    return f"{'-' if name == 'NEGATE' else name}({', '.join(args)})"
