"""A program in words: its tables, and per pipeline the tree of nodes with what each keeps in memory and for how long.

Describes only; the engine's counters are not looked at.
"""

from __future__ import annotations

from typing import Any

from qanat.sql.expressions import Call, Cast, Column, Expression, Literal
from qanat.sql.plan import (
    AggregateCall,
    Cumulate,
    Filter,
    Hop,
    IntervalJoin,
    Node,
    Pipeline,
    Program,
    Project,
    Scan,
    Schema,
    Session,
    Table,
    Tumble,
    Union,
    Window,
    WindowAggregate,
    WindowAssign,
    WindowJoin,
)
from qanat.sql.tree import inputs_of

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
    return "\n".join(lines)


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
    }


def describe_pipeline(pipeline: Pipeline) -> dict[str, Any]:
    """One pipeline with its tree."""
    return {
        "name": pipeline.name,
        "sink": pipeline.sink.name if pipeline.sink else None,
        "text": pipeline.text,
        "plan": describe_node(pipeline.root),
    }


def describe_node(node: Node) -> dict[str, Any]:
    """One node and all below it."""
    operator, detail = _detail(node)
    state, bound = _state(node)
    found: dict[str, Any] = {"operator": operator, **detail, "columns": _columns(node.schema)}
    if state:
        found |= {"state": state, "bounded_by": bound}
    found["inputs"] = [describe_node(one) for one in inputs_of(node)]
    return found


def _columns(schema: Schema) -> list[dict[str, Any]]:
    return [{"name": one.name, "type": str(one.type), "time_attribute": one.time_attribute} for one in schema]


def _detail(node: Node) -> tuple[str, dict[str, Any]]:
    match node:
        case Scan(table=table):
            return "Scan", {"table": table.name, **_scan_watermark(table)}
        case Project():
            pairs = zip(node.schema, node.expressions, strict=True)
            return "Project", {"expressions": {field.name: text(one) for field, one in pairs}}
        case Filter():
            return "Filter", {"condition": text(node.predicate)}
        case Union():
            return "Union", {}
        case WindowAssign():
            return "WindowAssign", {"window": window_text(node.window), "time": node.time}
        case WindowAggregate():
            return "WindowAggregate", _aggregate_detail(node)
        case IntervalJoin():
            return "IntervalJoin", {
                "keys": _key_pairs(node),
                "bounds": f"{node.left_time} - {node.right_time} from {node.lower} ms to {node.upper} ms",
                **_residual(node),
            }
        case WindowJoin():
            return "WindowJoin", {"keys": _key_pairs(node), **_residual(node)}


def _scan_watermark(table: Table) -> dict[str, Any]:
    if table.watermark is None:
        return {}
    return {"watermark": f"{table.watermark.column} - {_length(table.watermark.delay_ms)}"}


def _aggregate_detail(node: WindowAggregate) -> dict[str, Any]:
    window = window_text(node.window) if node.window else f"attached ({', '.join(node.attached or ())})"
    calls = [aggregate_text(one) for one in node.aggregates]
    return {"window": window, "time": node.time, "keys": [text(one) for one in node.keys], "aggregates": calls}


def _key_pairs(node: IntervalJoin | WindowJoin) -> list[str]:
    return [f"{text(a)} = {text(b)}" for a, b in zip(node.left_keys, node.right_keys, strict=True)]


def _residual(node: IntervalJoin | WindowJoin) -> dict[str, Any]:
    return {"condition": text(node.residual)} if node.residual else {}


#: Aggregates that keep every value of a window.
_COLLECTING = ("ARRAY_AGG", "LISTAGG")


def _state(node: Node) -> tuple[str, str]:
    """What a node keeps, and what bounds it; empty for nodes that keep nothing."""
    match node:
        case WindowAggregate():
            per_row = any(one.function in _COLLECTING or one.distinct for one in node.aggregates)
            what = "values of open windows" if per_row else "one accumulator per key and open window"
            bound = "a window is dropped when the watermark reaches its end"
            if isinstance(node.window, Session):
                bound = "a session is dropped when the watermark passes its end; a key that never pauses keeps growing"
            return what, bound
        case IntervalJoin():
            return (
                "rows of both sides",
                f"the bounds on time: {_length(node.upper - node.lower)} and the watermark delay",
            )
        case WindowJoin():
            return "rows of open windows, both sides", "a window is dropped when the watermark reaches its end"
        case _:
            return "", ""


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
    if table["watermark"]:
        idle = table["watermark"]["idle_timeout_ms"]
        delay = _length(table["watermark"]["delay_ms"])
        lines.append(
            f"  watermark: {table['watermark']['column']} - {delay}" + (f", idle after {_length(idle)}" if idle else "")
        )
    return lines


def _node_lines(node: dict[str, Any], depth: int) -> list[str]:
    indent = "  " * depth
    lines = [f"{indent}{node['operator']}" + (f" {node['table']}" if "table" in node else "")]
    for key, value in node.items():
        if key in ("operator", "table", "inputs", "columns", "state", "bounded_by") or not value:
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
        lines.append(f"{indent}  state: {node['state']}; {node['bounded_by']}")
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
            parts = [f"size {_length(window.size)}"]
        case Hop():
            parts = [f"slide {_length(window.slide)}", f"size {_length(window.size)}"]
        case Cumulate():
            parts = [f"step {_length(window.step)}", f"size {_length(window.size)}"]
        case Session():
            parts = [f"gap {_length(window.gap)}"]
            parts += [f"partition by {', '.join(window.partition)}"] if window.partition else []
            return f"SESSION({', '.join(parts)})"
    if window.offset:
        parts.append(f"offset {_length(window.offset)}")
    return f"{type(window).__name__.upper()}({', '.join(parts)})"


def _length(milliseconds: int) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size} {unit}"
    return f"{milliseconds} ms"


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
